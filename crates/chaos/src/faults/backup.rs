//! Backups of an SQLite ledger under load: each is restored elsewhere, checked whole and served, and holds everything
//! that was acknowledged before it was asked for.
//!
//! The controls are a copy of the file as it lies there, without the log beside it, and a backup of which the second half
//! is missing. PostgreSQL is backed up with its own tools, which are not ours to try.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::Value;

use crate::{
    fault::{self, Backend, Expects, Fault, On, Outcome, Setting, Weight},
    http::Request,
    journal::Journal,
    ledger::{Ledger, Witness},
    load::{Customers, exchange},
    node::{Node, Program, Role, Seat, Target},
    place::Place,
    rest::{self, Closing},
    tool,
    violation::{Kind, Violation},
};

pub const FAULT: Fault = Fault {
    name: "backup",
    injects: "backups while commands are carried out; each is restored, checked and served elsewhere",
    on: &[On { backend: Backend::Sqlite, quick: 5, long: 1_000, budget: 20 }],
    weight: Weight::Light,
    needs: &[],
    run: |setting| backups(setting, Way::Product),
    controls: &[
        fault::Control {
            name: "plain-copy",
            expects: Expects::A(Kind::Lost),
            run: |setting| backups(setting, Way::PlainCopy),
        },
        fault::Control {
            name: "half-a-file",
            expects: Expects::A(Kind::Integrity),
            run: |setting| backups(setting, Way::HalfAFile),
        },
    ],
};

const CUSTOMERS: u64 = 4;
/// Backups within which a control has to be caught.
const CONTROL: u64 = 3;
/// Commands before the first backup: fewer would show little.
const AT_LEAST: usize = 60;
const PATIENCE: Duration = Duration::from_secs(30);

/// How the copy is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `POST /db/actions/backup`
    Product,
    PlainCopy,
    HalfAFile,
}

fn backups(mut setting: Setting, way: Way) -> BoxFuture<'static, Result<Outcome>> {
    if way != Way::Product {
        setting.wanted = setting.wanted.min(CONTROL);
    }
    run(setting, way).boxed()
}

async fn run(setting: Setting, way: Way) -> Result<Outcome> {
    let place = Place::create(Backend::Sqlite, setting.dir.join("original"), None).await?;
    let program = Program::Product(setting.programs.product.clone());
    let mut node = Node::start(&program, &Seat::of(Role::Up), &place)?;
    let target = node.ready().await?;
    let mut customers = Customers::start(CUSTOMERS, &setting.random, &setting.name, false);
    customers.load.aim(1, Some(target.clone()));
    let mut random = setting.random.fork(7);
    let mut outcome = Outcome::default();
    let (mut checked, mut bytes) = (0, 0);
    let started = host::clock::monotonic();
    while outcome.done < setting.wanted && !setting.is_spent(started) && outcome.violations.is_empty() {
        wait_for(&customers, checked + AT_LEAST).await?;
        tokio::time::sleep(random.millis(0, 150)).await;
        let before = known(&customers);
        checked = before.acknowledged.len();
        let file = copy(way, &target, &place, outcome.done).await?;
        bytes = std::fs::metadata(&file)?.len();
        outcome.done += 1;
        let dir = setting.dir.join(format!("restored-{}", outcome.done));
        outcome.violations = restore(&setting, &program, &file, dir, (&place, &before)).await?;
        setting.tell(&format!("backup {}: {checked} acknowledged, {bytes} bytes", outcome.done));
    }
    if way == Way::Product {
        let closing = Closing {
            name: &setting.name,
            program: &program,
            place: &place,
            target: &target,
            customers: &mut customers,
            nodes: vec![node],
            ledger: &mut Ledger::default(),
        };
        outcome.violations.extend(rest::come_to_rest(closing).await?);
    } else {
        node.kill().await?;
    }
    outcome.figures = format!("{checked} acknowledged before the last one, of {bytes} bytes");
    Ok(outcome)
}

/// Waits until so many commands were acknowledged.
async fn wait_for(customers: &Customers, n: usize) -> Result<()> {
    let started = host::clock::monotonic();
    while customers.load.journal().acknowledged.len() < n {
        ensure!(started.elapsed() < PATIENCE, "the node acknowledges nothing");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn known(customers: &Customers) -> Journal {
    let journal = customers.load.journal();
    Journal { acknowledged: journal.acknowledged.clone(), wrong: journal.wrong.clone(), repeated: journal.repeated }
}

async fn copy(way: Way, target: &Target, place: &Place, n: u64) -> Result<PathBuf> {
    if way == Way::PlainCopy {
        let to = place.dir.join(format!("plain-{n}.db"));
        std::fs::copy(place.data().join("pilothouse.db"), &to)?;
        return Ok(to);
    }
    let request =
        Request { method: "POST", path: "/db/actions/backup".to_owned(), body: String::new(), idempotency_key: None };
    let (status, body) = exchange(&request, target, &mut None).await?;
    ensure!(status == 200, "the backup was answered {status}: {}", String::from_utf8_lossy(&body));
    let answer: Value = serde_json::from_slice(&body)?;
    let file = PathBuf::from(answer["path"].as_str().context("the answer names a file")?);
    if way == Way::HalfAFile {
        let whole = std::fs::metadata(&file)?.len();
        std::fs::OpenOptions::new().write(true).open(&file)?.set_len(whole / 2 / 4096 * 4096)?;
    }
    Ok(file)
}

/// Puts a copy in a ledger's place, and finds everything that is wrong with what comes of it.
async fn restore(
    setting: &Setting,
    program: &Program,
    file: &std::path::Path,
    dir: PathBuf,
    (original, before): (&Place, &Journal),
) -> Result<Vec<Violation>> {
    let place = Place::create(Backend::Sqlite, dir, None).await?;
    let product = &setting.programs.product;
    let file = file.display().to_string();
    let restored = tool::run(product, &["db", "restore", &file], &place).await?;
    if !restored.succeeded {
        return Ok(vec![Violation::of(Kind::Integrity, format!("restore refused it: {}", restored.said))]);
    }
    let checked = tool::run(product, &["db", "check", "--fold"], &place).await?;
    if !checked.succeeded {
        return Ok(vec![Violation::of(Kind::Integrity, format!("db check --fold: {}", checked.said))]);
    }
    let store = place.ledger().await?.context("the restored ledger is there")?;
    let (marks, dir) = (place.marks(), place.dir.clone());
    let witness = Witness { store: &store, journal: before, marks: &marks, dir: &dir };
    let mut violations = Ledger::default().check(&witness).await?;
    store.close().await;
    // Executions left their marks in the other place.
    violations.retain(|violation| violation.kind != Kind::Unrecorded);
    if violations.is_empty() {
        // The token is no part of the ledger.
        std::fs::copy(original.data().join("admin.token"), place.data().join("admin.token"))?;
        let mut node = Node::start(program, &Seat::of(Role::Serve), &place)?;
        if let Err(error) = node.ready().await {
            violations.push(Violation::of(Kind::Process, format!("the restored ledger is not served: {error:#}")));
        }
        node.kill().await?;
        place.remove().await?;
    }
    Ok(violations)
}
