//! Why a job is where it is.

use super::gates;
use super::lane::{gated, unserved};
use super::per_worker;
use super::words::{count, duration, first_line};
use super::{Cause, Explanation, Scene};
use crate::retry;
use crate::types::{
    Attempt, AttemptError, DeadReason, ErrorClass, Job, JobState, KeyStanding, Position, Review, ReviewState,
};

/// Codes of a handler's success whose answer could not be followed, as workers write them.
const BAD_ANSWERS: [&str; 2] = ["AnswerInvalid", "FollowUpRefused"];

/// Where a ready job stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// In its lane; none when it is not in line.
    pub position: Option<Position>,
    /// Among the jobs of its concurrency key; none when its type has no key.
    pub key: Option<KeyStanding>,
}

/// Explains one job. `job` is none where no record stands; `place` is where it stands in line, if it does.
#[must_use]
pub fn job(id: &str, job: Option<&Job>, place: &Place, scene: &Scene<'_>) -> Explanation {
    let Some(job) = job else {
        return Explanation::new(
            Cause::Unknown,
            id,
            format!("Queue {} has no record of job {id}.", scene.policy.queue),
        )
        .advice(
            "It was never accepted here, it was deleted, or it ended so long ago that its type's `completed` bounds \
             removed the record, or was discarded longer ago than its `dead.keepReviewedFor`.",
        );
    };
    match job.state {
        JobState::Scheduled => {
            let mut found = scheduled(job, scene);
            found.sentence.push_str(&told(job, scene.stats.now_ms));
            found
        }
        JobState::Ready => ready(job, place, scene),
        JobState::Running => running(job, scene),
        JobState::Dead | JobState::Discarded => dead(job, scene),
        JobState::Succeeded => {
            let attempts = count(job.attempts.into(), "attempt");
            let sentence = format!("Job {id} succeeded {} ago, after {attempts}.", ended(job, scene));
            Explanation::new(Cause::Succeeded, id, sentence)
        }
        JobState::Cancelled => {
            let sentence = format!("Job {id} was {} {} ago.", cancelled(job), ended(job, scene));
            Explanation::new(Cause::Cancelled, id, sentence)
        }
    }
}

/// `cancelled`, and by whom, where the history says so.
fn cancelled(job: &Job) -> String {
    let last = job.history.last().filter(|last| last.outcome == "cancel");
    match last.map(|last| (last.ran(), last.error.as_ref())) {
        Some((false, _)) => format!("cancelled by {}", job.history[job.history.len() - 1].worker),
        Some((true, Some(error))) if error.message.starts_with("cancelled by ") => {
            first_line(&error.message).split(": ").next().unwrap_or_default().to_owned()
        }
        _ => "cancelled".to_owned(),
    }
}

fn ended(job: &Job, scene: &Scene<'_>) -> String {
    duration(scene.stats.now_ms.saturating_sub(job.finished_ms.unwrap_or(scene.stats.now_ms)))
}

fn scheduled(job: &Job, scene: &Scene<'_>) -> Explanation {
    let id = &job.id;
    let left = duration(job.due_ms.saturating_sub(scene.stats.now_ms));
    let last = job.history.last();
    match last.map(|attempt| attempt.outcome.as_str()) {
        Some("retry") => {
            let sentence = format!(
                "Job {id} failed {}; its next try is due in {left}. Last error: {}.",
                count(job.tries.into(), "time"),
                last_error(last),
            );
            Explanation::new(Cause::RetryScheduled, id, sentence)
        }
        Some("snooze") => {
            let sentence =
                format!("Job {id} is held for another {left}, which costs it no try: {}.", last_error(last));
            Explanation::new(Cause::Held, id, sentence)
        }
        _ => Explanation::new(Cause::NotDue, id, format!("Job {id} is not due before {left} from now.")),
    }
}

/// The class of the error, where it is not the usual one.
fn class(error: &AttemptError) -> &'static str {
    match error.class {
        ErrorClass::Transient => "",
        ErrorClass::Permanent => " (permanent)",
        ErrorClass::Ambiguous => " (ambiguous: the work may have been done)",
    }
}

/// `Code: message`, as the attempt said.
fn last_error(attempt: Option<&Attempt>) -> String {
    match attempt.and_then(|attempt| attempt.error.as_ref()) {
        Some(error) if error.message.is_empty() => format!("{}{}", error.code, class(error)),
        Some(error) => {
            format!("{}{}: {}", error.code, class(error), first_line(&error.message).trim_end_matches('.'))
        }
        None => "none was given".to_owned(),
    }
}

