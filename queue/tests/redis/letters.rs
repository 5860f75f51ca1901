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
async fn letters_that_are_trimmed_take_their_notes_along() {
    let bed = Bed::still(|policy| {
        policy.job_types.get_mut("mail").unwrap().dead.keep_reviewed_for_ms = Some(1_000);
    })
    .await;
    let w = worker("w");
    // More than a sweep finds by its look at a few notes.
    let mut all = Vec::new();
    for n in 0..30u8 {
        let running = bed.running(&w, job("mail", [n])).await;
        bed.tell(&w, &running, Note { progress: None, checkpoint: Some(b"at 3".to_vec()) }).await;
        bed.settle(&w, &running, dead("no")).await;
        all.push(running.id);
    }
    bed.queue.dead_discard(&all, "anna", "").await.unwrap();
    bed.at(999).await;
    assert_eq!(bed.queue.sweep(&w, 100).await.unwrap().trimmed, 0);
    assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key("o")]).await.unwrap(), 30);
    // A letter whose time is over in the very moment of the sweep is old enough.
    bed.at(1_000).await;
    assert_eq!(bed.queue.sweep(&w, 100).await.unwrap().trimmed, 30);
    for left in ["o", "j", "a", "dc"] {
        assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key(left)]).await.unwrap(), 0, "{left}");
    }
}

