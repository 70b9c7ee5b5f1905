//! What a fleet stands on: a network of namespaces where one may be made, else the loopback with a wire before each node;
//! and the lines by which its nodes reach the database, which can be interrupted either way.

use std::time::Duration;

use anyhow::Result;

use crate::{
    fault::Setting,
    network::{Cable, Network},
    space::Entrance,
    wire::{EVERYTHING, Passes, Wire},
};

#[derive(Debug)]
pub enum Ground {
    Apart {
        network: Box<Network>,
        url: String,
    },
    Loopback {
        url: String,
        /// Why there is no network.
        why: String,
    },
}

#[derive(Debug)]
pub enum Line {
    Wire(Wire),
    Cable(Box<Cable>),
}

impl Ground {
    async fn find(setting: &Setting) -> Result<Self> {
        let laid = match setting.on_loopback {
            true => Err(anyhow::anyhow!("asked for")),
            false => Box::pin(Network::lay(&setting.programs.chaos)).await,
        };
        match laid {
            Ok(mut network) => {
                let url = network.serve().await?;
                Ok(Self::Apart { network: Box::new(network), url })
            }
            Err(error) => Ok(Self::Loopback { url: setting.server()?.to_owned(), why: format!("{error:#}") }),
        }
    }

    /// Does this work on a ground of its own, which is taken away again whatever the work came to.
    pub async fn lend<T>(setting: &Setting, work: impl AsyncFnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut ground = Self::find(setting).await?;
        let outcome = work(&mut ground).await;
        ground.end().await?;
        outcome
    }

    /// The server's address, as this program sees it.
    pub fn server(&self) -> &str {
        match self {
            Self::Apart { url, .. } | Self::Loopback { url, .. } => url,
        }
    }

    /// A line to the database at this address.
    pub async fn line(&mut self, url: &str) -> Result<Line> {
        Ok(match self {
            Self::Apart { network, .. } => Line::Cable(Box::new(network.plug().await?)),
            Self::Loopback { .. } => Line::Wire(Wire::lay(url).await?),
        })
    }

    /// Which way was taken, and why.
    pub fn text(&self) -> String {
        match self {
            Self::Apart { network, .. } => {
                let held = network
                    .holds_not
                    .as_ref()
                    .map(|why| format!("; packets are sent again instead of held back: {why}"));
                let network = network.power().name();
                format!("in network namespaces, {network}{}", held.unwrap_or_default())
            }
            Self::Loopback { why, .. } => format!("by a wire on the loopback ({why})"),
        }
    }

    /// Whether packets can be held back, which is another thing than to drop them and have them sent again.
    pub fn holds_packets(&self) -> bool {
        matches!(self, Self::Apart { network, .. } if network.holds_not.is_none())
    }

    async fn end(self) -> Result<()> {
        match self {
            Self::Apart { network, .. } => network.end().await,
            Self::Loopback { .. } => Ok(()),
        }
    }
}

impl Line {
    /// The database at this address, as the node sees it.
    pub fn url(&self, url: &str) -> Result<String> {
        match self {
            Self::Wire(wire) => Ok(wire.url(url)),
            Self::Cable(cable) => cable.url(url),
        }
    }

    /// Where the node is started, if not beside us.
    pub fn entrance(&self) -> Option<&Entrance> {
        match self {
            Self::Wire(_) => None,
            Self::Cable(cable) => Some(cable.entrance()),
        }
    }

    /// Lets this much pass from now on.
    pub async fn set(&mut self, passes: Passes) -> Result<()> {
        match self {
            Self::Wire(wire) => {
                wire.set(passes);
                Ok(())
            }
            Self::Cable(cable) => cable.set(passes).await,
        }
    }

    /// Holds back what the node sends, or lets it go: on a cable that cannot, it is dropped and sent again.
    pub async fn hold(&mut self, is_held: bool) -> Result<()> {
        match self {
            Self::Cable(cable) if cable.holds => cable.hold(is_held).await,
            Self::Wire(_) | Self::Cable(_) => self.set(Passes { to_server: !is_held, to_client: true }).await,
        }
    }

    /// Ends an interruption with the loss of every connection by which something was sent meanwhile; `url` is the
    /// database's.
    pub async fn lose(&mut self, url: &str) -> Result<()> {
        match self {
            Self::Wire(wire) => wire.cut(),
            Self::Cable(cable) => cable.lose(url).await?,
        }
        self.set(EVERYTHING).await
    }

    /// Takes it away; whether nothing that was started behind it lived on.
    pub async fn remove(self) -> Result<bool> {
        match self {
            Self::Wire(_) => Ok(true),
            Self::Cable(cable) => cable.unplug().await,
        }
    }

    /// Whether a new connection to the server is made in time.
    pub async fn reaches(&self, within: Duration) -> bool {
        match self {
            Self::Wire(wire) => wire.reaches(within).await,
            Self::Cable(cable) => cable.reaches(within).await,
        }
    }
}
