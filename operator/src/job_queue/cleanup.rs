//! Takes a deleted queue out of Redis, and lets the object go.
//!
//! Its workers are sent home first, and get two minutes to finish or hand back what they run. Cleaning up needs no valid spec. `Retain` takes the workers' credentials away and leaves the jobs; `Delete` destroys
//! the queue in bounded steps, provided that its policy there is this very object's. A Redis that cannot be reached holds
//! the object up for a while only: `Retain` gives up after [`ATTEMPTS`]; `Delete`, which promised that nothing stays,
//! waits for Redis or for the annotation `lanekeeper.dev/force-delete: "true"`.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Resource, ResourceExt};
use lanekeeper_api::job_queue::{DeletionPolicy, JobQueue, RedisSpec};
use lanekeeper_queue::{Queue, QueueName};
use serde::Deserialize;
use tokio::time::timeout;
use tracing::info;

use super::apply::{delete_secret, drop_user};
use super::dereference::{self, dereference};
use super::{apply, credentials};
use crate::clock;
use crate::kubernetes::call::{CallError, call};
use crate::kubernetes::context::Context;
use crate::kubernetes::events::reason;
use crate::kubernetes::redis::{RedisError, exchange};
use crate::kubernetes::stores::AnyQueue;
use crate::kubernetes::time::wall_ms_of;
use crate::kubernetes::{names, pods};

/// Failed attempts after which `Retain` gives up, some 30 s with their back-off.
pub const ATTEMPTS: u32 = 5;
/// Longest time that the queue's workers get to finish or hand back what they run: once their credentials are gone they
/// can do neither.
const FAREWELL_MS: u64 = 2 * 60_000;
/// Longest time that one run spends on destroying; the next goes on.
const DESTROY_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a queue has not been cleaned up yet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its Redis is not known.
    #[error(transparent)]
    Dereference(#[from] dereference::Error),
    /// Redis could not be used.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Redis refused a step.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Its workers are on their way out.
    #[error("waiting for {0} workers of the queue to finish what they run")]
    Workers(usize),
    /// Still at it.
    #[error("destroying the queue takes longer than {DESTROY_TIMEOUT:?}; it goes on")]
    Unfinished,
}

/// What is read of a spec that need not be valid.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Remains {
    deletion_policy: DeletionPolicy,
    redis: Option<RedisSpec>,
}

/// What to do about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    TryAgain,
    LetGo,
}

/// Decides on a failed attempt. Pure.
fn verdict(policy: DeletionPolicy, attempts: u32, hopeless: bool) -> Verdict {
    match policy {
        _ if attempts < ATTEMPTS => Verdict::TryAgain,
        DeletionPolicy::Retain => Verdict::LetGo,
        // The Secret with the URL is gone (a namespace being deleted takes it first): Redis will never be known.
        DeletionPolicy::Delete if hopeless => Verdict::LetGo,
        DeletionPolicy::Delete => Verdict::TryAgain,
    }
}

