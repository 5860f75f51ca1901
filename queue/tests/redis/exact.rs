//! How many bytes a job costs: fields that still have their default are left out from the end.

use super::common::*;
use lanekeeper_queue::types::*;

/// The number of fields in a small msgpack array.
async fn fields(bed: &Bed, key: &str, id: &str) -> Option<u8> {
    let bytes: Option<Vec<u8>> = bed.raw(&["HGET", &bed.key(key), id]).await.unwrap();
    bytes.map(|bytes| {
        assert_eq!(bytes[0] & 0xf0, 0x90, "{bytes:x?}");
        bytes[0] & 0x0f
    })
}

#[tokio::test]
async fn a_record_says_no_more_than_it_must() {
    let bed = Bed::still(|_| {}).await;
    let meta = |o: &mut EnqueueOptions| o.meta = [("a".to_owned(), "b".to_owned())].into();
    for (new, count) in [
        (job("mail", "x"), 4),
        (with(job("mail", "x"), |o| o.priority = Some(0)), 4),
        (with(job("mail", "x"), |o| o.id = Some("mine".into())), 4),
        (with(job("mail", "x"), |o| o.delay = Some(5)), 5),
        (with(job("mail", "x"), |o| o.key = Some("k".into())), 6),
        (with(job("mail", "x"), meta), 7),
    ] {
        let id = bed.accept(new.clone()).await;
        assert_eq!(fields(&bed, "j", &id).await, Some(count), "{new:?}");
        assert_eq!(fields(&bed, "a", &id).await, None, "nothing has become of it");
    }
    let head = rmp_serde::to_vec(&(1, "mail", NOON_MS, 5)).unwrap();
    let plain: Vec<u8> = {
        let id = bed.accept(job("mail", "payload")).await;
        bed.raw(&["HGET", &bed.key("j"), &id]).await.unwrap()
    };
    assert_eq!(plain, [head.as_slice(), b"payload"].concat());
}

#[tokio::test]
async fn a_past_says_no_more_than_it_must() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let without_result = Outcome::Success { result: vec![], follow_ups: vec![] };
    for (outcome, count) in [
        (without_result, 10),
        (success(), 12),
        (retry(0), 8),
        (Outcome::Release { why: String::new() }, 8),
        (dead("no"), 11),
    ] {
        let running = bed.running(&w, job("report", "x")).await;
        bed.settle(&w, &running, outcome.clone()).await;
        assert_eq!(fields(&bed, "a", &running.id).await, Some(count), "{outcome:?}");
        bed.queue.cancel(&[running.id], "ops").await.unwrap();
    }
    let cancelled = bed.accept(job("mail", "x")).await;
    bed.queue.cancel(&[cancelled.clone()], "ops").await.unwrap();
    assert_eq!(fields(&bed, "a", &cancelled).await, Some(10));
}

#[tokio::test]
async fn ids_of_one_moment_go_by_their_bytes() {
    let bed = Bed::still(|_| {}).await;
    // In the line of one type as Redis sorts them, over types as the library does.
    let names = ["b", "a", "ab", "B", "a-", "aa", "Z", "~"];
    for (n, name) in names.iter().enumerate() {
        let kind = if n % 2 == 0 { "mail" } else { "limited" };
        bed.accept(with(job(kind, "x"), |o| o.id = Some((*name).to_owned()))).await;
    }
    let mut sorted = names;
    sorted.sort_unstable();
    for (ahead, name) in sorted.iter().enumerate() {
        let place = bed.queue.position(name).await.unwrap().unwrap();
        assert_eq!((place.ahead as usize, place.waiting as usize), (ahead, names.len()), "{name}");
    }
    assert_eq!(ids(&bed.claim(&worker("w"), &["fast"], 9).await), sorted);
}
