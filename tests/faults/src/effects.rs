//! The handlers' side of the world: an HTTP endpoint that does its "work" once per call and writes each effect down,
//! synced to disk, before it answers. What stands here happened, whatever workers and Redis remember.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use lanekeeper_queue::testing::ledger::{Effect, digest};
use tokio::sync::{mpsc, oneshot};

use crate::clock::now_ms;

type Entry = (Called, oneshot::Sender<()>);

/// One call of a handler.
#[derive(Debug, Clone)]
pub struct Called {
    /// What it did.
    pub effect: Effect,
    /// When it was done, ms.
    pub at_ms: u64,
    /// Digest of the payload that it got.
    pub payload: u64,
}

struct Shared {
    log: mpsc::UnboundedSender<Entry>,
    calls: AtomicU64,
}

/// The running endpoint.
pub struct Effects {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    collected: tokio::task::JoinHandle<Result<Vec<Called>>>,
    stop: tokio_util::sync::CancellationToken,
}

impl Effects {
    /// Starts on a free loopback port; the log goes to `file`.
    pub async fn start(file: File) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (log, entries) = mpsc::unbounded_channel();
        let collected = tokio::task::spawn_blocking(move || write_log(file, entries));
        let shared = Arc::new(Shared { log, calls: AtomicU64::new(0) });
        let app = Router::new().route("/work", post(work)).with_state(shared.clone());
        let stop = tokio_util::sync::CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move { axum::serve(listener, app).with_graceful_shutdown(stopped).await });
        Ok(Self { address, shared, collected, stop })
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// Stops and returns every effect in order. Workers must be gone by now.
    pub async fn finish(self) -> Result<Vec<Called>> {
        self.stop.cancel();
        drop(self.shared);
        self.collected.await.context("effect log")?
    }
}

/// Writes entries as they come, one sync for all that are waiting, and only then lets the handlers answer.
fn write_log(mut file: File, mut entries: mpsc::UnboundedReceiver<Entry>) -> Result<Vec<Called>> {
    let mut all = Vec::new();
    let mut batch = Vec::new();
    while entries.blocking_recv_many(&mut batch, 1024) > 0 {
        for (Called { effect, .. }, _) in &batch {
            writeln!(file, "{} {} {}", effect.job, effect.token, effect.success)?;
        }
        file.sync_data()?;
        for (called, answer) in batch.drain(..) {
            all.push(called);
            // The caller may be gone (its worker was killed): the effect stands all the same.
            let _gone = answer.send(());
        }
    }
    Ok(all)
}

async fn work(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> (StatusCode, String) {
    shared.calls.fetch_add(1, Ordering::Relaxed);
    let (Some(job), Some(token)) =
        (text(&headers, "webhook-id"), text(&headers, "lanekeeper-token").and_then(|t| t.parse().ok()))
    else {
        return (StatusCode::BAD_REQUEST, "webhook-id and lanekeeper-token are missing".into());
    };
    let plan: HashMap<String, u64> = serde_json::from_slice(&body).unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(plan.get("ms").copied().unwrap_or(0))).await;
    let attempt: u64 = text(&headers, "lanekeeper-attempt").and_then(|a| a.parse().ok()).unwrap_or(1);
    let success = attempt > plan.get("fail").copied().unwrap_or(0);
    let (answer, written) = oneshot::channel();
    let effect = Effect { job, token, success };
    let called = Called { effect, at_ms: now_ms(), payload: digest(&body) };
    if shared.log.send((called, answer)).is_err() || written.await.is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the effect log is closed".into());
    }
    if success {
        (StatusCode::OK, "{}".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "told to fail".into())
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
