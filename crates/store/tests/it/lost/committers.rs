//! Callers that commit: plainly, with guards, and again with the same key until they are told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{
    commit::{Committed, Entry, Guard},
    ids::CommitId,
};
use store::StoreError;
use testkit::random::Random;

use super::{Drill, Told};
use crate::support::{Build, Db, change_run, new_run, noop};

/// The keys that callers insisted on, each with the commits they tried and the answer they got in the end.
#[derive(Clone, Default)]
pub(super) struct Keys {
    asked: Arc<Mutex<BTreeMap<String, Asked>>>,
}

#[derive(Clone, Default)]
struct Asked {
    tried: Vec<CommitId>,
    /// `None` when the drill ended first.
    answer: Option<String>,
}

/// One version after another, each believed until somebody says otherwise.
pub(super) async fn change_one_run(drill: Drill, id: String, guarded: bool, mut random: Random) {
    let mut version = drill.version(&id).await;
    let mut n = 0;
    while drill.goes_on() {
        n += 1;
        let mut next = if version == 0 { new_run(&id) } else { change_run(&id, version) };
        if guarded {
            let key = next.id.to_string();
            next = next
                .guard(Guard::Unique { key, holder: id.clone() })
                .guard(Guard::Reserve { budget: "spend".to_owned(), holder: id.clone(), amount: 3 })
                .entry(Entry::Charge { budget: "spend".to_owned(), session: id.clone(), ordinal: n, amount: 2 });
        } else {
            next = match random.below(3) {
                0 => next,
                1 => next.task(noop(&format!("{id}-{n}"))),
                _ => next.once("drill", &format!("{id}-{n}")),
            };
        }
        let believed = version;
        match drill.commit(next).await {
            Ok(Committed::Applied { version: new }) => {
                assert_eq!(new, believed + 1, "{id}");
                version = new;
            }
            Ok(Committed::Stale) => {
                version = drill.version(&id).await;
                assert!(version > believed, "{id} was told to be stale at version {believed}");
            }
            Ok(other) => panic!("{id} at {believed}: {other:?}"),
            Err(_) => version = drill.version(&id).await,
        }
    }
}

/// One key after another, each asked for by a new commit until there is an answer. The answer to every fourth is lost
/// behind the store as well, on the way to whoever asked, so that it is asked for again whatever the wire did.
pub(super) async fn ask_until_told(drill: Drill, keys: Keys, caller: u64) {
    let mut n = 0;
    while drill.goes_on() {
        n += 1;
        let key = format!("D{caller}-{n}");
        let mut tries = 0;
        while drill.goes_on() {
            tries += 1;
            let next = new_run(&format!("{key}-{tries}")).once("insist", &key);
            let id = next.id.clone();
            let own = next.cause.dedup.as_ref().map(|dedup| dedup.answer.clone()).unwrap();
            keys.asked.lock().unwrap().entry(key.clone()).or_default().tried.push(id);
            let answer = match drill.commit(next).await {
                Ok(Committed::Applied { .. }) => own,
                Ok(Committed::Duplicate(stored)) => stored.answer,
                Ok(other) => panic!("{key}: {other:?}"),
                Err(StoreError::UnknownOutcome { .. }) => continue,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            };
            if n % 4 == 0 && tries == 1 {
                continue;
            }
            keys.asked.lock().unwrap().entry(key.clone()).or_default().answer = Some(answer);
            break;
        }
    }
}

impl Keys {
    /// Of the commits with one key one was applied, and its answer is what everybody got.
    pub(super) async fn compare(&self, db: &Db, told: &BTreeMap<CommitId, Told>) {
        let rows = db.rows("SELECT key, commit_id, answer FROM dedup WHERE scope = 'insist'").await;
        let stored: BTreeMap<&str, (&str, &str)> = rows
            .iter()
            .map(|row| {
                let [key, commit, answer] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
                (key, (commit, answer))
            })
            .collect();
        let asked = self.asked.lock().unwrap().clone();
        let mut repeated = 0;
        for (key, Asked { tried, answer }) in &asked {
            let Some(answer) = answer else { continue };
            repeated += usize::from(tried.len() > 1);
            let (commit, kept) = stored.get(key.as_str()).unwrap_or_else(|| panic!("{key} is not in the ledger"));
            assert_eq!(answer, kept, "{key}");
            assert!(tried.iter().any(|id| id.as_str() == *commit), "{key}: {commit} is nobody's");
            for id in tried.iter().filter(|id| id.as_str() != *commit) {
                assert!(!matches!(told.get(id), Some(Told::Applied { .. })), "{key}: {id} was told to be applied, too");
            }
        }
        assert!(asked.len() > 50 && repeated > 0, "{} keys, {repeated} asked for again", asked.len());
    }
}
