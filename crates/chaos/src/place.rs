//! Where a campaign happens: its directory, its catalog, its ledger.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use store::{Store, StoreConfig};

use testkit::database::Database;

use crate::fault::Backend;

/// The name by which our own connections to PostgreSQL are told from those of nodes.
const OURS: &str = "pilothouse_chaos";

/// Within which nothing writes any more that a killed node had begun, and how often that is looked at.
const SETTLED: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// What the jobs run: a mark, a pause, a mark, a code. A mark begins with a line of its own, because what was written
/// before it may have been killed in the middle.
const SCRIPT: &str =
    r#"printf "\\nbegin $HOME $$\\n" >> "$1"; sleep "$2"; printf "\\nend $HOME $$\\n" >> "$1"; exit "$3""#;

/// The keys of the catalog's jobs, whether each asks people first, and whether it may be repeated without asking.
pub const JOBS: [Job; 4] = [
    Job { key: "quick", policy: "\"none\"", gated: false, idempotent: false },
    Job { key: "again", policy: "\"none\"", gated: false, idempotent: true },
    Job {
        key: "gated",
        policy: "{ of = [\"dev:*\"], quorum = 1, distinct_from_requester = false }",
        gated: true,
        idempotent: false,
    },
    Job { key: "pair", policy: "{ of = [\"dev:*\"], quorum = 2 }", gated: true, idempotent: false },
];

/// A job that is asked for and expires a second later.
pub const BRIEF: &str = "brief";

#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub key: &'static str,
    policy: &'static str,
    pub gated: bool,
    pub idempotent: bool,
}

#[derive(Debug)]
pub struct Place {
    pub backend: Backend,
    /// Everything of the campaign lies here.
    pub dir: PathBuf,
    database: Option<Database>,
}

