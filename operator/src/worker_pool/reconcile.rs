//! One run of the WorkerPool reconciler, phase by phase.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_api::validate::PoolPlan;
use lanekeeper_api::worker_pool::{ScalingMode, WorkerPool, WorkerPoolStatus};
use lanekeeper_queue::QueueName;
use rand::Rng;
use tracing::debug;

use super::apply::{self, Done, apply};
use super::build::build;
use super::dereference::{self, QueueFound};
use super::status::{self, Facts};
use super::validate;
use crate::autoscale::sampler::PoolSpec;
use crate::autoscale::view::QueueView;
use crate::clock;
use crate::kubernetes::call::CallError;
use crate::kubernetes::conditions::{kind, reason};
use crate::kubernetes::context::Context;
use crate::kubernetes::stores::AnyPool;
use crate::kubernetes::{events, names, status as writing};
use crate::platform::{Platform, PlatformError, PoolRef, Scale};

/// Time between two runs where nothing wakes one.
const EVERY: Duration = Duration::from_secs(15);
/// The same while workers come and go: what keeps a pod from starting shows in no Deployment.
const MOVING: Duration = Duration::from_secs(3);

/// Why a run must be repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Replicas could not be set.
    #[error(transparent)]
    Platform(#[from] PlatformError),
}

/// Reconciles one WorkerPool.
///
/// # Errors
/// When the API server fails. Everything else is reported in the status.
pub async fn reconcile(object: Arc<AnyPool>, ctx: Arc<Context>) -> Result<Action, Error> {
    let pool_ref = PoolRef::new(object.namespace().unwrap_or_default(), object.name_any());
    if object.meta().deletion_timestamp.is_some() {
        // Its objects go with it, by their owner references, and its workers drain.
        ctx.fleet.remove_pool(&pool_ref);
        return Ok(Action::await_change());
    }
    let found = match &object.0 {
        Ok(pool) => run(&ctx, pool, &pool_ref).await?,
        Err(invalid) => Found::obstacle(
            reason::INVALID_SPEC,
            format!("the object does not fit this version of the operator: {}", invalid.error),
        ),
    };
    let moving = report(&ctx, &object, &pool_ref, &found).await?;
    let every = if moving { MOVING } else { EVERY };
    Ok(Action::requeue(every.mul_f64(rand::rng().random_range(0.9..1.1))))
}

/// What the phases found out.
#[derive(Debug, Default)]
struct Found {
    plan: Option<PoolPlan>,
    policy: Option<Arc<QueuePolicy>>,
    obstacle: Option<(String, String)>,
}

impl Found {
    fn obstacle(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { obstacle: Some((reason.into(), message.into())), ..Self::default() }
    }
}

