//! `/livez`, `/readyz` and `/metrics`, on a thread and runtime of their own.
//!
//! A busy or stuck main runtime must not starve the probes: `/livez` reports on that runtime, by a pulse it beats, and so
//! cannot run on it. Redis plays no part here: an operator without Redis is alive.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// The main runtime must have beaten its pulse within this.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// Time between two beats.
const BEAT: Duration = Duration::from_secs(1);

/// What the probes report.
pub struct Health {
    started: Instant,
    beat_ms: AtomicU64,
    ready: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self { started: Instant::now(), beat_ms: AtomicU64::new(0), ready: AtomicBool::new(false) }
    }
}

impl Health {
    /// Ready: standing by for the lease, or leading with filled caches.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Beats the pulse for ever; to be spawned on the main runtime.
    pub async fn beat(self: Arc<Self>) {
        loop {
            self.note(self.started.elapsed());
            tokio::time::sleep(BEAT).await;
        }
    }

    fn note(&self, since_start: Duration) {
        self.beat_ms.store(u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn is_live(&self, since_start: Duration) -> bool {
        let beat = Duration::from_millis(self.beat_ms.load(Ordering::Relaxed));
        since_start.saturating_sub(beat) < STUCK_AFTER
    }
}

/// What `/metrics` answers with.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

#[derive(Clone)]
struct Shared {
    health: Arc<Health>,
    metrics: Render,
}

/// Binds and serves for the rest of the process's life. Returns the address it bound.
///
/// # Errors
/// When the address cannot be bound or no thread can be started.
pub fn serve(listen: SocketAddr, health: Arc<Health>, metrics: Render) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = Shared { health, metrics };
    std::thread::Builder::new().name("probes".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => axum::serve(listener, router(shared)).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(%error, "probes and metrics are no longer served");
            }
        });
    })?;
    Ok(address)
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

async fn livez(State(shared): State<Shared>) -> Response {
    if shared.health.is_live(shared.health.started.elapsed()) {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the main loop has not gone round for 30 s\n").into_response()
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    if shared.health.ready.load(Ordering::Relaxed) {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "caches are not filled yet\n").into_response()
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, TYPE)], (shared.metrics)()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_that_stops_is_not_alive() {
        let health = Health::default();
        health.note(Duration::from_secs(5));
        assert!(health.is_live(Duration::from_secs(34)));
        assert!(!health.is_live(Duration::from_secs(35)));
    }

    #[tokio::test]
    async fn readiness_follows_the_flag() {
        let shared = Shared { health: Arc::default(), metrics: Arc::new(String::new) };
        assert_eq!(readyz(State(shared.clone())).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        shared.health.set_ready(true);
        assert_eq!(readyz(State(shared)).await.status(), StatusCode::OK);
    }
}
