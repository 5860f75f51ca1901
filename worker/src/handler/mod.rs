//! What runs a job: the [`Handler`] trait, what a handler sees of its job, and what it answers.
//!
//! A handler is asked for one attempt at a time and says how it went. It never settles anything itself: leases,
//! time limits, retries and the records in Redis belong to the engine around it.

mod answer;
mod builtin;
pub mod exec;
pub mod http;
mod notes;
mod object;
mod stop;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lanekeeper_api::policy::JobTypePolicy;
use lanekeeper_queue::types::{AttemptError, Claimed, ErrorClass};

pub use answer::Answer;
pub use builtin::Builtin;
pub use notes::{CheckpointTooLong, Notes};
pub use stop::{Cause, Stop};

/// Most bytes of an answer or of an error message that are kept.
pub const MAX_TEXT: usize = 64 * 1024;

/// How long a handler may take to wind up once it was told to stop; after that its future is dropped. Longer
/// than what `exec` needs for SIGTERM, its five seconds and SIGKILL.
pub const STOP_GRACE: Duration = Duration::from_secs(7);

/// The future of one attempt.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send + 'a>>;

/// Runs jobs of one type.
///
/// The future may be dropped at any await point once the handler was told to stop and did not; whatever it
/// started must end with it. A handler that must block its thread is better off in `spawn_blocking`, but even one
/// that does not bother keeps its lease: the engine lives on a thread of its own.
pub trait Handler: Send + Sync {
    /// Makes one attempt.
    fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a>;
}

impl<T: Handler + ?Sized> Handler for Arc<T> {
    fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a> {
        (**self).run(job)
    }
}

/// Finds the handler of a job type. Asked once per job type and policy version.
pub trait Handlers: Send + Sync {
    /// The handler of `job_type` under `policy`.
    fn handler(&self, job_type: &str, policy: &JobTypePolicy) -> Arc<dyn Handler>;
}

/// The same handler for every job type; for benchmarks and tests.
pub struct Always(pub Arc<dyn Handler>);

impl Handlers for Always {
    fn handler(&self, _: &str, _: &JobTypePolicy) -> Arc<dyn Handler> {
        Arc::clone(&self.0)
    }
}

/// What a handler sees of its job.
#[derive(Debug)]
pub struct JobContext {
    /// The job as it was claimed: id, type, lane, payload, attempt, token, key, meta.
    pub job: Claimed,
    /// `namespace/name` of the queue.
    pub queue: Arc<str>,
    /// Longest the attempt may run.
    pub timeout: Duration,
    /// When the attempt was claimed, on this process's clock.
    pub started: Instant,
    /// Tells the handler to stop, and why: its time-out, a cancellation, a lost lease, the worker's end.
    pub stop: Stop,
    /// Where the handler tells how far it is, and leaves a checkpoint.
    pub notes: Notes,
}

impl JobContext {
    /// A context that starts now.
    #[must_use]
    pub fn new(job: Claimed, queue: Arc<str>, timeout: Duration) -> Self {
        let (started, stop, notes) = (Instant::now(), Stop::default(), Notes::default());
        Self { job, queue, timeout, started, stop, notes }
    }

    /// When the attempt must be over, on this process's clock.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.started + self.timeout
    }

    /// When the attempt must be over, by the server's clock, ms since the epoch.
    #[must_use]
    pub fn deadline_ms(&self) -> u64 {
        self.job.claimed_ms.saturating_add(millis(self.timeout))
    }

    /// The server's time, carried on by this process's monotonic clock, ms since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.job.claimed_ms.saturating_add(millis(self.started.elapsed()))
    }

    /// The idempotency key that a handler should use: the job's, or else its id, which every attempt shares.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        self.job.key.as_deref().unwrap_or(&self.job.id)
    }

    /// What an earlier attempt left for this one with [`Notes::checkpoint`].
    #[must_use]
    pub fn checkpoint(&self) -> Option<&[u8]> {
        self.job.checkpoint.as_deref()
    }

    /// The W3C trace context given at enqueue.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.job.meta.get("traceparent").map(String::as_str)
    }

    /// What was given as `meta` at the enqueue but for the trace context, as a JSON object; none where there is nothing.
    pub(crate) fn meta_json(&self) -> Option<String> {
        let given =
            self.job.meta.iter().filter(|(name, _)| !["traceparent", "tracestate"].contains(&name.as_str()));
        let given: std::collections::BTreeMap<_, _> = given.collect();
        (!given.is_empty()).then(|| serde_json::to_string(&given).expect("texts can always be written"))
    }

    /// The trace id out of `traceparent`, for log lines; empty when there is none.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.traceparent().and_then(|parent| parent.split('-').nth(1)).unwrap_or_default()
    }
}

/// Milliseconds, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Why an attempt did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Another try may help.
    Retry {
        /// What went wrong.
        error: AttemptError,
        /// Asked to come back after this long: the job is held and the attempt costs no try.
        retry_after: Option<Duration>,
    },
    /// Another try cannot help.
    Permanent {
        /// What went wrong.
        error: AttemptError,
    },
    /// Nothing went wrong, the job is not done yet: it comes again later, which costs no try. `giveUpAfter` bounds it.
    Snooze {
        /// Why it is too early.
        error: AttemptError,
        /// From now; at least a second.
        after: Duration,
    },
}

