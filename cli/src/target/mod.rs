//! Which Redis and which queue a command speaks to: `--context`, else `--redis`, else the local mode running here,
//! else the kubeconfig's present context.

pub(crate) mod forward;
pub(crate) mod kubernetes;

use std::str::FromStr;

use lanekeeper_queue::client::RedisOptions;
use lanekeeper_queue::{Queue, QueueName};

use crate::args::{QueueArgs, WhereArgs};
use crate::failure::{Failure, Result};
use crate::local::state::{self, Found, UpState};
use crate::redact::redact;

/// Where jobs live.
pub(crate) enum Target {
    /// A Redis named by hand.
    Redis(RedisOptions),
    /// The local mode that runs in the state directory.
    Local(Box<UpState>),
    /// A cluster.
    Kubernetes(Box<kubernetes::Cluster>),
}

/// A queue that a command speaks to.
pub(crate) struct Opened {
    /// The queue.
    pub(crate) queue: Queue,
    /// Where it is, for the views that `why` and `status` add.
    pub(crate) target: Target,
    /// Where it is, for people; no password.
    pub(crate) whereabouts: String,
    /// Keeps the way to a Redis inside a cluster open.
    _forward: Option<forward::Forward>,
}

impl Opened {
    /// Turns an error of this queue into a failure.
    pub(crate) fn failure(&self, error: &lanekeeper_queue::client::Error) -> Failure {
        Failure::queue(error, &self.whereabouts)
    }
}

/// Decides where to look.
pub(crate) async fn choose(place: &WhereArgs) -> Result<Target> {
    if place.context.is_none() {
        if let Some(url) = &place.redis {
            return Ok(Target::Redis(redis_options(url, place)?));
        }
        let root = place.state.display();
        match state::find(&place.state)? {
            Found::Running(up) => return Ok(Target::Local(up)),
            Found::Starting => {
                return Err(Failure::unreachable(format!("the local mode in {root} is still starting"))
                    .advice("try again in a moment"));
            }
            // Going on to a cluster by accident would be worse than asking.
            Found::Stale => {
                return Err(Failure::unreachable(format!(
                    "the local mode in {root} is not running; it was killed"
                ))
                .advice(
                    "start it again with `lanekeeper up`, or say where to look with --redis or --context",
                ));
            }
            Found::Absent => {}
        }
    }
    let cluster = kubernetes::Cluster::connect(place.context.as_deref(), place.namespace.as_deref()).await?;
    Ok(Target::Kubernetes(Box::new(cluster)))
}

/// Options for a URL given by hand.
pub(crate) fn redis_options(url: &str, place: &WhereArgs) -> Result<RedisOptions> {
    redis::Client::open(url).map_err(|error| {
        Failure::invalid(format!("`{}` is not a Redis URL: {}", redact(url), redact(&error.to_string())))
            .advice("write redis://HOST:PORT, rediss://HOST:PORT or redis+unix:///PATH, with USER:PASSWORD@ before the host if needed")
    })?;
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path)
            .map_err(|error| Failure::invalid(format!("cannot read --redis-ca {}: {error}", path.display())))
    };
    let ca_pem = place.redis_ca.as_ref().map(read).transpose()?;
    Ok(RedisOptions { url: url.to_owned(), ca_pem })
}

/// Fails when something else than a Redis answers: a connection alone does not tell, and what is asked first may
/// take any error for a refusal.
pub(crate) async fn require_redis(mut conn: redis::aio::ConnectionManager, whereabouts: &str) -> Result<()> {
    match redis::cmd("PING").exec_async(&mut conn).await {
        Err(error) if error.kind() == redis::ErrorKind::Parse => Err(Failure::redis(&error, whereabouts)),
        // Whatever else is wrong, the next command tells better.
        _ => Ok(()),
    }
}

/// Connects to the queue of the arguments.
pub(crate) async fn open(args: &QueueArgs) -> Result<Opened> {
    let target = choose(&args.place).await?;
    let wanted = wanted(args, &target)?;
    let (name, options, whereabouts, forward) = match &target {
        Target::Redis(options) => {
            let whereabouts = redact(&options.url);
            let name = match wanted {
                Some(name) => name,
                None => only(queues_in(options, &whereabouts).await?, &whereabouts)?,
            };
            (name, options.clone(), whereabouts, None)
        }
        Target::Local(up) => {
            let names = up.queues.keys().filter_map(|name| QueueName::from_str(name).ok()).collect();
            let name = match wanted {
                Some(name) => known(name, names, "the local mode")?,
                None => only(names, "the local mode")?,
            };
            let url = up.redis_of(&name.to_string()).to_owned();
            let whereabouts = format!("the local mode ({})", redact(&url));
            (name, redis_options(&url, &args.place)?, whereabouts, None)
        }
        Target::Kubernetes(cluster) => {
            let name = match wanted {
                Some(name) => name,
                None => only(cluster.queues().await?, &cluster.describe())?,
            };
            let (options, forward) = cluster.redis_of(&name).await?;
            (name, options, cluster.describe(), forward)
        }
    };
    let queue = Queue::connect(&options, name).await.map_err(|error| Failure::queue(&error, &whereabouts))?;
    Ok(Opened { queue, target, whereabouts, _forward: forward })
}

