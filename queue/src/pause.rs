//! Pauses by hand: beside the policy's own `paused`, and kept until someone resumes.

use crate::client::Queue;
use crate::error::Result;
use crate::types::Toggled;
use crate::wire::Reply;

impl Queue {
    /// Pauses lanes, or the whole queue where none is named: jobs are accepted and none is started, what runs goes on.
    /// What is paused already stays as it is: who paused first, and why, stands. `by` is kept up to 128 bytes, `why` up
    /// to 1024.
    ///
    /// # Errors
    /// When Redis cannot be reached, the queue has no policy, it has no such lane, or more than 64 lanes are named.
    pub async fn pause(&self, by: &str, why: &str, lanes: &[String]) -> Result<Vec<Toggled>> {
        let call = self.call("lk_pause").arg(by).arg(why).arg(lanes);
        let function = call.function();
        read_toggled(Reply::new(function, call.run().await?)?)
    }

    /// Lifts pauses by hand of lanes, or that of the whole queue where none is named. The policy's own is lifted by the
    /// policy only.
    ///
    /// # Errors
    /// As [`Queue::pause`].
    pub async fn resume(&self, by: &str, lanes: &[String]) -> Result<Vec<Toggled>> {
        let call = self.call("lk_resume").arg(by).arg(lanes);
        let function = call.function();
        read_toggled(Reply::new(function, call.run().await?)?)
    }
}

fn read_toggled(mut reply: Reply) -> Result<Vec<Toggled>> {
    (0..reply.len())
        .map(|_| {
            let mut entry = reply.list()?;
            Ok(Toggled { lane: entry.maybe_text()?, changed: entry.int()? != 0 })
        })
        .collect()
}
