//! Answers that are lost on the wire, on PostgreSQL: the truth or "unknown", never a wrong "not applied", never twice,
//! and always in time.
//!
//! Callers of every kind work through a proxy that cuts each of its connections after a few requests, in the ways of
//! [`testkit::cutting_proxy::Cut`]; sessions are ended on the server as well. What each caller was told is compared in
//! the end with what the ledger says by another way. Start at
//! [`what_callers_are_told_of_lost_answers_is_true`].

mod claimers;
mod committers;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{
    commit::{Commit, Committed, Table},
    ids::CommitId,
    task::Lane,
};
use store::{Store, StoreConfig, StoreError};
use testkit::{cutting_proxy::CuttingProxy, random::Random};

use crate::support::{Build, Db, claim, commit, new_run, noop, run};

/// How long an answer is waited for, and what follows from it for the longest call.
const ANSWER: Duration = Duration::from_secs(2);
const LONGEST_CALL: Duration = Duration::from_secs(10);
/// The drill ends with whatever comes first.
const ENOUGH_CUTS: u64 = 400;
const LONGEST_DRILL: Duration = Duration::from_secs(14);
const FEWEST_CUTS: u64 = 200;

/// What a caller was told of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Applied { version: i64 },
    NotApplied { why: String },
    Unknown,
}

/// What all callers share.
#[derive(Clone)]
struct Drill {
    /// By way of the proxy.
    store: Store,
    /// Past it.
    witness: Store,
    told: Arc<Mutex<BTreeMap<CommitId, Told>>>,
    over: Arc<AtomicBool>,
}

impl Drill {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Acquire)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        let id = commit.id.clone();
        let outcome = in_time("commit", self.store.commit(commit)).await;
        let told = match &outcome {
            Ok(Committed::Applied { version }) => Told::Applied { version: *version },
            Err(StoreError::UnknownOutcome { .. }) => Told::Unknown,
            Ok(refused) => Told::NotApplied { why: format!("{refused:?}") },
            Err(error) => {
                assert!(error.is_transient(), "{id}: {error}");
                Told::NotApplied { why: error.to_string() }
            }
        };
        self.told.lock().unwrap().insert(id, told);
        outcome
    }

    async fn version(&self, run: &str) -> i64 {
        self.witness.find_row(Table::Runs, run).await.unwrap().map_or(0, |row| row.version)
    }
}

/// Waits for a call, which must end within its bound.
async fn in_time<T>(what: &str, call: impl Future<Output = T>) -> T {
    let started = host::clock::monotonic();
    let ended = tokio::time::timeout(2 * LONGEST_CALL, Box::pin(call)).await;
    let took = started.elapsed();
    let answer = ended.unwrap_or_else(|_| panic!("{what} did not end within {took:?}"));
    assert!(took < LONGEST_CALL, "{what} took {took:?}");
    answer
}

