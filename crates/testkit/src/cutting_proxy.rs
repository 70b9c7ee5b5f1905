//! A proxy before PostgreSQL that loses requests and answers at chosen moments, decided by a seed.
//!
//! It reads just enough of the protocol to know where a request ends and when it was answered. Each connection lives for
//! a number of requests and is then cut in one of the ways of [`Cut`]. Start at [`CuttingProxy::start`].

mod frames;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use self::frames::{Answers, Requests};
use crate::random::Random;

/// Requests that a connection may see at most before it is cut.
const LONGEST_LIFE: u64 = 40;
/// Nobody holds anything back for longer.
const LONGEST_HOLD: u64 = 150;
/// A server that does not answer what is delivered to it late has ended the session.
const LATE_ANSWER: Duration = Duration::from_secs(10);

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// Before anything was said.
    Refused,
    /// The server never sees the request.
    Unsent,
    /// The server sees a part of it.
    HalfSent,
    /// The server carried it out, and nobody hears of it.
    Unanswered,
    /// A part of the answer comes through.
    HalfAnswered,
    /// The answer is held back for a while, and then lost.
    Held,
    /// The client is cut off first, and the server sees the request later.
    Late,
}

const CUTS: [Cut; 7] =
    [Cut::Refused, Cut::Unsent, Cut::HalfSent, Cut::Unanswered, Cut::HalfAnswered, Cut::Held, Cut::Late];

/// What the proxy does with connections from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Cutting,
    /// Everything is passed on.
    Calm,
    /// Nothing is, and nothing is closed.
    Mute,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct CuttingProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: String,
    mood: watch::Sender<Mood>,
    cuts: Mutex<BTreeMap<Cut, u64>>,
    /// Requests that are yet to be delivered to the server, or answered by it, without their client.
    under_way: watch::Sender<u64>,
}