#[tokio::test]
async fn a_letter_without_a_job_is_named_so_that_it_can_be_discarded() {
    let bed = Bed::new().await;
    let lost = died(&bed, job("mail", "x"), "no").await;
    let discarded = died(&bed, job("mail", "y"), "no").await;
    bed.queue.dead_discard(&[discarded.clone()], "anna", "").await.unwrap();
    // One has its card still, one not even that.
    bed.poke(&["DEL", &bed.key("j"), &bed.key("a")]).await;
    bed.poke(&["HDEL", &bed.key("dc"), &discarded]).await;
    let of = |state| DeadFilter { state, ..DeadFilter::default() };
    assert_eq!(ids_of(&bed, &of(None), 10).await, [lost.clone()]);
    assert_eq!(ids_of(&bed, &of(Some(ReviewState::Discarded)), 10).await, [discarded.clone()]);
    let acted = bed.queue.dead_discard(&[lost, discarded], "anna", "").await.unwrap();
    assert!(acted.iter().all(|one| one.outcome == "not-found"));
    let left: Vec<String> = bed.raw(&["KEYS", &bed.key("d*")]).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn patterns_of_keys_stand_for_what_they_say() {
    let bed = Bed::new().await;
    for key in ["a", "ab", "abc", "abcabc", "b*"] {
        died(&bed, with(job("mail", "x"), |o| o.key = Some(key.into())), "no").await;
    }
    died(&bed, job("mail", "no key"), "no").await;
    for (pattern, found) in [
        ("", 1),
        ("*", 6),
        ("**", 6),
        ("a", 1),
        ("x", 0),
        ("a*", 4),
        ("x*", 0),
        ("*c", 2),
        ("*x", 0),
        ("a*b*c", 2),
        ("a*x*c", 0),
        ("ab*bc", 1),
        ("abc*abc", 1),
        ("*b*", 4),
        ("*ca*", 1),
        ("a*a", 0),
        ("b*", 1),
    ] {
        let filter = DeadFilter { key: Some(pattern.into()), ..DeadFilter::default() };
        assert_eq!(ids_of(&bed, &filter, 2).await.len(), found, "{pattern:?}");
    }
}

#[tokio::test]
async fn a_search_for_letters_goes_from_the_newest_over_all_types() {
    let bed = Bed::still(|_| {}).await;
    let mut newest_first = Vec::new();
    for (ms, kind) in [(0, "mail"), (1, "report"), (2, "mail"), (3, "report")] {
        bed.at(ms).await;
        newest_first.insert(0, died(&bed, job(kind, "x"), "no").await);
    }
    for state in [JobState::Dead, JobState::Discarded] {
        let page = Find { state: Some(state), limit: 3, ..Find::default() };
        let first = bed.queue.find(&page).await.unwrap();
        let second = bed.queue.find(&Find { cursor: first.cursor, ..page }).await.unwrap();
        let found: Vec<String> = first.jobs.into_iter().chain(second.jobs).map(|job| job.id).collect();
        assert_eq!(found, newest_first, "{state:?}");
        for (ms, id) in (10..).zip(newest_first.iter().rev()) {
            bed.at(ms).await;
            bed.queue.dead_discard(std::slice::from_ref(id), "ada", "").await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_entry_of_a_discarded_letter_that_is_none_goes_alone() {
    let bed = Bed::with(|policy| {
        policy.job_types.get_mut("mail").unwrap().dead.keep_reviewed_for_ms = Some(0);
    })
    .await;
    let open = died(&bed, job("mail", "x"), "no").await;
    for key in ["dx", "dx:mail"] {
        bed.poke(&["ZADD", &bed.key(key), "1", &open]).await;
    }
    assert_eq!(bed.queue.sweep(&worker("s"), 10).await.unwrap().trimmed, 1);
    assert_eq!(bed.state(&open).await, JobState::Dead);
    assert_eq!(bed.raw::<u64>(&["EXISTS", &bed.key("dx"), &bed.key("dx:mail")]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_card_whose_words_are_none_is_made_anew_from_its_job() {
    let bed = Bed::new().await;
    let id = died(&bed, with(job("mail", "x"), |o| o.key = Some("order-1".into())), "no").await;
    for place in 1..5 {
        // {1, 'mail', fingerprint, 'o', key}, and a list in place of one of them.
        let mut card: Vec<&[u8]> = vec![b"\x01", b"\xa4mail", b"\xa1f", b"\xa1o", b"\xa7order-1"];
        card[place] = b"\x90";
        let card = [b"\x95".to_vec(), card.concat()].concat();
        let mut hset = redis::cmd("HSET");
        hset.arg(bed.key("dc")).arg(&id).arg(card);
        let _: u64 = hset.query_async(&mut bed.queue.connection()).await.unwrap();
        let filter = DeadFilter { key: Some("order-*".into()), ..DeadFilter::default() };
        let found = groups(&bed, &filter).await;
        assert_eq!((found.len(), found[0].example.as_str()), (1, id.as_str()), "{place}");
    }
}

#[tokio::test]
async fn long_words_without_digits_tell_errors_apart() {
    let bed = Bed::new().await;
    let w = worker("w");
    for message in ["connection refused", "permission refused", "connection refused"] {
        let running = bed.running(&w, job("mail", message)).await;
        bed.settle(&w, &running, dead(message)).await;
    }
    let groups = bed.queue.dead_groups(&DeadFilter::default(), |_| {}).await.unwrap();
    assert_eq!(groups.iter().map(|group| group.count).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test]
async fn letters_are_counted_by_their_cards_however_large_their_jobs_are() {
    let bed = Bed::new().await;
    let payload = "x".repeat(250_000);
    for _ in 0..8 {
        died(&bed, job("mail", &payload), "no").await;
    }
    type Group = (String, String, u64, u64, u64, String);
    let groups = async || {
        let said: (u64, Vec<Group>, String) =
            fcall(&bed, "lk_dead_list", &[b"", b"groups", b"1", b""]).await.unwrap();
        (said.1[0].2, said.2)
    };
    assert_eq!(groups().await, (8, String::new()));
    // Without cards a call looks at some of the jobs, and says where to go on.
    bed.poke(&["DEL", &bed.key("dc")]).await;
    let (count, cursor) = groups().await;
    assert!((4..8).contains(&count) && !cursor.is_empty(), "{count} {cursor}");
}

#[tokio::test]
async fn how_long_it_took_does_not_tell_errors_apart() {
    let bed = Bed::new().await;
    let mut prints = Vec::new();
    for took in ["16s96ms", "16s113ms", "1m", "2d3h", "9ms"] {
        let running = bed.running(&worker("w"), job("mail", "x")).await;
        let message = format!("given up at an age of {took}, no answer");
        bed.settle(&worker("w"), &running, dead(&message)).await;
        prints.push(bed.job(&running.id).await.fingerprint.unwrap());
    }
    prints.dedup();
    assert_eq!(prints.len(), 1);
    let other = bed.running(&worker("w"), job("mail", "x")).await;
    bed.settle(&worker("w"), &other, dead("given up at an age of 16x, no answer")).await;
    assert_ne!(bed.job(&other.id).await.fingerprint.unwrap(), prints[0], "no unit of time");
}
