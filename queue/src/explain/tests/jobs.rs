//! Jobs.

use super::lanes::with_critical;
use super::*;
use crate::explain;
use crate::types::{CheckpointLeft, ProgressTold, Review};
use lanekeeper_api::policy::{Handler, HttpHandler, JobTypePolicy};

#[test]
fn unknown_job() {
    let world = World::new();
    expect(
        &explain::job("J9", None, &Place::default(), &world.scene()),
        Cause::Unknown,
        &["no record of job J9", "completed", "dead.keepReviewedFor"],
    );
}

#[test]
fn not_due() {
    let mut later = job(JobState::Scheduled);
    later.due_ms = NOW + 90_000;
    World::new().says(&later, 0, Cause::NotDue, &["1 min 30 s"]);
}

#[test]
fn retry_scheduled() {
    let mut failed = job(JobState::Scheduled);
    failed.due_ms = NOW + 300_000;
    failed.tries = 2;
    failed.history = vec![attempt("retry", "503 from http://mailer")];
    World::new().says(
        &failed,
        0,
        Cause::RetryScheduled,
        &["failed 2 times", "5 min", "HttpStatus: 503 from"],
    );
}

#[test]
fn held() {
    let mut held = job(JobState::Scheduled);
    held.due_ms = NOW + 30_000;
    held.history = vec![attempt("snooze", "Retry-After: 30")];
    World::new().says(&held, 0, Cause::Held, &["30 s", "costs it no try", "Retry-After"]);
}

#[test]
fn paused() {
    let mut world = World::new().pool(1, 1).worker(0);
    world.stats.paused = true;
    world.says(
        &job(JobState::Ready),
        0,
        Cause::Paused,
        &["due for 5 s", "apps/saas is paused", "paused: false"],
    );
}

#[test]
fn closed() {
    let mut world = World::new();
    world.stats.closed = Some("RedisUnsafe".into());
    // Who asks may have either: the advice is true in both.
    let words = [
        "RedisUnsafe",
        "in a cluster the conditions of the JobQueue",
        "in the local mode what `lanekeeper up`",
    ];
    world.says(&job(JobState::Ready), 0, Cause::Closed, &words);
}

#[test]
fn unknown_type() {
    let mut orphan = job(JobState::Ready);
    orphan.lane = None;
    World::new().says(&orphan, 0, Cause::UnknownType, &["no job type mail"]);
}

#[test]
fn no_pool() {
    World::new().says(&job(JobState::Ready), 0, Cause::NoPool, &["No WorkerPool serves lane fast", "lanes:"]);
}

#[test]
fn no_worker_is_all_that_redis_alone_can_tell() {
    let mut world = World::new();
    world.pools = None;
    world.says(&job(JobState::Ready), 0, Cause::NoWorker, &["No live worker"]);
    let mut world = World::new().worker(10);
    world.pools = None;
    world.says(&job(JobState::Ready), 0, Cause::SlotsBusy, &["All 10 slots"]);
}

#[test]
fn pool_at_zero() {
    World::new().pool(0, 0).says(
        &job(JobState::Ready),
        0,
        Cause::PoolAtZero,
        &["interactive has no replicas"],
    );
    let mut world = World::new().pool(0, 0);
    world.pools.as_mut().unwrap()[0].max = 0;
    world.says(&job(JobState::Ready), 0, Cause::PoolAtZero, &["maxReplicas"]);
}

#[test]
fn pool_starting() {
    World::new().pool(2, 0).says(&job(JobState::Ready), 0, Cause::PoolStarting, &["starting 2 replicas"]);
}

#[test]
fn pods_unschedulable() {
    let world = World::new().pool(1, 0).pod(PodProblem::Unschedulable, "0/3 nodes: insufficient memory");
    world.says(
        &job(JobState::Ready),
        0,
        Cause::PodsUnschedulable,
        &["no node takes", "insufficient memory", "requests"],
    );
}

#[test]
fn pods_failing() {
    for problem in [PodProblem::ImagePull, PodProblem::CrashLoop, PodProblem::Config, PodProblem::Other] {
        let world = World::new().pool(1, 0).pod(problem, "the message");
        world.says(&job(JobState::Ready), 0, Cause::PodsFailing, &["pod interactive-x", "the message"]);
    }
}

#[test]
fn pool_at_max_with_all_slots_busy() {
    let world = World::new().pool(2, 2).worker(10).worker(10);
    world.says(
        &job(JobState::Ready),
        3,
        Cause::PoolAtMax,
        &["All 20 slots", "maximum of 2", "3 jobs of lane fast go first"],
    );
}

#[test]
fn slots_busy_while_the_pool_may_grow() {
    World::new().pool(1, 1).worker(10).says(&job(JobState::Ready), 0, Cause::SlotsBusy, &["may still grow"]);
}

