//! Dead letters in more than one walk, and what goes with them when they go.

use super::common::*;
use super::dead::*;
use lanekeeper_queue::types::*;

#[tokio::test]
async fn groups_tell_their_first_and_last_whichever_way_they_are_walked() {
    let bed = Bed::still(|_| {}).await;
    died(&bed, job("mail", "1"), "no user 1").await;
    bed.at(5).await;
    let last = died(&bed, job("mail", "2"), "no user 2").await;
    for oldest_first in [false, true] {
        let filter = DeadFilter { oldest_first, ..DeadFilter::default() };
        let found = groups(&bed, &filter).await;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].count, found[0].first_ms, found[0].last_ms), (2, NOON_MS, NOON_MS + 5));
        assert_eq!(found[0].example, last, "oldest first: {oldest_first}");
    }
    // One call adds up what it saw: clients need not keep a group for every letter.
    let (_, told, _): (u64, Vec<redis::Value>, String) =
        fcall(&bed, "lk_dead_list", &[b"", b"groups", b"1", b""]).await.unwrap();
    assert_eq!(told.len(), 1);
}

#[tokio::test]
async fn a_letter_that_is_trimmed_takes_its_notes_along() {
    let bed = Bed::still(|policy| {
        policy.job_types.get_mut("mail").unwrap().dead.keep_reviewed_for_ms = Some(1_000);
    })
    .await;
    let w = worker("w");
    let running = bed.running(&w, job("mail", "x")).await;
    bed.tell(&w, &running, Note { progress: None, checkpoint: Some(b"at 3".to_vec()) }).await;
    bed.settle(&w, &running, dead("no")).await;
    bed.queue.dead_discard(&[running.id.clone()], "anna", "").await.unwrap();
    bed.at(999).await;
    assert_eq!(bed.queue.sweep(&w, 10).await.unwrap().trimmed, 0);
    assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key("o")]).await.unwrap(), 1);
    bed.at(1_000).await;
    // A letter whose time came in the very moment of the sweep is old enough.
    assert_eq!(bed.queue.sweep(&w, 10).await.unwrap().trimmed, 1);
    assert_eq!(bed.maybe_job(&running.id).await, None);
    for left in ["o", "j", "a", "dc"] {
        assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key(left)]).await.unwrap(), 0, "{left}");
    }
}
