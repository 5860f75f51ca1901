//! The containers of a worker pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector, Probe,
    SecretKeySelector, SecurityContext, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lanekeeper_api::policy::SecretKey;

use super::{ValidatedPool, volumes};

const PORT: i32 = 8081;
const PORT_NAME: &str = "probes";

/// Copies the worker into the user's image; absent where the generic image runs.
pub(super) fn init(pool: &ValidatedPool) -> Option<Container> {
    pool.template.image.as_ref()?;
    Some(Container {
        name: "lanekeeper-copy".to_owned(),
        image: Some(pool.worker_image.image.clone()),
        image_pull_policy: pool.worker_image.pull_policy.clone(),
        args: Some(vec!["copy".to_owned(), volumes::WORKER_BINARY.to_owned()]),
        // As the worker's own: the pod needs no more than before, and quotas that ask for figures are met.
        resources: pool.template.resources.clone(),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![volumes::binary_mount(false)]),
        ..Container::default()
    })
}

/// Takes jobs and runs their handlers.
pub(super) fn worker(pool: &ValidatedPool) -> Container {
    let template = &pool.template;
    let injected = template.image.is_some();
    let image = template.image.clone().unwrap_or_else(|| pool.worker_image.image.clone());
    let own_policy = template.image_pull_policy.map(|policy| policy.as_str().to_owned());
    Container {
        name: "worker".to_owned(),
        image: Some(image),
        image_pull_policy: own_policy.or_else(|| pool.worker_image.pull_policy.clone().filter(|_| !injected)),
        command: injected.then(|| vec![volumes::WORKER_BINARY.to_owned()]),
        args: Some(vec!["run".to_owned()]),
        env: Some(environment(pool)),
        env_from: (!template.env_from.is_empty()).then(|| template.env_from.clone()),
        ports: Some(vec![ContainerPort {
            name: Some(PORT_NAME.to_owned()),
            container_port: PORT,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: template.resources.clone(),
        security_context: Some(restricted()),
        // Looked at every second, so that a worker counts as soon as it claims.
        readiness_probe: Some(probe("/readyz", 1, 5)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        volume_mounts: Some(mounts(pool)),
        ..Container::default()
    }
}

fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(PORT_NAME.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

/// The user's environment, and the operator's after it; validation keeps `LANEKEEPER_*` out of the first.
fn environment(pool: &ValidatedPool) -> Vec<EnvVar> {
    let mut env = pool.template.env.clone();
    env.extend([
        from_secret("LANEKEEPER_REDIS_URL", &pool.credentials.url),
        plain("LANEKEEPER_QUEUE", format!("{}/{}", pool.namespace, pool.queue)),
        plain("LANEKEEPER_POOL", pool.name.clone()),
        plain("LANEKEEPER_LANES", pool.lanes.clone()),
        plain("LANEKEEPER_ORDER", pool.order.as_str().to_owned()),
        plain("LANEKEEPER_CONCURRENCY", pool.concurrency.to_string()),
        plain("LANEKEEPER_DRAIN_TIMEOUT", duration(pool.drain_timeout)),
        from_field("LANEKEEPER_WORKER_NAME", "metadata.name"),
        from_field("LANEKEEPER_NODE", "spec.nodeName"),
        plain("LANEKEEPER_LISTEN", format!("0.0.0.0:{PORT}")),
        plain("LANEKEEPER_SECRETS_DIR", volumes::SIGNING_DIR.to_owned()),
        plain("LANEKEEPER_LOG_FORMAT", "json".to_owned()),
    ]);
    if pool.credentials.ca.is_some() {
        env.push(plain("LANEKEEPER_REDIS_CA_FILE", volumes::CA_FILE.to_owned()));
    }
    env
}

/// As the workers' flag reads it: whole seconds where they are whole.
fn duration(value: Duration) -> String {
    if value.subsec_millis() == 0 {
        format!("{}s", value.as_secs())
    } else {
        format!("{}ms", value.as_millis())
    }
}

fn plain(name: &str, value: String) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { field_path: path.to_owned(), api_version: Some("v1".to_owned()) };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

fn from_secret(name: &str, secret: &SecretKey) -> EnvVar {
    let key = SecretKeySelector { name: secret.name.clone(), key: secret.key.clone(), optional: None };
    let source = EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

fn mounts(pool: &ValidatedPool) -> Vec<VolumeMount> {
    let mut mounts = pool.template.volume_mounts.clone();
    mounts.extend(volumes::own_mounts(pool));
    mounts
}

#[cfg(test)]
mod tests {
    use super::super::tests::pool;
    use super::*;

    fn with_image() -> ValidatedPool {
        let mut pool = pool();
        pool.template.image = Some("app:2".to_owned());
        pool
    }

    fn value<'a>(container: &'a Container, name: &str) -> &'a EnvVar {
        container.env.as_ref().unwrap().iter().find(|env| env.name == name).unwrap()
    }

    #[test]
    fn the_generic_image_runs_by_its_own_entry_point() {
        let container = worker(&pool());
        assert_eq!(container.image.as_deref(), Some("worker:1"));
        assert_eq!(container.command, None);
        assert_eq!(init(&pool()), None);
    }

    #[test]
    fn the_worker_is_copied_into_another_image() {
        let pool = with_image();
        let (init, container) = (init(&pool).unwrap(), worker(&pool));
        assert_eq!(init.image.as_deref(), Some("worker:1"));
        assert_eq!(init.args.unwrap(), ["copy", "/lanekeeper/lanekeeper-worker"]);
        assert_eq!(container.image.as_deref(), Some("app:2"));
        assert_eq!(container.command.unwrap(), ["/lanekeeper/lanekeeper-worker"]);
    }

    #[test]
    fn the_workers_pull_policy_is_not_forced_on_another_image() {
        let mut pool = with_image();
        pool.worker_image.pull_policy = Some("Never".to_owned());
        assert_eq!(worker(&pool).image_pull_policy, None);
        assert_eq!(init(&pool).unwrap().image_pull_policy.as_deref(), Some("Never"));
        pool.template.image = None;
        assert_eq!(worker(&pool).image_pull_policy.as_deref(), Some("Never"));
    }

    #[test]
    fn both_containers_are_locked_down() {
        let pool = with_image();
        for container in [init(&pool).unwrap(), worker(&pool)] {
            let context = container.security_context.unwrap();
            assert_eq!(context.allow_privilege_escalation, Some(false));
            assert_eq!(context.read_only_root_filesystem, Some(true));
            assert_eq!(context.capabilities.unwrap().drop.unwrap(), ["ALL"]);
        }
    }

    #[test]
    fn the_environment_says_who_and_what() {
        let container = worker(&pool());
        assert_eq!(value(&container, "LANEKEEPER_QUEUE").value.as_deref(), Some("apps/saas"));
        assert_eq!(value(&container, "LANEKEEPER_LANES").value.as_deref(), Some("user-fast:6,user-medium:3"));
        assert_eq!(value(&container, "LANEKEEPER_ORDER").value.as_deref(), Some("Weighted"));
        assert_eq!(value(&container, "LANEKEEPER_DRAIN_TIMEOUT").value.as_deref(), Some("60s"));
        let url = value(&container, "LANEKEEPER_REDIS_URL").value_from.as_ref().unwrap();
        assert_eq!(url.secret_key_ref.as_ref().unwrap().name, "saas-lanekeeper-worker");
        let name = value(&container, "LANEKEEPER_WORKER_NAME").value_from.as_ref().unwrap();
        assert_eq!(name.field_ref.as_ref().unwrap().field_path, "metadata.name");
        assert!(!container.env.as_ref().unwrap().iter().any(|env| env.name == "LANEKEEPER_REDIS_CA_FILE"));
    }

    #[test]
    fn a_drain_of_part_seconds_is_passed_on_exactly() {
        assert_eq!(duration(Duration::from_millis(1500)), "1500ms");
    }
}
