//! From manifests to what must run: pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lanekeeper_api::job_queue::{JobQueue, SecretKeyRef};
use lanekeeper_api::manifest::{self, Manifests};
use lanekeeper_api::policy::{Handler, QueuePolicy, SecretKey, Source};
use lanekeeper_api::validate::{self, PoolPlan};
use lanekeeper_api::worker_pool::WorkerPool;
use lanekeeper_queue::{QueueName, RedisOptions};

use super::{LocalError, LocalOptions};
use crate::autoscale::PoolSpec;
use crate::platform::PoolRef;
use crate::platform::host::PoolSetup;

/// What must run.
#[derive(Debug, Clone, Default)]
pub(super) struct Desired {
    pub(super) queues: BTreeMap<QueueName, DesiredQueue>,
    pub(super) pools: BTreeMap<PoolRef, DesiredPool>,
    /// Files to write before anything runs.
    pub(super) files: BTreeMap<PathBuf, Vec<u8>>,
}

/// A queue to look after.
#[derive(Debug, Clone)]
pub(super) struct DesiredQueue {
    /// Its policy; the source is stamped when it is applied.
    pub(super) policy: QueuePolicy,
    pub(super) redis: RedisOptions,
    pub(super) allow_unsafe: bool,
}

/// A pool to run.
#[derive(Debug, Clone)]
pub(super) struct DesiredPool {
    pub(super) spec: PoolSpec,
    pub(super) setup: PoolSetup,
}

/// How workers reach a queue's Redis.
struct WorkerRedis {
    url: String,
    ca_file: Option<PathBuf>,
}

/// What the manifests ask for, or everything that is wrong with them.
pub(super) fn plan(manifests: &Manifests, options: &LocalOptions) -> Result<Desired, LocalError> {
    let checked = manifest::check(manifests, true);
    if !checked.errors.is_empty() {
        return Err(LocalError::Manifests(checked.errors));
    }
    let mut desired = Desired::default();
    let mut reach = BTreeMap::new();
    for queue in &manifests.queues {
        // `check` has found every problem there is, so nothing is left out here.
        let Ok(policy) = validate::job_queue(queue, nobody()) else { continue };
        let namespace = queue.metadata.namespace.as_deref().unwrap_or("default");
        let name = QueueName::new(namespace, queue.metadata.name.as_deref().unwrap_or_default());
        signing_files(manifests, namespace, &policy, &options.secrets_dir, &mut desired.files)?;
        let (redis, worker) = redis_of(manifests, namespace, queue, options, &mut desired.files)?;
        let allow_unsafe = match &queue.spec.redis {
            Some(spec) if spec.admin_secret_ref.is_some() => spec.allow_unsafe,
            Some(spec) => spec.allow_unsafe || options.allow_unsafe,
            None => options.allow_unsafe,
        };
        reach.insert(policy.queue.clone(), (policy.clone(), worker));
        desired.queues.insert(name, DesiredQueue { policy, redis, allow_unsafe });
    }
    for pool in &manifests.pools {
        let Ok(plan) = validate::worker_pool(pool) else { continue };
        let Some((policy, worker)) = reach.get(&plan.queue) else { continue };
        let setup = setup(pool, &plan, policy, worker, options);
        let spec = PoolSpec::from(&plan);
        desired.pools.insert(spec.pool.clone(), DesiredPool { spec, setup });
    }
    Ok(desired)
}

/// A policy without an owner yet.
fn nobody() -> Source {
    Source { owner: String::new(), uid: String::new(), created_ms: 0, generation: 0 }
}

/// The Redis of a queue for us and for its workers. Locally nobody makes ACL users: without a `workerSecretRef`
/// workers use the URL that we use.
fn redis_of(
    manifests: &Manifests,
    namespace: &str,
    queue: &JobQueue,
    options: &LocalOptions,
    files: &mut BTreeMap<PathBuf, Vec<u8>>,
) -> Result<(RedisOptions, WorkerRedis), LocalError> {
    let spec = queue.spec.redis.clone().unwrap_or_default();
    let text = |reference: &SecretKeyRef| {
        value(manifests, namespace, &reference.name, &reference.key)
            .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    let ca_pem = match &spec.ca_secret_ref {
        Some(ca) => value(manifests, namespace, &ca.name, &ca.key),
        None if spec.admin_secret_ref.is_none() => options.redis.ca_pem.clone(),
        None => None,
    };
    let url = spec.admin_secret_ref.as_ref().and_then(text).unwrap_or_else(|| options.redis.url.clone());
    let worker_url = spec.worker_secret_ref.as_ref().and_then(text).unwrap_or_else(|| url.clone());
    let ca_file = match &ca_pem {
        Some(pem) => {
            let name = queue.metadata.name.as_deref().unwrap_or_default();
            let path = options.secrets_dir.join(namespace).join(".redis-ca").join(file_name(name)?);
            files.insert(path.clone(), pem.clone());
            Some(path)
        }
        None => None,
    };
    Ok((RedisOptions { url, ca_pem }, WorkerRedis { url: worker_url, ca_file }))
}

/// The signing secrets that a queue's handlers name, and no other.
fn signing_files(
    manifests: &Manifests,
    namespace: &str,
    policy: &QueuePolicy,
    dir: &Path,
    files: &mut BTreeMap<PathBuf, Vec<u8>>,
) -> Result<(), LocalError> {
    for job_type in policy.job_types.values() {
        let Handler::Http(handler) = &job_type.handler else { continue };
        let Some(SecretKey { name, key }) = &handler.signing else { continue };
        if let Some(secret) = value(manifests, namespace, name, key) {
            let path = dir.join(namespace).join(file_name(name)?).join(file_name(key)?);
            files.insert(path, secret);
        }
    }
    Ok(())
}

fn value(manifests: &Manifests, namespace: &str, name: &str, key: &str) -> Option<Vec<u8>> {
    manifests.secret(namespace, name)?.data.get(key).cloned()
}

/// The grammar of Secret names and keys; anything else could leave the directory.
fn file_name(name: &str) -> Result<&str, LocalError> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if plain && !name.is_empty() && !name.chars().all(|c| c == '.') {
        Ok(name)
    } else {
        Err(LocalError::SecretName(name.to_owned()))
    }
}

