//! Acknowledgements that change nothing but their task travel with the next claim of quick tasks: many in one commit.
//!
//! None is held back for a claim: the loop that claims commits what has come as soon as it is free, whether there is room
//! for more tasks or not. One whose commit failed, or that comes when nobody claims any more, is its handler's again,
//! who commits it by itself.

use domain::commit::Ack;
use tokio::sync::{mpsc, oneshot};

/// The most that one commit takes along.
pub(crate) const BATCH: usize = 500;

/// The handlers' end.
#[derive(Clone, Debug)]
pub(crate) struct Acks {
    sender: mpsc::UnboundedSender<Entry>,
}

/// The claiming loop's end. Dropped with what waits in it, it gives all of that back.
#[derive(Debug)]
pub(crate) struct Waiting {
    receiver: mpsc::UnboundedReceiver<Entry>,
    /// Those that were waited for; they go first.
    gathered: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    ack: Ack,
    counts: oneshot::Sender<bool>,
}

/// Those that share a commit. Dropped without an answer they are given back to their handlers.
#[derive(Debug, Default)]
pub(crate) struct Batch(Vec<Entry>);

pub(crate) fn channel() -> (Acks, Waiting) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Acks { sender }, Waiting { receiver, gathered: Vec::new() })
}

impl Acks {
    /// Whether it counted: durable, and not fenced. `None` when it has to be committed by itself.
    pub(crate) async fn send(&self, ack: Ack) -> Option<bool> {
        let (counts, answer) = oneshot::channel();
        self.sender.send(Entry { ack, counts }).ok()?;
        answer.await.ok()
    }
}

impl Waiting {
    /// How many have come.
    pub(crate) fn count(&self) -> usize {
        self.gathered.len() + self.receiver.len()
    }

    /// Waits until so many have come, at most [`BATCH`]. Safe to give up.
    pub(crate) async fn gather(&mut self, count: usize) {
        while self.gathered.len() < count.min(BATCH) {
            match self.receiver.recv().await {
                Some(entry) => self.gathered.push(entry),
                // Handlers hold the other end for as long as anybody claims.
                None => return std::future::pending().await,
            }
        }
    }

    /// All that have come, as far as they fit into one commit. Handlers that are about to end get their turn first, so
    /// that one that was a little faster than its neighbours is not committed alone; none when none has come.
    pub(crate) async fn take(&mut self) -> Batch {
        let mut entries = std::mem::take(&mut self.gathered);
        loop {
            let before = entries.len();
            while entries.len() < BATCH
                && let Ok(entry) = self.receiver.try_recv()
            {
                entries.push(entry);
            }
            if entries.len() == before || entries.len() == BATCH {
                return Batch(entries);
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn acks(&self) -> Vec<Ack> {
        self.0.iter().map(|entry| entry.ack.clone()).collect()
    }

    /// The commit is durable; these did not count.
    pub(crate) fn answer(self, fenced: &[Ack]) {
        for Entry { ack, counts } in self.0 {
            // A handler that no longer waits has ended with its process.
            let _ = counts.send(!fenced.contains(&ack));
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        commit::Then,
        ids::{Fence, TaskId},
    };

    use super::*;

    fn ack(task: &str) -> Ack {
        Ack { task: TaskId::from(task), fence: Fence(1), then: Then::Done }
    }

    #[tokio::test]
    async fn those_that_came_meanwhile_share_a_commit_and_each_hears_whether_it_counted() {
        let (acks, mut waiting) = channel();
        let committing = async {
            waiting.gather(1).await;
            let batch = waiting.take().await;
            assert_eq!(batch.acks(), [ack("a"), ack("b")]);
            batch.answer(&[ack("b")]);
        };

        let (first, second, ()) = tokio::join!(acks.send(ack("a")), acks.send(ack("b")), committing);

        assert_eq!((first, second), (Some(true), Some(false)));
    }

    #[tokio::test]
    async fn one_commit_takes_along_what_fits_and_leaves_the_rest_for_the_next() {
        let (acks, mut waiting) = channel();
        let sending: Vec<_> = (0..=BATCH)
            .map(|n| {
                let acks = acks.clone();
                host::task::spawn("ack", async move { acks.send(ack(&n.to_string())).await })
            })
            .collect();
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() <= BATCH {
            waiting.gather(1).await;
            let batch = waiting.take().await;
            sizes.push(batch.len());
            batch.answer(&[]);
        }

        assert!(sizes.iter().all(|size| *size <= BATCH), "{sizes:?}");
        for sent in sending {
            assert_eq!(sent.await.unwrap(), Some(true));
        }
    }

    #[tokio::test]
    async fn whatever_is_dropped_is_its_handlers_again() {
        let (acks, mut waiting) = channel();
        let failing = async {
            waiting.gather(1).await;
            drop(waiting.take().await);
        };
        let (told, ()) = tokio::join!(acks.send(ack("a")), failing);
        assert_eq!(told, None, "its commit failed");

        let ending = async {
            waiting.gather(1).await;
            drop(waiting);
        };
        let (told, ()) = tokio::join!(acks.send(ack("b")), ending);

        assert_eq!(told, None, "nobody claims any more");
        assert_eq!(acks.send(ack("c")).await, None);
    }
}
