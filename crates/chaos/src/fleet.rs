//! One server and two workers on one PostgreSQL, each with a data directory of its own as on machines of their own, and
//! each behind a line that can be interrupted: in network namespaces of their own where that may be. Customers ask for
//! jobs meanwhile.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{
    drill::Flaw,
    fault::Setting,
    ground::{Ground, Line},
    ledger::Ledger,
    load::Customers,
    node::{Node, Program, Role, Seat, Target},
    place::Place,
    rest::{self, Closing},
    violation::{Kind, Violation},
};

const CUSTOMERS: u64 = 4;
/// The data directories of the server and of the workers.
const DATA: [&str; 3] = ["data", "data-a", "data-b"];
/// Two leases may pass between the death of a worker and the first sign of its work elsewhere.
pub const LEASE: Duration = Duration::from_millis(500);
/// How long nodes wait for the answer of a database that is silent: less than they would by themselves, so that it shows
/// in seconds what they do then.
pub const ANSWER: Duration = Duration::from_secs(3);
/// For controls: nobody stands still for longer.
pub const LONG_LEASE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Fleet {
    name: String,
    program: Program,
    pub place: Place,
    pub customers: Customers,
    /// The server first, then the workers; a drill has only its server.
    pub nodes: Vec<Node>,
    /// In the order of the nodes.
    pub lines: Vec<Line>,
    pub target: Target,
    ledger: Ledger,
}

impl Fleet {
    /// Starts the product as a server and two workers.
    pub async fn of_product(setting: &Setting, ground: &mut Ground, name: &str, lease: Duration) -> Result<Self> {
        let program = Program::Product(setting.programs.product.clone());
        Self::start(setting, ground, name, program, lease).await
    }

    /// Starts the little node, whose two workers take over from each other.
    pub async fn of_drill(setting: &Setting, ground: &mut Ground, flaw: Option<Flaw>) -> Result<Self> {
        let program = Program::Drill(setting.programs.chaos.clone(), flaw);
        Self::start(setting, ground, "drill", program, LEASE).await
    }

    /// Starts the product as a server and two workers, or a drill, which has both in one process.
    async fn start(
        setting: &Setting,
        ground: &mut Ground,
        name: &str,
        program: Program,
        lease: Duration,
    ) -> Result<Self> {
        let place = Place::create(setting.backend, setting.dir.join(name), Some(ground.server())).await?;
        let url = place.database_url().context("a fleet shares a PostgreSQL")?;
        let roles: &[Role] = if program.drains() { &[Role::Serve, Role::Work, Role::Work] } else { &[Role::Up] };
        let (mut nodes, mut lines) = (Vec::new(), Vec::new());
        let mut target = None;
        for (role, data) in roles.iter().zip(DATA) {
            let line = ground.line(&url).await?;
            let database_url = format!("{}?answer_timeout_ms={}", line.url(&url)?, ANSWER.as_millis());
            let (database_url, entrance) = (Some(database_url), line.entrance().cloned());
            let seat = Seat { data, database_url, lease, entrance, ..Seat::of(*role) };
            let mut node = Node::start(&program, &seat, &place)?;
            // The server makes the schema and the catalog before anybody works.
            if target.is_none() {
                target = Some(node.ready().await?);
            }
            // One that is cut off while it starts gives up, which is not what this is about.
            node.wait_for_worker(&place).await?;
            nodes.push(node);
            lines.push(line);
        }
        let target = target.context("nothing serves")?;
        let customers = Customers::start(CUSTOMERS, &setting.random, &setting.name, !program.drains());
        customers.load.aim(1, Some(target.clone()));
        let (name, ledger) = (format!("{}-{name}", setting.name), Ledger::default());
        Ok(Self { name, program, place, customers, nodes, lines, target, ledger })
    }

    /// The database's address, as this program sees it.
    pub fn url(&self) -> Result<String> {
        self.place.database_url().context("a fleet shares a PostgreSQL")
    }

    /// How many tasks the database has seen change hands.
    pub async fn count_taken_over(&self) -> Result<u64> {
        let client = testkit::database::connect(&self.url()?).await?;
        let row = client.query_one("SELECT coalesce(sum(crashes), 0)::bigint FROM task_rows", &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }

    /// Whether a node ended although nobody told it to.
    pub fn find_dead(&mut self) -> Result<Option<Violation>> {
        for node in &mut self.nodes {
            if node.has_ended()? {
                return Ok(Some(Violation::of(Kind::Process, node.obituary())));
            }
        }
        Ok(None)
    }

    /// Brings everything to rest and checks it; how many commands were acknowledged, and what was found.
    pub async fn end(mut self, keep: bool) -> Result<(u64, Vec<Violation>)> {
        let closing = Closing {
            name: &self.name,
            program: &self.program,
            place: &self.place,
            target: &self.target,
            customers: &mut self.customers,
            nodes: self.nodes,
            ledger: &mut self.ledger,
        };
        let mut found = Box::pin(rest::come_to_rest(closing)).await?;
        let acknowledged = self.customers.load.journal().acknowledged.len() as u64;
        for line in self.lines {
            if !line.remove().await? {
                found.push(Violation::of(Kind::Orphan, "a process lived on in a node's network namespace"));
            }
        }
        if !keep && found.is_empty() {
            self.place.remove().await?;
        }
        Ok((acknowledged, found))
    }
}
