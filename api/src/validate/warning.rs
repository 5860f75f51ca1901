//! What works but is unwise: accepted, and said.

use super::problem::{Problem, Problems};
use super::reason;
use crate::duration::Duration;
use crate::job_queue::{DEFAULT_KEY_FOR, JobQueue, JobTypeSpec, OnConflictSpec};
use crate::policy::{Backoff, JobTypePolicy, KeyPart, QueuePolicy, RetryPolicy};

/// What works but is unwise in a queue: `policy` is what [`super::job_queue`] made of it.
#[must_use]
pub fn job_queue_warnings(queue: &JobQueue, policy: &QueuePolicy) -> Vec<Problem> {
    let mut problems = Problems::default();
    for (index, lane) in policy.lanes.iter().enumerate() {
        if policy.types_in(&lane.name).next().is_none() {
            let message = "no job type uses this lane";
            problems.add(reason::UNUSED_LANE, format!("spec.lanes[{index}].name"), &lane.name, message);
        }
    }
    for (index, spec) in queue.spec.job_types.iter().enumerate() {
        if let Some(job_type) = policy.job_types.get(&spec.name) {
            let field = format!("spec.jobTypes[{index}]");
            warn_of_kept_key(&mut problems, &field, spec);
            warn_of_news(&mut problems, &field, job_type, policy);
            warn_of_type(&mut problems, &field, job_type);
        }
    }
    problems.into_inner()
}

/// Who wants the newest state processed seldom wants it left undone for a day after each success.
fn warn_of_kept_key(problems: &mut Problems, field: &str, spec: &JobTypeSpec) {
    if spec.on_conflict == OnConflictSpec::Replace && spec.key_for.is_none() {
        let message = format!(
            "is not written: for {DEFAULT_KEY_FOR} after a success every request with the same key is answered duplicate, and what it \
             asks for is not done, also with debounce; write keyFor: 0s to make it a new job, or keyFor: {DEFAULT_KEY_FOR} where \
             that is meant"
        );
        problems.add(reason::KEY_KEPT, format!("{field}.keyFor"), "", message);
    }
}

/// What tells of a death comes in any case, but without the keys that nothing in it gives.
fn warn_of_news(problems: &mut Problems, field: &str, job_type: &JobTypePolicy, policy: &QueuePolicy) {
    const TOLD: [&str; 7] = ["job", "type", "key", "reason", "attempts", "error", "payload"];
    let Some(name) = job_type.on_dead.as_ref().map(|on_dead| &on_dead.r#type) else { return };
    let Some(news) = policy.job_types.get(name) else { return };
    let group = news.concurrency_key.as_ref().map(|group| &group.key);
    for part in news.key.iter().chain(group).flatten() {
        if let KeyPart::Path(path) = part
            && !TOLD.contains(&path[0].as_str())
        {
            let named = path.join(".");
            let message = format!(
                "a key of this type takes {{{named}}}, which no news of a death has: they come without that key; fields of the dead \
                 job's payload are named as {{payload.{named}}}"
            );
            problems.add(reason::NEWS_UNKEYED, format!("{field}.onDead.enqueue.type"), name, message);
        }
    }
}

fn warn_of_type(problems: &mut Problems, field: &str, job_type: &JobTypePolicy) {
    let give_up = Duration::from_millis(job_type.give_up_after_ms);
    let timeout = Duration::from_millis(job_type.timeout_ms);
    if timeout > give_up {
        let message = format!("one attempt may last longer than giveUpAfter ({give_up}) lets the job live");
        problems.add(reason::TIMEOUT_AFTER_GIVE_UP, format!("{field}.timeout"), timeout, message);
    }
    let delays = Duration::from_millis(total_delay_ms(&job_type.retry));
    if delays > give_up {
        let message = format!(
            "the delays between the tries add up to {delays}: the job is given up before its {} retries are used",
            job_type.retry.limit
        );
        problems.add(reason::GIVES_UP_EARLY, format!("{field}.giveUpAfter"), give_up, message);
    }
    if let Backoff::Exponential { first_ms, max_ms, .. } = job_type.retry.backoff
        && first_ms > max_ms
    {
        let message = "first is longer than max: every delay is max";
        let field = format!("{field}.retry.backoff.exponential.first");
        problems.add(reason::BACKOFF_CAPPED, field, Duration::from_millis(first_ms), message);
    }
    if job_type.completed.keep == 0 {
        let message = "finished jobs are forgotten at once: an enqueue repeated with the same id runs again";
        problems.add(reason::KEEPS_NOTHING, format!("{field}.completed.keep"), 0, message);
    }
    if let Some(parts) = &job_type.key
        && !parts.iter().any(|part| matches!(part, KeyPart::Path(_)))
    {
        let message = "every job of this type has the same key, so only one is accepted at a time: add a \
                       placeholder such as {userId}";
        problems.add(reason::CONSTANT_KEY, format!("{field}.key"), "", message);
    }
}

/// Sum of all delays before jitter, saturating.
fn total_delay_ms(retry: &RetryPolicy) -> u64 {
    match &retry.backoff {
        Backoff::Schedule(delays) => {
            let last = delays.last().copied().unwrap_or(0);
            let delay = |n: usize| delays.get(n).copied().unwrap_or(last);
            (0..retry.limit as usize).map(delay).fold(0, u64::saturating_add)
        }
        Backoff::Exponential { first_ms, factor, max_ms } => {
            let (mut delay, mut total) = (*first_ms as f64, 0_u64);
            for _ in 0..retry.limit {
                total = total.saturating_add(delay.min(*max_ms as f64) as u64);
                delay *= factor;
            }
            total
        }
    }
}