/// The phases. What fails for a reason that belongs into the status ends the run with that reason.
async fn run(ctx: &Context, pool: &WorkerPool, pool_ref: &PoolRef) -> Result<Found, Error> {
    let plan = match validate::plan(pool) {
        Ok(plan) => plan,
        Err(invalid) => return Ok(Found::obstacle(invalid.reason, invalid.message)),
    };
    let queue = dereference::queue(ctx, &pool_ref.namespace, &pool.spec.queue).await?;
    let stop = |reason: &str, message: String| Found {
        plan: Some(plan.clone()),
        ..Found::obstacle(reason, message)
    };
    let (policy, location, not_ready) = match queue {
        QueueFound::Found { policy, location, not_ready } => (policy, location, not_ready),
        QueueFound::Gone(reason, message) => {
            send_home(ctx, pool_ref).await?;
            return Ok(stop(reason, message));
        }
        QueueFound::Unusable(reason, message) => {
            // The queue's last good policy stays in force, and so does the pool's work under it.
            let in_force = ctx.fleet.policy(&queue_of(&plan));
            let fits = in_force.is_some_and(|policy| validate::against(&plan, &policy).is_ok());
            if fits || plan.scaling.mode == ScalingMode::Manual {
                keep_scaling(ctx, pool, pool_ref, &plan).await?;
            }
            return Ok(stop(reason, message));
        }
    };
    if let Err(invalid) = validate::against(&plan, &policy) {
        return Ok(stop(invalid.reason, invalid.message));
    }
    let credentials = match dereference::workers_credentials(ctx, &pool_ref.namespace, &location).await? {
        Ok(credentials) => credentials,
        Err(message) => {
            keep_scaling(ctx, pool, pool_ref, &plan).await?;
            // While the queue is not ready, that is the cause to name.
            let (reason, message) = not_ready.unwrap_or((reason::SECRET_MISSING.to_owned(), message));
            return Ok(Found { policy: Some(policy), ..stop(&reason, message) });
        }
    };
    let keys = dereference::signing_keys(&policy, &plan.lanes);
    let missing = dereference::missing_signing_keys(ctx, &pool_ref.namespace, &keys).await?;
    let validated = validate::validated(pool, &plan, &policy, credentials, &keys, &ctx.settings.worker_image);
    let applied = apply_all(ctx, pool, pool_ref, &validated).await?;
    match applied {
        None => scale(ctx, pool_ref, &plan).await?,
        Some(_) => keep_scaling(ctx, pool, pool_ref, &plan).await?,
    }
    let obstacle =
        applied.or(not_ready).or_else(|| missing.map(|message| (reason::SECRET_MISSING.to_owned(), message)));
    Ok(Found { plan: Some(plan), policy: Some(policy), obstacle })
}

/// Builds and applies; answers why that was not possible.
async fn apply_all(
    ctx: &Context,
    pool: &WorkerPool,
    pool_ref: &PoolRef,
    validated: &super::build::ValidatedPool,
) -> Result<Option<(String, String)>, Error> {
    let resources = build(validated);
    let name = names::deployment(&pool_ref.name);
    let seen = ctx.stores.deployments.get(&ObjectRef::new(&name).within(&pool_ref.namespace));
    match apply(ctx, validated, &resources, seen.as_deref(), clock::mono_ms()).await {
        Ok(Done::Created) => {
            let about = pool.object_ref(&());
            let note = format!("made Deployment {name}");
            ctx.events.normal(&about, events::reason::DEPLOYMENT_CREATED, "Apply", note).await;
            Ok(None)
        }
        Ok(Done::Applied | Done::Skipped) => Ok(None),
        Err(apply::Error::Call(error)) => Err(error.into()),
        Err(error @ apply::Error::NameTaken { .. }) => {
            Ok(Some((reason::NAME_TAKEN.to_owned(), error.to_string())))
        }
        Err(error @ apply::Error::Refused(_)) => Ok(Some((reason::REFUSED.to_owned(), error.to_string()))),
    }
}

/// Tells the autoscaler of the pool. Manual replicas do not wait for a queue's loop, which a Redis may hold up.
async fn scale(ctx: &Context, pool_ref: &PoolRef, plan: &PoolPlan) -> Result<(), Error> {
    let queue = queue_of(plan);
    ctx.known.pool(pool_ref);
    ctx.fleet.set_pool(PoolSpec::from(plan));
    if plan.scaling.mode == ScalingMode::Manual && ctx.fleet.view(&queue).is_none() {
        set_replicas(ctx, pool_ref, plan.replicas).await?;
    }
    Ok(())
}

/// What stands in the way of a new Deployment does not stop the one that is there: without this, a pool at zero would stay
/// there from the operator's next start on. Someone else's Deployment under the name is left alone.
async fn keep_scaling(
    ctx: &Context,
    pool: &WorkerPool,
    pool_ref: &PoolRef,
    plan: &PoolPlan,
) -> Result<(), Error> {
    let at = ObjectRef::new(&names::deployment(&pool_ref.name)).within(&pool_ref.namespace);
    let there = ctx.stores.deployments.get(&at);
    let uid = pool.uid().unwrap_or_default();
    if there.is_some_and(|there| apply::belongs(there.as_ref(), &uid)) {
        scale(ctx, pool_ref, plan).await?;
    }
    Ok(())
}

