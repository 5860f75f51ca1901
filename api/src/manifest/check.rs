//! All manifests validated, by themselves and against each other, with the place of every problem.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ManifestError, reason};
use super::locate::{self, Step};
use super::{Loaded, Manifests, Origin};
use crate::job_queue::{HandlerSpec, JobQueue, SecretKeyRef};
use crate::policy::{QueuePolicy, Source};
use crate::validate::{self, Problem, similar};
use crate::worker_pool::WorkerPool;

/// What [`check`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// What must be put right.
    pub errors: Vec<ManifestError>,
    /// What works but is unwise.
    pub warnings: Vec<ManifestError>,
}

/// Validates every queue and pool, pools against their queues, and the Secrets that queues name. With
/// `self_contained`, as in the local mode, what is named must be among the manifests; else only what is there is
/// compared.
#[must_use]
pub fn check(manifests: &Manifests, self_contained: bool) -> Checked {
    let mut checked = Checked::default();
    let mut policies = BTreeMap::new();
    for queue in &manifests.queues {
        let title = format!("JobQueue {}", queue.queue_name());
        match validate::job_queue(queue, nobody()) {
            Ok(policy) => {
                let warnings = validate::job_queue_warnings(queue, &policy);
                checked.warnings.extend(located(&queue.origin, &title, warnings));
                policies.insert(policy.queue.clone(), Some(policy));
            }
            Err(problems) => {
                checked.errors.extend(located(&queue.origin, &title, problems));
                policies.insert(queue.queue_name(), None);
            }
        }
        if self_contained {
            check_secrets(manifests, queue, &title, &mut checked.errors);
        }
    }
    let mut served = BTreeSet::new();
    for pool in &manifests.pools {
        check_pool(pool, &policies, self_contained, &mut checked);
        served.extend(pool.spec.lanes.iter().map(|lane| (pool.queue_name(), lane.name.clone())));
    }
    if self_contained {
        warn_of_unserved(manifests, &policies, &served, &mut checked.warnings);
    }
    checked
}

/// A lane with job types and without a pool only collects jobs.
fn warn_of_unserved(
    manifests: &Manifests,
    policies: &BTreeMap<String, Option<QueuePolicy>>,
    served: &BTreeSet<(String, String)>,
    warnings: &mut Vec<ManifestError>,
) {
    for queue in &manifests.queues {
        let name = queue.queue_name();
        let Some(Some(policy)) = policies.get(&name) else { continue };
        for (index, lane) in policy.lanes.iter().enumerate() {
            let used = policy.types_in(&lane.name).next().is_some();
            if used && !served.contains(&(name.clone(), lane.name.clone())) {
                let path = locate::steps(&format!("spec.lanes[{index}].name"));
                let message = "no WorkerPool among the manifests serves this lane: its jobs will wait";
                let title = format!("JobQueue {name}");
                warnings.push(queue.origin.error(&title, &path, &lane.name, reason::UNSERVED_LANE, message));
            }
        }
    }
}

/// A policy that is only looked at has no owner.
fn nobody() -> Source {
    Source { owner: String::new(), uid: String::new(), created_ms: 0, generation: 0 }
}

fn check_pool(
    pool: &Loaded<WorkerPool>,
    policies: &BTreeMap<String, Option<QueuePolicy>>,
    self_contained: bool,
    checked: &mut Checked,
) {
    let title = format!("WorkerPool {}", pool.pool_name());
    let plan = match validate::worker_pool(pool) {
        Ok(plan) => plan,
        Err(problems) => return checked.errors.extend(located(&pool.origin, &title, problems)),
    };
    match policies.get(&plan.queue) {
        Some(Some(policy)) => {
            let problems = validate::pool_against(&plan, policy).err().unwrap_or_default();
            checked.errors.extend(located(&pool.origin, &title, problems));
            let warnings = validate::pool_warnings(&plan, policy);
            checked.warnings.extend(located(&pool.origin, &title, warnings));
        }
        // Its own errors are enough.
        Some(None) => {}
        None if self_contained => {
            let hint = similar::hint(&plan.queue, policies.keys().map(String::as_str));
            let message = format!("no JobQueue {:?} is among the manifests{hint}", plan.queue);
            let path = locate::steps("spec.queue");
            let error = pool.origin.error(&title, &path, &pool.spec.queue, reason::NOT_FOUND, message);
            checked.errors.push(error);
        }
        None => {}
    }
}

fn located(origin: &Origin, title: &str, problems: Vec<Problem>) -> impl Iterator<Item = ManifestError> {
    problems.into_iter().map(move |problem| {
        let path = locate::steps(&problem.field);
        let mut error = origin.error(title, &path, problem.value, problem.reason, problem.message);
        error.field = problem.field;
        error
    })
}

fn check_secrets(
    manifests: &Manifests,
    queue: &Loaded<JobQueue>,
    title: &str,
    errors: &mut Vec<ManifestError>,
) {
    let namespace = queue.metadata.namespace.as_deref().unwrap_or_default();
    for (field, reference) in references(queue) {
        let secret = manifests.secret(namespace, &reference.name);
        let message = match secret {
            None => format!("no Secret {:?} of namespace {namespace} is among the manifests", reference.name),
            Some(secret) if !secret.data.contains_key(&reference.key) => {
                let hint = similar::hint(&reference.key, secret.data.keys().map(String::as_str));
                format!("the Secret {:?} has no key {:?}{hint}", reference.name, reference.key)
            }
            Some(_) => continue,
        };
        errors.push(queue.origin.error(title, &field, "", reason::NOT_FOUND, message));
    }
}

/// Every Secret key a queue names, with the path of the reference.
fn references(queue: &JobQueue) -> Vec<(Vec<Step>, &SecretKeyRef)> {
    let spec = &queue.spec;
    let redis = spec.redis.iter().flat_map(|redis| {
        [
            ("spec.redis.adminSecretRef".to_owned(), redis.admin_secret_ref.as_ref()),
            ("spec.redis.workerSecretRef".to_owned(), redis.worker_secret_ref.as_ref()),
            ("spec.redis.caSecretRef".to_owned(), redis.ca_secret_ref.as_ref()),
        ]
    });
    let lanes = spec.lanes.iter().enumerate();
    let lanes = lanes.map(|(index, lane)| (format!("spec.lanes[{index}]"), lane.handler.as_ref()));
    let types = spec.job_types.iter().enumerate();
    let types = types.map(|(index, job_type)| (format!("spec.jobTypes[{index}]"), job_type.handler.as_ref()));
    let defaults = [("spec.defaults".to_owned(), spec.defaults.handler.as_ref())];
    let handlers = defaults.into_iter().chain(lanes).chain(types);
    let signing = handlers
        .map(|(field, handler)| (format!("{field}.handler.http.signing.secretRef"), secret_of(handler)));
    let all = redis.chain(signing);
    all.filter_map(|(field, reference)| Some((locate::steps(&field), reference?))).collect()
}

fn secret_of(handler: Option<&HandlerSpec>) -> Option<&SecretKeyRef> {
    Some(&handler?.http.as_ref()?.signing.as_ref()?.secret_ref)
}