impl Failure {
    /// Worth another try; nothing was done.
    #[must_use]
    pub fn transient(code: &str, message: impl fmt::Display) -> Self {
        Self::Retry { error: error(ErrorClass::Transient, code, message), retry_after: None }
    }

    /// Worth another try; the work may or may not have been done.
    #[must_use]
    pub fn ambiguous(code: &str, message: impl fmt::Display) -> Self {
        Self::Retry { error: error(ErrorClass::Ambiguous, code, message), retry_after: None }
    }

    /// Not worth another try.
    #[must_use]
    pub fn permanent(code: &str, message: impl fmt::Display) -> Self {
        Self::Permanent { error: error(ErrorClass::Permanent, code, message) }
    }

    /// Not done yet: to come again after this long.
    #[must_use]
    pub fn snooze(after: Duration, why: impl fmt::Display) -> Self {
        Self::Snooze { error: error(ErrorClass::Transient, code::SNOOZED, why), after }
    }

    /// What went wrong.
    #[must_use]
    pub fn error(&self) -> &AttemptError {
        match self {
            Self::Retry { error, .. } | Self::Permanent { error } | Self::Snooze { error, .. } => error,
        }
    }
}

/// An [`AttemptError`] whose message fits the record.
pub(crate) fn error(class: ErrorClass, code: &str, message: impl fmt::Display) -> AttemptError {
    let mut message = message.to_string();
    if message.len() > MAX_TEXT {
        let mut end = MAX_TEXT;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    AttemptError { class, code: code.to_owned(), message }
}

/// Codes of attempt errors that the worker writes into histories.
pub mod code {
    /// The response's status said so.
    pub const HTTP_STATUS: &str = "HttpStatus";
    /// The response was a redirect, which is never followed.
    pub const HTTP_REDIRECT: &str = "HttpRedirect";
    /// No connection came about; nothing was sent.
    pub const HTTP_CONNECT: &str = "HttpConnect";
    /// The connection broke after the request may have been sent.
    pub const HTTP_BROKEN: &str = "HttpBroken";
    /// The handler's configuration cannot be turned into a request.
    pub const HTTP_REQUEST: &str = "HttpRequest";
    /// The signing secret cannot be read.
    pub const SECRET_MISSING: &str = "SecretMissing";
    /// The attempt ran longer than its timeout.
    pub const TIMEOUT: &str = "Timeout";
    /// The program ended with that exit code.
    pub const EXIT_CODE: &str = "ExitCode";
    /// The program was ended by a signal.
    pub const SIGNAL: &str = "Signal";
    /// The program does not exist.
    pub const PROGRAM_MISSING: &str = "ProgramMissing";
    /// The program could not be started.
    pub const SPAWN_FAILED: &str = "SpawnFailed";
    /// The handler asked to come again later.
    pub const SNOOZED: &str = "Snoozed";
    /// The answer asks for follow-up jobs or a snooze in a way that cannot be understood, or is too long to tell.
    pub const ANSWER_INVALID: &str = "AnswerInvalid";
    /// The queue refused a follow-up job of the answer.
    pub const FOLLOW_UP_REFUSED: &str = "FollowUpRefused";
    /// The queue refuses to record how the attempt ended, whenever it is asked.
    pub const SETTLEMENT_REFUSED: &str = "SettlementRefused";
    /// The handler panicked.
    pub const PANICKED: &str = "HandlerPanicked";
    /// The handler was told to stop (drain, cancellation, lost lease).
    pub const STOPPED: &str = "Stopped";
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::collections::BTreeMap;

    use lanekeeper_api::policy::{self, Backoff, ExecHandler, Jitter, Retention, RetryPolicy};

    /// A claimed job with plain values.
    pub(crate) fn claimed(payload: &[u8]) -> Claimed {
        Claimed {
            id: "01J0".into(),
            token: 7,
            job_type: "mail".into(),
            lane: "fast".into(),
            payload: payload.to_vec(),
            attempt: 2,
            tries: 1,
            crashes: 0,
            enqueued_ms: 1_700_000_000_000,
            due_ms: 1_700_000_000_500,
            claimed_ms: 1_700_000_001_000,
            key: Some("k:1".into()),
            meta: BTreeMap::new(),
            checkpoint: None,
        }
    }

    /// A job type with plain values.
    pub(crate) fn policy() -> JobTypePolicy {
        JobTypePolicy {
            key_for_ms: 0,
            timeout_ms: 1000,
            retry: RetryPolicy { limit: 3, backoff: Backoff::Schedule(vec![1000]), jitter: Jitter::None },
            give_up_after_ms: 60_000,
            completed: Retention { keep: 1, for_ms: 1 },
            ..JobTypePolicy::new("fast", policy::Handler::Exec(ExecHandler::of(&[])))
        }
    }

    /// A context around [`claimed`].
    pub(crate) fn context(payload: &[u8], timeout: Duration) -> JobContext {
        JobContext::new(claimed(payload), "apps/saas".into(), timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_id_is_the_second_part_of_the_traceparent() {
        let mut ctx = testing::context(b"", Duration::from_secs(1));
        assert_eq!(ctx.trace_id(), "");
        ctx.job.meta.insert("traceparent".into(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f0-01".into());
        assert_eq!(ctx.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let failure = Failure::transient("X", "ä".repeat(MAX_TEXT));
        assert_eq!(failure.error().message.len(), MAX_TEXT);
    }
}
