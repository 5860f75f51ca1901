//! Policy fields: each layer is checked where it is written, then the layers are merged.

use super::problem::Problems;
use super::{handler, reason};
use crate::duration::Duration;
use crate::job_queue::{
    BackoffSpec, Completed, DEFAULT_RETRY_LIMIT, DeadLettersSpec, HandlerSpec, JitterSpec, JobTypeSpec,
    LaneSpec, PolicyDefaults, Retry,
};
use crate::policy::{Backoff, DeadLetters, Jitter, Retention, RetryPolicy};

/// Most tries after the first.
const MAX_RETRIES: i64 = 1000;
/// Longest schedule.
const MAX_SCHEDULE: usize = 100;
/// Most records kept.
const MAX_KEEP: i64 = 1_000_000;
/// Largest growth per retry.
const MAX_FACTOR: f64 = 100.0;

/// The policy fields of one place: what is `None` is left to the next place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Layer<'a> {
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<&'a Retry>,
    pub(crate) give_up_after: Option<Duration>,
    pub(crate) crash_budget: Option<u32>,
    pub(crate) completed: Option<Completed>,
    pub(crate) dead: Option<DeadLettersSpec>,
    pub(crate) handler: Option<&'a HandlerSpec>,
}

impl<'a> From<&'a PolicyDefaults> for Layer<'a> {
    fn from(defaults: &'a PolicyDefaults) -> Self {
        let PolicyDefaults { timeout, retry, give_up_after, crash_budget, completed, dead, handler } =
            defaults;
        Self {
            timeout: Some(*timeout),
            retry: Some(retry),
            give_up_after: Some(*give_up_after),
            crash_budget: Some(*crash_budget),
            completed: Some(*completed),
            dead: Some(*dead),
            handler: handler.as_ref(),
        }
    }
}

impl<'a> From<&'a LaneSpec> for Layer<'a> {
    fn from(lane: &'a LaneSpec) -> Self {
        Self {
            timeout: lane.timeout,
            retry: lane.retry.as_ref(),
            give_up_after: lane.give_up_after,
            crash_budget: lane.crash_budget,
            completed: lane.completed,
            dead: lane.dead,
            handler: lane.handler.as_ref(),
        }
    }
}

impl<'a> From<&'a JobTypeSpec> for Layer<'a> {
    fn from(job_type: &'a JobTypeSpec) -> Self {
        Self {
            timeout: job_type.timeout,
            retry: job_type.retry.as_ref(),
            give_up_after: job_type.give_up_after,
            crash_budget: job_type.crash_budget,
            completed: job_type.completed,
            dead: job_type.dead,
            handler: job_type.handler.as_ref(),
        }
    }
}

impl Layer<'_> {
    /// This layer over another, each field replaced whole.
    pub(crate) fn over(self, below: Self) -> Self {
        Self {
            timeout: self.timeout.or(below.timeout),
            retry: self.retry.or(below.retry),
            give_up_after: self.give_up_after.or(below.give_up_after),
            crash_budget: self.crash_budget.or(below.crash_budget),
            completed: self.completed.or(below.completed),
            dead: self.dead.or(below.dead),
            handler: self.handler.or(below.handler),
        }
    }

    /// Checks what is written in this layer.
    pub(crate) fn check(&self, problems: &mut Problems, field: &str) {
        if let Some(timeout) = self.timeout {
            problems.positive(&format!("{field}.timeout"), timeout);
        }
        if let Some(retry) = self.retry {
            check_retry(problems, &format!("{field}.retry"), retry);
        }
        if let Some(give_up_after) = self.give_up_after {
            problems.positive(&format!("{field}.giveUpAfter"), give_up_after);
        }
        if let Some(budget) = self.crash_budget {
            problems.range(&format!("{field}.crashBudget"), i64::from(budget), 1, 100);
        }
        if let Some(completed) = self.completed {
            let keep = i64::try_from(completed.keep).unwrap_or(i64::MAX);
            problems.range(&format!("{field}.completed.keep"), keep, 0, MAX_KEEP);
            problems.positive(&format!("{field}.completed.for"), completed.for_);
        }
        if let Some(keep) = self.dead.and_then(|dead| dead.keep_reviewed_for) {
            problems.positive(&format!("{field}.dead.keepReviewedFor"), keep);
        }
        if let Some(handler) = self.handler {
            handler::check(problems, &format!("{field}.handler"), handler);
        }
    }
}