async fn through(proxy: &CuttingProxy, db: &Db, answer: Duration) -> Store {
    let mark = if db.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{mark}application_name=drill&answer_timeout_ms={}", proxy.url(db.url()), answer.as_millis());
    for _ in 0..100 {
        match Store::open(&StoreConfig::Postgres { url: url.clone() }).await {
            Ok(store) => return store,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    panic!("the store did not open in a hundred tries")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_callers_are_told_of_lost_answers_is_true() {
    let seed = host::env::var("SEED").map_or_else(|| host::random::u64() >> 16, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    run(Db::postgres().await, async |db| drill(db, seed).await).await;
}

async fn drill(db: &mut Db, seed: u64) {
    let started = host::clock::monotonic();
    let proxy = CuttingProxy::start(db.url(), seed).await.unwrap();
    let drill = Drill {
        store: through(&proxy, db, ANSWER).await,
        witness: db.store.clone(),
        told: Arc::default(),
        over: Arc::default(),
    };
    let random = Random::new(seed);
    let keys = committers::Keys::default();
    let queue = claimers::Queue::fill(&db.store).await;
    let mut callers = Vec::new();
    for n in 0..12 {
        let (drill, random) = (drill.clone(), random.fork(n));
        callers.push(host::task::spawn("plain", committers::change_one_run(drill, format!("P{n}"), false, random)));
    }
    for n in 12..18 {
        let (drill, random) = (drill.clone(), random.fork(n));
        callers.push(host::task::spawn("guarded", committers::change_one_run(drill, format!("G{n}"), true, random)));
    }
    for n in 18..24 {
        let (drill, keys) = (drill.clone(), keys.clone());
        callers.push(host::task::spawn("repeating", committers::ask_until_told(drill, keys, n)));
    }
    for (n, lane) in [Lane::Fast, Lane::Fast, Lane::Engine].into_iter().enumerate() {
        let (drill, queue) = (drill.clone(), queue.clone());
        callers.push(host::task::spawn("claiming", claimers::claim_and_finish(drill, queue, lane, n)));
    }
    callers.push(host::task::spawn("keeping", claimers::keep_alive(drill.clone(), queue.clone())));
    callers.push(host::task::spawn("reaping", claimers::reap(drill.clone())));

    let mut ended = 0;
    let cuts = |ended: u64| proxy.cuts().values().sum::<u64>() + ended;
    while cuts(ended) < ENOUGH_CUTS && started.elapsed() < LONGEST_DRILL && callers.iter().all(|c| !c.is_finished()) {
        tokio::time::sleep(Duration::from_millis(40)).await;
        ended += end_a_session(db).await;
    }
    drill.over.store(true, Ordering::Release);
    for caller in callers {
        caller.await.unwrap();
    }
    proxy.be_calm();
    proxy.settled().await;
    drill.store.close().await;

    let told = drill.told.lock().unwrap().clone();
    println!("{:?}, {ended} sessions ended, {}", proxy.cuts(), summary(&told));
    compare(db, &told).await;
    keys.compare(db, &told).await;
    queue.compare(db).await;
    assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
    assert!(
        cuts(ended) >= FEWEST_CUTS && ended > 0,
        "{:?} and {ended} sessions in {:?}",
        proxy.cuts(),
        started.elapsed()
    );
    assert!(proxy.cuts().len() == 7, "not every way to cut was taken: {:?}", proxy.cuts());
    assert!(started.elapsed() < Duration::from_secs(20), "the drill took {:?}", started.elapsed());
}

/// Ends one session of the store on the server; how many there were to end.
async fn end_a_session(db: &Db) -> u64 {
    let ended = db
        .rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'drill' ORDER BY random() LIMIT 1",
        )
        .await;
    ended.len() as u64
}

fn summary(told: &BTreeMap<CommitId, Told>) -> String {
    let count = |is: fn(&Told) -> bool| told.values().filter(|told| is(told)).count();
    format!(
        "{} commits: {} applied, {} not, {} unknown",
        told.len(),
        count(|told| matches!(told, Told::Applied { .. })),
        count(|told| matches!(told, Told::NotApplied { .. })),
        count(|told| matches!(told, Told::Unknown)),
    )
}

/// Every commit is in the ledger as often as its caller was told.
async fn compare(db: &Db, told: &BTreeMap<CommitId, Told>) {
    let rows = db
        .rows("SELECT cause::json->>'commit', subject, version FROM events WHERE place = 0 AND subject_kind = 'run'")
        .await;
    let mut found: BTreeMap<CommitId, Vec<(String, i64)>> = BTreeMap::new();
    for row in rows {
        let [id, subject, version] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
        found.entry(CommitId::from(id)).or_default().push((subject.to_owned(), version.parse().unwrap()));
    }
    for (id, told) in told {
        let found = found.get(id).map_or(&[][..], Vec::as_slice);
        match told {
            Told::Applied { version } => {
                let versions: Vec<i64> = found.iter().map(|(_, version)| *version).collect();
                assert_eq!(versions, [*version], "{id} was told to be applied");
            }
            Told::NotApplied { why } => assert_eq!(found, [], "{id} was told not to be applied: {why}"),
            Told::Unknown => assert!(found.len() <= 1, "{id} was applied twice: {found:?}"),
        }
    }
    let applied = |told: &Told| matches!(told, Told::Applied { .. });
    assert!(told.values().filter(|told| applied(told)).count() > 200, "hardly anything went through");
}

/// Everything that a silent server can be asked, and how long the answer took.
async fn ask_everything(store: &Store, n: u64) -> Vec<(&'static str, Duration, Option<StoreError>)> {
    async fn timed<T>(what: &'static str, call: impl Future<Output = Result<T, StoreError>>) -> Answered {
        let started: Instant = host::clock::monotonic();
        let error = in_time(what, call).await.err();
        (what, started.elapsed(), error)
    }
    type Answered = (&'static str, Duration, Option<StoreError>);
    let name = |what: &str| format!("{what}{n}-{}", host::random::base62(6));
    let guard = domain::commit::Guard::Unique { key: name("key"), holder: name("holder") };
    let beat = store::Beat { task: "T".into(), fence: domain::ids::Fence(1) };
    let (a, b, c, d, e, f, g) = tokio::join!(
        timed("plain commit", Box::pin(store.commit(new_run(&name("R"))))),
        timed("guarded commit", Box::pin(store.commit(new_run(&name("G")).guard(guard)))),
        timed("fast claim", Box::pin(store.work(Vec::new(), claim("w", Lane::Fast, 1)))),
        timed("engine claim", Box::pin(store.work(Vec::new(), claim("w", Lane::Engine, 1)))),
        timed(
            "heartbeat",
            Box::pin(store.heartbeat(std::slice::from_ref(&beat), Duration::from_secs(30), crate::support::NOON))
        ),
        timed("reap", Box::pin(store.reap("w", 1))),
        timed("read", Box::pin(store.find_row(Table::Runs, "R"))),
    );
    vec![a, b, c, d, e, f, g]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_nothing_is_given_up_and_found_again() {
    run(Db::postgres().await, async |db| {
        db.applied(commit().task(noop("T"))).await;
        let answer = Duration::from_millis(600);
        let proxy = CuttingProxy::start(db.url(), 1).await.unwrap();
        proxy.be_calm();
        let store = through(&proxy, db, answer).await;
        for (what, _, error) in ask_everything(&store, 0).await {
            assert!(error.is_none(), "{what}: {error:?}");
        }

        proxy.be_mute();
        for round in 1..4 {
            for (what, took, error) in ask_everything(&store, round).await {
                // A commit waits twice as long for its turn, and then looks for what became of it.
                assert!(took < 3 * answer + Duration::from_secs(1), "{what} took {took:?} ({error:?})");
                assert!(error.is_some_and(|error| error.is_transient()), "{what} was answered by nobody");
            }
        }

        // What is open stays silent for ever; only what is opened from now on is answered.
        proxy.be_calm();
        let started = host::clock::monotonic();
        while ask_everything(&store, 9).await.iter().any(|(_, _, error)| error.is_some()) {
            assert!(started.elapsed() < Duration::from_secs(20), "it was not found again");
        }
        let closing = host::clock::monotonic();
        store.close().await;
        assert!(closing.elapsed() < 3 * answer);
    })
    .await;
}
