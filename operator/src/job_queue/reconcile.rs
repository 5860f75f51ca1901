//! One run of the JobQueue reconciler, phase by phase.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};
use lanekeeper_api::job_queue::{JobQueue, JobQueueStatus};
use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_queue::types::Configured;
use lanekeeper_queue::{Queue, QueueName};
use rand::Rng;
use serde_json::json;
use tracing::{debug, info};

use super::apply;
use super::cleanup::{self, cleanup};
use super::credentials::new_password;
use super::dereference::{Target, dereference};
use super::gates;
use super::observe::{self, Observed, observe};
use super::plan::{self, Wanted, plan};
use super::status::{self, Facts, Reached, Redis};
use super::validate::{self, Invalid};
use crate::autoscale::fleet::QueueTarget;
use crate::clock;
use crate::kubernetes::call::{CallError, call};
use crate::kubernetes::conditions::{kind, reason};
use crate::kubernetes::context::Context;
use crate::kubernetes::redis::{RedisError, exchange};
use crate::kubernetes::stores::AnyQueue;
use crate::kubernetes::{events, names, status as writing};

/// Time between two runs where nothing wakes one: figures are that old at most, and a Redis that restarted without its ACL users
/// has them again.
const EVERY: Duration = Duration::from_secs(15);

/// The same while a deleted queue waits for its workers.
const GOING: Duration = Duration::from_secs(2);

/// Why a run must be repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The queue could not be cleaned up.
    #[error("cleaning up: {0}")]
    Cleanup(#[from] cleanup::Error),
}

/// Reconciles one JobQueue.
///
/// # Errors
/// When the API server fails, or a cleanup must go on. Everything else is reported in the status.
pub async fn reconcile(object: Arc<AnyQueue>, ctx: Arc<Context>) -> Result<Action, Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let finalized = object.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER);
    if object.meta().deletion_timestamp.is_some() {
        return if finalized { let_go(&ctx, &object).await } else { Ok(Action::await_change()) };
    }
    if !finalized {
        // Before anything is written anywhere; the change wakes the next run, which is asked for all the same.
        set_finalizers(&ctx, &object, true).await?;
        return Ok(Action::requeue(Duration::from_secs(1)));
    }
    let facts = match &object.0 {
        Ok(queue) => run(&ctx, queue, &namespace, &name).await?,
        Err(invalid) => Facts {
            invalid: Some(Invalid {
                reason: reason::INVALID_SPEC,
                message: format!("the object does not fit this version of the operator: {}", invalid.error),
            }),
            paused: None,
            redis: Redis::Unknown(reason::INVALID_SPEC, "the spec cannot be read".to_owned()),
        },
    };
    report(&ctx, &object, &namespace, &name, &facts).await?;
    Ok(Action::requeue(spread(EVERY)))
}

