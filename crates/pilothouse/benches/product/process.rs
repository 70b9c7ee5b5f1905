//! The process itself: how soon it is healthy, what it holds while nothing happens, how large its file is.

use std::{net::TcpListener, process::Command, time::Duration};

use testkit::bench::{
    http::{self, Connection},
    machine::resident_mib,
    node::{Endpoint, Node},
    series::{Unmeasured, median, milliseconds},
};

use crate::{
    Measured,
    place::{Database, EXE, Place},
};

const PATIENCE: Duration = Duration::from_secs(30);
const MIB: f64 = 1024.0 * 1024.0;

/// From the start of `up` in an empty directory, which makes its ledger and its token first, to the first 200 of
/// `/health`.
pub(crate) async fn cold_start(starts: usize) -> Measured {
    let mut times = Vec::new();
    for _ in 0..starts {
        let place = Place::new(Database::Sqlite).await?;
        let taken = start_once(&place).await;
        place.end().await;
        times.push(milliseconds(taken?));
    }
    Ok(median(&mut times).ok_or("nothing was measured")?.into())
}

async fn start_once(place: &Place) -> Result<Duration, String> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.map_err(|error| error.to_string())?;
    let mut launch = place.launch("up");
    launch.arguments = vec!["--listen".to_owned(), address.to_string()];
    let request = http::request(&Endpoint { address, token: "none".to_owned() }, "GET", "/health", "");
    let begun = host::clock::monotonic();
    let node = Node::start(&launch)?;
    while begun.elapsed() < PATIENCE {
        if let Ok(mut connection) = Connection::open(address).await
            && let Ok((200, _)) = connection.exchange(&request).await
        {
            return Ok(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    Err(format!("it was not healthy in time: {}", node.log()))
}

/// What `up` holds that was started, asked once, and left alone.
pub(crate) async fn idle_rss(idle: Duration) -> Measured {
    let place = Place::new(Database::Sqlite).await?;
    let held = hold(&place, idle).await;
    place.end().await;
    Ok(held?.into())
}

async fn hold(place: &Place, idle: Duration) -> Result<f64, String> {
    let mut node = Node::start(&place.launch("up"))?;
    let endpoint = node.ready().await?;
    let mut connection = Connection::open(endpoint.address).await.map_err(|error| error.to_string())?;
    let request = http::request(&endpoint, "GET", "/projects", "");
    connection.exchange(&request).await.map_err(|error| error.to_string())?;
    tokio::time::sleep(idle).await;
    let mib = resident_mib(node.pid());
    if mib > 0.0 { Ok(mib) } else { Err(format!("its memory cannot be read: {}", node.log())) }
}

/// The file as it is shipped: without the names that this build keeps for profilers.
pub(crate) fn binary() -> Measured {
    let dir = testkit::bench::fixture::directory()?;
    let copy = dir.path().join("pilothouse");
    let stripped = Command::new("strip").arg("-o").arg(&copy).arg(EXE).status();
    match stripped {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("strip failed ({status})").into()),
        Err(error) => return Err(Unmeasured::Missing(format!("there is no `strip` here: {error}"))),
    }
    let bytes = std::fs::metadata(&copy).map_err(|error| error.to_string())?.len();
    Ok((u32::try_from(bytes / 1024).map_or(f64::INFINITY, f64::from) * 1024.0 / MIB).into())
}
