//! Cancelling jobs that wait and jobs that run.

use super::common::*;
use lanekeeper_queue::types::*;

async fn cancel(bed: &Bed, id: &str) -> (String, Option<JobState>) {
    let acted = bed.queue.cancel(&[id.to_owned()], "ops").await.unwrap().remove(0);
    assert_eq!(acted.id, id);
    (acted.outcome, acted.state)
}

fn acted(outcome: &str, state: Option<JobState>) -> (String, Option<JobState>) {
    (outcome.to_owned(), state)
}

#[tokio::test]
async fn waiting_jobs_are_cancelled_at_once() {
    let bed = Bed::new().await;
    let ready = bed.accept(job("mail", "1")).await;
    let later = bed.accept(with(job("mail", "2"), |o| o.delay = Some(60_000))).await;
    for id in [&ready, &later] {
        assert_eq!(cancel(&bed, id).await, acted("cancelled", Some(JobState::Cancelled)));
        assert_eq!(cancel(&bed, id).await, acted("wrong-state", Some(JobState::Cancelled)));
        let mark = bed.job(id).await.history.remove(0);
        assert_eq!((mark.outcome.as_str(), mark.worker.as_str(), mark.ran()), ("cancel", "ops", false));
        assert_eq!(bed.state(id).await, JobState::Cancelled);
    }
    assert_eq!(cancel(&bed, "nope").await, acted("not-found", None));
    let reply = bed.claim_reply(&worker("w"), &want(&["fast"], 5)).await;
    assert!(reply.jobs.is_empty() && reply.next_due_ms.is_none());
    let stats = bed.queue.stats().await.unwrap();
    assert_eq!(stats.lanes[0].types.iter().map(|t| t.cancelled_total).sum::<u64>(), 2);
}

#[tokio::test]
async fn a_running_job_is_cancelled_through_its_worker() {
    let bed = Bed::new().await;
    let w = worker("w");
    for outcome in [Outcome::Release { why: "cancelled".into() }, retry(0), dead("x")] {
        let claimed = bed.running(&w, with(job("mail", "x"), |o| o.key = Some("k".into()))).await;
        assert_eq!(cancel(&bed, &claimed.id).await, acted("cancelling", Some(JobState::Running)));
        assert_eq!(bed.beat(&w, &[&claimed]).await.cancelled, [claimed.id.clone()]);
        assert_eq!(bed.job(&claimed.id).await.lease.unwrap().cancelled_by.as_deref(), Some("ops"));
        // Who asks again changes nothing.
        bed.queue.cancel(&[claimed.id.clone()], "another").await.unwrap();
        assert_eq!(bed.settle(&w, &claimed, outcome.clone()).await, Settled::Done);
        let found = bed.job(&claimed.id).await;
        assert_eq!(found.state, JobState::Cancelled);
        let last = found.history.last().unwrap();
        let error = last.error.as_ref().unwrap();
        assert_eq!((last.outcome.as_str(), last.worker.as_str(), last.ran()), ("cancel", "w", true));
        if matches!(outcome, Outcome::Release { .. }) {
            assert_eq!((error.code.as_str(), error.message.as_str()), ("Cancelled", "cancelled by ops"));
        } else {
            assert!(error.message.starts_with("cancelled by ops: "), "{}", error.message);
            assert_ne!(error.code, "Cancelled");
        }
    }
    assert_eq!(bed.queue.stats().await.unwrap().dead, 0);
}

#[tokio::test]
async fn a_cancellation_is_called_out_to_the_worker_that_runs_the_job() {
    let bed = Bed::new().await;
    let (w, other) = (worker("w"), worker("other"));
    let first = bed.running(&w, job("mail", "1")).await;
    let second = bed.running(&w, job("mail", "2")).await;
    let foreign = bed.running(&other, job("mail", "3")).await;
    let client = bed.redis.options().client().unwrap();
    let mut pubsub = client.get_async_pubsub().await.unwrap();
    pubsub.subscribe(bed.queue.name().calls_channel(&w.boot)).await.unwrap();
    let waiting = bed.accept(job("mail", "4")).await;
    bed.queue.cancel(&[waiting, foreign.id], "ops").await.unwrap();
    bed.queue.cancel(&[first.id, second.id], "ops").await.unwrap();
    bed.poke(&["PUBLISH", &bed.queue.name().calls_channel(&w.boot), "end"]).await;
    let mut messages = pubsub.on_message();
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != "end") {
        let message = futures::StreamExt::next(&mut messages).await.unwrap();
        heard.push(message.get_payload::<String>().unwrap());
    }
    assert_eq!(heard, ["cancel", "end"], "once for both, and not for those of others");
}

#[tokio::test]
async fn success_wins_over_a_late_cancel() {
    let bed = Bed::new().await;
    let w = worker("w");
    let claimed = bed.running(&w, job("mail", "x")).await;
    cancel(&bed, &claimed.id).await;
    bed.settle(&w, &claimed, success()).await;
    assert_eq!(bed.state(&claimed.id).await, JobState::Succeeded);
    assert_eq!(cancel(&bed, &claimed.id).await, acted("wrong-state", Some(JobState::Succeeded)));
}

#[tokio::test]
async fn a_cancellation_outlives_the_worker() {
    let bed = Bed::new().await;
    let (w, s) = (worker("w"), worker("s"));
    let claimed = bed.running(&w, job("mail", "x")).await;
    cancel(&bed, &claimed.id).await;
    bed.expire(&claimed.id).await;
    bed.calm().await;
    let expired = bed.queue.sweep(&s, 10).await.unwrap().expired.remove(0);
    assert_eq!(bed.beat(&s, &[&expired.job]).await.cancelled, [claimed.id.clone()]);
    bed.settle(&s, &expired.job, retry(0)).await;
    assert_eq!(bed.state(&claimed.id).await, JobState::Cancelled);
}

#[tokio::test]
async fn an_id_that_is_named_twice_is_called_off_once() {
    let bed = Bed::new().await;
    let id = bed.accept(job("mail", "x")).await;
    let told: Vec<(String, String, String)> =
        fcall(&bed, "lk_cancel", &[b"ada", id.as_bytes(), id.as_bytes()]).await.unwrap();
    assert_eq!(told, [(id, "cancelled".to_owned(), "cancelled".to_owned())]);
}
