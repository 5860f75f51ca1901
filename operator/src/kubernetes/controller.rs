//! Runs a reconciler over a cache: woken by changes, bounded in concurrency, with back-off per object.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use kube::Resource;
use kube::runtime::applier;
use kube::runtime::controller::{self, Action, ReconcileRequest};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::backoff::Backoff;
use super::metrics::{Metrics, Outcome};

/// Changes that come closer together than this are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Why a reconcile ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum Failed<E: std::error::Error + 'static> {
    /// The reconciler's own error.
    #[error(transparent)]
    Reconciler(E),
    /// It panicked; a bug, which must not stop the others.
    #[error("the reconciler panicked: {0}")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Reconciles until `stop` is cancelled and what was begun has ended.
pub async fn run<K, Ctx, E, F>(
    kind: &'static str,
    store: Store<K>,
    woken: mpsc::UnboundedReceiver<ObjectRef<K>>,
    context: Arc<Ctx>,
    metrics: Metrics,
    concurrency: u16,
    stop: CancellationToken,
    reconcile: impl Fn(Arc<K>, Arc<Ctx>) -> F,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    Ctx: Send + Sync + 'static,
    E: std::error::Error + Send + Sync + 'static,
    F: Future<Output = Result<Action, E>> + Send + 'static,
{
    let backoff = Arc::new(Backoff::default());
    let requests = woken
        .map(|object| Ok::<_, std::convert::Infallible>(ReconcileRequest::from(object)))
        .take_until(stop.cancelled_owned());
    let config = controller::Config::default().concurrency(concurrency).debounce(DEBOUNCE);
    let reconciler = {
        let (backoff, metrics) = (backoff.clone(), metrics.clone());
        move |object: Arc<K>, context: Arc<Ctx>| {
            let (backoff, metrics) = (backoff.clone(), metrics.clone());
            let key = ObjectRef::from_obj(object.as_ref());
            // A task of its own: a panic stays there, and reconciles run on every core.
            let task = tokio::spawn(reconcile(object, context));
            Box::pin(async move {
                let timer = metrics.start(kind);
                let result = match task.await {
                    Ok(result) => result.map_err(Failed::Reconciler),
                    Err(panic) => Err(Failed::Panicked(panic)),
                };
                timer.end(if result.is_ok() { Outcome::Ok } else { Outcome::Error });
                if result.is_ok() {
                    backoff.succeeded(&key);
                }
                result
            })
        }
    };
    let error_policy = move |object: Arc<K>, error: &Failed<E>, _: Arc<Ctx>| {
        let key = ObjectRef::from_obj(object.as_ref());
        let wait = backoff.failed(key.clone());
        warn!(kind, object = %key, %error, retry_in = ?wait, "reconcile failed");
        Action::requeue(wait)
    };
    applier(reconciler, error_policy, context, store, requests, config)
        .for_each(|done| {
            match done {
                Ok((object, action)) => debug!(kind, %object, ?action, "reconciled"),
                // Deleted between the change and its turn, or a failure that the error policy has dealt with.
                Err(error) => debug!(kind, %error, "not reconciled"),
            }
            std::future::ready(())
        })
        .await;
}
