//! A handler that counts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use lanekeeper_worker::handler::{Answer, Handler, JobContext, Running};
use tokio::sync::Notify;

use crate::jobs::sent_at;

/// Does nothing, or what another handler does, and knows when the first job began and the last one ended.
pub struct Count {
    inner: Option<Arc<dyn Handler>>,
    begun: AtomicUsize,
    left: AtomicUsize,
    first: OnceLock<Instant>,
    last: OnceLock<Instant>,
    all: Notify,
    latencies: Option<Latencies>,
}

struct Latencies {
    clock: fn() -> f64,
    ms: Mutex<Vec<f64>>,
}

impl Count {
    /// Counts `n` jobs that do nothing.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self {
            inner: None,
            begun: AtomicUsize::new(0),
            left: AtomicUsize::new(n),
            first: OnceLock::new(),
            last: OnceLock::new(),
            all: Notify::new(),
            latencies: None,
        }
    }

    /// Keeps the time from each payload's `ts` to the handler's start, by the clock that the producer wrote it with.
    #[must_use]
    pub fn timed(n: usize, clock: fn() -> f64) -> Self {
        // Written once now: the memory of a long run is not to grow with the list of its figures.
        let mut ms = vec![f64::NAN; n];
        ms.clear();
        Self { latencies: Some(Latencies { clock, ms: Mutex::new(ms) }), ..Self::new(n) }
    }

    /// Counts the successes of another handler.
    #[must_use]
    pub fn around(n: usize, inner: Arc<dyn Handler>) -> Self {
        Self { inner: Some(inner), ..Self::new(n) }
    }

    /// Waits until all jobs were handled; for one caller.
    pub async fn all(&self) {
        self.all.notified().await;
    }

    /// From the start of the first handler to the end of the last one.
    #[must_use]
    pub fn took(&self) -> Duration {
        match (self.first.get(), self.last.get()) {
            (Some(first), Some(last)) => last.duration_since(*first),
            _ => Duration::ZERO,
        }
    }

    /// Takes the latencies, sorted, ms.
    #[must_use]
    pub fn latencies(&self) -> Vec<f64> {
        let taken = self
            .latencies
            .as_ref()
            .map(|kept| std::mem::take(&mut *kept.ms.lock().unwrap_or_else(PoisonError::into_inner)));
        let mut sorted = taken.unwrap_or_default();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn began(&self, job: &JobContext) {
        if self.begun.fetch_add(1, Ordering::Relaxed) == 0 {
            let _ = self.first.set(Instant::now());
        }
        if let Some(kept) = &self.latencies {
            let took = (kept.clock)() - sent_at(&job.job.payload).unwrap_or(f64::NAN);
            kept.ms.lock().unwrap_or_else(PoisonError::into_inner).push(took * 1e3);
        }
    }

    fn ended(&self) {
        // A job that runs again after the last one was counted does not count.
        let before = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        if before == Ok(1) {
            let _ = self.last.set(Instant::now());
            self.all.notify_one();
        }
    }
}

impl Handler for Count {
    fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a> {
        self.began(job);
        let Some(inner) = &self.inner else {
            self.ended();
            return Box::pin(std::future::ready(Ok(Answer::default())));
        };
        Box::pin(async move {
            let result = inner.run(job).await;
            if result.is_ok() {
                self.ended();
            }
            result
        })
    }
}
