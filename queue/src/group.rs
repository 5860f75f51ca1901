//! Where a job stands among those of its concurrency key.

use crate::client::Queue;
use crate::error::Result;
use crate::types::KeyStanding;
use crate::wire::Reply;

impl Queue {
    /// What bounds the concurrency key of a ready job; none when the job is not in line, or its type has no key.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn key_standing(&self, id: &str) -> Result<Option<KeyStanding>> {
        let call = self.read("lk_group").arg(id);
        let function = call.function();
        let mut reply = Reply::new(function, call.run().await?)?;
        if reply.len() == 0 {
            return Ok(None);
        }
        Ok(Some(KeyStanding {
            key: reply.text()?,
            running: reply.uint()?,
            limit: reply.maybe_uint()?,
            held_until_ms: reply.maybe_uint()?,
            rate_opens_ms: reply.maybe_uint()?,
            ahead: reply.uint()?,
        }))
    }
}
