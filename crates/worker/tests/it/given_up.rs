//! Tasks whose workers died over them again and again.

use std::time::Duration;

use domain::task::{Lane, MAX_CRASHES, TaskKind};
use store::{Claim, queue::Caps};

use crate::TestApp;

on_both! {
    async fn a_gate_expires_although_every_worker_died_over_it(app: &TestApp) {
        let run = app.request("asks").await;
        for death in 0..MAX_CRASHES {
            claim_and_die(app, &format!("w-dead-{death}")).await;
        }

        let _worker = app.worker().await;

        app.until(&run, &["Expired"]).await;
    }
}

/// Claims the end of the gate when it is due, and is never heard of again.
async fn claim_and_die(app: &TestApp, incarnation: &str) {
    let store = app.control.store();
    loop {
        let now = app.control.clock().now();
        store.promote(now, 500).await.unwrap();
        let claim = Claim {
            lane: Lane::Fast,
            incarnation: incarnation.to_owned(),
            limit: 256,
            lease: Duration::from_millis(1),
            caps: Caps::default(),
            now,
        };
        let claimed = store.work(Vec::new(), claim).await.unwrap().tasks;
        tokio::time::sleep(Duration::from_millis(10)).await;
        store.reap("w-alive", 500).await.unwrap();
        if claimed.iter().any(|task| task.kind == TaskKind::ExpireGate) {
            return;
        }
    }
}
