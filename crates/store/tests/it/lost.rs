//! Connections that end while a commit is under way: PostgreSQL only, through a proxy that loses answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::commit::{Committed, Guard, Table};
use store::{Store, StoreConfig, StoreError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
};

use crate::support::{Build, Db, change_run, new_run, run};

const CALLERS: usize = 12;
const COMMITS: i64 = 60;

/// Forwards to a server; when told to, swallows what the server answers and then hangs up.
struct Proxy {
    port: u16,
    deaf: watch::Sender<u64>,
}

impl Proxy {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (deaf, told) = watch::channel(0);
        drop(host::task::spawn("proxy", async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                drop(host::task::spawn("proxied connection", forward(client, server, told.clone())));
            }
        }));
        Self { port, deaf }
    }

    /// Every open connection loses the answers from now on, and soon itself.
    fn cut(&self) {
        self.deaf.send_modify(|times| *times += 1);
    }
}

async fn forward(client: TcpStream, server: TcpStream, mut told: watch::Receiver<u64>) {
    told.mark_unchanged();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let asks = copy(from_client, to_server);
    let answers = copy(from_server, to_client);
    tokio::pin!(asks, answers);
    tokio::select! {
        () = &mut asks => {}
        () = &mut answers => {}
        // What was asked still reaches the server for a moment; nothing comes back.
        _ = told.changed() => drop(tokio::time::timeout(Duration::from_millis(15), asks).await),
    }
}

async fn copy(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_counts_once() {
    run(Db::postgres().await, async |db| {
        let url = db.url();
        let (credentials, rest) = url.split_once('@').unwrap();
        let (server, name) = rest.split_once('/').unwrap();
        let proxy = Proxy::start(server.to_owned()).await;
        let store = Store::open(&StoreConfig::Postgres { url: format!("{credentials}@127.0.0.1:{}/{name}", proxy.port) })
            .await
            .unwrap();
        for caller in 0..CALLERS {
            let id = format!("R{caller}");
            db.applied(new_run(&id)).await;
        }
        let done = Arc::new(AtomicBool::new(false));

        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| host::task::spawn("caller", one_caller(store.clone(), db.store.clone(), format!("R{caller}"))))
            .collect();
        let ended = done.clone();
        let cutter = host::task::spawn("cutter", async move {
            while !ended.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(30)).await;
                proxy.cut();
            }
        });
        for caller in callers {
            caller.await.unwrap();
        }
        done.store(true, Ordering::Release);
        cutter.await.unwrap();

        let wrong = db
            .rows("SELECT r.id FROM runs r LEFT JOIN events e ON e.subject = r.id AND e.subject_kind = 'run'
                   GROUP BY r.id, r.version HAVING count(e.id) <> r.version")
            .await;
        assert_eq!(wrong, Vec::<String>::new());
        assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
        store.close().await;
    })
    .await;
}

/// Commits one version after another and compares what it was told with what another connection sees.
async fn one_caller(store: Store, witness: Store, id: String) {
    let mut version = 1;
    while version < COMMITS {
        let next = match version % 3 {
            // Goes alone, in a transaction of several statements.
            0 => change_run(&id, version)
                .guard(Guard::Unique { key: format!("{id}-{version}"), holder: format!("{id}-{version}") }),
            _ => change_run(&id, version),
        };
        let told = store.commit(next).await;
        let seen = witness.find_row(Table::Runs, &id).await.unwrap().unwrap().version;
        match told {
            Ok(Committed::Applied { version: new }) => assert_eq!((new, seen), (version + 1, version + 1), "{id}"),
            Ok(refused) => panic!("{id} at {version}, seen at {seen}: {refused:?}"),
            // Either is possible, and the caller was told so.
            Err(StoreError::UnknownOutcome { .. }) => assert!(seen == version || seen == version + 1, "{id}"),
            Err(error) if error.is_transient() => assert_eq!(seen, version, "{id}: {error}"),
            Err(error) => panic!("{id}: {error}"),
        }
        version = seen;
    }
}