fn check_retry(problems: &mut Problems, field: &str, retry: &Retry) {
    if let Some(limit) = retry.limit {
        problems.range(&format!("{field}.limit"), i64::from(limit), 0, MAX_RETRIES);
    }
    if let JitterSpec::Percent(percent) = retry.jitter {
        problems.range(&format!("{field}.jitter"), i64::from(percent), 1, 100);
    }
    check_backoff(problems, &format!("{field}.backoff"), &retry.backoff);
}

fn check_backoff(problems: &mut Problems, field: &str, backoff: &BackoffSpec) {
    match (&backoff.exponential, &backoff.schedule) {
        (Some(exponential), None) => {
            problems.positive(&format!("{field}.exponential.first"), exponential.first);
            problems.positive(&format!("{field}.exponential.max"), exponential.max);
            if !(1.0..=MAX_FACTOR).contains(&exponential.factor) {
                let field = format!("{field}.exponential.factor");
                problems.add(reason::INVALID_VALUE, field, exponential.factor, "must be from 1 to 100");
            }
        }
        (None, Some(schedule)) => {
            let field = format!("{field}.schedule");
            problems.at_most(&field, schedule.len(), MAX_SCHEDULE);
            if schedule.is_empty() {
                let message = "must have at least one delay, as in [1m, 5m]; for no retries write limit: 0 \
                               without a schedule";
                problems.add(reason::MISSING, field, "", message);
            }
        }
        (None, None) => problems.add(
            reason::NOT_EXACTLY_ONE,
            field,
            "",
            "no kind of backoff is set: set exactly one, exponential or schedule",
        ),
        (Some(_), Some(_)) => problems.add(
            reason::NOT_EXACTLY_ONE,
            field,
            "",
            "both exponential and schedule are set: set exactly one kind of backoff",
        ),
    }
}

/// The retries as the worker reads them; only for what [`Layer::check`] let through.
pub(crate) fn resolve_retry(retry: &Retry) -> RetryPolicy {
    let (backoff, length) = match (&retry.backoff.exponential, &retry.backoff.schedule) {
        (_, Some(schedule)) => {
            let delays: Vec<u64> = schedule.iter().map(|delay| delay.as_millis()).collect();
            let length = u32::try_from(delays.len()).unwrap_or(u32::MAX);
            (Backoff::Schedule(delays), length)
        }
        (exponential, None) => {
            let e = exponential.clone().unwrap_or_default();
            let (first_ms, max_ms) = (e.first.as_millis(), e.max.as_millis());
            (Backoff::Exponential { first_ms, factor: e.factor, max_ms }, DEFAULT_RETRY_LIMIT)
        }
    };
    let jitter = match retry.jitter {
        JitterSpec::None => Jitter::None,
        JitterSpec::Full => Jitter::Full,
        JitterSpec::Percent(percent) => Jitter::Percent(percent),
    };
    RetryPolicy { limit: retry.limit.unwrap_or(length), backoff, jitter }
}

/// The retention as the queue reads it.
pub(crate) fn resolve_completed(completed: Completed) -> Retention {
    Retention { keep: completed.keep, for_ms: completed.for_.as_millis() }
}

/// What becomes of dead letters, as the queue reads it.
pub(crate) fn resolve_dead(dead: DeadLettersSpec) -> DeadLetters {
    DeadLetters { keep_reviewed_for_ms: dead.keep_reviewed_for.map(|keep| keep.as_millis()) }
}
