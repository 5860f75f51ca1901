//! Waits for wake-up tokens beside the claim loop, so that the loop can hear of finished jobs meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lanekeeper_queue::client::Waker;
use tokio::sync::Notify;

use super::Shared;
use super::health::{Backoff, CallError, bounded};

/// Longest block on the wake lists.
pub(super) const BLOCK: Duration = Duration::from_secs(2);
/// Between passing a token on and blocking again: whoever got it is back in line first.
pub(super) const REST: Duration = Duration::from_millis(20);
/// A token that comes back within this was wanted by nobody: it is not passed on again.
const CAME_BACK: Duration = Duration::from_millis(250);

/// The claim loop's side of the waker.
#[derive(Default)]
pub(super) struct Arm {
    armed: AtomicBool,
    changed: Notify,
    token: AtomicBool,
}

impl Arm {
    /// Asks for a token, once. Tokens are taken only by a worker that has room for a job, and one at a time.
    pub(super) fn arm(&self) {
        if self.token.load(Ordering::Acquire) {
            return;
        }
        self.armed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Room is gone: take no further token.
    pub(super) fn disarm(&self) {
        self.armed.store(false, Ordering::Release);
    }

    /// Whether a token came since the last call.
    pub(super) fn take_token(&self) -> bool {
        self.token.swap(false, Ordering::AcqRel)
    }

    async fn armed(&self) {
        while !self.armed.swap(false, Ordering::AcqRel) {
            self.changed.notified().await;
        }
    }
}

/// Which tokens that brought nothing go on to another worker. Jobs may wait that nobody can take now (`perWorker`): their
/// token must not go round among the workers for ever, nor to and fro between one worker and Redis.
#[derive(Default)]
pub(super) struct Onward {
    last: Option<Instant>,
    gap: Duration,
}

impl Onward {
    /// Whether the token that came in vain goes on. One that is back too soon does not; each that goes on soon after the
    /// last makes that longer, so that every round ends, however many workers take part.
    pub(super) fn goes(&mut self, now: Instant) -> bool {
        let since = self.last.map_or(Duration::MAX, |last| now.duration_since(last));
        if since >= BLOCK {
            self.gap = CAME_BACK;
        } else if since < self.gap {
            self.gap = CAME_BACK;
            return false;
        } else {
            self.gap = (self.gap * 2).min(BLOCK);
        }
        self.last = Some(now);
        true
    }
}

/// Takes tokens while the loop wants them. Never ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut waker: Option<Waker> = None;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    loop {
        shared.arm.armed().await;
        let waited = match &mut waker {
            Some(waker) => waker.wait(&shared.options.lanes, BLOCK).await,
            None => match Waker::connect(&shared.options.redis, shared.options.queue.clone()).await {
                Ok(mut connected) => {
                    let waited = connected.wait(&shared.options.lanes, BLOCK).await;
                    waker = Some(connected);
                    waited
                }
                Err(error) => Err(error),
            },
        };
        match waited {
            Ok(token) => {
                backoff.reset();
                if token {
                    followed(&shared).await;
                }
            }
            Err(error) => {
                // A connection that failed once is not asked again; tokens are only hints, the loop claims anyway.
                waker = None;
                shared.health.failed("wait", &CallError::Queue(error), &shared.metrics);
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

/// A token goes to the claim loop; one that came after the last slot was taken goes on to another worker.
async fn followed(shared: &Shared) {
    if shared.table().free() == 0 || shared.options.shutdown.drain.is_cancelled() {
        return pass_on(shared).await;
    }
    shared.arm.disarm();
    shared.arm.token.store(true, Ordering::Release);
    shared.engine.notify_one();
}

/// Wakes another worker, if something waits and no token is left.
pub(super) async fn pass_on(shared: &Shared) {
    if let Err(error) = bounded(shared.queue.pass_on(&shared.options.lanes)).await {
        shared.health.failed("pass on", &error, &shared.metrics);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_comes_back_stays_and_every_round_ends() {
        let (mut onward, mut now) = (Onward::default(), Instant::now());
        assert!(onward.goes(now));
        now += REST;
        assert!(!onward.goes(now), "nobody else wanted it");
        now += CAME_BACK;
        assert!(onward.goes(now), "another one");
        // Rounds among many workers: it comes back after the same time again and again.
        let rounds = (0..20).take_while(|_| {
            now += Duration::from_millis(600);
            onward.goes(now)
        });
        assert!(rounds.count() < 3);
        // New ones now and then all go on.
        for _ in 0..20 {
            now += BLOCK;
            assert!(onward.goes(now));
        }
    }
}
