//! A network of namespaces: PostgreSQL and every node have one of their own, and between them stands a router in another.
//! Packets are dropped there, in either direction, so that nobody is told: no connection is refused or closed, as when a
//! cable is cut or a switch fails.
//!
//! It takes Linux with `unshare`, `nsenter` and `ip`, and root or a user who may make namespaces. Packets are dropped by
//! rules of routing, which every kernel has; they are held back, to be delivered late as they were sent, by a queue
//! (`tc`, `tbf`) that not every kernel has.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    cluster::{self, Cluster},
    space::{Door, Entrance, Power, Space},
    wire::{EVERYTHING, Passes},
};

/// Networks of four addresses, one for each cable, from here on.
const BASE: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 0);
/// The first cable's.
const DATABASE: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 2);
/// What there is at most in a namespace of addresses.
const MOST_CABLES: u32 = 16_000;
/// A server that is told to end writes first.
const SERVER_ENDS: Duration = Duration::from_secs(30);
/// So slow that nothing passes while anybody waits; what fits into the burst does.
const HELD: &str = "rate 8bit burst 1600 limit 4mb";
/// Faster than anything here; what was held passes with the next packet.
const FLOWING: &str = "rate 10gbit burst 1mb limit 4mb";

/// Gone when it is dropped, and however this program ends.
#[derive(Debug)]
pub struct Network {
    power: Power,
    /// `chaos`, which holds namespaces.
    program: PathBuf,
    doors: TempDir,
    router: Space,
    database: Space,
    cluster: Option<Cluster>,
    laid: u32,
    /// Why nothing can be held back, if so.
    pub holds_not: Option<String>,
}

/// What a node is connected by. Everything passes until something is set.
#[derive(Debug)]
pub struct Cable {
    space: Space,
    router: Entrance,
    address: Ipv4Addr,
    port: u16,
    passes: Passes,
    /// Whether it can.
    pub holds: bool,
    is_held: bool,
}

impl Network {
    /// Lays the router and the place of the server by whatever power allows it.
    pub async fn lay(program: &Path) -> Result<Self> {
        if let Some(why) = cluster::missing() {
            bail!("there is no PostgreSQL of our own: {why}");
        }
        let mut reasons = Vec::new();
        for power in Power::all() {
            match Self::lay_by(power, program).await {
                Ok(network) => return Ok(network),
                Err(error) => reasons.push(format!("{}: {error:#}", power.name())),
            }
        }
        bail!(reasons.join("; "))
    }

    async fn lay_by(power: Power, program: &Path) -> Result<Self> {
        let doors = tempfile::tempdir()?;
        let router = Space::open(power, program, doors.path().join("router"), Duration::ZERO).await?;
        let database = router.beside(program, doors.path().join("database"), SERVER_ENDS).await?;
        router.entrance.ip("link set lo up\n").await?;
        router.entrance.call(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], "").await?;
        connect(&router.entrance, &database.entrance, 0).await?;
        // Not every kernel has rules.
        let rule = "from 192.0.2.1 to 192.0.2.2 blackhole";
        router.entrance.ip(&format!("rule add {rule}\nrule del {rule}\n")).await?;
        let held = hold(&database.entrance).await;
        let holds_not = held.err().map(|error| format!("{error:#}"));
        if holds_not.is_none() {
            database.entrance.call(&["tc", "-batch", "-"], "qdisc del dev cable root\n").await?;
        }
        let program = program.to_owned();
        Ok(Self { power, program, doors, router, database, cluster: None, laid: 0, holds_not })
    }

    /// Starts the server; its address from outside, by a socket in the filesystem.
    pub async fn serve(&mut self) -> Result<String> {
        let cluster = Cluster::start_apart(&self.database.entrance, DATABASE).await?;
        let url = cluster.socket_url();
        self.cluster = Some(cluster);
        Ok(url)
    }

    /// Lays a cable to a namespace of its own for a node.
    pub async fn plug(&mut self) -> Result<Cable> {
        self.laid += 1;
        ensure!(self.laid < MOST_CABLES, "more cables than there are addresses");
        let door = self.doors.path().join(self.laid.to_string());
        let space = self.router.beside(&self.program, door, Duration::ZERO).await?;
        connect(&self.router.entrance, &space.entrance, self.laid).await?;
        let cluster = self.cluster.as_ref().context("the server is not started")?;
        let (address, port) = (end(self.laid, 2), cluster.port()?);
        let (router, holds) = (self.router.entrance.clone(), self.holds_not.is_none());
        let cable = Cable { space, router, address, port, passes: EVERYTHING, holds, is_held: false };
        ensure!(cable.reaches(Duration::from_secs(5)).await, "the server cannot be reached by a new cable");
        Ok(cable)
    }

    pub fn power(&self) -> Power {
        self.power
    }

    /// Stops the server and takes everything away.
    pub async fn end(self) -> Result<()> {
        if let Some(cluster) = self.cluster {
            cluster.stop().await?;
        }
        let (database, router) = (self.database.close().await?, self.router.close().await?);
        ensure!(database && router, "a process lived on in a namespace that is taken away");
        Ok(())
    }
}

