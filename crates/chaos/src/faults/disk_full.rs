//! A full disk under load, at another moment each time: the ledger, its log and what attempts write lie on a small
//! filesystem that is made smaller until next to nothing is left; on PostgreSQL the server has everything there.
//!
//! While it is full, commands are answered `disk_full` (on PostgreSQL, which may go down over it, with 503) and on SQLite
//! reads go on; once there is room, commands are accepted again within seconds and without a restart of the node; and
//! everything that was acknowledged is there in the end. Where no filesystem can be mounted, and for a tenth of the
//! rounds elsewhere, a limit on the size of files stands for it ([`limit`]). The control is the little node that answers
//! before it has stored anything.

mod limit;
mod probe;

use std::{os::unix::fs::PermissionsExt, time::Duration};

use anyhow::Result;
use futures_util::{FutureExt, future::BoxFuture};
use tempfile::TempDir;
use testkit::database;

use self::probe::Probe;
use crate::{
    cluster::{self, Cluster},
    drill::Flaw,
    fault::{self, Backend, Expects, Fault, On, Outcome, Setting, Weight},
    ledger::Ledger,
    load::Customers,
    mount::{self, Memory},
    node::{Node, Program, Role, Seat},
    place::Place,
    rest::{self, Closing},
    violation::{Kind, Violation},
};

pub const FAULT: Fault = Fault {
    name: "disk-full",
    injects: "a disk that is full at another write each time, under the ledger and what attempts write, and then is not",
    on: &[
        On { backend: Backend::Sqlite, quick: 50, long: 1_000, budget: 25 },
        On { backend: Backend::Postgres, quick: 3, long: 200, budget: 25 },
    ],
    weight: Weight::Light,
    needs: &[],
    run: |setting| fill(setting, None),
    controls: &[fault::Control {
        name: "early-answer",
        expects: Expects::A(Flaw::EarlyAnswer.shows_as()),
        run: |setting| fill(setting, Some(Flaw::EarlyAnswer)),
    }],
};

/// More than all rounds write; it takes memory only as it is used.
const SIZE: u64 = 8 << 30;
/// Up to so many bytes are left when the disk is filled; PostgreSQL makes its log in steps of 16 MiB.
const LEFT: u64 = 384 << 10;
const LEFT_TO_SERVER: u64 = 20 << 20;
const CUSTOMERS: u64 = 6;
/// How long a control presses on a full disk.
const PRESSED: Duration = Duration::from_secs(3);
/// How long a server that was there when its disk became full may take to be there again by itself.
const BY_ITSELF: Duration = Duration::from_secs(3);
const CONTROL: u64 = 2;
/// Of the rounds, those with a limit on the size of files.
const LIMITED: u64 = 10;

fn fill(mut setting: Setting, flaw: Option<Flaw>) -> BoxFuture<'static, Result<Outcome>> {
    if flaw.is_some() {
        setting.wanted = setting.wanted.min(CONTROL);
    }
    async move {
        let no_mounts = || (!mount::can()).then(|| "filesystems cannot be mounted here, which needs root".to_owned());
        let no_server = || cluster::missing().filter(|_| setting.backend == Backend::Postgres);
        match (setting.backend, no_mounts().or_else(no_server)) {
            // The control shows what the checks can see; it does not need a disk of PostgreSQL's.
            (Backend::Postgres, Some(_)) if flaw.is_some() => {
                limit::run(Setting { backend: Backend::Sqlite, ..setting }, flaw).await
            }
            (Backend::Postgres, why @ Some(_)) => Ok(Outcome { cut: why, ..Outcome::default() }),
            (_, Some(_)) => limit::run(setting, flaw).await,
            (Backend::Postgres, None) => run(setting, flaw).await,
            (_, None) if flaw.is_some() => run(setting, flaw).await,
            (_, None) => {
                let limited = Setting {
                    wanted: setting.wanted.div_ceil(LIMITED),
                    dir: setting.dir.join("limited"),
                    ..setting.clone()
                };
                let rest = Setting { wanted: setting.wanted - limited.wanted, ..setting };
                std::fs::create_dir_all(&limited.dir)?;
                let (first, second) = (run(rest, None).await?, limit::run(limited, None).await?);
                Ok(Outcome {
                    done: first.done + second.done,
                    figures: format!("{}; {}", first.figures, second.figures),
                    cut: None,
                    violations: [first.violations, second.violations].concat(),
                })
            }
        }
    }
    .boxed()
}

/// A place whose ledger lies on a filesystem that can be made full.
struct Ground {
    place: Place,
    disk: Memory,
    /// PostgreSQL, with all it has on that filesystem.
    cluster: Option<Cluster>,
    /// Where it is mounted that a cluster's account has to enter; behind the disk, which goes first.
    _public: Option<TempDir>,
}