/// Cleans up. `Ok`: the finalizer may go.
///
/// # Errors
/// When it must be tried again.
pub async fn cleanup(ctx: &Context, object: &AnyQueue) -> Result<(), Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let uid = object.uid().unwrap_or_default();
    let queue_name = QueueName::new(&namespace, &name);
    let about = object.object_ref(&());
    ctx.fleet.remove_queue(&queue_name);

    if object.annotations().get(names::FORCE_DELETE).is_some_and(|value| value == "true") {
        let note = format!(
            "let go by annotation {}: what {queue_name} has in Redis stays there",
            names::FORCE_DELETE
        );
        ctx.events.warning(&about, reason::CLEANUP_SKIPPED, "Delete", note).await;
        return finish(ctx, &namespace, &name, &uid, &queue_name).await;
    }
    let since = object.meta().deletion_timestamp.as_ref().map_or(0, wall_ms_of);
    let workers = workers(ctx, &namespace, &name);
    if workers > 0 && clock::wall_ms().saturating_sub(since) < FAREWELL_MS {
        let waiting = Error::Workers(workers);
        ctx.events.normal(&about, reason::WAITING_FOR_WORKERS, "Delete", waiting.to_string()).await;
        return Err(waiting);
    }
    let remains = remains(ctx, object, &namespace, &name).await?;
    match clean_redis(ctx, &remains, &namespace, &name, &uid, &queue_name).await {
        Ok(Some((reason, note))) => ctx.events.normal(&about, reason, "Delete", note).await,
        Ok(None) => {}
        Err(error) => {
            let attempts = ctx.cleanups.get(&uid).unwrap_or(0).saturating_add(1);
            ctx.cleanups.set(&uid, attempts);
            let hopeless = matches!(&error, Error::Dereference(error) if error.is_lasting());
            if verdict(remains.deletion_policy, attempts, hopeless) == Verdict::TryAgain {
                if !matches!(error, Error::Unfinished) {
                    let note = format!(
                        "cannot clean up {queue_name} in Redis: {error}. It is tried again; annotate the object with \
                         {}=true to let it go as it is",
                        names::FORCE_DELETE
                    );
                    ctx.events.warning(&about, reason::REDIS_UNREACHABLE, "Delete", note).await;
                }
                return Err(error);
            }
            let note =
                format!("after {attempts} attempts: {error}. What {queue_name} has in Redis stays there");
            ctx.events.warning(&about, reason::CLEANUP_SKIPPED, "Delete", note).await;
        }
    }
    finish(ctx, &namespace, &name, &uid, &queue_name).await
}

/// Pods of the queue's pools that have not ended.
fn workers(ctx: &Context, namespace: &str, name: &str) -> usize {
    let label = names::queue_label(name);
    let theirs = |pod: &Pod| {
        pod.metadata.namespace.as_deref() == Some(namespace)
            && pod.metadata.labels.as_ref().and_then(|l| l.get(names::QUEUE_LABEL)) == Some(&label)
            && !pods::is_finished(pod)
            // One that never got a node runs nothing.
            && pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
    };
    ctx.stores.pods.state_filter(theirs).len()
}

