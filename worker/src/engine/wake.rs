//! Waits for wake-up tokens beside the claim loop, so that the loop can hear of finished jobs meanwhile.
//!
//! Critical lanes are listened to by themselves, on a connection of their own: a worker with nothing but the slot it keeps
//! for them takes no other lane's token, and has not to end one block and begin another when it has room again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lanekeeper_queue::client::Waker;
use tokio::sync::Notify;

use super::Shared;
use super::health::{Backoff, CallError, bounded};
use super::lanes::Kind;

/// Until the loop looks again at what waits and may not go yet.
pub(super) const BLOCK: Duration = Duration::from_secs(2);
/// Longest block on the wake lists. A token that is lost is put back by the next sweep of any worker.
const WAIT: Duration = Duration::from_secs(20);
/// Between passing a token on and blocking again: whoever got it is back in line first.
pub(super) const REST: Duration = Duration::from_millis(20);
/// A token that comes back within this was wanted by nobody: it is not passed on again.
const CAME_BACK: Duration = Duration::from_millis(250);

/// Kinds of lanes of which something is so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) critical: bool,
    pub(super) others: bool,
}

impl Tokens {
    pub(super) fn any(self) -> bool {
        self.critical || self.others
    }

    pub(super) fn of(self, kind: Kind) -> bool {
        match kind {
            Kind::Critical => self.critical,
            Kind::Other => self.others,
        }
    }

    /// These and those.
    pub(super) fn and(self, more: Self) -> Self {
        Self { critical: self.critical || more.critical, others: self.others || more.others }
    }
}

/// The claim loop's side of the wakers, one for each kind of lanes.
#[derive(Default)]
pub(super) struct Arms {
    critical: Arm,
    others: Arm,
}

impl Arms {
    pub(super) fn of(&self, kind: Kind) -> &Arm {
        match kind {
            Kind::Critical => &self.critical,
            Kind::Other => &self.others,
        }
    }

    /// Takes no further token of any lane.
    pub(super) fn disarm(&self) {
        self.critical.disarm();
        self.others.disarm();
    }

    /// The worker's lanes are other ones now: whoever blocks on the old ones begins anew.
    pub(super) fn moved(&self) {
        self.critical.moved.notify_one();
        self.others.moved.notify_one();
    }

    /// Tokens that came since the last call.
    pub(super) fn take(&self) -> Tokens {
        Tokens { critical: self.critical.take_token(), others: self.others.take_token() }
    }
}

/// The claim loop's side of one waker.
#[derive(Default)]
pub(super) struct Arm {
    armed: AtomicBool,
    changed: Notify,
    moved: Notify,
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
    fn take_token(&self) -> bool {
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

/// Takes tokens of a kind of lanes while the loop wants them. Never ends.
pub(super) async fn run(shared: Arc<Shared>, kind: Kind) {
    let mut waker: Option<Waker> = None;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    loop {
        shared.arms.of(kind).armed().await;
        // Armed by the loop, which has a policy. One that comes during the block is heeded after it.
        let Some(lanes) = shared.policy().map(|policy| Arc::clone(&policy.lanes)) else { continue };
        let waited = tokio::select! {
            waited = wait(&shared, &mut waker, lanes.of(kind)) => waited,
            () = shared.arms.of(kind).moved.notified() => continue,
        };
        match waited {
            Ok(token) => {
                backoff.reset();
                if token {
                    followed(&shared, kind).await;
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

/// Blocks until there is a token of these lanes: true, or until the time for that is over.
async fn wait(
    shared: &Shared,
    waker: &mut Option<Waker>,
    lanes: &[String],
) -> lanekeeper_queue::Result<bool> {
    let connected = match waker {
        Some(connected) => connected,
        None => waker.insert(Waker::connect(&shared.options.redis, shared.options.queue.clone()).await?),
    };
    connected.wait(lanes, WAIT).await
}

/// A token goes to the claim loop; one that came after the last slot was taken goes on to another worker.
async fn followed(shared: &Shared, kind: Kind) {
    if shared.table().free() == 0 || shared.options.shutdown.drain.is_cancelled() {
        return pass_on(shared).await;
    }
    let arm = shared.arms.of(kind);
    arm.disarm();
    arm.token.store(true, Ordering::Release);
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
