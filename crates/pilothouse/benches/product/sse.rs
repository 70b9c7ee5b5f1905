//! How soon an event is with each of a hundred people who follow: from the instant that the event itself names, which is
//! that of the decision and so before its commit, to the line in the reader's hands.

use std::{sync::Arc, time::Duration};

use domain::time::Timestamp;
use testkit::bench::{
    http::{self, Connection},
    node::{Endpoint, Node},
    series::{milliseconds, quantile},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Barrier,
};

use crate::{
    Measured, Plan,
    inbound::with_jobs,
    place::{Database, Place},
};

const FOLLOWERS: usize = 100;
const PAUSE: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(plan: Plan) -> Measured {
    let place = Place::new(Database::Sqlite).await?;
    let late = follow(&place, plan.told).await;
    place.end().await;
    Ok(quantile(&mut late?, 0.99).ok_or("no event was seen")?.into())
}

async fn follow(place: &Place, told: usize) -> Result<Vec<f64>, String> {
    let launch = with_jobs(place.launch("serve"), place.root())?
        .set("SERVER__LIMITS__MAX_STREAMS_PER_PERSON", "128")
        .set("SERVER__LIMITS__MAX_CONNECTIONS_PER_PEER", "256");
    let mut node = Node::start(&launch)?;
    let endpoint = node.ready().await?;
    let load = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(tell_and_follow(&endpoint, told))
    };
    // One thread for all followers, as for any other load.
    host::task::spawn_blocking("followers", load).await.map_err(|error| error.to_string())?
}

async fn tell_and_follow(endpoint: &Endpoint, told: usize) -> Result<Vec<f64>, String> {
    let all_follow = Arc::new(Barrier::new(FOLLOWERS + 1));
    let mut followers = tokio::task::JoinSet::new();
    for _ in 0..FOLLOWERS {
        followers.spawn(one_follower(endpoint.clone(), Arc::clone(&all_follow), told));
    }
    let wrong = |error: std::io::Error| error.to_string();
    let mut connection = Connection::open(endpoint.address).await.map_err(wrong)?;
    tokio::time::timeout(PATIENCE, all_follow.wait()).await.map_err(|_| "not all followers were let in")?;
    for n in 0..told {
        let body = format!(
            r#"{{"from":"dev:ada","conversation":"dev:ops","body":"run deploy env=prod","providerMessageId":"{n}"}}"#
        );
        let request = http::request(endpoint, "POST", "/dev/inbound", &body);
        match connection.exchange(&request).await.map_err(wrong)? {
            (200, _) => tokio::time::sleep(PAUSE).await,
            (status, body) => return Err(format!("answered with {status}: {}", String::from_utf8_lossy(body))),
        }
    }
    let mut late = Vec::new();
    while let Some(ended) = followers.join_next().await {
        late.extend(ended.map_err(|error| error.to_string())??);
    }
    Ok(late)
}

/// Follows until so many runs were asked for; how late each event came, in milliseconds.
async fn one_follower(endpoint: Endpoint, all_follow: Arc<Barrier>, told: usize) -> Result<Vec<f64>, String> {
    let stream = Connection::open(endpoint.address).await.map_err(|error| error.to_string())?.into_stream();
    let mut lines = BufReader::new(stream);
    let request = http::request(&endpoint, "GET", "/events/stream?after=latest", "");
    lines.get_mut().write_all(&request).await.map_err(|error| error.to_string())?;
    while !next(&mut lines).await?.starts_with("retry:") {}
    all_follow.wait().await;
    let (mut late, mut runs) = (Vec::new(), 0);
    while runs < told {
        let line = next(&mut lines).await?;
        let now = Timestamp::from_micros(host::clock::now_micros());
        let Some(data) = line.strip_prefix("data: ") else { continue };
        // Read by hand: a hundred parsers would be measured as well.
        runs += usize::from(data.contains(r#""version":1,"place":0,"#));
        let at = data.split_once(r#""at":""#).and_then(|(_, rest)| rest.split_once('"')?.0.parse().ok());
        late.push(milliseconds(now.since(at.ok_or("an event has no time")?)));
    }
    Ok(late)
}

async fn next(lines: &mut BufReader<TcpStream>) -> Result<String, String> {
    let mut line = String::new();
    let read = tokio::time::timeout(PATIENCE, lines.read_line(&mut line)).await.map_err(|_| "an event did not come")?;
    match read.map_err(|error| error.to_string())? {
        0 => Err("a stream ended".to_owned()),
        _ => Ok(line),
    }
}
