//! What the tests share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use lanekeeper_queue::types::Claimed;
use lanekeeper_worker::handler::JobContext;

/// A job as a handler sees it.
pub(crate) fn context(payload: &[u8], timeout_s: u64) -> JobContext {
    let job = Claimed {
        id: "01JOB".into(),
        token: 7,
        job_type: "mail".into(),
        lane: "fast".into(),
        payload: payload.to_vec(),
        attempt: 1,
        tries: 0,
        crashes: 0,
        enqueued_ms: 1_700_000_000_000,
        due_ms: 1_700_000_000_000,
        claimed_ms: 1_700_000_000_000,
        key: None,
        meta: BTreeMap::new(),
        checkpoint: None,
    };
    JobContext::new(job, "apps/test".into(), Duration::from_secs(timeout_s))
}

/// Serves until the test ends.
pub(crate) async fn serve(routes: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    address
}

/// Waits until the condition holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

mod handlers;
mod queue;
pub(crate) use handlers::*;
pub(crate) use queue::*;