#[test]
fn behind_others() {
    let world = World::new().pool(1, 1).worker(3);
    world.says(
        &job(JobState::Ready),
        7,
        Cause::BehindOthers,
        &["7 jobs of lane fast go first, of 9 waiting"],
    );
    world.says(&job(JobState::Ready), 1, Cause::BehindOthers, &["1 job of lane fast goes first"]);
}

#[test]
fn next() {
    World::new().pool(1, 1).worker(3).says(&job(JobState::Ready), 0, Cause::Next, &["any moment"]);
}

#[test]
fn jobs_of_critical_lanes_go_before_the_next() {
    let mut world = with_critical(3);
    let waits = job(JobState::Ready);
    world.says(&waits, 0, Cause::Next, &["1 job of critical lane resets waits too and goes before it."]);
    world.stats.lanes[1].types[0].ready = 2;
    world.says(
        &waits,
        4,
        Cause::BehindOthers,
        &["2 jobs of critical lane resets wait too and go before it."],
    );
    let also = |world: &World, waits: &Job| {
        let place = Place { position: Some(Position { ahead: 0, waiting: 1 }), key: None };
        explain::job("J1", Some(waits), &place, &world.scene()).also
    };
    // Where pools cannot be seen, workers tell.
    world.pools = None;
    assert_eq!(also(&world, &waits).len(), 1);
    world.stats.workers[0].lanes.pop();
    assert!(also(&world, &waits).is_empty(), "no worker serves both");
    let mut critical = job(JobState::Ready);
    critical.lane = Some("resets".into());
    assert!(also(&with_critical(3), &critical).is_empty(), "it is of that lane");
    let mut apart = with_critical(3);
    apart.pools.as_mut().unwrap()[0].lanes.pop();
    assert!(also(&apart, &waits).is_empty(), "no pool serves both");
    let mut nothing = with_critical(3);
    nothing.stats.lanes[1].types[0].ready = 0;
    assert!(also(&nothing, &waits).is_empty());
}

/// A world in which jobs run in as many slots of two workers that have more; their type has this bound.
pub(super) fn bounded(per_worker: u32, running: u64) -> World {
    let mut world = World::new().pool(2, 2).worker(0).worker(0);
    world.stats.lanes[0].types[0].running = running;
    let mut mail = JobTypePolicy::new("fast", Handler::Http(HttpHandler::to("http://mailer/")));
    mail.per_worker = Some(per_worker);
    world.policy.job_types.insert("mail".into(), mail);
    world
}

#[test]
fn type_at_per_worker() {
    let words = [
        "due for 5 s",
        "Type mail is at its perWorker of 2: 4 jobs of it running in 2 workers.",
        "`spec.jobTypes[].perWorker`",
    ];
    bounded(2, 4).says(&job(JobState::Ready), 0, Cause::TypeAtPerWorker, &words);
    // However many go first: it could not go if it were the first.
    let behind = [&words[..], &["3 jobs of lane fast go first"]].concat();
    bounded(2, 4).says(&job(JobState::Ready), 3, Cause::TypeAtPerWorker, &behind);
    bounded(2, 3).says(&job(JobState::Ready), 0, Cause::Next, &["any moment"]);
    let mut world = bounded(2, 4);
    world.policy.job_types.clear();
    world.says(&job(JobState::Ready), 0, Cause::Next, &["any moment"]);
}

fn leased(expires_ms: u64) -> Job {
    let mut running = job(JobState::Running);
    running.lease = Some(Lease {
        worker: "interactive-x".into(),
        pool: "interactive".into(),
        node: "n1".into(),
        token: 1,
        since_ms: NOW - 20_000,
        expires_ms,
        cancelled_by: None,
    });
    running
}

#[test]
fn leased_to_a_worker() {
    let words = ["interactive-x on n1", "for 20 s", "another 9 s"];
    World::new().says(&leased(NOW + 9_000), 0, Cause::Leased, &words);
}

#[test]
fn what_the_handler_told_is_told_on() {
    let mut running = leased(NOW + 9_000);
    let (unit, message) = ("rows".to_owned(), "writing".to_owned());
    running.progress =
        Some(ProgressTold { done: 350, total: Some(1_000), unit, message, told_ms: NOW - 2_000 });
    running.checkpoint = Some(CheckpointLeft { bytes: 12, left_ms: NOW - 60_000 });
    running.lease.as_mut().unwrap().cancelled_by = Some("anna".into());
    let words = [
        "Progress: 350 of 1000 rows (35 %), writing, told 2 s ago.",
        "A checkpoint of 12 bytes was left 1 min ago.",
        "asked for by anna",
    ];
    World::new().says(&running, 0, Cause::Leased, &words);
    running.state = JobState::Scheduled;
    running.lease = None;
    running.due_ms = NOW + 5_000;
    let mut ambiguous = attempt("retry", "no answer");
    ambiguous.error.as_mut().unwrap().class = ErrorClass::Ambiguous;
    running.history = vec![ambiguous];
    let words = ["12 bytes was left", "HttpStatus (ambiguous: the work may have been done): no answer"];
    World::new().says(&running, 0, Cause::RetryScheduled, &words);
}

