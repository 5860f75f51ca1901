//! What happened in a queue, for people who watch.

use crate::client::Queue;
use crate::error::Result;
use crate::types::Event;
use crate::wire::Reply;

impl Queue {
    /// Events after the one of this id, oldest first, at most `limit` (1 to 1000); without an id the newest ones. A queue keeps
    /// about the last ten thousand: deaths, cancellations, replays, expired leases, pauses, holds, circuits, policies. Successes
    /// and retries stand in the jobs' own histories.
    ///
    /// # Errors
    /// When Redis cannot be reached, the queue has no policy, or `after` is no id of an event.
    pub async fn events(&self, after: Option<&str>, limit: u32) -> Result<Vec<Event>> {
        let call = self.read("lk_events").arg(after.unwrap_or_default()).arg(limit);
        let function = call.function();
        let mut reply = Reply::new(function, call.run().await?)?;
        let mut events = Vec::new();
        while reply.len() > 0 {
            let (id, kind) = (reply.text()?, reply.text()?);
            let (job, name, detail) = (reply.maybe_text()?, reply.maybe_text()?, reply.maybe_text()?);
            let at_ms = id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
            events.push(Event { id, at_ms, kind, job, name, detail });
        }
        Ok(events)
    }
}
