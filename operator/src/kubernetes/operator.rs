//! The running operator: caches, reconcilers and the autoscaler's loops of one scope.

use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use kube::Client;
use kube::runtime::reflector::ObjectRef;
use lanekeeper_queue::QueueName;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::context::{Context, Known, Memory, Settings};
use super::controller::Controller;
use super::events::{Events, reason};
use super::metrics::Telemetry;
use super::platform::Kubernetes;
use super::redis::Connections;
use super::stores::{AnyPool, AnyQueue, Scope, Stores, Wakes};
use super::vigil;
use crate::autoscale::fleet;
use crate::autoscale::{Fleet, ScaleEvent};
use crate::metrics::LoopMetrics;
use crate::platform::PoolRef;
use crate::{job_queue, worker_pool};

/// Time between two looks for objects that are gone.
const GONE_EVERY: Duration = Duration::from_secs(5);

/// What an operator runs with.
#[derive(Clone)]
pub struct Options {
    /// What reconcilers need to know.
    pub settings: Settings,
    /// Name of this instance.
    pub identity: String,
    /// Reconciles of each kind that may run at once.
    pub concurrency: u16,
    /// The autoscaler's tick.
    pub tick: Duration,
}

/// Runs one scope until `stop` is cancelled and everything has ended. Calls `filled` once the caches are.
///
/// # Errors
/// When a watch ended before its cache was filled.
pub async fn run(
    client: Client,
    scope: Scope,
    options: Options,
    telemetry: Telemetry,
    stop: CancellationToken,
    filled: impl FnOnce(),
) -> Result<(), kube::runtime::reflector::store::WriterDropped> {
    let (wake_queues, queues_woken) = mpsc::unbounded();
    let (wake_pools, pools_woken) = mpsc::unbounded();
    let wakes = Wakes { queues: wake_queues, pools: wake_pools };
    let stores = Stores::start(&client, &scope, &wakes, &stop);
    stores.filled().await?;
    info!(?scope, "caches are filled");
    filled();

    let context = context(client, stores.clone(), &options, telemetry.loops, &stop);
    telemetry.figures.show(&context);
    let queues = Controller {
        kind: "JobQueue",
        store: stores.queues.clone(),
        woken: queues_woken,
        context: context.clone(),
        metrics: telemetry.reconcilers.clone(),
        concurrency: options.concurrency,
        stop: stop.clone(),
    };
    let pools = Controller {
        kind: "WorkerPool",
        store: stores.pools.clone(),
        woken: pools_woken,
        context: context.clone(),
        metrics: telemetry.reconcilers.clone(),
        concurrency: options.concurrency,
        stop: stop.clone(),
    };
    let helpers = stop.child_token();
    let gone = tokio::spawn(helpers.clone().run_until_cancelled_owned(forget_gone(context.clone())));
    let told = tokio::spawn(helpers.clone().run_until_cancelled_owned(tell(context.clone(), wakes.clone())));
    let kept = tokio::spawn(helpers.clone().run_until_cancelled_owned(vigil::keep(context.clone(), wakes)));
    tokio::join!(queues.run(job_queue::reconcile), pools.run(worker_pool::reconcile));
    helpers.cancel();
    drop((gone.await, told.await, kept.await));
    context.fleet.ended().await;
    Ok(())
}

fn context(
    client: Client,
    stores: Stores,
    options: &Options,
    metrics: LoopMetrics,
    stop: &CancellationToken,
) -> Arc<Context> {
    let platform = Arc::new(Kubernetes::new(client.clone(), stores.deployments.clone(), stores.pods.clone()));
    let settings = fleet::Settings {
        tick: options.tick,
        sweeper: options.identity.clone(),
        node: "kubernetes".to_owned(),
    };
    Arc::new(Context {
        events: Events::new(client.clone(), &options.identity),
        client,
        settings: options.settings.clone(),
        stores,
        connections: Connections::default(),
        restarts: lanekeeper_queue::Restarts::default(),
        fleet: Fleet::with_metrics(platform.clone(), settings, metrics, stop.child_token()),
        platform,
        known: Known::default(),
        written: Memory::default(),
        cleanups: Memory::default(),
        applied: Memory::default(),
    })
}

/// Ends the loops of queues and pools that are no longer there.
async fn forget_gone(context: Arc<Context>) {
    loop {
        sleep(GONE_EVERY).await;
        let stores = &context.stores;
        let pool_is_there = |pool: &PoolRef| {
            stores.pools.get(&ObjectRef::<AnyPool>::new(&pool.name).within(&pool.namespace)).is_some()
        };
        for pool in context.known.take_gone_pools(pool_is_there) {
            info!(%pool, "gone");
            context.fleet.remove_pool(&pool);
        }
        let queue_is_there = |queue: &QueueName| {
            let full = queue.to_string();
            let Some((namespace, name)) = full.split_once('/') else { return false };
            stores.queues.get(&ObjectRef::<AnyQueue>::new(name).within(namespace)).is_some()
        };
        for queue in context.known.take_gone_queues(queue_is_there) {
            info!(%queue, "gone");
            context.fleet.remove_queue(&queue);
            context.connections.forget(&queue).await;
        }
    }
}

/// Tells of every change of replicas: an Event, and a look at the pool's status.
async fn tell(context: Arc<Context>, wakes: Wakes) {
    let mut changes = context.fleet.changes();
    loop {
        let change = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(missed)) => {
                warn!(missed, "changes of replicas went by without Events");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let pool = ObjectRef::<AnyPool>::new(&change.pool.name).within(&change.pool.namespace);
        drop(wakes.pools.unbounded_send(pool.clone()));
        if let Some(object) = context.stores.pools.get(&pool) {
            let about = kube::Resource::object_ref(object.as_ref(), &());
            let (reason, note) = scale_event(&change);
            context.events.normal(&about, reason, "Scale", note).await;
        }
    }
}

fn scale_event(change: &ScaleEvent) -> (&'static str, String) {
    let reason = match (change.from, change.to) {
        (_, 0) => reason::SCALED_TO_ZERO,
        (from, to) if to > from => reason::SCALED_UP,
        _ => reason::SCALED_DOWN,
    };
    (reason, format!("from {} to {} ({}): {}", change.from, change.to, change.reason, change.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoscale::Reason;

    #[test]
    fn every_direction_has_its_reason() {
        let event = |from, to| {
            let pool = PoolRef::new("apps", "p");
            scale_event(&ScaleEvent {
                pool,
                from,
                to,
                reason: Reason::Backlog,
                message: "m".to_owned(),
                at_ms: 0,
            })
        };
        assert_eq!(event(0, 3), (reason::SCALED_UP, "from 0 to 3 (Backlog): m".to_owned()));
        assert_eq!(event(3, 1).0, reason::SCALED_DOWN);
        assert_eq!(event(1, 0).0, reason::SCALED_TO_ZERO);
    }
}
