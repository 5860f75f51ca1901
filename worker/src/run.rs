//! From settings to a running worker.

use std::net::TcpListener;
use std::sync::Arc;

use lanekeeper_queue::client::RedisOptions;
use lanekeeper_queue::types::WorkerIdentity;

use crate::args::{Listen, RunArgs};
use crate::engine::{self, Options};
use crate::error::Error;
use crate::handler::Builtin;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// Works with the handlers that the policy names until `shutdown` has run its course. Installs nothing global: logging,
/// signals and panic hooks are the caller's.
///
/// # Errors
/// When the settings can never work, or when the drain time was over before everything was handed back.
pub async fn run(args: RunArgs, shutdown: Shutdown) -> Result<(), Error> {
    let order = args.lane_order()?;
    let lanes: Vec<_> = args.lanes.into_iter().map(|lane| lane.name).collect();
    let ca_pem = match &args.redis_ca_file {
        Some(path) => {
            let read = tokio::fs::read(path).await;
            Some(read.map_err(|error| Error::Read { what: "the Redis CA file", error })?)
        }
        None => None,
    };
    let listen = match args.listen {
        Listen::Off => None,
        Listen::On(address) => Some(
            TcpListener::bind(address)
                .map_err(|error| Error::Listen { address: address.to_string(), error })?,
        ),
    };
    let handlers = Arc::new(Builtin::new(args.secrets_dir)?);
    let identity = identity(args.worker_name, args.node, args.pool);
    tracing::info!(
        queue = %args.queue,
        worker = identity.name,
        pool = identity.pool,
        lanes = lanes.join(","),
        ?order,
        slots = args.concurrency,
        redis = ?args.redis_url,
        "worker starts"
    );
    let options = Options {
        redis: RedisOptions { url: args.redis_url.0, ca_pem },
        queue: args.queue,
        identity,
        lanes,
        order,
        slots: args.concurrency,
        drain_timeout: args.drain_timeout,
        listen,
        shutdown,
    };
    let result = engine::run(options, handlers, Arc::new(Metrics::default())).await;
    match &result {
        Ok(()) => tracing::info!("worker has drained"),
        Err(error) => tracing::error!(%error, "worker ends"),
    }
    result
}

/// Who this process is: its name may return with a restarted pod, its boot nonce never does.
fn identity(name: Option<String>, node: Option<String>, pool: String) -> WorkerIdentity {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    WorkerIdentity {
        name: given(name).unwrap_or_else(|| format!("{host}-{}", std::process::id())),
        boot: format!("{:016x}", rand::random::<u64>()),
        pool,
        node: given(node).unwrap_or(host),
    }
}