fn ready(job: &Job, place: &Place, scene: &Scene<'_>) -> Explanation {
    let id = &job.id;
    let Some(lane) = job.lane.as_deref() else {
        let sentence = format!("Job {id} waits, but the policy has no job type {} any more.", job.job_type);
        return Explanation::new(Cause::UnknownType, id, sentence)
            .advice("Put the job type back into the JobQueue, or cancel the job.");
    };
    let waited = duration(scene.stats.now_ms.saturating_sub(job.due_ms));
    let in_lane = place.position.filter(|position| position.ahead > 0).map(|position| ahead(position, lane));
    let key = place.key.as_ref();
    let of_key = key.and_then(|standing| gates::of_key(standing, id, scene));
    let mut found = gated(lane, id, scene);
    if let (Some(found), Some(of_key)) = (&mut found, &of_key) {
        found.also.push(of_key.sentence.clone());
    }
    let bounded = || per_worker::of_type(&job.job_type, lane, id, scene);
    let mut found = match found.or(of_key).or_else(|| unserved(lane, id, scene)).or_else(bounded) {
        Some(mut found) => {
            found.sentence = format!("Job {id} has been due for {waited}. {}", found.sentence);
            found.also.extend(in_lane);
            found
        }
        None => match in_lane {
            Some(ahead) => {
                let sentence = format!("Job {id} has been due for {waited}. {ahead}");
                Explanation::new(Cause::BehindOthers, id, sentence)
            }
            None => {
                let sentence = format!("Job {id} is the next of lane {lane}; a worker takes it any moment.");
                Explanation::new(Cause::Next, id, sentence)
            }
        },
    };
    found.also.extend(key.and_then(gates::turns));
    if matches!(found.cause, Cause::Next | Cause::BehindOthers | Cause::SlotsBusy | Cause::PoolAtMax) {
        found.also.extend(critical_first(lane, scene));
    }
    found
}

/// What goes before any job of this lane, be it the next of it or not: the due jobs of critical lanes that share its workers.
fn critical_first(lane: &str, scene: &Scene<'_>) -> Vec<String> {
    let is_critical = |name: &str| scene.policy.lane(name).is_some_and(|lane| lane.critical);
    if is_critical(lane) {
        return Vec::new();
    }
    let due = |name: &str| scene.types_in(name).map(|t| t.ready).sum::<u64>();
    let first = scene.policy.lanes.iter().map(|other| other.name.as_str());
    first
        .filter(|name| is_critical(name) && due(name) > 0 && share_workers(name, lane, scene))
        .filter(|name| gated(name, name, scene).is_none())
        .map(|name| {
            let verbs = if due(name) == 1 { ("waits", "goes") } else { ("wait", "go") };
            let jobs = count(due(name), "job");
            format!("{jobs} of critical lane {name} {} too and {} before it.", verbs.0, verbs.1)
        })
        .collect()
}

/// Whether a pool serves both lanes, or where pools cannot be seen a worker.
fn share_workers(one: &str, other: &str, scene: &Scene<'_>) -> bool {
    let both = |lanes: &[String]| [one, other].iter().all(|name| lanes.iter().any(|lane| lane == name));
    match scene.pools {
        Some(pools) => pools.iter().any(|pool| both(&pool.lanes)),
        None => scene.stats.workers.iter().any(|worker| both(&worker.lanes)),
    }
}

/// What holds a job back that its lane would let go: its key, or its type.
pub(super) fn held(job: &Job, place: &Place, lane: &str, scene: &Scene<'_>) -> Option<Explanation> {
    let of_key = place.key.as_ref().and_then(|standing| gates::of_key(standing, lane, scene));
    of_key.or_else(|| per_worker::of_type(&job.job_type, lane, lane, scene))
}

fn ahead(place: Position, lane: &str) -> String {
    let others = count(place.ahead, "job");
    let verb = if place.ahead == 1 { "goes" } else { "go" };
    format!("{others} of lane {lane} {verb} first, of {} waiting.", place.waiting)
}

