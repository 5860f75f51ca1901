//! How a running handler is told to stop, and why.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::sync::Notify;

/// Why a handler must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// The attempt has run for its whole timeout.
    Timeout = 1,
    /// The lease belongs to another worker by now; whatever this attempt says is refused.
    LeaseLost = 2,
    /// Somebody cancelled the job.
    Cancelled = 3,
    /// The worker is shutting down and the drain time is over.
    Drain = 4,
}

impl Cause {
    fn from_u8(value: u8) -> Option<Self> {
        [Self::Timeout, Self::LeaseLost, Self::Cancelled, Self::Drain].into_iter().find(|c| *c as u8 == value)
    }

    /// In words, for histories.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::LeaseLost => "lease lost",
            Self::Cancelled => "cancelled",
            Self::Drain => "worker shutting down",
        }
    }
}

/// A request to stop that carries its cause. The first cause stays.
#[derive(Debug, Default)]
pub struct Stop {
    cause: AtomicU8,
    at_once: AtomicBool,
    changed: Notify,
}

impl Stop {
    /// Asks the handler to stop.
    pub fn request(&self, cause: Cause) {
        let _ = self.cause.compare_exchange(0, cause as u8, Ordering::AcqRel, Ordering::Acquire);
        self.changed.notify_waiters();
    }

    /// Asks the handler to stop without any grace: its future is dropped.
    pub fn request_at_once(&self, cause: Cause) {
        self.at_once.store(true, Ordering::Release);
        self.request(cause);
    }

    /// Why the handler must stop, if it must.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        Cause::from_u8(self.cause.load(Ordering::Acquire))
    }

    /// Waits until the handler must stop.
    pub async fn requested(&self) -> Cause {
        self.wait_for(|| self.cause()).await
    }

    /// Waits until the handler must stop without grace.
    pub async fn requested_at_once(&self) {
        self.wait_for(|| self.at_once.load(Ordering::Acquire).then_some(())).await;
    }

    async fn wait_for<T>(&self, seen: impl Fn() -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(value) = seen() {
                return value;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn the_first_cause_stays() {
        let stop = Arc::new(Stop::default());
        assert_eq!(stop.cause(), None);
        let waiting = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move { stop.requested().await }
        });
        stop.request(Cause::Cancelled);
        stop.request_at_once(Cause::Drain);
        assert_eq!(waiting.await.unwrap(), Cause::Cancelled);
        stop.requested_at_once().await;
        assert_eq!(stop.requested().await, Cause::Cancelled);
    }
}