impl Cable {
    /// The database at this address, as the node sees it.
    pub fn url(&self, url: &str) -> Result<String> {
        let (login, rest) = url.rsplit_once('@').context("an address without a login")?;
        let (_, path) = rest.split_once('/').context("an address without a database")?;
        Ok(format!("{login}@{DATABASE}:{}/{path}", self.port))
    }

    pub fn entrance(&self) -> &Entrance {
        &self.space.entrance
    }

    fn door(&self) -> Door {
        self.space.entrance.knock()
    }

    /// Whether a new connection to the server is made in time.
    pub async fn reaches(&self, within: Duration) -> bool {
        self.door().reaches((DATABASE, self.port), within).await
    }

    /// Lets this much pass from now on, and drops the rest without a word.
    pub async fn set(&mut self, passes: Passes) -> Result<()> {
        let mut lines = String::new();
        let directions = [
            (self.passes.to_server, passes.to_server, self.address, DATABASE),
            (self.passes.to_client, passes.to_client, DATABASE, self.address),
        ];
        for (passed, passes, from, to) in directions {
            if passed != passes {
                let what = if passes { "del" } else { "add" };
                lines.push_str(&format!("rule {what} from {from} to {to} blackhole\n"));
            }
        }
        if !lines.is_empty() {
            self.router.ip(&lines).await?;
        }
        self.passes = passes;
        Ok(())
    }

    /// Holds back what the node sends from now on, or lets it go as it was sent.
    pub async fn hold(&mut self, is_held: bool) -> Result<()> {
        match (self.is_held, is_held) {
            (false, true) => hold(self.entrance()).await?,
            (true, false) => {
                let line = format!("qdisc change dev cable root tbf {FLOWING}\n");
                self.entrance().call(&["tc", "-batch", "-"], &line).await?;
            }
            _ => {}
        }
        self.is_held = is_held;
        Ok(())
    }

    /// Ends the server's side of every connection that there is. The node hears of it once something passes.
    pub async fn lose(&self, url: &str) -> Result<()> {
        let client = testkit::database::connect(url).await?;
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE datname = current_database() AND client_addr = $1::text::inet";
        client.query_one(end, &[&self.address.to_string()]).await?;
        Ok(())
    }

    /// Whether nothing that was started behind it lived on.
    pub async fn unplug(mut self) -> Result<bool> {
        self.set(EVERYTHING).await?;
        self.space.close().await
    }
}

async fn hold(entrance: &Entrance) -> Result<()> {
    let line = format!("qdisc replace dev cable root tbf {HELD}\n");
    entrance.call(&["tc", "-batch", "-"], &line).await
}

/// Lays cable number so and so from the router.
async fn connect(router: &Entrance, to: &Entrance, number: u32) -> Result<()> {
    let (near, far) = (end(number, 1), end(number, 2));
    let (name, holder) = (format!("n{number}"), to.holder());
    router
        .ip(&format!(
            "link add {name} type veth peer name cable netns {holder}\naddr add {near}/30 dev {name}\n\
             link set {name} up\n"
        ))
        .await?;
    to.ip(&format!("link set lo up\naddr add {far}/30 dev cable\nlink set cable up\nroute add default via {near}\n"))
        .await
}

fn end(number: u32, which: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(BASE.to_bits() + 4 * number + which)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cable_has_addresses_of_its_own() {
        assert_eq!((end(0, 1), end(0, 2)), (Ipv4Addr::new(10, 87, 0, 1), DATABASE));
        assert_eq!(end(64, 2), Ipv4Addr::new(10, 87, 1, 2));
        assert!(end(MOST_CABLES, 3) < Ipv4Addr::new(10, 88, 0, 0));
    }
}