async fn let_go(ctx: &Context, object: &AnyQueue) -> Result<Action, Error> {
    match cleanup(ctx, object).await {
        Ok(()) => set_finalizers(ctx, object, false).await?,
        Err(wait @ (cleanup::Error::Workers(_) | cleanup::Error::Unfinished)) => {
            info!(queue = object.name_any(), "{wait}");
            return Ok(Action::requeue(GOING));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Action::await_change())
}

/// Many queues must not all come at once.
fn spread(every: Duration) -> Duration {
    every.mul_f64(rand::rng().random_range(0.9..1.1))
}

/// The phases. What fails for a reason that belongs into the status becomes a fact.
async fn run(ctx: &Context, queue: &JobQueue, namespace: &str, name: &str) -> Result<Facts, CallError> {
    let validated = validate::validate(queue, &ctx.settings.owner);
    let (policy, invalid) = match validated {
        Ok(policy) => (Some(policy), None),
        Err(invalid) => (None, Some(invalid)),
    };
    let facts = |redis| Facts { invalid: invalid.clone(), paused: Some(queue.spec.paused), redis };

    let target = match dereference(ctx, namespace, queue.spec.redis.as_ref()).await {
        Ok(target) => target,
        Err(super::dereference::Error::Call(error)) => return Err(error),
        Err(error) => return Ok(facts(Redis::Unknown(error.reason(), error.to_string()))),
    };
    let (connection, observed) = match observe(ctx, &target, namespace, name).await {
        Ok(seen) => seen,
        Err(observe::Error::Call(error)) => return Err(error),
        Err(observe::Error::Redis(error)) => return Ok(facts(unusable(&error))),
    };
    let wanted = Wanted {
        namespace,
        name,
        owner: queue.controller_owner_ref(&()).unwrap_or_default(),
        target: &target,
        policy: policy.as_ref(),
        spare_password: new_password(),
    };
    let mut reached = Reached {
        safety: observed.safety.clone(),
        allow_unsafe: target.allow_unsafe,
        failed: None,
        configured: None,
        stats: None,
    };
    match carry_out(ctx, queue, &connection, &wanted, &observed).await? {
        Outcome::Done(configured) => reached.configured = configured,
        Outcome::Failed(reason, message) => reached.failed = Some((reason, message)),
        Outcome::Unreachable(message) => return Ok(facts(Redis::Unreachable(message))),
    }
    autoscale(ctx, queue, &connection, target, policy, reached.configured.as_ref()).await;
    reached.stats = stats(&connection).await;
    Ok(facts(Redis::Reached(Box::new(reached))))
}

/// What became of a plan.
enum Outcome {
    /// Done; what became of the policy, if one was written.
    Done(Option<Configured>),
    /// Something stands in the way: reason and message.
    Failed(&'static str, String),
    /// Redis went away.
    Unreachable(String),
}

/// Plans, and applies.
async fn carry_out(
    ctx: &Context,
    object: &JobQueue,
    queue: &Queue,
    wanted: &Wanted<'_>,
    observed: &Observed,
) -> Result<Outcome, CallError> {
    let changes = match plan(wanted, observed) {
        Ok(changes) => changes,
        Err(error) => return Ok(Outcome::Failed(plan_reason(&error), error.to_string())),
    };
    match apply::apply(ctx, queue, wanted.namespace, changes).await {
        Ok(applied) => {
            if applied.wrote_secret {
                let secret = names::worker_secret(wanted.name);
                let note = format!("wrote the workers' credentials to Secret {secret}");
                let about = object.object_ref(&());
                ctx.events.normal(&about, events::reason::CREDENTIALS_CREATED, "Apply", note).await;
            }
            Ok(Outcome::Done(applied.configured))
        }
        Err(apply::Error::Call(error)) => Err(error),
        Err(apply::Error::Redis { source, doing }) if source.is_refusal() => {
            Ok(Outcome::Failed(reason::REDIS_REFUSED, format!("{doing}: {source}")))
        }
        Err(error) => Ok(Outcome::Unreachable(error.to_string())),
    }
}

fn unusable(error: &RedisError) -> Redis {
    if error.is_refusal() {
        Redis::Unknown(reason::REDIS_REFUSED, error.to_string())
    } else {
        Redis::Unreachable(error.to_string())
    }
}

fn plan_reason(error: &plan::Error) -> &'static str {
    match error {
        plan::Error::SecretTaken(_) => reason::NAME_TAKEN,
        plan::Error::NoWorkerUrl => reason::SECRET_INVALID,
    }
}

/// The autoscaler follows a queue whose policy is this object's. One that is foreign or older is left to its owner. While
/// nothing can be written, for one because the spec is invalid, the last good policy stays in force: an operator that has
/// just begun to lead knows it from Redis alone.
async fn autoscale(
    ctx: &Context,
    object: &JobQueue,
    queue: &Queue,
    target: Target,
    policy: Option<QueuePolicy>,
    configured: Option<&Configured>,
) {
    let in_force = match configured {
        Some(Configured::Applied { .. } | Configured::Unchanged { .. }) => policy,
        Some(Configured::Foreign { .. } | Configured::Stale { .. }) => {
            return ctx.fleet.remove_queue(queue.name());
        }
        None => last_good(ctx, object, queue).await,
    };
    if let Some(policy) = in_force {
        ctx.known.queue(queue.name());
        ctx.fleet.set_queue(queue.name(), QueueTarget { redis: target.admin, policy: Arc::new(policy) });
    }
}

/// The policy in Redis, where it came from this very object.
async fn last_good(ctx: &Context, object: &JobQueue, queue: &Queue) -> Option<QueuePolicy> {
    let ours = validate::source(object, &ctx.settings.owner);
    match exchange(queue.policy()).await {
        Ok(found) => {
            let policy = found.map(|(policy, _)| policy);
            policy.filter(|policy| policy.source.owner == ours.owner && policy.source.uid == ours.uid)
        }
        Err(error) => {
            debug!(queue = %queue.name(), %error, "the policy in force cannot be read");
            None
        }
    }
}

/// Figures that cannot be read are absent; the next run tries again.
async fn stats(queue: &Queue) -> Option<lanekeeper_queue::types::Stats> {
    match exchange(queue.stats()).await {
        Ok(stats) => Some(stats),
        Err(error) => {
            debug!(queue = %queue.name(), %error, "no figures");
            None
        }
    }
}

async fn report(
    ctx: &Context,
    object: &AnyQueue,
    namespace: &str,
    name: &str,
    facts: &Facts,
) -> Result<(), CallError> {
    let uid = object.uid().unwrap_or_default();
    let old = object.0.as_ref().ok().and_then(|queue| queue.status.as_ref());
    let full_name = QueueName::new(namespace, name).to_string();
    let generation = object.meta().generation.unwrap_or(0);
    let new = status::status(&full_name, old, facts, generation, clock::wall_ms());
    let now = clock::mono_ms();
    let meaning = status::means_something_else(old, &new);
    if !writing::is_due(meaning, old != Some(&new), ctx.written.get(&uid), now) {
        return Ok(());
    }
    announce(ctx, &object.object_ref(&()), old, &new).await;
    writing::write::<AnyQueue, _>(&ctx.client, namespace, name, &new).await?;
    ctx.written.set(&uid, now);
    Ok(())
}

/// An Event where readiness, what is known of Redis' safety, or what holds the queue back has changed.
async fn announce(
    ctx: &Context,
    about: &ObjectReference,
    old: Option<&JobQueueStatus>,
    new: &JobQueueStatus,
) {
    for news in gates::news(old, new) {
        match news.type_ {
            EventType::Normal => ctx.events.normal(about, &news.reason, "Observe", news.note).await,
            EventType::Warning => ctx.events.warning(about, &news.reason, "Observe", news.note).await,
        }
    }
    for kind in [kind::READY, kind::REDIS_SAFE] {
        let find = |status: &JobQueueStatus| status.conditions.iter().find(|c| c.type_ == kind).cloned();
        let Some(says) = find(new) else { continue };
        let before = old.and_then(find);
        let same = before.is_some_and(|b| b.status == says.status && b.reason == says.reason);
        let new_version = kind == kind::READY
            && says.status == "True"
            && old.is_none_or(|old| old.policy_version != new.policy_version);
        if same && !new_version {
            continue;
        }
        match (kind, says.status.as_str()) {
            (kind::READY, "True") => {
                ctx.events.normal(about, events::reason::POLICY_APPLIED, "Apply", says.message).await;
            }
            (kind::READY, _) => ctx.events.warning(about, &says.reason, "Reconcile", says.message).await,
            (_, "Unknown") if says.message.contains("cannot be seen") => {
                ctx.events
                    .warning(about, events::reason::REDIS_SAFETY_UNKNOWN, "Observe", says.message)
                    .await;
            }
            _ => {}
        }
    }
}

/// Adds or removes the finalizer, against the resource version that was read.
async fn set_finalizers(ctx: &Context, object: &AnyQueue, present: bool) -> Result<(), CallError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != names::FINALIZER);
    if present {
        finalizers.push(names::FINALIZER.to_owned());
    }
    let patch = json!({"metadata": {
        "resourceVersion": object.resource_version(),
        "finalizers": finalizers,
    }});
    let api: Api<AnyQueue> = Api::namespaced(ctx.client.clone(), &namespace);
    let params = PatchParams { field_manager: Some(names::RECONCILER.to_owned()), ..PatchParams::default() };
    let doing = format!("set the finalizer of jobqueue {namespace}/{name}");
    match call(doing, api.patch(&name, &params, &Patch::Merge(&patch))).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}
