//! How the engine is: what the probes say, and one log line per outage.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lanekeeper_queue::client::Error;

use crate::metrics::Metrics;

/// A claim loop that has not gone round for this long is stuck. It goes round every two seconds at the least, Redis or
/// no Redis.
const STUCK: Duration = Duration::from_secs(30);
/// Redis must have answered within this for the worker to be ready. Heartbeats come every five seconds at least;
/// leases that are longer than this stretch it.
const ANSWERED: Duration = Duration::from_secs(15);

/// See the module.
pub(crate) struct Health {
    born: Instant,
    round_ms: AtomicU64,
    answer_ms: AtomicU64,
    outage: Mutex<Option<Outage>>,
}

struct Outage {
    since: Instant,
    failures: u64,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            born: Instant::now(),
            round_ms: AtomicU64::new(0),
            answer_ms: AtomicU64::new(u64::MAX),
            outage: Mutex::new(None),
        }
    }

    fn now_ms(&self) -> u64 {
        crate::handler::millis(self.born.elapsed())
    }

    /// The claim loop went round.
    pub(crate) fn round(&self) {
        self.round_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Redis answered a call.
    pub(crate) fn answered(&self) {
        self.answer_ms.store(self.now_ms(), Ordering::Relaxed);
        if let Some(outage) = self.outage.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let seconds = outage.since.elapsed().as_secs_f32();
            tracing::info!(seconds, failures = outage.failures, "Redis answers again");
        }
    }

    /// A call to Redis failed. Only the first failure of an outage is a log line; the rest are counted.
    pub(crate) fn failed(&self, call: &'static str, error: &CallError, metrics: &Metrics) {
        metrics.redis_errors.inc();
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let first = outage.is_none();
        outage.get_or_insert_with(|| Outage { since: Instant::now(), failures: 0 }).failures += 1;
        if first {
            let what = match error {
                CallError::Queue(Error::BadPolicy { .. }) => "the queue cannot be worked for now",
                _ => "Redis does not answer",
            };
            tracing::warn!(call, %error, "{what}; running jobs go on, their results are kept, and it is tried again");
        }
    }

    /// Whether the claim loop went round lately.
    pub(crate) fn live(&self) -> bool {
        self.now_ms().saturating_sub(self.round_ms.load(Ordering::Relaxed)) < crate::handler::millis(STUCK)
    }

    /// Whether Redis answered lately.
    pub(crate) fn redis_answers(&self, lease: Duration) -> bool {
        let at = self.answer_ms.load(Ordering::Relaxed);
        at != u64::MAX && self.now_ms().saturating_sub(at) < crate::handler::millis(ANSWERED.max(lease))
    }
}

/// A call to Redis that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The client says why.
    #[error(transparent)]
    Queue(#[from] Error),
    /// No reply in time; the call may have been carried out.
    #[error("no reply within {0:?}")]
    NoReply(Duration),
}

/// A call that hangs longer than this is given up: the loops must go round.
const CALL: Duration = Duration::from_secs(6);

impl CallError {
    /// The queue has no policy: it was never configured, or it was deleted.
    pub(crate) fn no_policy(&self) -> bool {
        matches!(self, Self::Queue(Error::NoPolicy(_)))
    }

    /// Redis understood and refused, so that sending the same again will most likely fail the same way.
    pub(crate) fn refused(&self) -> bool {
        matches!(self, Self::Queue(Error::Refused(_) | Error::Reply { .. }))
    }

    /// The same call would be answered the same way for as long as nobody changes Redis or this user's rights.
    pub(crate) fn lasting(&self) -> bool {
        let Self::Queue(Error::Redis(error)) = self else { return self.refused() };
        matches!(error.code(), Some("ERR" | "NOPERM"))
    }

    /// No waiting repairs it: a URL that does not parse, a CA file that holds no certificate.
    pub(crate) fn hopeless(&self) -> bool {
        matches!(self, Self::Queue(Error::Url(_)))
    }
}

/// Awaits a call, but not for ever.
pub(crate) async fn bounded<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(CallError::NoReply(CALL)),
    }
}

/// Growing pauses, spread so that many workers do not return at once.
pub(crate) struct Backoff {
    next: Duration,
    first: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, first, most }
    }

    /// The next pause: half of it fixed, half random.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(rand::random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.most);
        pause
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let pauses: Vec<_> = (0..8).map(|_| backoff.pause()).collect();
        assert!(pauses[0] <= Duration::from_millis(100) && pauses[0] >= Duration::from_millis(50));
        assert!(pauses[7] >= Duration::from_secs(1) && pauses[7] <= Duration::from_secs(2));
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(100));
    }

    #[test]
    fn an_outage_is_not_a_stuck_loop() {
        let (health, metrics) = (Health::new(), Metrics::default());
        assert!(health.live() && !health.redis_answers(Duration::from_secs(15)));
        health.answered();
        assert!(health.redis_answers(Duration::from_secs(15)));
        health.failed("claim", &CallError::NoReply(CALL), &metrics);
        health.failed("claim", &CallError::NoReply(CALL), &metrics);
        assert!(health.live());
        assert_eq!(metrics.redis_errors.get(), 2);
    }
}
