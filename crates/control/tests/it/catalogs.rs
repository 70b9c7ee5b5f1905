//! The catalog that nodes put in force when they start.

use control::{Clock, Control};
use store::{Store, StoreConfig};

use crate::NOON;

const JOBS: &str = "[job.hello]\ntitle = \"Greet\"\nowner = \"tests\"\n[job.hello.exec]\nargv = [\"echo\"]\n\
                    [job.hello.policy]\napprove = \"none\"\n";

#[tokio::test]
async fn nodes_that_start_together_put_one_catalog_in_force() {
    for _ in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::Sqlite { path: dir.path().join("ledger.db") }).await.unwrap();
        let node = || Control::new(store.clone(), Clock::manual(NOON));

        let nodes: Vec<Control> = (0..8).map(|_| node()).collect();
        let loads = nodes.iter().map(|node| node.load_catalog(JOBS, "jobs.toml"));
        for loaded in futures_util::future::join_all(loads).await {
            loaded.unwrap();
        }

        assert_eq!(store.find_catalog().await.unwrap().unwrap().version, 1, "the same text is loaded once");
        store.close().await;
    }
}