fn running(job: &Job, scene: &Scene<'_>) -> Explanation {
    let id = &job.id;
    let now = scene.stats.now_ms;
    let Some(lease) = &job.lease else {
        return Explanation::new(Cause::Leased, id, format!("Job {id} is running."));
    };
    let place = if lease.node.is_empty() { String::new() } else { format!(" on {}", lease.node) };
    let since = duration(now.saturating_sub(lease.since_ms));
    if lease.expires_ms <= now {
        let sentence = format!(
            "Worker {}{place} took job {id} {since} ago and stopped renewing its lease, which ran out {} ago.",
            lease.worker,
            duration(now.saturating_sub(lease.expires_ms)),
        );
        return Explanation::new(Cause::LeaseExpired, id, sentence).advice(
            "The next sweep of any worker or of the operator takes it over; after an outage of Redis that waits for one \
             whole lease.",
        );
    }
    let sentence = format!(
        "Worker {}{place} has been running job {id} for {since} (attempt {}); its lease runs for another {} and is \
         renewed while the worker lives.",
        lease.worker,
        job.attempts + 1,
        duration(lease.expires_ms - now),
    );
    let mut found = Explanation::new(Cause::Leased, id, sentence);
    found.sentence.push_str(&told(job, now));
    if let Some(by) = &lease.cancelled_by {
        found.sentence.push_str(&format!(
            " Its cancellation was asked for by {by}; the worker is stopping its handler."
        ));
    }
    found
}

/// What its handler told, as sentences to add.
fn told(job: &Job, now_ms: u64) -> String {
    let ago = |ms: u64| duration(now_ms.saturating_sub(ms));
    let mut text = String::new();
    if let Some(told) = &job.progress {
        text.push_str(&format!(" Progress: {}, told {} ago.", told.sentence(), ago(told.told_ms)));
    }
    if let Some(left) = &job.checkpoint {
        let bytes = count(left.bytes, "byte");
        text.push_str(&format!(" A checkpoint of {bytes} was left {} ago.", ago(left.left_ms)));
    }
    text
}

fn dead(job: &Job, scene: &Scene<'_>) -> Explanation {
    let id = &job.id;
    // That it was given up is said anyway; what it could not be tried again for is the question.
    let gave_up =
        |attempt: &&Attempt| attempt.error.as_ref().is_some_and(|error| error.code == retry::GAVE_UP);
    let mut ran = job.history.iter().rev().filter(|attempt| attempt.ran());
    let last = ran.clone().find(|attempt| !gave_up(attempt)).or_else(|| ran.next());
    let bad_answer = has_bad_answer(job.dead_reason, last);
    let why = match job.dead_reason {
        Some(DeadReason::PermanentError) if bad_answer => {
            "its handler reported success with an answer that cannot be followed: the work may be done"
                .to_owned()
        }
        Some(DeadReason::PermanentError) => "its handler said that another try cannot help".to_owned(),
        Some(DeadReason::TriesExhausted) => format!("all its {} failed", count(job.tries.into(), "try")),
        Some(DeadReason::CrashBudgetExhausted) => {
            let (were, their) =
                if job.crashes == 1 { ("was", "its worker") } else { ("were", "their workers") };
            format!("{} {were} lost with {their}", count(job.crashes.into(), "attempt"))
        }
        Some(DeadReason::GaveUp) => {
            "its giveUpAfter has passed, or would have before the next try".to_owned()
        }
        None => "of a reason that this version does not know".to_owned(),
    }
    .replace("trys", "tries");
    let since = match job.state {
        JobState::Discarded => format!("was a dead letter and was discarded {} ago", ended(job, scene)),
        _ => format!("has been dead for {}", ended(job, scene)),
    };
    let sentence = format!("Job {id} {since}, because {why}. Last error: {}.", last_error(last),);
    let advice = match job.state {
        JobState::Discarded => "A replay by its id takes it back (`lanekeeper dead replay`).",
        _ if bad_answer => {
            "Look whether the work was done: a replay (`lanekeeper dead replay`) may repeat it. Mend what the handler answers; \
             where nothing is left to do, discard the job (`lanekeeper dead discard`), which frees its key and keeps its record."
        }
        _ => {
            "Once the cause is removed, replay it (`lanekeeper dead replay`); else discard it (`lanekeeper dead discard`), \
             which frees its key and keeps its record."
        }
    };
    let mut found = Explanation::new(Cause::Dead, id, sentence).advice(advice);
    found.also.extend(job.review.as_ref().and_then(reviewed));
    found
}

/// Whether it died of what its handler answered to a success.
fn has_bad_answer(reason: Option<DeadReason>, last: Option<&Attempt>) -> bool {
    let code = last.and_then(|attempt| attempt.error.as_ref()).map(|error| error.code.as_str());
    reason == Some(DeadReason::PermanentError) && code.is_some_and(|code| BAD_ANSWERS.contains(&code))
}

/// What people said of it.
fn reviewed(review: &Review) -> Option<String> {
    let by = review.by.as_ref()?;
    let what = match review.state {
        ReviewState::Open => return None,
        ReviewState::Acknowledged => "Acknowledged",
        ReviewState::Discarded => "Discarded",
    };
    Some(
        review
            .why
            .as_ref()
            .map_or_else(|| format!("{what} by {by}."), |why| format!("{what} by {by}: {why}")),
    )
}
