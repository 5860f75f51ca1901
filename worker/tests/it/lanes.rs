//! Critical lanes and the order of lanes, against a real Redis.

use std::sync::Arc;

use crate::common::{Bed, Settings, does, done, eventually, policy};
use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_queue::types::{EnqueueOptions, Enqueued, JobState, NewJob};
use lanekeeper_worker::engine::Order;
use tokio::sync::Semaphore;

const HOLD: &[u8] = b"hold";
const NOTHING: &[u8] = b"";

/// `fast` is critical; a job whose payload is `hold` ends when the gate opens.
fn critical() -> QueuePolicy {
    let mut policy = policy();
    policy.lanes[0].critical = true;
    policy
}

fn gated(gate: &Arc<Semaphore>) -> impl lanekeeper_worker::handler::Handler + 'static {
    let gate = Arc::clone(gate);
    does(move |peek| {
        let gate = Arc::clone(&gate);
        async move {
            if peek.payload == HOLD {
                gate.acquire().await.expect("the gate is never closed").forget();
            }
            done()
        }
    })
}

async fn running(bed: &Bed, ids: &[String]) -> usize {
    let jobs = bed.queue.get(ids, false).await.expect("get");
    jobs.into_iter().flatten().filter(|job| job.state == JobState::Running).count()
}