/// Workers of a queue that is gone have nothing to do, and no credentials to do it with.
async fn send_home(ctx: &Context, pool_ref: &PoolRef) -> Result<(), Error> {
    ctx.fleet.remove_pool(pool_ref);
    set_replicas(ctx, pool_ref, 0).await
}

async fn set_replicas(ctx: &Context, pool_ref: &PoolRef, to: u32) -> Result<(), Error> {
    let Some(seen) = ctx.platform.view(pool_ref) else { return Ok(()) };
    if seen.replicas == to {
        return Ok(());
    }
    let scale = Scale { from: seen.replicas, to, version: seen.version, idle: vec![] };
    // A conflict means a newer Deployment, whose arrival in the cache wakes the next run.
    let scaled = ctx.platform.scale(pool_ref, &scale).await?;
    debug!(pool = %pool_ref, to, ?scaled, "set replicas");
    Ok(())
}

fn queue_of(plan: &PoolPlan) -> QueueName {
    let name = plan.queue.split_once('/').map_or(plan.queue.as_str(), |(_, name)| name);
    QueueName::new(&plan.namespace, name)
}

/// Writes the status where it is due. Answers whether workers come or go.
async fn report(ctx: &Context, object: &AnyPool, pool_ref: &PoolRef, found: &Found) -> Result<bool, Error> {
    let uid = object.uid().unwrap_or_default();
    let name = names::deployment(&pool_ref.name);
    let deployment = ctx.stores.deployments.get(&ObjectRef::new(&name).within(&pool_ref.namespace));
    let observed = ctx.platform.view(pool_ref);
    let queue = found.plan.as_ref().and_then(|plan| ctx.fleet.view(&queue_of(plan)));
    let queue: Option<QueueView> = queue.map(|view| view.borrow().clone());
    let facts = Facts {
        obstacle: found.obstacle.clone(),
        plan: found.plan.as_ref(),
        policy: found.policy.as_deref(),
        deployment: deployment.as_deref(),
        observed: observed.as_ref(),
        view: queue.as_ref().and_then(|queue| queue.pools.get(pool_ref)),
        unreadable: queue.as_ref().and_then(|queue| queue.error.clone()),
        startup_prior_ms: ctx.platform.startup_prior_ms(),
    };
    let old = object.0.as_ref().ok().and_then(|pool| pool.status.as_ref());
    let generation = object.meta().generation.unwrap_or(0);
    let new = status::status(&pool_ref.name, old, &facts, generation, clock::wall_ms());
    let moving = status::is_moving(&facts);
    let now = clock::mono_ms();
    let meaning = status::means_something_else(old, &new);
    if writing::is_due(meaning, old != Some(&new), ctx.written.get(&uid), now) {
        announce(ctx, object, old, &new).await;
        writing::write::<AnyPool, _>(&ctx.client, &pool_ref.namespace, &pool_ref.name, &new).await?;
        ctx.written.set(&uid, now);
    }
    Ok(moving)
}

/// An Event where readiness went, or came back.
async fn announce(ctx: &Context, object: &AnyPool, old: Option<&WorkerPoolStatus>, new: &WorkerPoolStatus) {
    let find = |status: &WorkerPoolStatus| status.conditions.iter().find(|c| c.type_ == kind::READY).cloned();
    let Some(says) = find(new) else { return };
    let before = old.and_then(find);
    if before.as_ref().is_some_and(|b| b.status == says.status && b.reason == says.reason) {
        return;
    }
    let about = object.object_ref(&());
    if says.status == "True" {
        if before.is_some() {
            ctx.events.normal(&about, events::reason::POOL_READY, "Reconcile", "the pool is ready").await;
        }
    } else {
        ctx.events.warning(&about, &says.reason, "Reconcile", says.message).await;
    }
}
