//! Writing and reading a queue's policy.

use lanekeeper_api::policy::QueuePolicy;

use crate::client::Queue;
use crate::error::{Error, Result};
use crate::library::newer_library;
use crate::types::Configured;
use crate::wire::Reply;

/// What stands where a policy is about to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Replaceable {
    /// The stored policy and its version, where there is one that can be read.
    pub policy: Option<(QueuePolicy, u64)>,
    /// What is wrong with a stored policy that cannot be read.
    pub damage: Option<String>,
}

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

    /// The stored policy for whoever writes a new one: one that is damaged is no reason not to, as nothing else mends it.
    ///
    /// # Errors
    /// When Redis cannot be reached, or the policy cannot be read and a newer program than this one was at work there: it
    /// may be sound.
    pub async fn replaceable_policy(&self) -> Result<Replaceable> {
        match self.policy().await {
            Ok(policy) => Ok(Replaceable { policy, damage: None }),
            // The library itself says so, whichever it is.
            Err(Error::BadPolicy { why, .. }) => Ok(Replaceable { policy: None, damage: Some(why) }),
            Err(Error::Reply { what, .. }) if newer_library(&mut self.connection()).await?.is_none() => {
                Ok(Replaceable { policy: None, damage: Some(what) })
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a policy in the place of what stood there. That the generation of a damaged one is not known any more makes no
    /// policy stale: the new one gets the next.
    ///
    /// # Errors
    /// As `configure`.
    pub async fn replace(
        &self,
        stored: &Replaceable,
        policy: &mut QueuePolicy,
        adopt: bool,
    ) -> Result<Configured> {
        match self.configure(policy, adopt).await? {
            Configured::Stale { generation } if stored.damage.is_some() => {
                policy.source.generation = generation + 1;
                self.configure(policy, adopt).await
            }
            configured => Ok(configured),
        }
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
