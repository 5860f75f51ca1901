//! The `http` handler against a server of this process that answers and does nothing.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use lanekeeper_api::policy::{Handler, QueuePolicy};
use lanekeeper_bench::count::Count;
use lanekeeper_bench::jobs::PAD;
use lanekeeper_bench::policy::JOB_TYPE;
use lanekeeper_bench::{policy, produce};
use lanekeeper_worker::handler::http::{Client, HttpHandler};

use crate::ours::Bench;
use crate::raw;
use crate::report::{Measured, Report};

/// Connections of the raw client, one request in flight on each.
const RAW_CONNECTIONS: usize = 50;

/// Jobs per second, beside bare requests to the same server without any queue.
pub(crate) async fn measure(n: usize, report: &mut Report) -> Result<()> {
    let at = serve()?;
    let policy = policy::http(&format!("http://{at}/jobs"))?;
    let raw = tokio::task::spawn_blocking(move || raw::post(at, n, RAW_CONNECTIONS)).await??;
    let bench = Bench::start().await?;
    bench.flush_to(&policy).await?;
    produce::bulk(&bench.queue, n, PAD).await?;
    let handler = Arc::new(Count::around(n, Arc::new(http_handler(&policy)?)));
    let started = Instant::now();
    let work = bench.work(handler.clone())?;
    handler.all().await;
    let ours = started.elapsed();
    work.end().await?;
    bench.recorded(n).await?;
    let (ours, raw) = (n as f64 / ours.as_secs_f64(), n as f64 / raw.as_secs_f64());
    report.add("drain, http handler", "jobs/s", Measured { ours, raw, raw_name: "bare HTTP" });
    Ok(())
}

fn http_handler(policy: &QueuePolicy) -> Result<HttpHandler> {
    let job_type = policy.job_types.get(JOB_TYPE).context("no job type")?;
    let Handler::Http(http) = &job_type.handler else { bail!("not the http handler") };
    Ok(HttpHandler::new(Client::new()?, http.clone(), Path::new("/nonexistent")))
}

/// Starts the server on a thread of its own; it ends with the process.
fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let at = listener.local_addr()?;
    let serve = move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let app = axum::Router::new().fallback(|_body: axum::body::Bytes| async {});
            Ok(axum::serve(tokio::net::TcpListener::from_std(listener)?, app).await?)
        })
    };
    std::thread::Builder::new().name("http server".into()).spawn(serve)?;
    Ok(at)
}