impl Ground {
    async fn lay(setting: &Setting) -> Result<Self> {
        let dir = setting.dir.join("place");
        if setting.backend != Backend::Postgres {
            let place = Place::create(Backend::Sqlite, dir, None).await?;
            let disk = Memory::mount(&place.data(), SIZE, "0700").await?;
            return Ok(Self { place, disk, cluster: None, _public: None });
        }
        let everybody = std::fs::Permissions::from_mode(0o755);
        let public = tempfile::Builder::new().prefix("pilothouse-disk-").permissions(everybody).tempdir()?;
        let disk = Memory::mount(public.path(), SIZE, "0755").await?;
        let cluster = Cluster::start_in(public.path()).await?;
        let place = Place::create(Backend::Postgres, dir, Some(&cluster.url)).await?;
        Ok(Self { place, disk, cluster: Some(cluster), _public: Some(public) })
    }

    fn left(&self) -> u64 {
        if self.cluster.is_some() { LEFT_TO_SERVER } else { LEFT }
    }

    /// Gives the space back, and starts a server that has ended over it, as its operator would.
    async fn relieve(&mut self) -> Result<()> {
        self.disk.relieve().await?;
        let Some(cluster) = &mut self.cluster else { return Ok(()) };
        let relieved = host::clock::monotonic();
        while relieved.elapsed() < BY_ITSELF {
            if database::connect(&cluster.url).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cluster.restart().await
    }

    async fn remove(self) -> Result<()> {
        match self.cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }
}

async fn run(setting: Setting, flaw: Option<Flaw>) -> Result<Outcome> {
    let mut ground = Ground::lay(&setting).await?;
    let outcome = under_load(&setting, flaw, &mut ground).await;
    ground.remove().await?;
    outcome
}

async fn under_load(setting: &Setting, flaw: Option<Flaw>, ground: &mut Ground) -> Result<Outcome> {
    let program = program(setting, flaw);
    let mut node = Node::start(&program, &Seat::of(Role::Up), &ground.place)?;
    let target = node.ready().await?;
    let mut customers = Customers::start(CUSTOMERS, &setting.random, &setting.name, flaw.is_some());
    customers.load.aim(1, Some(target.clone()));
    let mut probe = Probe::of(&setting.name, target, flaw.is_some(), ground.cluster.is_some());
    let mut random = setting.random.fork(3);
    let mut outcome = Outcome::default();
    let mut slowest = Duration::ZERO;
    let started = host::clock::monotonic();
    while outcome.done < setting.wanted && !setting.is_spent(started) && outcome.violations.is_empty() {
        ground.disk.fill(random.below(ground.left())).await?;
        match flaw {
            // It does not tell: the disk is full for as long as it takes to lose something.
            Some(_) => probe.press(host::clock::monotonic() + PRESSED).await,
            None => outcome.violations.extend(probe.until_full(&mut random).await?),
        }
        tokio::time::sleep(random.millis(0, 80)).await;
        ground.relieve().await?;
        if node.has_ended()? {
            outcome.violations.push(Violation::of(Kind::Process, node.obituary()));
            break;
        }
        if flaw.is_none() {
            match probe.until_accepted().await {
                Ok(took) => slowest = slowest.max(took),
                Err(what) => outcome.violations.push(what),
            }
        }
        outcome.done += 1;
        setting.tell(&format!("{} times full, {} asked", outcome.done, probe.asked()));
    }
    let mut ledger = Ledger::default();
    let found = if outcome.violations.is_empty() && flaw.is_none() {
        let closing = Closing {
            name: &setting.name,
            program: &program,
            place: &ground.place,
            target: probe.target(),
            customers: &mut customers,
            nodes: vec![node],
            ledger: &mut ledger,
        };
        rest::come_to_rest(closing).await?
    } else {
        node.put_down().await?;
        rest::look(&ground.place, &customers, &mut ledger, false).await?
    };
    outcome.violations.extend(found.into_iter().filter(|violation| !is_given_up(violation)));
    outcome.figures = format!(
        "{} acknowledged; accepted again after at most {} ms",
        customers.load.journal().acknowledged.len(),
        slowest.as_millis()
    );
    Ok(outcome)
}

fn program(setting: &Setting, flaw: Option<Flaw>) -> Program {
    match flaw {
        None => Program::Product(setting.programs.product.clone()),
        Some(flaw) => Program::Drill(setting.programs.chaos.clone(), Some(flaw)),
    }
}

/// Three tries at a full disk are all that a task has: then its run says so and waits for people.
fn is_given_up(violation: &Violation) -> bool {
    violation.kind == Kind::Stuck && violation.what.contains(" died: ")
}