impl Place {
    /// Makes the directory with its catalog, and the database on the server at `postgres`.
    pub async fn create(backend: Backend, dir: PathBuf, postgres: Option<&str>) -> Result<Self> {
        std::fs::create_dir_all(dir.join("copy"))?;
        let database = match backend {
            Backend::Sqlite | Backend::Neither => None,
            Backend::Postgres => {
                let server = postgres.context("there is no PostgreSQL server to make a database on")?;
                Some(Database::create(server).await.context("cannot make a database")?)
            }
        };
        let place = Self { backend, dir, database };
        std::fs::write(place.jobs(), place.catalog())?;
        Ok(place)
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn jobs(&self) -> PathBuf {
        self.dir.join("jobs.toml")
    }

    pub fn marks(&self) -> PathBuf {
        self.dir.join("marks")
    }

    /// Where nodes note which failpoints they reached.
    pub fn seen(&self) -> PathBuf {
        self.dir.join("failpoints")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    /// As nodes are given it.
    pub fn database_url(&self) -> Option<String> {
        self.database.as_ref().map(Database::url)
    }

    pub fn catalog(&self) -> String {
        JOBS.iter().map(|job| job.entry(&self.marks())).collect()
    }

    /// Runs this job through and past a question that nobody answers in its short time.
    pub fn add_brief_job(&self) -> Result<()> {
        let brief = Job { key: BRIEF, policy: "{ of = [\"dev:nobody\"], quorum = 1 }\ntimeout = \"1s\"", ..JOBS[2] };
        Ok(std::fs::write(self.jobs(), format!("{}{}", self.catalog(), brief.entry(&self.marks())))?)
    }

    /// Opens the ledger as the killed process left it; `None` while there is none. SQLite is read from a copy, so that the
    /// recovery of its log stays the product's own work.
    pub async fn ledger(&self) -> Result<Option<Store>> {
        let config = match &self.database {
            Some(database) => {
                let url = database.url();
                let mark = if url.contains('?') { '&' } else { '?' };
                StoreConfig::Postgres { url: format!("{url}{mark}application_name={OURS}") }
            }
            None => {
                let (from, to) = (self.data(), self.dir.join("copy"));
                let path = to.join("pilothouse.db");
                host::task::spawn_blocking("copy", move || copy_ledger(&from, &to)).await??;
                if !path.exists() {
                    return Ok(None);
                }
                StoreConfig::Sqlite { path }
            }
        };
        Ok(Some(Store::open(&config).await.context("the ledger cannot be opened")?))
    }

    /// Waits until the server has noticed the death of its clients, until when it may still carry out what they sent, and
    /// until every event can be read: the cursor holds back what a transaction that is still open could precede, in
    /// whatever database of the server it is. After a partition the end of a connection comes late: it was dropped, too, and
    /// is sent again by a timer that has doubled meanwhile.
    pub async fn settle(&self) -> Result<()> {
        let Some(database) = &self.database else { return Ok(()) };
        let client = testkit::database::connect(&database.url()).await?;
        for _ in 0..12_000 {
            let others: i64 = client
                .query_one(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND pid <> pg_backend_pid() AND application_name <> $1",
                    &[&OURS],
                )
                .await?
                .get(0);
            if others == 0 {
                return wait_for_events(&client).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::bail!("PostgreSQL still serves clients that are dead")
    }

    /// Removes everything.
    pub async fn remove(self) -> Result<()> {
        if let Some(database) = self.database {
            database.drop_now().await?;
        }
        remove_dir(self.dir).await
    }
}

/// Removes a directory with what may be ten thousands of files, which takes seconds: other faults go on meanwhile. What a
/// killed node had begun, to find out about its machine, may still write there for a moment.
pub async fn remove_dir(dir: PathBuf) -> Result<()> {
    let started = host::clock::monotonic();
    loop {
        let dir = dir.clone();
        match host::task::spawn_blocking("removal", move || std::fs::remove_dir_all(dir)).await? {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && started.elapsed() < SETTLED => {
                tokio::time::sleep(LOOK).await;
            }
            removed => return Ok(removed?),
        }
    }
}

fn copy_ledger(from: &Path, to: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("pilothouse.db{suffix}");
        let (from, to) = (from.join(&name), to.join(&name));
        match std::fs::remove_file(&to) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The shared memory is rebuilt from the log.
        if suffix != "-shm" && from.exists() {
            std::fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

async fn wait_for_events(client: &tokio_postgres::Client) -> Result<()> {
    let newest: String = client.query_one("SELECT pg_current_xact_id()::text", &[]).await?.get(0);
    for _ in 0..6_000 {
        let past: bool = client
            .query_one("SELECT pg_snapshot_xmin(pg_current_snapshot()) > $1::text::xid8", &[&newest])
            .await?
            .get(0);
        if past {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    anyhow::bail!("another transaction on this server stays open and holds the events back")
}

impl Job {
    pub fn entry(&self, marks: &Path) -> String {
        let Self { key, policy, idempotent, .. } = self;
        format!(
            r#"[job.{key}]
title = "Leave two marks"
owner = "harness"
[job.{key}.params]
tag = {{ type = "string", pattern = "^[a-z0-9-]+$", max_length = 60, required = true }}
pause = {{ type = "string", pattern = "^0\\.[0-9]+$", max_length = 5, required = true }}
code = {{ type = "int", min = 0, max = 9, default = 0 }}
[job.{key}.exec]
argv = ["/bin/sh", "-c", '''{SCRIPT}''', "sh", "{}", "{{{{pause}}}}", "{{{{code}}}}", "{{{{tag}}}}"]
idempotent = {idempotent}
[job.{key}.policy]
approve = {policy}
"#,
            marks.display()
        )
    }

    pub fn find(key: &str) -> Option<&'static Self> {
        JOBS.iter().find(|job| job.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_loads() {
        let place = Place { backend: Backend::Sqlite, dir: "/d".into(), database: None };

        let catalog = domain::catalog::Catalog::parse(&place.catalog(), "jobs.toml").unwrap();

        assert_eq!(catalog.jobs().count(), JOBS.len());
        assert!(catalog.warnings().iter().all(|warning| warning.kind == domain::catalog::WarningKind::DevChannel));
    }
}
