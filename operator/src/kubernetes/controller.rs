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

/// A reconciler over one cache.
pub struct Controller<K, Ctx>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// Kind, for logs and figures.
    pub kind: &'static str,
    /// The cache.
    pub store: Store<K>,
    /// Objects to look at.
    pub woken: mpsc::UnboundedReceiver<ObjectRef<K>>,
    /// What every reconcile is given.
    pub context: Arc<Ctx>,
    /// Where reconciles are counted.
    pub metrics: Metrics,
    /// Reconciles that may run at once.
    pub concurrency: u16,
    /// Ends it.
    pub stop: CancellationToken,
}

impl<K, Ctx> Controller<K, Ctx>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    Ctx: Send + Sync + 'static,
{
    /// Reconciles until stopped and what was begun has ended.
    pub async fn run<E, F>(self, reconcile: impl Fn(Arc<K>, Arc<Ctx>) -> F)
    where
        E: std::error::Error + Send + Sync + 'static,
        F: Future<Output = Result<Action, E>> + Send + 'static,
    {
        let Self { kind, store, woken, context, metrics, concurrency, stop } = self;
        let backoff = Arc::new(Backoff::default());
        let requests = woken
            .map(|object| Ok::<_, std::convert::Infallible>(ReconcileRequest::from(object)))
            .take_until(stop.cancelled_owned());
        let config = controller::Config::default().concurrency(concurrency).debounce(DEBOUNCE);
        let reconciler = |object: Arc<K>, context: Arc<Ctx>| {
            let key = ObjectRef::from_obj(object.as_ref());
            // A task of its own: a panic stays there, and reconciles run on every core.
            let task = tokio::spawn(reconcile(object, context));
            let (backoff, timer) = (backoff.clone(), metrics.start(kind));
            Box::pin(async move {
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
        };
        let error_policy = |object: Arc<K>, error: &Failed<E>, _: Arc<Ctx>| {
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
}
