//! `lanekeeper worker`: the worker inside this binary, so that the local mode needs no other.

use std::io::Read;

use lanekeeper_worker::args::RunArgs;
use lanekeeper_worker::{Shutdown, harden};
use tracing_subscriber::EnvFilter;

use crate::failure::{Failure, Result};

/// Set by whoever holds the other end of our standard input for as long as it lives.
const PARENT_PIPE: &str = "LANEKEEPER_PARENT_PIPE";

/// Works until asked to end, or until the local mode that started it is gone.
pub(crate) async fn run(args: &RunArgs) -> Result<()> {
    log();
    harden();
    let shutdown = Shutdown::on_signals()
        .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    if std::env::var_os(PARENT_PIPE).is_some_and(|pipe| pipe == "stdin") {
        drain_with_parent(shutdown.clone());
    }
    lanekeeper_worker::run(args.clone(), shutdown).await.map_err(|error| Failure::failed(error.to_string()))
}

/// The kernel closes the pipe when the parent dies, however it dies.
fn drain_with_parent(shutdown: Shutdown) {
    std::thread::spawn(move || {
        let mut ignored = [0; 64];
        while std::io::stdin().read(&mut ignored).is_ok_and(|read| read > 0) {}
        if !shutdown.drain.is_cancelled() {
            shutdown.escalate();
            tracing::warn!("the local mode is gone: draining");
        }
    });
}

fn log() {
    let filter = EnvFilter::try_from_env("LANEKEEPER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // Telling of a failed write would write to the same pipe, and panic: once the local mode is gone, nobody reads.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    if std::env::var_os("LANEKEEPER_LOG_FORMAT").is_some_and(|format| format == "text") {
        builder.with_target(false).with_ansi(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
