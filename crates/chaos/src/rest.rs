//! The end of a run: every command is acknowledged, every question answered, every process stops when it is told to, the
//! ledger holds as a whole, and nothing is left running.

use std::{process::Stdio, time::Duration};

use anyhow::Result;
use tokio::process::Command;

use crate::{
    drain,
    journal::Journal,
    ledger::{Ledger, Witness},
    load::Customers,
    node::{Node, Program, Target},
    place::Place,
    processes,
    violation::{Kind, Violation},
};

/// Supervisors of what ended just now may take this long to go.
const LAST_PROCESSES: Duration = Duration::from_secs(5);
/// Things left that are listed.
const SHOWN: usize = 20;

/// What is to come to rest.
#[derive(Debug)]
pub struct Closing<'a> {
    pub name: &'a str,
    pub program: &'a Program,
    pub place: &'a Place,
    pub target: &'a Target,
    pub customers: &'a mut Customers,
    pub nodes: Vec<Node>,
    pub ledger: &'a mut Ledger,
}

/// Brings everything to rest, and checks it; what was found.
pub async fn come_to_rest(closing: Closing<'_>) -> Result<Vec<Violation>> {
    let Closing { name, program, place, target, customers, mut nodes, ledger } = closing;
    if !customers.finish(drain::WITHIN).await {
        return Ok(vec![Violation::of(Kind::Stuck, "a command was never acknowledged")]);
    }
    let left = match drain::drain(target, name).await {
        Ok(left) => left,
        Err(error) => {
            let mut found = vec![Violation::of(Kind::Answer, format!("{error:#}"))];
            for node in &mut nodes {
                if node.has_ended()? {
                    found.push(Violation::of(Kind::Process, node.obituary()));
                }
            }
            return Ok(found);
        }
    };
    let mut found: Vec<Violation> = left.into_iter().take(SHOWN).map(|left| Violation::of(Kind::Stuck, left)).collect();
    for node in nodes {
        let role = node.role();
        if !program.drains() {
            node.kill().await?;
            continue;
        }
        match node.stop().await {
            Ok(status) if status.success() => {}
            Ok(status) => {
                found.push(Violation::of(Kind::Process, format!("{role:?} was told to stop and ended with {status}")));
            }
            Err(error) => found.push(Violation::of(Kind::Process, format!("{error:#}"))),
        }
    }
    found.extend(look(place, customers, ledger, true).await?);
    found.extend(fold(program, place).await?);
    found.extend(left_running(place).await);
    Ok(found)
}

/// Checks the ledger as the dead have left it: what happened since the last time, or the whole of it.
pub async fn look(place: &Place, customers: &Customers, ledger: &mut Ledger, whole: bool) -> Result<Vec<Violation>> {
    place.settle().await?;
    let Some(store) = Box::pin(place.ledger()).await? else { return Ok(Vec::new()) };
    let journal = copy(customers);
    let (marks, dir) = (place.marks(), place.dir.clone());
    let witness = Witness { store: &store, journal: &journal, marks: &marks, dir: &dir };
    let found = match whole {
        true => Box::pin(ledger.check_whole(&witness)).await,
        false => Box::pin(ledger.check(&witness)).await,
    };
    store.close().await;
    found
}

/// So that customers may go on writing.
fn copy(customers: &Customers) -> Journal {
    let journal = customers.load.journal();
    Journal { acknowledged: journal.acknowledged.clone(), wrong: journal.wrong.clone(), repeated: journal.repeated }
}

/// Has the product fold every event of every kind and compare it with its rows.
async fn fold(program: &Program, place: &Place) -> Result<Option<Violation>> {
    let Program::Product(exe) = program else { return Ok(None) };
    #[expect(clippy::disallowed_methods, reason = "drives the product from outside")]
    let mut command = Command::new(exe);
    command.args(["db", "check", "--fold", "--data-dir"]).arg(place.data());
    if let Some(url) = place.database_url() {
        command.args(["--database-url", &url]);
    }
    let checked = command.env_clear().env("HOME", &place.dir).stdin(Stdio::null()).output().await?;
    let said = [checked.stdout, checked.stderr].concat();
    let said = host::text::one_line(said, 600);
    Ok((!checked.status.success()).then(|| Violation::of(Kind::Fold, format!("db check --fold: {said}"))))
}

async fn left_running(place: &Place) -> Vec<Violation> {
    let started = host::clock::monotonic();
    loop {
        let left = processes::find(&place.dir);
        if left.is_empty() || started.elapsed() > LAST_PROCESSES {
            return left
                .into_iter()
                .map(|process| Violation {
                    kind: Kind::Orphan,
                    run: process.attempt,
                    what: format!("process {} lives at the end of everything: {}", process.pid, process.command),
                })
                .collect();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