#[test]
fn lease_expired() {
    World::new().says(
        &leased(NOW - 3_000),
        0,
        Cause::LeaseExpired,
        &["stopped renewing", "3 s ago", "sweep"],
    );
}

#[test]
fn dead() {
    let mut dead = job(JobState::Dead);
    dead.finished_ms = Some(NOW - 3_600_000);
    dead.tries = 4;
    dead.crashes = 3;
    dead.history = vec![attempt("dead", "422 no such user.\nbody"), attempt("replay", "")];
    let reasons = [
        (DeadReason::PermanentError, "another try cannot help"),
        (DeadReason::TriesExhausted, "all its 4 tries failed"),
        (DeadReason::CrashBudgetExhausted, "3 attempts were lost with their workers"),
        (DeadReason::GaveUp, "giveUpAfter"),
    ];
    for (reason, words) in reasons {
        dead.dead_reason = Some(reason);
        World::new().says(
            &dead,
            0,
            Cause::Dead,
            &["dead for 1 h", words, "HttpStatus: 422 no such user.", "replay"],
        );
    }
    dead.crashes = 1;
    dead.dead_reason = Some(DeadReason::CrashBudgetExhausted);
    World::new().says(&dead, 0, Cause::Dead, &["because 1 attempt was lost with its worker."]);
}

#[test]
fn dead_without_another_try() {
    let mut dead = job(JobState::Dead);
    dead.finished_ms = Some(NOW - 3_600_000);
    dead.dead_reason = Some(DeadReason::GaveUp);
    let mut gave_up = attempt("dead", "not tried again");
    gave_up.error.as_mut().unwrap().code = "GaveUp".to_owned();
    dead.history = vec![attempt("retry", "503 overloaded"), gave_up.clone()];
    World::new().says(&dead, 0, Cause::Dead, &["giveUpAfter", "Last error: HttpStatus: 503 overloaded"]);
    dead.history = vec![gave_up];
    World::new().says(&dead, 0, Cause::Dead, &["Last error: GaveUp: not tried again"]);
}

/// The handler said that all went well: who replays must know that the work may be done.
#[test]
fn dead_of_an_answer() {
    let mut dead = job(JobState::Dead);
    dead.finished_ms = Some(NOW - 3_600_000);
    dead.dead_reason = Some(DeadReason::PermanentError);
    for code in ["AnswerInvalid", "FollowUpRefused"] {
        let mut last = attempt("dead", "no such type");
        last.error.as_mut().unwrap().code = code.to_owned();
        dead.history = vec![last, attempt("acknowledge", "")];
        World::new().says(
            &dead,
            0,
            Cause::Dead,
            &["handler reported success", "the work may be done", code, "may repeat it", "dead discard"],
        );
    }
}

#[test]
fn what_people_said_of_the_dead_is_told() {
    let mut dead = job(JobState::Dead);
    dead.finished_ms = Some(NOW - 3_600_000);
    dead.dead_reason = Some(DeadReason::PermanentError);
    dead.history = vec![attempt("dead", "422 no such user."), attempt("acknowledge", "bug 812")];
    dead.review = Review::of(dead.state, &dead.history);
    World::new().says(
        &dead,
        0,
        Cause::Dead,
        &["dead for 1 h", "422 no such user.", "Acknowledged by w: bug 812", "dead discard"],
    );
    dead.state = JobState::Discarded;
    dead.history.push(attempt("discard", "a test"));
    dead.review = Review::of(dead.state, &dead.history);
    World::new().says(
        &dead,
        0,
        Cause::Dead,
        &["was discarded 1 h ago", "422 no such user.", "Discarded by w: a test", "A replay by its id"],
    );
}

#[test]
fn succeeded_and_cancelled() {
    let mut done = job(JobState::Succeeded);
    done.finished_ms = Some(NOW - 1_000);
    done.attempts = 1;
    World::new().says(&done, 0, Cause::Succeeded, &["succeeded 1 s ago, after 1 attempt"]);
    done.state = JobState::Cancelled;
    World::new().says(&done, 0, Cause::Cancelled, &["was cancelled 1 s ago"]);
    let mut ran = attempt("cancel", "cancelled by anna: stopped");
    done.history = vec![ran.clone()];
    World::new().says(&done, 0, Cause::Cancelled, &["cancelled by anna 1 s ago"]);
    (ran.token, ran.worker, ran.error) = (0, "ben".into(), None);
    done.history = vec![ran];
    World::new().says(&done, 0, Cause::Cancelled, &["cancelled by ben 1 s ago"]);
}
