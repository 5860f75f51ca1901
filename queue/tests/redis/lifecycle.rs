//! A job's way through the queue: enqueue, claim, settle, and what the record says of it.

use super::common::*;
use lanekeeper_queue::types::*;

#[tokio::test]
async fn a_job_is_enqueued_claimed_and_done() {
    let bed = Bed::new().await;
    let w = worker("w1");
    let id = bed.accept(job("mail", b"{\"a\":1}")).await;
    assert_eq!(id.len(), 14);
    assert_eq!(bed.state(&id).await, JobState::Ready);

    let jobs = bed.claim(&w, &["fast"], 10).await;
    assert_eq!(ids(&jobs), [&id]);
    let claimed = &jobs[0];
    assert_eq!(claimed.payload, b"{\"a\":1}");
    assert_eq!((claimed.lane.as_str(), claimed.job_type.as_str()), ("fast", "mail"));
    assert_eq!((claimed.attempt, claimed.tries, claimed.crashes), (1, 0, 0));
    assert_eq!(claimed.due_ms, claimed.enqueued_ms);
    let running = bed.job(&id).await;
    assert_eq!(running.state, JobState::Running);
    let lease = running.lease.expect("leased");
    assert_eq!((lease.worker.as_str(), lease.node.as_str(), lease.token), ("w1", "node", claimed.token));
    assert_eq!(lease.expires_ms, lease.since_ms + LEASE_MS);

    assert_eq!(bed.settle(&w, claimed, success()).await, Settled::Done);
    let done = bed.job(&id).await;
    assert_eq!(done.state, JobState::Succeeded);
    assert_eq!(done.result.as_deref(), Some("{\"ok\":true}"));
    assert_eq!((done.attempts, done.tries), (1, 0));
    assert!(done.finished_ms.is_some() && done.lease.is_none());
    let attempt = &done.history[0];
    assert_eq!((attempt.number, attempt.outcome.as_str(), attempt.worker.as_str()), (1, "success", "w1"));
    assert_eq!((attempt.policy_version, attempt.token), (7, claimed.token));
    assert!(bed.claim(&w, &["fast"], 10).await.is_empty());
}

#[tokio::test]
async fn settling_and_claiming_are_one_call() {
    let bed = Bed::new().await;
    let w = worker("w1");
    let first = bed.running(&w, job("mail", b"1")).await;
    let second = bed.accept(job("mail", b"2")).await;
    let (settled, reply) =
        bed.queue.settle_and_claim(&w, &[settlement(&first, success())], &want(&["fast"], 1)).await.unwrap();
    assert_eq!(settled, [Settled::Done]);
    assert_eq!(ids(&reply.jobs), [&second]);
    assert!(reply.jobs[0].token > first.token, "tokens only rise");
    assert_eq!(reply.policy_version, bed.queue.policy().await.unwrap().unwrap().1);
}

#[tokio::test]
async fn stats_count_what_happened() {
    let bed = Bed::new().await;
    let w = worker("w1");
    for n in 0..3 {
        bed.accept(job("mail", [n])).await;
    }
    bed.accept(with(job("mail", b"later"), |o| o.delay = Some(60_000))).await;
    let jobs = bed.claim(&w, &["fast"], 2).await;
    bed.settle(&w, &jobs[0], success()).await;
    bed.beat(&w, &[&jobs[1]]).await;
    let stats = bed.queue.stats().await.unwrap();
    assert_eq!(stats.lanes.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["fast", "slow"]);
    let mail = stats.lanes[0].types.iter().find(|t| t.name == "mail").unwrap();
    assert_eq!((mail.ready, mail.scheduled, mail.running, mail.dead), (1, 1, 1, 0));
    assert_eq!((mail.enqueued_total, mail.succeeded_total, mail.attempts_total), (4, 1, 1));
    assert!(mail.oldest_due_ms.unwrap() <= stats.now_ms);
    assert!(mail.next_due_ms.unwrap() > stats.now_ms);
    assert_eq!(stats.next_due_ms, mail.next_due_ms);
    assert_eq!(stats.workers.len(), 1);
    assert_eq!(stats.workers[0].identity, w);
    assert!(stats.workers[0].seen_ms >= stats.workers[0].started_ms);
    bed.queue.leave(&w).await.unwrap();
    assert!(bed.queue.stats().await.unwrap().workers.is_empty());
}

/// Messages published so far.
async fn published(bed: &Bed) -> u64 {
    let stats: String = bed.raw(&["INFO", "commandstats"]).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_publish:calls="));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn the_operator_is_told_of_every_first_job_unless_workers_are_at_hand() {
    let bed = Bed::new().await;
    let before = published(&bed).await;
    for _ in 0..3 {
        // A token of the job before stands, although that was called off.
        let id = bed.accept(job("mail", "")).await;
        bed.queue.cancel(&[id], "ops").await.unwrap();
    }
    assert_eq!(published(&bed).await - before, 3);
    let (w, before, started) = (worker("w"), published(&bed).await, std::time::Instant::now());
    bed.claim(&w, &["fast"], 1).await;
    for _ in 0..50 {
        let running = bed.running(&w, job("mail", "")).await;
        bed.settle(&w, &running, success()).await;
    }
    let most = 1 + started.elapsed().as_millis() / 100;
    let told = u128::from(published(&bed).await - before);
    assert!(told <= most, "{told} messages for 50 jobs, {most} at most");
}
