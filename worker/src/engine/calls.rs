//! Hears at once that a job which runs here is to be stopped.
//!
//! A message only says that there is something to hear; what it is comes with the heartbeat it brings about. So a message that
//! is lost with its connection costs seconds, as heartbeats come anyway.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::health::Backoff;

/// Listens for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let options = &shared.options;
    let channel = options.queue.calls_channel(&options.identity.boot);
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let mut subscribed = false;
        let heard = || {
            // What was said before the subscription is made up for by a heartbeat as well.
            subscribed = true;
            shared.heartbeat.notify_one();
        };
        if let Err(error) = lanekeeper_queue::hear(&options.redis, &channel, heard).await {
            // Where Redis is down others say so; where it does not let this worker subscribe, heartbeats have to do.
            tracing::debug!(%error, channel, "not subscribed: cancellations come with heartbeats");
        }
        if subscribed {
            backoff.reset();
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}
