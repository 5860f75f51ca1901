//! Hears a queue's wake channel.
//!
//! Messages may be lost while the connection is down, so every (re)subscription counts as a message.

use std::sync::Arc;
use std::time::Duration;

use lanekeeper_queue::RedisOptions;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Bounds of the time between two attempts to subscribe.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Notifies `woken` at every message and every (re)subscription, until cancelled.
pub(super) async fn listen(
    redis: RedisOptions,
    channel: String,
    woken: Arc<Notify>,
    cancel: CancellationToken,
) {
    let mut pause = RETRY.0;
    loop {
        let heard = tokio::select! {
            () = cancel.cancelled() => return,
            heard = lanekeeper_queue::hear(&redis, &channel, |_| woken.notify_one()) => heard,
        };
        match heard {
            Ok(()) => pause = RETRY.0,
            Err(error) => tracing::debug!(%error, channel, "wake channel: not subscribed"),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(RETRY.1);
    }
}
