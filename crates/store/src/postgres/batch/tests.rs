//! What is taken from the queue, and when.

use testkit::bench::operation;

use super::*;

/// Adds so many commits that share no row; their answers have to be kept, because what nobody waits for is not taken.
fn add(queue: &mut Queue, count: usize) -> Vec<oneshot::Receiver<Answer>> {
    (0..count)
        .map(|_| {
            let commit = Arc::new(operation::create(&operation::draw_id()));
            let (reply, answer) = oneshot::channel();
            queue.waiting.push_back(Member { keys: Keys::of(&commit), commit, reply });
            answer
        })
        .collect()
}

#[test]
fn less_than_an_equal_share_waits_for_what_is_under_way_unless_it_has_waited() {
    let mut queue = Queue { flushers: 2, ..Queue::default() };
    let mut answers = add(&mut queue, 10);
    let first = queue.take(BATCH, false);
    assert_eq!(first.len(), 10, "nothing is under way, so whatever there is goes");

    answers.extend(add(&mut queue, 4));
    assert!(queue.take(BATCH, false).is_empty(), "four are few beside ten");
    assert_eq!(queue.take(BATCH, true).len(), 4, "unless they have waited");

    for member in &first {
        queue.release(&member.keys);
    }
    answers.extend(add(&mut queue, 2));
    assert_eq!(queue.take(BATCH, false).len(), 2, "two are an equal share beside four");
    drop(answers);
}
