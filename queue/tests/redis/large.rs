//! Large records: a call reads as much as it may and leaves the rest to the next.

use super::common::*;
use lanekeeper_queue::types::*;

const EACH: usize = 256 << 10;
const JOBS: usize = 40;

async fn bed_of_large() -> (Bed, Vec<String>) {
    let bed = Bed::with(|policy| policy.max_payload = 1 << 20).await;
    let mut made = Vec::new();
    for n in 0..JOBS {
        made.push(bed.accept(job("mail", vec![u8::try_from(n).unwrap(); EACH])).await);
    }
    (bed, made)
}

/// The most memory that Redis had since its figures were reset, beyond that of the records.
async fn beyond(bed: &Bed, records: usize) -> usize {
    let info: String = bed.raw(&["INFO", "memory"]).await.unwrap();
    let peak = info.lines().find_map(|line| line.strip_prefix("used_memory_peak:")).unwrap();
    peak.parse::<usize>().unwrap() - records
}

/// How many of the ids a call answered for.
async fn answered(bed: &Bed, function: &str, args: &[&str], ids: &[String]) -> usize {
    let mut call = redis::cmd("FCALL");
    call.arg(function).arg(1).arg(bed.queue.name().root()).arg(args).arg(ids);
    let reply: Vec<redis::Value> = call.query_async(&mut bed.queue.connection()).await.unwrap();
    reply.len()
}

#[tokio::test]
async fn a_claim_reads_little_more_than_it_hands_out() {
    let (bed, made) = bed_of_large().await;
    let w = worker("w");
    bed.poke(&["CONFIG", "RESETSTAT"]).await;
    let mut got = Vec::new();
    while got.len() < JOBS {
        let some = bed.claim(&w, &["fast"], 100).await;
        assert!(some.len() <= 16, "{} jobs of {EACH} B", some.len());
        got.extend(some.into_iter().map(|job| job.id));
    }
    assert_eq!(got, made);
    let beyond = beyond(&bed, JOBS * EACH).await;
    assert!(beyond < 32 << 20, "{beyond} B beyond the records: all of them were read at once");
}

/// Small ones in front say nothing of those behind.
#[tokio::test]
async fn a_claim_behind_small_jobs_reads_little_more_than_it_hands_out() {
    let bed = Bed::with(|policy| policy.max_payload = 1 << 20).await;
    let (w, large) = (worker("w"), 60 << 20);
    bed.queue.enqueue_all(&vec![job("mail", "x"); 40]).await.unwrap();
    for _ in 0..60 {
        bed.accept(job("mail", vec![b'x'; 1 << 20])).await;
    }
    bed.poke(&["CONFIG", "RESETSTAT"]).await;
    assert_eq!(bed.claim(&w, &["fast"], 100).await.len(), 43);
    let beyond = beyond(&bed, large).await;
    assert!(beyond < 40 << 20, "{beyond} B beyond the records");
}

#[tokio::test]
async fn a_page_over_many_types_reads_no_more_than_one_of_one_type() {
    let bed = Bed::with(|policy| policy.max_payload = 1 << 20).await;
    let mut made = Vec::new();
    for kind in ["limited", "mail", "report", "reset"] {
        for _ in 0..3 {
            made.push(bed.accept(job(kind, vec![b'x'; 1 << 20])).await);
        }
    }
    let (mut listed, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = bed.queue.find(&Find { limit: 100, cursor, ..Find::default() }).await.unwrap();
        assert!(page.jobs.len() <= 6, "{}", page.jobs.len());
        listed.extend(page.jobs.into_iter().map(|job| job.id));
        (cursor, pages) = (page.cursor, pages + 1);
        if cursor.is_none() {
            break;
        }
    }
    listed.sort();
    made.sort();
    assert_eq!(listed, made);
    assert!(pages < 20);
}

#[tokio::test]
async fn what_people_ask_of_many_large_jobs_is_done_in_several_calls() {
    let (bed, made) = bed_of_large().await;
    let found: Vec<String> =
        bed.queue.get(&made, true).await.unwrap().into_iter().map(|job| job.unwrap().id).collect();
    assert_eq!(found, made);
    let mut page = bed.queue.find(&Find { limit: 100, ..Find::default() }).await.unwrap();
    let mut listed = Vec::new();
    loop {
        assert!(page.jobs.len() <= 16);
        listed.extend(page.jobs.into_iter().map(|job| job.id));
        let Some(cursor) = page.cursor else { break };
        page = bed.queue.find(&Find { limit: 100, cursor: Some(cursor), ..Find::default() }).await.unwrap();
    }
    assert_eq!(listed, made);
    assert!(answered(&bed, "lk_cancel", &["me"], &made).await <= 16);
    let mut twice = made.clone();
    twice.extend(made.iter().rev().cloned());
    let cancelled = bed.queue.cancel(&twice, "me").await.unwrap();
    assert_eq!(cancelled.iter().map(|acted| acted.id.as_str()).collect::<Vec<_>>(), made);
    assert_eq!(cancelled.iter().filter(|acted| acted.outcome == "cancelled").count() + 15, JOBS);
}

#[tokio::test]
async fn a_list_of_large_dead_letters_leaves_none_out() {
    let (bed, _) = bed_of_large().await;
    let w = worker("w");
    let mut died = Vec::new();
    while died.len() < JOBS {
        for job in bed.claim(&w, &["fast"], 4).await {
            bed.settle(&w, &job, dead("no")).await;
            died.push(job.id);
        }
    }
    let (mut listed, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = bed.queue.dead_list(&DeadFilter::default(), 100, cursor.as_deref()).await.unwrap();
        assert!(page.jobs.len() <= 16);
        listed.extend(page.jobs.into_iter().map(|job| job.id));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    listed.sort();
    died.sort();
    assert_eq!(listed, died);
}

#[tokio::test]
async fn a_record_larger_than_a_step_of_repair_stops_no_sweep() {
    let bed = Bed::with(|policy| policy.max_payload = 1 << 20).await;
    let id = bed.accept(job("mail", vec![b'x'; 1 << 20])).await;
    bed.poke(&["DEL", &bed.key("q:mail")]).await;
    while bed.queue.sweep(&worker("s"), 100).await.unwrap().more {}
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 1, "the lost entry, and nothing else");
    assert_eq!(ids(&bed.claim(&worker("w"), &["fast"], 1).await), [&id]);
}

/// What a job left is part of the answer too: where that no longer fits, lanes further down do not get what this one could not.
#[tokio::test]
async fn a_claim_that_a_checkpoint_fills_ends_there() {
    let bed = Bed::with(|policy| policy.max_payload = 1 << 20).await;
    let w = worker("w");
    let tried = bed.running(&w, job("mail", vec![b'x'; (1 << 20) - (8 << 10)])).await;
    let mut word = settlement(&tried, retry(0));
    word.note = Some(Note { progress: None, checkpoint: Some(vec![b'c'; MAX_CHECKPOINT]) });
    bed.queue.settle(&w, &[word]).await.unwrap();
    for _ in 0..3 {
        bed.accept(job("mail", vec![b'x'; (1 << 20) - 1_000])).await;
    }
    let low = bed.accept(job("report", "{}")).await;
    let lanes = ["fast", "slow"];
    let first = ids(&bed.claim(&w, &lanes, 9).await).into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(first.len(), 3, "all four records would fit without the checkpoint");
    assert!(!first.contains(&low));
    assert_eq!(bed.claim(&w, &lanes, 9).await.len(), 2);
}
