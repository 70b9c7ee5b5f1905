//! What is taken from the queue, and when.

use domain::{commit::Cause, ids::CommitId, time::Timestamp};

use super::*;

fn commit(id: usize) -> Arc<Commit> {
    let cause = Cause {
        actor: "system".to_owned(),
        command: String::new(),
        now: Timestamp::from_micros(1),
        ids: String::new(),
        dedup: None,
    };
    Arc::new(Commit {
        id: CommitId(id.to_string()),
        subject: None,
        cause,
        ack: None,
        expects: Vec::new(),
        guards: Vec::new(),
        entries: Vec::new(),
        rows: Vec::new(),
        events: Vec::new(),
        tasks: Vec::new(),
        withdraw: Vec::new(),
    })
}

fn add(queue: &mut Queue, ids: std::ops::Range<usize>) -> Vec<oneshot::Receiver<Answer>> {
    ids.map(|id| {
        let commit = commit(id);
        let (reply, answer) = oneshot::channel();
        queue.waiting.push_back(Member { keys: Keys::of(&commit), commit, reply });
        answer
    })
    .collect()
}

#[test]
fn less_than_an_equal_share_waits_for_what_is_under_way_but_not_for_a_connection_that_hangs() {
    let mut queue = Queue { flushers: 2, ..Queue::default() };
    let mut answers = add(&mut queue, 0..10);
    let first = queue.take(BATCH, false);
    assert_eq!(first.len(), 10, "nothing is under way, so whatever there is goes");

    answers.extend(add(&mut queue, 10..14));
    assert!(queue.take(BATCH, false).is_empty(), "four are few beside ten");
    assert_eq!(queue.take(BATCH, true).len(), 4, "unless they have waited");

    for member in &first {
        queue.release(&member.keys);
    }
    answers.extend(add(&mut queue, 14..16));
    assert_eq!(queue.take(BATCH, false).len(), 2, "two are an equal share beside four");
    drop(answers);
}
