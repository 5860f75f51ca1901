//! Command line of the operator.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Lanekeeper's operator: turns JobQueues into policies in Redis and WorkerPools into Deployments.
#[derive(Debug, Clone, Parser)]
#[command(name = "lanekeeper-operator", version, about)]
pub struct Args {
    /// Namespaces to watch, separated by commas; absent: all of them.
    #[arg(long, env = "LANEKEEPER_NAMESPACES", value_delimiter = ',', num_args = 0..)]
    pub namespaces: Vec<String>,
    /// Admin URL of the default Redis, for JobQueues without `spec.redis`.
    #[arg(long, env = "LANEKEEPER_REDIS_URL", hide_env_values = true, conflicts_with = "redis_url_file")]
    pub redis_url: Option<String>,
    /// File that holds the admin URL of the default Redis (a mounted Secret); read again at every reconcile.
    #[arg(long, env = "LANEKEEPER_REDIS_URL_FILE")]
    pub redis_url_file: Option<PathBuf>,
    /// PEM bundle that signs the default Redis, for `rediss://`.
    #[arg(long, env = "LANEKEEPER_REDIS_CA_FILE")]
    pub redis_ca_file: Option<PathBuf>,
    /// Accept a default Redis that does not persist or that evicts keys.
    #[arg(long, env = "LANEKEEPER_REDIS_ALLOW_UNSAFE")]
    pub redis_allow_unsafe: bool,
    /// Image of the generic worker; it is also what the init container of other images copies the worker from.
    #[arg(long, env = "LANEKEEPER_WORKER_IMAGE")]
    pub worker_image: String,
    /// `imagePullPolicy` of the worker image; absent: Kubernetes' own default.
    #[arg(long, env = "LANEKEEPER_WORKER_IMAGE_PULL_POLICY")]
    pub worker_image_pull_policy: Option<String>,
    /// Where `/livez`, `/readyz` and `/metrics` listen.
    #[arg(long, env = "LANEKEEPER_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Format of the log.
    #[arg(long, env = "LANEKEEPER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Identity of this cluster in Redis; absent: the uid of the namespace kube-system.
    #[arg(long, env = "LANEKEEPER_CLUSTER_ID")]
    pub cluster_id: Option<String>,
    /// Run without a Lease: only where there is one replica at most.
    #[arg(long, env = "LANEKEEPER_NO_LEADER_ELECTION")]
    pub no_leader_election: bool,
    /// Name of the Lease.
    #[arg(long, env = "LANEKEEPER_LEASE_NAME", default_value = "lanekeeper-operator")]
    pub lease_name: String,
    /// Namespace of the Lease; absent: the one this Pod runs in.
    #[arg(long, env = "POD_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of this instance, shown as the Lease's holder and in Events.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Reconciles of each kind that may run at once.
    #[arg(long, env = "LANEKEEPER_RECONCILE_CONCURRENCY", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_image_alone_is_enough() {
        let args = Args::try_parse_from(["lanekeeper-operator", "--worker-image", "w:1"]).unwrap();
        assert!(args.namespaces.is_empty());
        assert_eq!(args.concurrency, 4);
        assert_eq!(args.listen.port(), 8080);
    }

    #[test]
    fn a_url_and_a_url_file_exclude_each_other() {
        let both = ["o", "--worker-image", "w:1", "--redis-url", "redis://r", "--redis-url-file", "/f"];
        assert!(Args::try_parse_from(both).is_err());
    }
}
