//! A look at each Redis between reconciles: one that begins to evict, or ceases to persist, has its queues closed within seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::runtime::reflector::ObjectRef;
use lanekeeper_queue::client::{Safety, safety};
use lanekeeper_queue::{Queue, QueueName};
use tokio::time::sleep;
use tracing::info;

use super::context::Context;
use super::redis::exchange;
use super::stores::{AnyQueue, Wakes};

/// Time between two looks at a Redis, however many queues it holds.
const EVERY: Duration = Duration::from_secs(3);

/// A Redis in use.
pub(super) struct InUse {
    pub(super) server: String,
    pub(super) queue: Queue,
    pub(super) users: Vec<QueueName>,
}

/// Wakes the reconciler for the queues of each Redis that may lose jobs now and did not before, or the other way round. Never ends.
pub(super) async fn keep(context: Arc<Context>, wakes: Wakes) {
    let mut known: HashMap<String, Safety> = HashMap::new();
    loop {
        sleep(EVERY).await;
        let looks = context.connections.in_use().await.into_iter().map(|one| async move {
            let now = exchange(safety(&mut one.queue.connection())).await;
            (one, now)
        });
        let mut seen = HashMap::new();
        for (InUse { server, users, .. }, now) in join_all(looks).await {
            let before = known.remove(&server);
            // What cannot be reached has not changed, and is the reconciler's to report.
            let Some(now) = now.ok().or_else(|| before.clone()) else { continue };
            if before.is_some_and(|before| before != now) {
                info!(?now, queues = users.len(), "a Redis has other settings now");
                users.iter().filter_map(object).for_each(|queue| drop(wakes.queues.unbounded_send(queue)));
            }
            seen.insert(server, now);
        }
        known = seen;
    }
}

fn object(queue: &QueueName) -> Option<ObjectRef<AnyQueue>> {
    let full = queue.to_string();
    let (namespace, name) = full.split_once('/')?;
    Some(ObjectRef::new(name).within(namespace))
}
