//! Does what a plan says, in its order.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use lanekeeper_queue::Queue;
use lanekeeper_queue::client::{self, install_library, worker_acl};
use lanekeeper_queue::types::Configured;

use super::plan::Change;
use crate::kubernetes::call::{CallError, absent_is_fine, call};
use crate::kubernetes::context::Context;
use crate::kubernetes::names;
use crate::kubernetes::redis::{RedisError, exchange};

/// What was done that matters to the status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// What became of the policy; absent: none was written.
    pub configured: Option<Configured>,
    /// The workers' Secret was made or changed.
    pub wrote_secret: bool,
}

/// Why a change was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis.
    #[error("{doing}: {source}")]
    Redis {
        /// What was to be done.
        doing: &'static str,
        /// Why not.
        source: RedisError,
    },
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Does the changes.
///
/// The rest is left where the policy turns out to be someone else's or older than what is there.
///
/// # Errors
/// At the first that fails; the rest is left for the next run.
pub async fn apply(
    ctx: &Context,
    queue: &Queue,
    namespace: &str,
    changes: Vec<Change>,
) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    for change in changes {
        match change {
            Change::InstallLibrary => {
                let done = exchange(install_library(&mut queue.connection())).await;
                done.map_err(|source| Error::Redis { doing: "load the function library", source })?;
            }
            Change::SetUser(account) => {
                let arguments = worker_acl(queue.name(), &account.user, &account.password);
                set_user(queue, arguments).await?;
            }
            Change::DropUser(user) => drop_user(queue, &user).await?,
            Change::WriteSecret(secret) => {
                write_secret(ctx, namespace, &secret).await?;
                applied.wrote_secret = true;
            }
            Change::DeleteSecret(name) => delete_secret(ctx, namespace, &name).await?,
            Change::Configure(policy) => {
                let done = exchange(queue.configure(&policy, false)).await;
                let done = done.map_err(|source| Error::Redis { doing: "write the policy", source })?;
                let refused = matches!(done, Configured::Foreign { .. } | Configured::Stale { .. });
                applied.configured = Some(done);
                if refused {
                    break;
                }
            }
        }
    }
    Ok(applied)
}

async fn set_user(queue: &Queue, arguments: Vec<String>) -> Result<(), Error> {
    const DOING: &str = "make the workers' ACL user (or set spec.redis.workerSecretRef)";
    let mut connection = queue.connection();
    let mut command = redis::cmd("ACL");
    command.arg("SETUSER").arg(arguments);
    let done = exchange::<(), redis::RedisError>(command.query_async(&mut connection)).await;
    done.map_err(|source| Error::Redis { doing: DOING, source })
}

/// Removes an ACL user; one that is not there is fine.
///
/// # Errors
/// When Redis refuses or does not answer.
pub async fn drop_user(queue: &Queue, user: &str) -> Result<(), Error> {
    let mut connection = queue.connection();
    let mut command = redis::cmd("ACL");
    command.arg("DELUSER").arg(user);
    let done = exchange::<u64, redis::RedisError>(command.query_async(&mut connection)).await;
    match done {
        Ok(_) => Ok(()),
        // A Redis without ACLs has no user to remove.
        Err(RedisError::Queue(client::Error::Redis(error))) if error.code() == Some("NOPERM") => Ok(()),
        Err(source) => Err(Error::Redis { doing: "remove the workers' ACL user", source }),
    }
}

async fn write_secret(ctx: &Context, namespace: &str, secret: &Secret) -> Result<(), CallError> {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let params = PatchParams::apply(names::RECONCILER).force();
    let doing = format!("write secret {namespace}/{name}");
    call(doing, api.patch(name, &params, &Patch::Apply(secret))).await.map(|_| ())
}

/// Deletes a Secret; one that is not there is fine.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn delete_secret(ctx: &Context, namespace: &str, name: &str) -> Result<(), CallError> {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let doing = format!("delete secret {namespace}/{name}");
    absent_is_fine(call(doing, api.delete(name, &DeleteParams::default())).await)
}