impl CuttingProxy {
    /// Starts before the server that a `postgres://` address names.
    pub async fn start(url: &str, seed: u64) -> io::Result<Self> {
        let (_, server, _) = split(url);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            mood: watch::Sender::new(Mood::Cutting),
            cuts: Mutex::default(),
            under_way: watch::Sender::new(0),
        });
        let serving = shared.clone();
        let random = Random::new(seed);
        let listener = host::task::spawn("cutting proxy", async move {
            for n in 0.. {
                let Ok((client, _)) = listener.accept().await else { return };
                let (shared, random) = (serving.clone(), random.fork(n));
                drop(host::task::spawn("cut connection", async move {
                    // Whichever side failed, both are closed.
                    let _ = shared.converse(client, random).await;
                }));
            }
        });
        Ok(Self { address, shared, listener })
    }

    /// The same address by way of this proxy.
    pub fn url(&self, url: &str) -> String {
        let (before, _, after) = split(url);
        format!("{before}{}{after}", self.address)
    }

    /// Cuts nothing more; what is under way is cut as decided.
    pub fn be_calm(&self) {
        self.shared.mood.send_replace(Mood::Calm);
    }

    /// Passes nothing on, in either direction, and closes nothing: what is open now stays silent for ever.
    pub fn be_mute(&self) {
        self.shared.mood.send_replace(Mood::Mute);
    }

    /// Waits until no request is under way whose client is gone.
    pub async fn settled(&self) {
        // The sender lives in `self`, so the channel cannot be closed.
        let _ = self.shared.under_way.subscribe().wait_for(|n| *n == 0).await;
    }

    /// How many connections ended in which way.
    pub fn cuts(&self) -> BTreeMap<Cut, u64> {
        self.shared.cuts().clone()
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// An address before, at and behind its server.
fn split(url: &str) -> (&str, &str, &str) {
    let scheme = url.find("://").map_or(0, |at| at + 3);
    let end = url[scheme..].find(['/', '?']).map_or(url.len(), |at| scheme + at);
    let start = url[scheme..end].rfind('@').map_or(scheme, |at| scheme + at + 1);
    (&url[..start], &url[start..end], &url[end..])
}

impl Shared {
    fn cuts(&self) -> MutexGuard<'_, BTreeMap<Cut, u64>> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, cut: Cut) {
        *self.cuts().entry(cut).or_default() += 1;
    }

    async fn converse(&self, mut client: TcpStream, mut random: Random) -> io::Result<()> {
        let mut mood = self.mood.subscribe();
        // Few are refused: each refusal also costs a caller its pause.
        let cut = match random.chance(3) {
            true => Cut::Refused,
            false => *random.pick(&CUTS[1..]).unwrap_or(&Cut::Unsent),
        };
        let mut left = 1 + random.below(LONGEST_LIFE);
        if *mood.borrow() == Mood::Cutting && cut == Cut::Refused {
            self.count(cut);
            return Ok(());
        }
        if *mood.borrow() == Mood::Mute {
            return silence(client).await;
        }
        let mut server = TcpStream::connect(&self.server).await?;
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let mut requests = Requests::default();
        let mut answer = vec![0; 16 * 1024];
        loop {
            tokio::select! {
                biased;
                () = muted(&mut mood) => return silence((client, server)).await,
                length = server.read(&mut answer) => match length? {
                    0 => return Ok(()),
                    length => client.write_all(&answer[..length]).await?,
                },
                request = requests.next(&mut client) => {
                    let Some(request) = request? else { return Ok(()) };
                    left -= u64::from(request.executes && left > 0);
                    if left == 0 && *self.mood.borrow() == Mood::Cutting {
                        return self.cut(cut, &request.bytes, client, server, &mut random).await;
                    }
                    server.write_all(&request.bytes).await?;
                }
            }
        }
    }

    async fn cut(
        &self,
        cut: Cut,
        request: &[u8],
        mut client: TcpStream,
        mut server: TcpStream,
        random: &mut Random,
    ) -> io::Result<()> {
        self.count(cut);
        let hold = random.millis(1, LONGEST_HOLD);
        let part = |bytes: &[u8], random: &mut Random| usize::try_from(random.below(bytes.len() as u64)).unwrap_or(0);
        match cut {
            Cut::Refused | Cut::Unsent => {}
            Cut::HalfSent => server.write_all(&request[..part(request, random)]).await?,
            Cut::Unanswered | Cut::HalfAnswered | Cut::Held => {
                server.write_all(request).await?;
                let answer = Answers::default().whole(&mut server).await?;
                match cut {
                    Cut::HalfAnswered => client.write_all(&answer[..part(&answer, random)]).await?,
                    Cut::Held => tokio::time::sleep(hold).await,
                    _ => {}
                }
            }
            Cut::Late => {
                self.under_way.send_modify(|n| *n += 1);
                drop(client);
                tokio::time::sleep(hold).await;
                let delivered = async {
                    server.write_all(request).await?;
                    Answers::default().whole(&mut server).await.map(drop)
                };
                let delivered = tokio::time::timeout(LATE_ANSWER, delivered).await;
                self.under_way.send_modify(|n| *n -= 1);
                return delivered.unwrap_or(Ok(()));
            }
        }
        Ok(())
    }
}

async fn muted(mood: &mut watch::Receiver<Mood>) {
    // The sender lives as long as the proxy's connections.
    let _ = mood.wait_for(|mood| *mood == Mood::Mute).await;
}

/// Keeps what it is given open and does nothing with it.
async fn silence<T>(kept: T) -> io::Result<()> {
    std::future::pending::<()>().await;
    drop(kept);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_split_around_its_server() {
        assert_eq!(split("postgres://u:p@h:1/db?x=1"), ("postgres://u:p@", "h:1", "/db?x=1"));
        assert_eq!(split("postgres://h:1/db"), ("postgres://", "h:1", "/db"));
        assert_eq!(split("postgres://u@h?x=a@b"), ("postgres://u@", "h", "?x=a@b"));
    }
}
