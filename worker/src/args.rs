//! Settings of a worker, from flags or from the environment that the operator sets.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lanekeeper_queue::QueueName;

use crate::engine::Order;
use crate::error::Error;

/// Settings of `run`. Every flag has an environment variable, and a flag wins.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Redis with the queue: redis://, rediss:// or redis+unix://
    #[arg(long, env = "LANEKEEPER_REDIS_URL", hide_env_values = true)]
    pub redis_url: RedisUrl,
    /// PEM file of the CA that signs the Redis server
    #[arg(long, env = "LANEKEEPER_REDIS_CA_FILE")]
    pub redis_ca_file: Option<PathBuf>,
    /// Queue to work for: namespace/name
    #[arg(long, env = "LANEKEEPER_QUEUE")]
    pub queue: QueueName,
    /// WorkerPool this worker belongs to; empty when run by hand
    #[arg(long, env = "LANEKEEPER_POOL", default_value = "")]
    pub pool: String,
    /// Lanes to take jobs from; with --order weighted each may have a weight: mails:6,reports:3
    #[arg(long, env = "LANEKEEPER_LANES", value_delimiter = ',', required = true)]
    pub lanes: Vec<LaneArg>,
    /// Which lane goes first: as listed, by weight, or the one closest to the end of its promise
    #[arg(long, env = "LANEKEEPER_ORDER", value_enum, ignore_case = true, default_value_t = OrderArg::Strict)]
    pub order: OrderArg,
    /// Jobs at once
    #[arg(long, env = "LANEKEEPER_CONCURRENCY", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Time for running jobs to finish once asked to end, such as 60s or 5m
    #[arg(long, env = "LANEKEEPER_DRAIN_TIMEOUT", default_value = "60s", value_parser = duration)]
    pub drain_timeout: Duration,
    /// Name of this worker, unique among live ones [default: host name and process id]
    #[arg(long, env = "LANEKEEPER_WORKER_NAME")]
    pub worker_name: Option<String>,
    /// Node or host it runs on [default: host name]
    #[arg(long, env = "LANEKEEPER_NODE")]
    pub node: Option<String>,
    /// Address for /livez, /readyz and /metrics, or "off"
    #[arg(long, env = "LANEKEEPER_LISTEN", default_value = "0.0.0.0:8081")]
    pub listen: Listen,
    /// Directory with the handlers' signing secrets: <dir>/<secret name>/<key>
    #[arg(long, env = "LANEKEEPER_SECRETS_DIR", default_value = "/etc/lanekeeper/secrets")]
    pub secrets_dir: PathBuf,
}

impl RunArgs {
    /// Which lane goes first, as the engine takes it.
    ///
    /// # Errors
    /// The first lane with a weight that the order does not look at.
    pub fn lane_order(&self) -> Result<Order, Error> {
        let weighted = self.order == OrderArg::Weighted;
        if let Some(lane) = self.lanes.iter().find(|lane| lane.weight != 1 && !weighted) {
            return Err(Error::Weight { lane: lane.name.clone(), weight: lane.weight });
        }
        Ok(match self.order {
            OrderArg::Strict => Order::Strict,
            OrderArg::Weighted => Order::Weighted(self.lanes.iter().map(|lane| lane.weight).collect()),
            OrderArg::Deadline => Order::Deadline,
        })
    }
}

/// A lane to take jobs from: `name` or `name:weight`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneArg {
    /// Its name.
    pub name: String,
    /// Its share with order weighted, 1..=100.
    pub weight: u32,
}

impl FromStr for LaneArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, weight) = match text.split_once(':') {
            Some((name, weight)) => (name, weight.parse().ok().filter(|weight| (1..=100).contains(weight))),
            None => (text, Some(1)),
        };
        match weight {
            Some(weight) if !name.is_empty() => Ok(Self { name: name.to_owned(), weight }),
            _ => Err("expected a lane, or a lane and its weight from 1 to 100, such as mails:6".to_owned()),
        }
    }
}

/// Which lane goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OrderArg {
    /// As listed.
    Strict,
    /// By weight.
    Weighted,
    /// The lane closest to the end of its promise.
    Deadline,
}

/// A Redis URL that never shows its password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(pub String);

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let schemes = ["redis://", "rediss://", "redis+unix://", "unix://"];
        if schemes.iter().any(|scheme| url.starts_with(scheme)) {
            Ok(Self(url.to_owned()))
        } else {
            Err("expected redis://, rediss:// or redis+unix://".to_owned())
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        write!(f, "{scheme}://{}", place.split('?').next().unwrap_or_default())
    }
}

/// Where probes are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// There.
    On(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::On).map_err(|_| "expected address:port or \"off\"".to_owned())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On(address) => address.fmt(f),
        }
    }
}

fn duration(text: &str) -> Result<Duration, lanekeeper_api::duration::DurationError> {
    lanekeeper_api::duration::Duration::parse(text).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(extra: &[&str]) -> Result<RunArgs, clap::Error> {
        let basis =
            ["w", "--redis-url", "redis://u:pw@h:6379/0?x=pw", "--queue", "apps/saas", "--lanes", "a,b"];
        Cli::try_parse_from(basis.iter().chain(extra)).map(|cli| cli.run)
    }

    #[test]
    fn settings_parse_and_have_defaults() {
        let args = parse(&["--drain-timeout", "90s"]).unwrap();
        assert_eq!(
            args.lanes.iter().map(|lane| (lane.name.as_str(), lane.weight)).collect::<Vec<_>>(),
            [("a", 1), ("b", 1)]
        );
        assert_eq!(args.lane_order().unwrap(), Order::Strict);
        assert_eq!(args.concurrency, 10);
        assert_eq!(args.drain_timeout, Duration::from_secs(90));
        assert_eq!(args.queue.to_string(), "apps/saas");
        assert_eq!(parse(&["--listen", "off"]).unwrap().listen, Listen::Off);
    }

    #[test]
    fn lanes_have_weights_where_the_order_is_by_weight() {
        // As the operator writes it, and as people would.
        for order in ["Weighted", "weighted"] {
            let args = parse(&["--lanes", "c:6", "--order", order]).unwrap();
            assert_eq!(args.lane_order().unwrap(), Order::Weighted(vec![1, 1, 6]));
        }
        let args = parse(&["--order", "Deadline"]).unwrap();
        assert_eq!(args.lane_order().unwrap(), Order::Deadline);
        let error = parse(&["--lanes", "c:6"]).unwrap().lane_order().unwrap_err().to_string();
        assert!(error.contains("c:6") && error.contains("weighted"), "{error}");
        for wrong in ["c:0", "c:101", "c:", ":3", "c:x", ""] {
            assert!(parse(&["--lanes", wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_redis_url_shows_no_password() {
        assert_eq!(format!("{:?}", parse(&[]).unwrap().redis_url), "redis://h:6379/0");
    }

    #[test]
    fn unusable_settings_are_refused() {
        for wrong in [
            ["--concurrency", "0"],
            ["--drain-timeout", "60"],
            ["--drain-timeout", "1w"],
            ["--listen", "8081"],
            ["--order", "random"],
        ] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
        assert!(parse(&["--queue", "saas"]).is_err() && "a/b/c".parse::<QueueName>().is_err());
        assert!("http://h".parse::<RedisUrl>().is_err());
    }
}
