//! Waits for wake-up tokens beside the claim loop, so that the loop can hear of finished jobs meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lanekeeper_queue::client::Waker;
use tokio::sync::Notify;

use super::Shared;
use super::health::{Backoff, CallError, bounded};

/// Longest block on the wake lists.
pub(super) const BLOCK: Duration = Duration::from_secs(2);

/// The claim loop's side of the waker.
#[derive(Default)]
pub(super) struct Arm {
    armed: AtomicBool,
    changed: Notify,
    token: AtomicBool,
}

impl Arm {
    /// Asks for a token, once. Tokens are taken only by a worker that has room for a job.
    pub(super) fn arm(&self) {
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
        if let Err(error) = bounded(shared.queue.pass_on(&shared.options.lanes)).await {
            shared.health.failed("pass on", &error, &shared.metrics);
        }
        return;
    }
    shared.arm.token.store(true, Ordering::Release);
    shared.engine.notify_one();
}
