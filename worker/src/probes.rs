//! `/livez`, `/readyz` and `/metrics`, served from the engine's thread.
//!
//! Alive means that the claim loop goes round; Redis has no say in it, because restarting workers repairs no Redis and
//! loses running jobs, however long it does not answer. Ready means that there is a policy and that Redis answered lately.

use std::net::TcpListener;
use std::sync::{Arc, OnceLock, Weak};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::engine::Shared;
use crate::engine::health::Health;
use crate::error::Error;
use crate::metrics::Metrics;

/// What the probes look at; the engine joins once it has reached Redis.
#[derive(Clone)]
pub(crate) struct Probes {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    engine: Arc<OnceLock<Weak<Shared>>>,
}

impl Probes {
    /// From now on the probes speak of this engine.
    pub(crate) fn now_serve(&self, shared: &Arc<Shared>) {
        // Set once: there is one engine per server.
        let _ = self.engine.set(Arc::downgrade(shared));
    }

    fn engine(&self) -> Option<Arc<Shared>> {
        self.engine.get()?.upgrade()
    }
}

/// Starts serving, where a listener is given.
pub(crate) fn serve(
    listener: Option<TcpListener>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) -> Result<Probes, Error> {
    let probes = Probes { health, metrics, engine: Arc::default() };
    let Some(listener) = listener else { return Ok(probes) };
    let address = listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
    let listen = |error| Error::Listen { address: address.clone(), error };
    listener.set_nonblocking(true).map_err(listen)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(listen)?;
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(probes.clone());
    tracing::info!(address, "serving probes and metrics");
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the probe server ended");
        }
    });
    Ok(probes)
}

async fn livez(State(probes): State<Probes>) -> (StatusCode, &'static str) {
    if probes.health.live() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the claim loop is stuck\n")
    }
}

async fn readyz(State(probes): State<Probes>) -> (StatusCode, String) {
    let Some(engine) = probes.engine() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no connection to Redis yet\n".to_owned());
    };
    match engine.ready() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics_text(State(probes): State<Probes>) -> impl IntoResponse {
    if let Some(engine) = probes.engine() {
        engine.gauge();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], probes.metrics.text())
}