#[tokio::test]
async fn a_slot_is_kept_for_critical_jobs_and_they_start_at_once() {
    let bed = Bed::new(&critical()).await;
    let gate = Arc::new(Semaphore::new(0));
    // Listed last: critical lanes go first wherever they stand.
    let settings = Settings { lanes: &["slow", "fast"], slots: 3, ..Settings::default() };
    let engine = bed.engine(settings, gated(&gate));
    let slow = bed.enqueue("report", &[HOLD; 6]).await;
    eventually("two slow jobs run", async || running(&bed, &slow).await == 2).await;
    for _ in 0..5 {
        let urgent = bed.enqueue("mail", &[b""]).await;
        let job = bed.becomes(&urgent[0], JobState::Succeeded).await;
        let waited = job.history[0].started_ms - job.enqueued_ms;
        assert!(waited < 500, "{waited} ms");
    }
    assert_eq!(running(&bed, &slow).await, 2, "the third slot was free for critical jobs only");
    gate.add_permits(6);
    for id in &slow {
        bed.becomes(id, JobState::Succeeded).await;
    }
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_scheduled_critical_job_starts_when_it_is_due_though_the_others_wait() {
    let bed = Bed::new(&critical()).await;
    let gate = Arc::new(Semaphore::new(0));
    let engine = bed.engine(Settings { slots: 2, ..Settings::default() }, gated(&gate));
    let options = EnqueueOptions { job_type: "mail".into(), delay: Some(700), ..EnqueueOptions::default() };
    let slow = bed.enqueue("report", &[HOLD; 3]).await;
    eventually("a slow job runs", async || running(&bed, &slow).await == 1).await;
    let later = NewJob { payload: vec![], options };
    let enqueued = bed.queue.enqueue(&[later]).await.expect("enqueue").remove(0);
    let Enqueued::Accepted { id, .. } = enqueued else { panic!("{enqueued:?}") };
    let job = bed.becomes(&id, JobState::Succeeded).await;
    let waited = job.history[0].started_ms - job.enqueued_ms;
    assert!((700..1200).contains(&waited), "{waited} ms after the enqueue, due after 700");
    gate.add_permits(3);
    engine.stop().await.unwrap();
}

/// Whatever only the kept slot leaves waiting goes on to a worker that has room for it.
#[tokio::test]
async fn other_workers_take_what_the_kept_slot_is_not_for() {
    let bed = Bed::new(&critical()).await;
    let gate = Arc::new(Semaphore::new(0));
    let full = bed.engine(Settings { name: "w1", slots: 2, ..Settings::default() }, gated(&gate));
    let held = bed.enqueue("report", &[b"hold"]).await;
    eventually("it runs", async || running(&bed, &held).await == 1).await;
    let free = bed.engine(Settings { name: "w2", slots: 2, ..Settings::default() }, gated(&gate));
    eventually("the other worker is ready", async || free.probe("/readyz").await.0 == 200).await;
    for _ in 0..5 {
        let ids = bed.enqueue("report", &[b""]).await;
        let job = bed.becomes(&ids[0], JobState::Succeeded).await;
        assert_eq!(job.history[0].worker, "w2");
        let waited = job.history[0].started_ms - job.enqueued_ms;
        assert!(waited < 500, "{waited} ms");
    }
    gate.add_permits(1);
    full.stop().await.unwrap();
    free.stop().await.unwrap();
}

#[tokio::test]
async fn a_lane_becomes_critical_while_workers_run() {
    let mut policy = policy();
    let bed = Bed::new(&policy).await;
    let gate = Arc::new(Semaphore::new(0));
    let settings = Settings { lanes: &["slow", "fast"], slots: 2, ..Settings::default() };
    let engine = bed.engine(settings, gated(&gate));
    let slow = bed.enqueue("report", &[HOLD; 6]).await;
    eventually("both slots are taken", async || running(&bed, &slow).await == 2).await;
    policy.lanes[0].critical = true;
    policy.source.generation += 1;
    let version = bed.configure(&policy).await;
    let seen = || engine.metrics.policy_version.get() == i64::try_from(version).unwrap();
    eventually("the worker has the policy", async || {
        engine.probe("/metrics").await;
        seen()
    })
    .await;
    // One slow job ends, and its slot is kept from now on.
    gate.add_permits(1);
    let urgent = bed.enqueue("mail", &[b"hold"]).await;
    eventually("the critical job runs", async || running(&bed, &urgent).await == 1).await;
    assert_eq!(running(&bed, &slow).await, 1);
    gate.add_permits(6);
    engine.stop().await.unwrap();
}

/// How many of the first `of` starts were jobs of the lane `slow`, in a worker of so many slots with 200 jobs waiting in
/// either lane.
async fn slow_among_the_first(of: usize, slots: u32, policy: &QueuePolicy, order: Order) -> usize {
    let bed = Bed::new(policy).await;
    let (fast, slow) =
        (bed.enqueue("mail", &[NOTHING; 200]).await, bed.enqueue("report", &[NOTHING; 200]).await);
    let engine = bed.engine(Settings { order, slots, ..Settings::default() }, does(|_| async { done() }));
    for id in fast.iter().chain(&slow) {
        bed.becomes(id, JobState::Succeeded).await;
    }
    engine.stop().await.unwrap();
    let mut starts = Vec::new();
    for (is_slow, ids) in [(false, &fast), (true, &slow)] {
        for job in bed.queue.get(ids, false).await.expect("get").into_iter().flatten() {
            starts.push((job.history[0].started_ms, is_slow));
        }
    }
    starts.sort_unstable();
    starts[..of].iter().filter(|(_, slow)| *slow).count()
}

/// Starts of one millisecond may change places in the count: a round more or less.
#[tokio::test]
async fn slots_are_given_out_by_weight() {
    let slow = slow_among_the_first(160, 1, &policy(), Order::Weighted(vec![3, 1])).await;
    assert!((35..=45).contains(&slow), "{slow} of 160 instead of 40");
}

#[tokio::test]
async fn large_claims_are_given_out_by_weight() {
    let slow = slow_among_the_first(160, 40, &policy(), Order::Weighted(vec![3, 1])).await;
    assert!((30..=50).contains(&slow), "{slow} of 160 instead of 40");
}

#[tokio::test]
async fn the_lane_closest_to_its_promise_goes_first() {
    let mut policy = policy();
    // What waits in `slow`, enqueued a moment later, has an hour less.
    policy.lanes[0].start_within_ms = 2 * 3_600_000;
    policy.lanes[1].start_within_ms = 3_600_000;
    assert_eq!(slow_among_the_first(100, 1, &policy, Order::Deadline).await, 100);
}
