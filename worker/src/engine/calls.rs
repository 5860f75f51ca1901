//! Hears at once that a job which runs here is to be stopped, and of jobs that are handed to this worker.
//!
//! A cancellation is only said to be there; what it is comes with the heartbeat that it brings about. A message that is lost with its
//! connection therefore costs seconds, as heartbeats come anyway. What is handed over is in the message (see `offers`).

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::health::Backoff;

/// What a message says that is about a cancellation; see `queue/lua/cancel.lua`.
const CANCEL: &[u8] = b"cancel";

/// Listens for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let options = &shared.options;
    let channel = options.queue.calls_channel(&options.identity.boot);
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let mut subscribed = false;
        let heard = |message: Option<Vec<u8>>| match message {
            None => {
                subscribed = true;
                shared.ears.opened();
                shared.engine.notify_one();
                // What was said before the subscription is made up for by a heartbeat as well.
                shared.heartbeat.notify_one();
            }
            Some(message) if message == CANCEL => shared.heartbeat.notify_one(),
            Some(message) => {
                shared.ears.hear(message);
                shared.engine.notify_one();
            }
        };
        let ended = tokio::select! {
            ended = lanekeeper_queue::hear(&options.redis, &channel, heard) => ended,
            () = shared.ears.deaf() => {
                tracing::warn!(channel, "messages that hand over jobs do not arrive: subscribing anew");
                Ok(())
            }
        };
        shared.ears.closed();
        if let Err(error) = ended {
            // Where Redis is down others say so; where it does not let this worker subscribe, heartbeats and claims have to do.
            tracing::debug!(%error, channel, "not subscribed: cancellations come with heartbeats");
        }
        if subscribed {
            backoff.reset();
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}
