//! Looks at what is there: the state of Redis and the workers' Secret.

use k8s_openapi::api::core::v1::Secret;
use lanekeeper_queue::client::{Safety, safety};
use lanekeeper_queue::{Queue, QueueName};

use super::dereference::{self, Target};
use crate::kubernetes::call::CallError;
use crate::kubernetes::context::Context;
use crate::kubernetes::names;
use crate::kubernetes::redis::{RedisError, exchange};

/// What is there.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Whether Redis may lose jobs.
    pub safety: Safety,
    /// The Secret under the name of the workers' credentials.
    pub secret: Option<Secret>,
}

/// Why it cannot be seen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Connects, and looks.
///
/// # Errors
/// When Redis or the API server cannot be asked.
pub async fn observe(
    ctx: &Context,
    target: &Target,
    namespace: &str,
    name: &str,
) -> Result<(Queue, Observed), Error> {
    let queue = ctx.connections.queue(&target.admin, &QueueName::new(namespace, name)).await?;
    let mut conn = queue.connection();
    let safety = exchange(safety(&mut conn)).await?;
    if let Err(error) = exchange(ctx.restarts.tidy(&mut conn)).await {
        tracing::warn!(namespace, name, %error, "the append-only file was not rewritten after the start of Redis");
    }
    let secret = dereference::secret(ctx, namespace, &names::worker_secret(name)).await?;
    Ok((queue, Observed { safety, secret }))
}