fn setup(
    pool: &WorkerPool,
    plan: &PoolPlan,
    policy: &QueuePolicy,
    worker: &WorkerRedis,
    options: &LocalOptions,
) -> PoolSetup {
    let drain_ms = plan.drain_timeout_ms(policy);
    let mut env = BTreeMap::new();
    // What people declare comes first, so that it never replaces what a worker needs.
    for declared in &pool.spec.template.env {
        if let Some(value) = &declared.value {
            env.insert(declared.name.clone(), value.clone());
        }
    }
    let mut set = |key: &str, value: String| env.insert(key.to_owned(), value);
    set("LANEKEEPER_LISTEN", "off".to_owned());
    for (key, value) in &options.worker_env {
        set(key, value.clone());
    }
    set("LANEKEEPER_REDIS_URL", worker.url.clone());
    if let Some(file) = &worker.ca_file {
        set("LANEKEEPER_REDIS_CA_FILE", file.display().to_string());
    }
    set("LANEKEEPER_QUEUE", plan.queue.clone());
    set("LANEKEEPER_LANES", plan.worker_lanes());
    set("LANEKEEPER_ORDER", plan.order.as_str().to_owned());
    set("LANEKEEPER_CONCURRENCY", plan.concurrency.to_string());
    set("LANEKEEPER_DRAIN_TIMEOUT", format!("{}s", drain_ms.div_ceil(1_000)));
    set("LANEKEEPER_SECRETS_DIR", options.secrets_dir.join(&plan.namespace).display().to_string());
    PoolSetup { env, drain_timeout: Duration::from_millis(drain_ms) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::host::WorkerCommand;

    const MANIFESTS: &str = "apiVersion: v1
kind: Secret
metadata: {name: mailer, namespace: apps}
stringData: {hmac: whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz, other: unused}
---
apiVersion: v1
kind: Secret
metadata: {name: redis, namespace: apps}
stringData: {url: 'redis://admin:a@redis.example:6379', worker-url: 'redis://worker:w@redis.example:6379'}
---
apiVersion: lanekeeper.dev/v1beta1
kind: JobQueue
metadata: {name: test, namespace: apps}
spec:
  redis:
    adminSecretRef: {name: redis, key: url}
    workerSecretRef: {name: redis, key: worker-url}
  lanes: [{name: fast, startWithin: 2s}, {name: slow, startWithin: 60s}]
  jobTypes:
  - name: mail
    lane: fast
    timeout: 90s
    handler: {http: {url: 'http://mailer.example/jobs', signing: {secretRef: {name: mailer, key: hmac}}}}
---
apiVersion: lanekeeper.dev/v1beta1
kind: WorkerPool
metadata: {name: fast, namespace: apps}
spec:
  queue: test
  lanes: [{name: slow}, {name: fast, weight: 3}]
  order: Weighted
  template: {env: [{name: TZ, value: UTC}]}
";

    fn options(manifests: Manifests) -> LocalOptions {
        LocalOptions {
            manifests,
            redis: RedisOptions::new("redis://default.example"),
            allow_unsafe: true,
            worker: WorkerCommand { exe: "worker".into(), args: Vec::new() },
            worker_env: vec![("LANEKEEPER_LOG_FORMAT".into(), "json".into())],
            worker_log_dir: "logs".into(),
            secrets_dir: "secrets".into(),
            node: "here".into(),
            tick: Duration::from_secs(1),
        }
    }

    fn planned() -> Desired {
        let manifests = manifest::parse(&[("all.yaml", MANIFESTS)]).expect("the manifests are good");
        plan(&manifests, &options(manifests.clone())).expect("they can work")
    }

    #[test]
    fn only_the_secrets_that_handlers_name_are_written() {
        let files: Vec<_> = planned().files.into_keys().collect();
        assert_eq!(files, [Path::new("secrets/apps/mailer/hmac")]);
    }

    #[test]
    fn workers_get_their_own_url_and_what_they_need() {
        let planned = planned();
        let queue = planned.queues.values().next().expect("one queue");
        assert_eq!(queue.redis.url, "redis://admin:a@redis.example:6379");
        assert!(!queue.allow_unsafe, "what is allowed for the default Redis is not allowed for this one");
        let pool = planned.pools.values().next().expect("one pool");
        let env = |key: &str| pool.setup.env.get(key).map(String::as_str);
        assert_eq!(env("LANEKEEPER_REDIS_URL"), Some("redis://worker:w@redis.example:6379"));
        assert_eq!(env("LANEKEEPER_LANES"), Some("slow,fast:3"));
        assert_eq!(env("LANEKEEPER_ORDER"), Some("Weighted"));
        assert_eq!(env("LANEKEEPER_DRAIN_TIMEOUT"), Some("90s"));
        assert_eq!(env("LANEKEEPER_SECRETS_DIR"), Some("secrets/apps"));
        assert_eq!((env("LANEKEEPER_LISTEN"), env("TZ")), (Some("off"), Some("UTC")));
    }

    #[test]
    fn no_secret_leaves_its_directory() {
        for name in ["..", ".", "", "a/b", "../x", "a\0b"] {
            assert!(file_name(name).is_err(), "{name:?}");
        }
        assert!(file_name(".dockerconfigjson").is_ok() && file_name("ca.crt").is_ok());
    }
}
