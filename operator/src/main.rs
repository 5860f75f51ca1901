//! The operator's process: reads its settings, waits for the lease, runs the reconcilers, ends in order.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Config};
use lanekeeper_operator::args::{Args, LogFormat};
use lanekeeper_operator::kubernetes::call::call;
use lanekeeper_operator::kubernetes::context::{DefaultRedis, Settings};
use lanekeeper_operator::kubernetes::metrics::Telemetry;
use lanekeeper_operator::kubernetes::operator::{self, Options};
use lanekeeper_operator::kubernetes::stores::Scope;
use lanekeeper_operator::leader::{Elector, Ended};
use lanekeeper_operator::probes::{self, Health};
use lanekeeper_operator::worker_pool::build::WorkerImage;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Pods of one pool look at their queue this often.
const TICK: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    init_logs(args.log_format);
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!(error = format!("{failure:#}"), "the operator stops");
            ExitCode::FAILURE
        }
    }
}

fn init_logs(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_client=warn,kube_runtime=warn,hyper=warn,tower=warn"));
    // A log that cannot be written must not take the operator down.
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    match format {
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
        LogFormat::Text => subscriber.init(),
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    // One provider for the whole process; an error means that it has been chosen already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut registry = Registry::default();
    let telemetry = Telemetry::new(&mut registry);
    let health = Arc::new(Health::default());
    tokio::spawn(health.clone().beat());
    let address = probes::serve(args.listen, health.clone(), render(registry))
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    info!(%address, version = env!("CARGO_PKG_VERSION"), "probes and metrics");

    let config = Config::infer().await.context("no Kubernetes to talk to")?;
    let namespace = args.lease_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("cannot make a Kubernetes client")?;
    let identity = identity(&args);
    let options = options(&args, &client, &identity).await?;
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));

    // Standing by is being ready: a second replica must not hold up a rollout.
    health.set_ready(true);
    let elector = Elector::new(client.clone(), &namespace, &args.lease_name, &identity);
    let leader = Leader { client, scopes: scopes(&args.namespaces), options, telemetry, health, stop };
    if args.no_leader_election { leader.lead().await } else { leader.elect_and_lead(elector).await }
}

/// An instance that leads or wants to.
struct Leader {
    client: Client,
    scopes: Vec<Scope>,
    options: Options,
    telemetry: Telemetry,
    health: Arc<Health>,
    stop: CancellationToken,
}

impl Leader {
    /// Waits for the lease, leads while it is held, and releases it after everything has ended.
    async fn elect_and_lead(self, mut elector: Elector) -> anyhow::Result<()> {
        if !elector.acquire(&self.stop).await {
            return Ok(());
        }
        let done = CancellationToken::new();
        // A task of its own: renewals must not wait for reconciles.
        let mut holding = tokio::spawn({
            let done = done.clone();
            async move { elector.hold(&done).await }
        });
        let leading = std::pin::pin!(self.lead());
        tokio::select! {
            result = leading => {
                done.cancel();
                drop(holding.await);
                result
            }
            ended = &mut holding => match ended {
                Ok(Ended::Released) => Ok(()),
                Ok(Ended::Lost) => anyhow::bail!("another instance leads now, or the lease could not be renewed"),
                Err(panic) => Err(panic).context("leader election failed"),
            },
        }
    }

    /// Runs every scope until stopped.
    async fn lead(self) -> anyhow::Result<()> {
        let Self { client, scopes, options, telemetry, health, stop } = self;
        telemetry.reconcilers.set_leader(true);
        health.set_ready(false);
        let unfilled = Arc::new(AtomicUsize::new(scopes.len()));
        let running = scopes.into_iter().map(|scope| {
            let (health, unfilled) = (health.clone(), unfilled.clone());
            let filled = move || {
                if unfilled.fetch_sub(1, Ordering::AcqRel) == 1 {
                    health.set_ready(true);
                }
            };
            operator::run(client.clone(), scope, options.clone(), telemetry.clone(), stop.clone(), filled)
        });
        let result = try_join_all(running).await;
        // Stopped before the caches were filled: that is no failure.
        if stop.is_cancelled() {
            return Ok(());
        }
        result.context("a watch ended").map(drop)
    }
}

fn scopes(namespaces: &[String]) -> Vec<Scope> {
    let mut named: Vec<&str> =
        namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
    named.sort_unstable();
    named.dedup();
    if named.is_empty() {
        return vec![Scope::All];
    }
    named.into_iter().map(|name| Scope::Namespace(name.to_owned())).collect()
}

async fn options(args: &Args, client: &Client, identity: &str) -> anyhow::Result<Options> {
    let cluster = match &args.cluster_id {
        Some(id) => id.clone(),
        None => cluster_id(client).await?,
    };
    Ok(Options {
        settings: Settings {
            owner: format!("kubernetes:{cluster}"),
            default_redis: DefaultRedis {
                url: args.redis_url.clone(),
                url_file: args.redis_url_file.clone(),
                ca_file: args.redis_ca_file.clone(),
                allow_unsafe: args.redis_allow_unsafe,
            },
            worker_image: WorkerImage {
                image: args.worker_image.clone(),
                pull_policy: args.worker_image_pull_policy.clone().filter(|policy| !policy.is_empty()),
            },
        },
        identity: identity.to_owned(),
        concurrency: args.concurrency,
        tick: TICK,
    })
}

/// The uid of kube-system: it lives as long as the cluster.
async fn cluster_id(client: &Client) -> anyhow::Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = call("read namespace kube-system", namespaces.get("kube-system")).await.context(
        "the cluster's identity is the uid of kube-system: allow `get` on it, or set --cluster-id",
    )?;
    system.metadata.uid.context("namespace kube-system has no uid")
}

/// The Pod's name, or a name that no other process has.
fn identity(args: &Args) -> String {
    args.identity.clone().unwrap_or_else(|| {
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "lanekeeper".to_owned());
        format!("{host}-{:08x}", rand::random::<u32>())
    })
}

fn render(registry: Registry) -> probes::Render {
    Arc::new(move || {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    })
}

/// Cancels on SIGTERM or Ctrl-C.
async fn cancel_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupted = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted => {}
            }
        }
        Err(_) => drop(interrupted.await),
    }
    info!("asked to stop");
    stop.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_namespace_means_all_and_doubles_count_once() {
        assert_eq!(scopes(&[]), [Scope::All]);
        assert_eq!(scopes(&[String::new()]), [Scope::All]);
        let named = scopes(&["b".to_owned(), " a".to_owned(), "b".to_owned()]);
        assert_eq!(named, [Scope::Namespace("a".to_owned()), Scope::Namespace("b".to_owned())]);
    }
}
