//! Writing and reading a queue's policy.

use lanekeeper_api::policy::QueuePolicy;

use crate::client::Queue;
use crate::error::{Error, Result};
use crate::types::Configured;
use crate::wire::Reply;

impl Queue {
    /// Writes the policy, unless a newer one or another owner's is there. `adopt` takes it over from another owner.
    ///
    /// # Errors
    /// When Redis cannot be reached or the policy is refused as unusable.
    pub async fn configure(&self, policy: &QueuePolicy, adopt: bool) -> Result<Configured> {
        let text = serde_json::to_string(policy)
            .map_err(|e| Error::Refused(format!("the policy cannot be written as JSON: {e}")))?;
        let source = &policy.source;
        let call = self
            .call("lk_configure")
            .arg(text)
            .arg(&source.owner)
            .arg(&source.uid)
            .arg(source.created_ms)
            .arg(source.generation)
            .arg(u8::from(adopt));
        let function = call.function();
        let mut reply = Reply::new(function, call.run().await?)?;
        Ok(match reply.text()?.as_str() {
            "applied" => Configured::Applied { version: reply.uint()? },
            "unchanged" => Configured::Unchanged { version: reply.uint()? },
            "stale" => Configured::Stale { generation: reply.int()? },
            "foreign" => Configured::Foreign { owner: reply.text()? },
            other => return Err(reply.wrong(&format!("unknown outcome {other}"))),
        })
    }

    /// The stored policy and its version.
    ///
    /// # Errors
    /// When Redis cannot be reached or what is stored cannot be read by this version.
    pub async fn policy(&self) -> Result<Option<(QueuePolicy, u64)>> {
        let call = self.read("lk_policy");
        let function = call.function();
        let mut reply = Reply::new(function, call.run().await?)?;
        if reply.len() == 0 {
            return Ok(None);
        }
        let (text, version) = (reply.bytes()?, reply.uint()?);
        let policy =
            serde_json::from_slice(&text).map_err(|e| reply.wrong(&format!("stored policy: {e}")))?;
        Ok(Some((policy, version)))
    }
}
