//! What only the SQLite file has: one owner, copies, a life beyond the process.

use std::{sync::Arc, time::Duration};

use domain::{
    commit::{Committed, Entry, Then},
    task::Lane,
};
use futures_util::future::join_all;
use store::{EventQuery, Store, StoreConfig, StoreError};

use crate::support::{Build, Db, Raw, ack, change_run, claim, commit, everything, fence, new_run, noop, run};

fn config(path: &std::path::Path) -> StoreConfig {
    StoreConfig::Sqlite { path: path.to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_has_one_owner_and_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let store = Store::open(&config(&path)).await.unwrap();
    store.commit(new_run("R1").task(noop("T1"))).await.unwrap();
    let held = store.work(Vec::new(), claim("before", Lane::Fast, 1)).await.unwrap().tasks;

    let second = Store::open(&config(&path)).await;
    assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
    let cursor = store.list_events(&everything()).await.unwrap().next;
    store.close().await;
    let late = store.commit(change_run("R1", 1)).await;
    assert!(matches!(late, Err(StoreError::Unavailable { .. })), "{late:?}");
    assert!(store.list_events(&everything()).await.is_err());

    let store = Store::open(&config(&path)).await.unwrap();
    assert_eq!(store.list_leases("after").await.unwrap().len(), 1);
    assert_eq!(store.reap("after", 10).await.unwrap().tasks.len(), 1);
    let again = store.work(Vec::new(), claim("after", Lane::Fast, 1)).await.unwrap().tasks;
    assert!(fence(&again[0]) > fence(&held[0]));
    assert_eq!(store.commit(change_run("R1", 1)).await.unwrap(), Committed::Applied { version: 2 });
    let page = store.list_events(&EventQuery { after: Some(cursor), ..everything() }).await.unwrap();
    assert_eq!(page.events.len(), 1);
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
    store.close().await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_its_owner_may_read_the_file() {
    run(Db::sqlite().await, async |db| {
        db.applied(new_run("R1")).await;
        for suffix in ["", "-wal", "-shm", ".lock"] {
            let mut name = db.path().into_os_string();
            name.push(suffix);
            assert_eq!(host::fs::mode(name.as_ref()).unwrap(), 0o600, "{suffix}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(other);

    let refused = Store::open(&config(&path)).await;
    assert!(matches!(refused, Err(StoreError::Unfit { .. })), "{refused:?}");
    let text = dir.path().join("text.db");
    std::fs::write(&text, "no database at all, but long enough to be looked at as one").unwrap();
    let refused = Store::open(&config(&text)).await;
    assert!(matches!(refused, Err(StoreError::Unfit { .. })), "{refused:?}");
    let missing = Store::open(&config(&dir.path().join("no/such/dir.db"))).await;
    assert!(matches!(missing, Err(StoreError::Unfit { .. })), "{missing:?}");

    let tables: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);
}

/// Breaks the root of a table that is not written to, which lies where it lies in the closed ledger `like`.
fn damage(path: &std::path::Path, like: &std::path::Path) {
    let conn = rusqlite::Connection::open(like).unwrap();
    let number = |sql: &str| conn.query_row(sql, (), |row| row.get::<_, i64>(0)).unwrap();
    let page = number("SELECT rootpage FROM sqlite_schema WHERE name = 'people'");
    let offset = u64::try_from((page - 1) * number("PRAGMA page_size")).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], offset).unwrap();
}

/// Copies what a kill would leave, without the lock file's word.
fn leave_as_killed(from: &std::path::Path, to: &std::path::Path) {
    for suffix in ["", "-wal"] {
        let name = |path: &std::path::Path| format!("{}{suffix}", path.display());
        std::fs::copy(name(from), name(to)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_end_that_was_not_orderly_damage_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let [path, sound, broken] = ["ledger.db", "sound.db", "broken.db"].map(|name| dir.path().join(name));
    Store::open(&config(&path)).await.unwrap().close().await;
    let store = Store::open(&config(&path)).await.unwrap();
    store.commit(new_run("R1")).await.unwrap();
    leave_as_killed(&path, &sound);
    leave_as_killed(&path, &broken);
    store.close().await;

    let store = Store::open(&config(&sound)).await.unwrap();
    assert!(store.find_row(domain::commit::Table::Runs, "R1").await.unwrap().is_some());
    store.close().await;

    damage(&broken, &path);
    let files = ["", "-wal"].map(|suffix| format!("{}{suffix}", broken.display()));
    let before = files.clone().map(|file| std::fs::read(file).unwrap());
    for _ in 0..2 {
        let refused = Store::open(&config(&broken)).await;
        let Err(StoreError::Damaged { path, findings }) = refused else { panic!("not refused: {refused:?}") };
        assert_eq!(path, broken.display().to_string());
        assert!(!findings.is_empty());
    }
    assert!(before == files.map(|file| std::fs::read(file).unwrap()), "a refused file was written to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changed_after_it_was_closed_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    Store::open(&config(&path)).await.unwrap().close().await;
    let word = std::fs::read_to_string(dir.path().join("ledger.db.lock")).unwrap();
    assert!(word.starts_with("closed "), "{word}");
    Store::open(&config(&path)).await.unwrap().close().await;

    damage(&path, &path);

    let refused = Store::open(&config(&path)).await;
    assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
}

/// Names the ledger that a process of its own opens.
const OPENED: &str = "PILOTHOUSE_TEST_OPENED_LEDGER";

/// What it has to itself of the machine's memory, in KiB, once it has opened that ledger.
#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "runs in a process of its own, which another test starts"]
async fn opens_a_ledger_and_tells_its_memory() {
    let Some(path) = host::env::var(OPENED) else { return };
    let store = Store::open(&config(path.as_ref())).await.unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("RssAnon:")).unwrap());
    store.close().await;
}

#[cfg(target_os = "linux")]
fn memory_of_opening(path: &std::path::Path) -> u64 {
    let test = ["--exact", "files::opens_a_ledger_and_tells_its_memory", "--ignored", "--nocapture"];
    #[expect(clippy::disallowed_methods, reason = "the memory of one process is not that of all tests")]
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(test).env(OPENED, path).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_else(|| panic!("{said}"));
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_for_damage_leaves_nothing_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    Store::open(&config(&path)).await.unwrap().close().await;
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute("INSERT INTO meta (key, value) VALUES ('much', hex(zeroblob(12000000)))", ()).unwrap();
    drop(conn);

    // The file has changed since it was closed, and has not the second time.
    let [after_a_look, without] = [(); 2].map(|()| memory_of_opening(&path));

    assert!(after_a_look < without + 8192, "{after_a_look} KiB after a look, {without} without one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    Store::open(&config(&path)).await.unwrap().close().await;
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'", ()).unwrap();
    drop(conn);

    let refused = Store::open(&config(&path)).await;
    assert!(matches!(refused, Err(StoreError::NewerSchema { found: 999, .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_whole_and_a_history_of_its_own() {
    run(Db::sqlite().await, async |db| {
        db.applied(new_run("R1").task(noop("T1"))).await;
        let held = db.claim(1).await;
        let cursor = db.store.list_events(&everything()).await.unwrap().next;
        let store = db.store.clone();
        let writing = host::task::spawn("writes", async move {
            for n in 0..200 {
                let charge = |budget: &str| Entry::Charge {
                    budget: budget.to_owned(),
                    session: "s".to_owned(),
                    ordinal: n,
                    amount: 1,
                };
                let commit = new_run(&format!("W{n:03}")).entry(charge("a")).entry(charge("b"));
                store.commit(commit).await.unwrap();
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy.db");
        tokio::time::sleep(Duration::from_millis(20)).await;
        db.store.backup(&path).await.unwrap();
        writing.await.unwrap();
        assert_eq!(host::fs::mode(&path).unwrap(), 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

        let copy = Store::open(&config(&path)).await.unwrap();
        assert_eq!(copy.check().await.unwrap(), Vec::<String>::new());
        assert!(copy.find_row(domain::commit::Table::Runs, "R1").await.unwrap().is_some());
        let foreign = copy.list_events(&EventQuery { after: Some(cursor), ..everything() }).await;
        assert!(matches!(foreign, Err(StoreError::BadCursor)), "{foreign:?}");
        copy.reap("after", 10).await.unwrap();
        let again = copy.work(Vec::new(), claim("after", Lane::Fast, 1)).await.unwrap().tasks;
        assert!(fence(&again[0]).0 > fence(&held[0]).0 + 1_000_000);
        let late = copy.commit(commit().ack(ack(&held[0], Then::Done))).await.unwrap();
        assert_eq!(late, Committed::Fenced);
        copy.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_writer_may_hold_is_refused_at_once() {
    run(Db::sqlite().await, async |db| {
        let Raw::Sqlite(raw) = &db.raw else { panic!("not SQLite") };
        raw.execute_batch("BEGIN IMMEDIATE").unwrap();
        let store = Arc::new(db.store.clone());
        let callers = (0..4600).map(|n| {
            let store = Arc::clone(&store);
            host::task::spawn("commits", async move { store.commit(new_run(&format!("R{n}"))).await })
        });
        let callers: Vec<_> = callers.collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        raw.execute_batch("COMMIT").unwrap();
        let outcomes: Vec<_> = join_all(callers).await.into_iter().map(Result::unwrap).collect();

        let applied = outcomes.iter().filter(|o| matches!(o, Ok(Committed::Applied { .. }))).count();
        let refused = outcomes.iter().filter(|o| matches!(o, Err(StoreError::Overloaded))).count();
        assert_eq!(applied + refused, 4600);
        assert!(refused > 0 && applied >= 4096, "{applied} applied, {refused} refused");
        assert_eq!(db.rows("SELECT count(*) FROM runs").await, [applied.to_string()]);
    })
    .await;
}

#[tokio::test]
async fn a_lock_that_a_dead_owner_handed_on_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let mut lock = host::fs::LockFile::acquire(&dir.path().join("ledger.db.lock")).unwrap();
    // No machine has so many processes.
    lock.describe("pid 2000000000").unwrap();
    let holder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(lock);
    });

    let store = Store::open(&StoreConfig::Sqlite { path }).await.unwrap();

    holder.join().unwrap();
    store.close().await;
}