/// The queue that the arguments name. A bare name is one of the context's namespace, or of the one namespace where the
/// local mode has it.
fn wanted(args: &QueueArgs, target: &Target) -> Result<Option<QueueName>> {
    let Some(text) = &args.queue else { return Ok(None) };
    let given = args.place.namespace.as_deref();
    let namespace = match target {
        Target::Kubernetes(cluster) => Some(cluster.namespace()),
        Target::Local(up) if given.is_none() => {
            let mut homes =
                up.queues.keys().filter_map(|name| name.split_once('/').filter(|(_, plain)| plain == text));
            homes.next().filter(|_| homes.next().is_none()).map(|(namespace, _)| namespace)
        }
        _ => given,
    };
    queue_name(text, namespace).map(Some)
}

/// `NAMESPACE/NAME`, or `NAME` in the namespace given or `default`.
pub(crate) fn queue_name(text: &str, namespace: Option<&str>) -> Result<QueueName> {
    let full = if text.contains('/') {
        text.to_owned()
    } else {
        format!("{}/{text}", namespace.unwrap_or("default"))
    };
    QueueName::from_str(&full).map_err(|error| {
        Failure::invalid(format!("`{text}` is not the name of a queue: {error}"))
            .advice("write -q NAMESPACE/NAME, or -n NAMESPACE -q NAME")
    })
}

/// The queues in a Redis.
async fn queues_in(options: &RedisOptions, whereabouts: &str) -> Result<Vec<QueueName>> {
    // Any name will do to connect: listing looks at the whole Redis.
    let any = Queue::connect(options, QueueName::new("default", "default")).await;
    let any = any.map_err(|error| Failure::queue(&error, whereabouts))?;
    lanekeeper_queue::client::queues(&mut any.connection())
        .await
        .map_err(|error| Failure::queue(&error, whereabouts))
}

/// The only one of `names`; otherwise the failure lists them.
fn only(mut names: Vec<QueueName>, whereabouts: &str) -> Result<QueueName> {
    names.sort();
    match names.len() {
        0 => Err(Failure::not_found(format!("there is no queue in {whereabouts}"))
            .advice("load a JobQueue: with `lanekeeper apply -f FILE` into a Redis, with `kubectl apply` into a cluster (-n names the namespace)")),
        1 => Ok(names.remove(0)),
        n => Err(Failure::invalid(format!("there are {n} queues in {whereabouts}; say which with -q"))
            .details(names.iter().map(ToString::to_string))),
    }
}

fn known(name: QueueName, mut names: Vec<QueueName>, whereabouts: &str) -> Result<QueueName> {
    if names.contains(&name) {
        return Ok(name);
    }
    names.sort();
    Err(Failure::not_found(format!("there is no queue {name} in {whereabouts}; there is:"))
        .details(names.iter().map(ToString::to_string)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_named_with_or_without_its_namespace() {
        assert_eq!(queue_name("apps/saas", None).unwrap().to_string(), "apps/saas");
        assert_eq!(queue_name("saas", Some("apps")).unwrap().to_string(), "apps/saas");
        assert_eq!(queue_name("saas", None).unwrap().to_string(), "default/saas");
        assert!(queue_name("a/b/c", None).is_err());
    }

    #[test]
    fn without_a_name_the_only_queue_is_meant() {
        let (a, b) = (QueueName::new("n", "a"), QueueName::new("n", "b"));
        assert_eq!(only(vec![a.clone()], "here").unwrap(), a);
        let several = only(vec![b, a], "here").unwrap_err();
        assert_eq!(several.exit(), crate::failure::Exit::Invalid);
        assert!(several.to_string().contains("n/a\n  n/b"), "{several}");
        assert_eq!(only(vec![], "here").unwrap_err().exit(), crate::failure::Exit::NotFound);
    }
}
