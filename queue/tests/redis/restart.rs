//! A Redis that was killed in the middle of a write, and what its file says at the start after the next.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::common::*;
use lanekeeper_queue::Restarts;
use lanekeeper_queue::types::*;

/// The file that grows.
fn log(bed: &Bed) -> PathBuf {
    let folder = fs::read_dir(bed.redis.folder().join("appendonlydir")).unwrap();
    folder
        .map(|file| file.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with(".incr.aof"))
        .unwrap()
}

async fn rewritten(bed: &Bed) {
    let started = Instant::now();
    loop {
        let info: String = bed.raw(&["INFO", "persistence"]).await.unwrap();
        if info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0") {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{info}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A bed whose Redis came back after a kill that tore the transaction of three settlements, which follow.
async fn torn(w: &WorkerIdentity) -> (Bed, Vec<Settlement>) {
    let mut bed = Bed::new().await;
    for n in 0..3 {
        bed.accept(job("mail", n.to_string())).await;
    }
    let jobs = bed.claim(w, &["fast"], 3).await;
    let done: Vec<Settlement> = jobs.iter().map(|job| settlement(job, success())).collect();
    bed.queue.settle(w, &done).await.unwrap();
    bed.redis.written().await.unwrap();
    bed.redis.kill();
    // As if the kill had come just before the end of the settlements' transaction.
    let bytes = fs::read(log(&bed)).unwrap();
    let end = bytes.windows(13).rposition(|window| window == b"*1\r\n$4\r\nEXEC\r").unwrap();
    fs::OpenOptions::new().write(true).open(log(&bed)).unwrap().set_len(end as u64 - 5).unwrap();
    bed.redis.restart().await.unwrap();
    (bed, done)
}

#[tokio::test]
async fn a_kill_in_the_middle_of_the_rewrite_leaves_a_file_that_redis_starts_from() {
    let w = worker("w");
    let (mut bed, done) = torn(&w).await;
    bed.queue = bed.redis.queue("apps/saas").await.unwrap();
    // So long a rewrite that the kill is within it.
    bed.poke(&["CONFIG", "SET", "rdb-key-save-delay", "200000"]).await;
    bed.poke(&["CONFIG", "SET", "aof-use-rdb-preamble", "yes"]).await;
    assert!(Restarts::default().tidy(&mut bed.queue.connection()).await.unwrap());
    let info: String = bed.raw(&["INFO", "persistence"]).await.unwrap();
    assert!(info.contains("aof_rewrite_in_progress:1"), "{info}");
    bed.redis.kill();
    bed.redis.restart().await.unwrap();
    bed.queue = bed.redis.queue("apps/saas").await.unwrap();
    let stats = bed.queue.stats().await.unwrap();
    let mail = stats.lanes[0].types.iter().find(|figures| figures.name == "mail").unwrap();
    assert!(mail.running + mail.succeeded_total == 3, "{mail:?}: all happened, or nothing did");
    let again = bed.queue.settle(&w, &done).await.unwrap();
    assert!(again.iter().all(|one| *one == again[0]), "{again:?}");
}

#[tokio::test]
async fn a_transaction_torn_by_a_kill_does_not_come_back() {
    let w = worker("w");
    let (mut bed, done) = torn(&w).await;
    let restarts = Restarts::default();
    bed.queue = bed.redis.queue("apps/saas").await.unwrap();
    assert!(restarts.tidy(&mut bed.queue.connection()).await.unwrap());
    rewritten(&bed).await;
    assert!(!restarts.tidy(&mut bed.queue.connection()).await.unwrap(), "once for each start");
    let settled = bed.queue.settle(&w, &done).await.unwrap();
    assert_eq!(settled, [Settled::Done, Settled::Done, Settled::Done], "nothing of it had happened");
    bed.redis.written().await.unwrap();
    bed.redis.kill();
    bed.redis.restart().await.unwrap();
    bed.queue = bed.redis.queue("apps/saas").await.unwrap();
    let stats = bed.queue.stats().await.unwrap();
    let mail = stats.lanes[0].types.iter().find(|figures| figures.name == "mail").unwrap();
    assert_eq!((mail.succeeded_total, mail.running), (3, 0));
    assert!(restarts.tidy(&mut bed.queue.connection()).await.unwrap(), "another start");
}

#[tokio::test]
async fn a_queue_can_be_destroyed_by_the_first_call_after_a_restart() {
    let mut bed = Bed::new().await;
    bed.accept(job("mail", "x")).await;
    bed.redis.written().await.unwrap();
    bed.redis.restart().await.unwrap();
    bed.queue = bed.redis.queue("apps/saas").await.unwrap();
    assert_eq!(fcall::<u64>(&bed, "lk_destroy", &[]).await.unwrap(), 1);
}
