//! What keeps answers back until a test lets them go.

use tokio::sync::watch;

/// Closed at first, then open for ever. Its copies are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets go whoever waits and whoever comes.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn opened(&self) {
        // The sender lives as long as this gate, which is borrowed here.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}