/// The part that needs Redis. Answers reason and note of an Event.
async fn clean_redis(
    ctx: &Context,
    remains: &Remains,
    namespace: &str,
    name: &str,
    uid: &str,
    queue_name: &QueueName,
) -> Result<Option<(&'static str, String)>, Error> {
    let (queue, managed) = match dereference(ctx, namespace, remains.redis.as_ref()).await {
        Ok(target) => (ctx.connections.queue(&target.admin, queue_name).await?, target.managed_credentials),
        // The Secret may be gone before the queue; a connection from before will do.
        Err(error) => match ctx.connections.last(queue_name).await {
            Some(queue) => (queue, true),
            None => return Err(error.into()),
        },
    };
    let ours = is_ours(ctx, &queue, uid).await?;
    // Whoever took the policy over has made the user its own as well.
    if managed && ours != Ownership::Foreign {
        drop_user(&queue, &names::acl_user(namespace, name)).await?;
    }
    match (remains.deletion_policy, ours) {
        (_, Ownership::None) => Ok(None),
        (_, Ownership::Foreign) => {
            let note = format!(
                "the policy of {queue_name} is managed by someone else: nothing was deleted in Redis"
            );
            Ok(Some((reason::DATA_RETAINED, note)))
        }
        (DeletionPolicy::Retain, Ownership::Ours) => {
            let note = format!("the jobs of {queue_name} stay in Redis (deletionPolicy: Retain)");
            Ok(Some((reason::DATA_RETAINED, note)))
        }
        (DeletionPolicy::Delete, Ownership::Ours) => {
            let removed = match timeout(DESTROY_TIMEOUT, queue.destroy()).await {
                Ok(removed) => removed.map_err(RedisError::from)?,
                Err(_) => return Err(Error::Unfinished),
            };
            info!(queue = %queue_name, removed, "destroyed");
            Ok(Some((reason::DATA_DELETED, format!("{queue_name} was deleted from Redis ({removed} keys)"))))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ownership {
    /// There is no policy.
    None,
    /// This very object's.
    Ours,
    /// Another cluster's, the command line's, or a newer object's of the same name.
    Foreign,
}

async fn is_ours(ctx: &Context, queue: &Queue, uid: &str) -> Result<Ownership, RedisError> {
    Ok(match exchange(queue.policy()).await? {
        None => Ownership::None,
        Some((policy, _)) if policy.source.owner == ctx.settings.owner && policy.source.uid == uid => {
            Ownership::Ours
        }
        Some(_) => Ownership::Foreign,
    })
}

/// The part that needs no Redis.
async fn finish(
    ctx: &Context,
    namespace: &str,
    name: &str,
    uid: &str,
    queue_name: &QueueName,
) -> Result<(), Error> {
    let secret = names::worker_secret(name);
    if dereference::secret(ctx, namespace, &secret).await?.as_ref().is_some_and(credentials::is_ours) {
        delete_secret(ctx, namespace, &secret).await?;
    }
    ctx.connections.forget(queue_name).await;
    ctx.cleanups.remove(uid);
    ctx.written.remove(uid);
    Ok(())
}

/// What the spec says of Redis and of deletion, as far as it can be read.
async fn remains(
    ctx: &Context,
    object: &AnyQueue,
    namespace: &str,
    name: &str,
) -> Result<Remains, CallError> {
    if let Ok(queue) = &object.0 {
        return Ok(Remains { deletion_policy: queue.spec.deletion_policy, redis: queue.spec.redis.clone() });
    }
    let api: Api<DynamicObject> =
        Api::namespaced_with(ctx.client.clone(), namespace, &ApiResource::erase::<JobQueue>(&()));
    let raw = call(format!("read jobqueue {namespace}/{name}"), api.get_opt(name)).await?;
    Ok(raw.map(|raw| read_remains(&raw.data)).unwrap_or_default())
}

/// Each part by itself: one that does not fit must not hide the other.
fn read_remains(data: &serde_json::Value) -> Remains {
    let part = |name: &str| data.get("spec").and_then(|spec| spec.get(name)).cloned();
    Remains {
        deletion_policy: part("deletionPolicy")
            .and_then(|v| serde_json::from_value(v).ok())
            .unwrap_or_default(),
        redis: part("redis").and_then(|v| serde_json::from_value(v).ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn retain_gives_up_after_some_attempts_and_delete_does_not() {
        use DeletionPolicy::{Delete, Retain};
        assert_eq!(verdict(Retain, ATTEMPTS - 1, true), Verdict::TryAgain);
        assert_eq!(verdict(Retain, ATTEMPTS, false), Verdict::LetGo);
        assert_eq!(verdict(Delete, 1000, false), Verdict::TryAgain);
        assert_eq!(verdict(Delete, ATTEMPTS, true), Verdict::LetGo);
    }

    #[test]
    fn an_invalid_spec_still_says_what_to_delete_and_where() {
        let raw = json!({"spec": {"deletionPolicy": "Delete", "lanes": "nonsense",
            "redis": {"adminSecretRef": {"name": "r", "key": "url"}}}});
        let remains = read_remains(&raw);
        assert_eq!(remains.deletion_policy, DeletionPolicy::Delete);
        assert_eq!(remains.redis.unwrap().admin_secret_ref.unwrap().name, "r");
    }

    #[test]
    fn what_cannot_be_read_retains() {
        let remains =
            read_remains(&json!({"spec": {"deletionPolicy": 7, "redis": {"adminSecretRef": {"name": 1}}}}));
        assert_eq!(remains.deletion_policy, DeletionPolicy::Retain);
    }
}
