//! Finds what a pool refers to: its queue, the workers' credentials, signing Secrets.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Api;
use kube::runtime::reflector::ObjectRef;
use lanekeeper_api::job_queue::JobQueue;
use lanekeeper_api::policy::{Handler, QueuePolicy, SecretKey};

use super::build::Credentials;
use crate::job_queue::credentials::{self, Location};
use crate::job_queue::dereference::{secret, value};
use crate::job_queue::validate;
use crate::kubernetes::call::{CallError, call};
use crate::kubernetes::conditions::{is_true, kind, reason};
use crate::kubernetes::context::Context;
use crate::kubernetes::names::checksum;
use crate::kubernetes::stores::AnyQueue;

/// The queue of a pool.
#[derive(Debug, Clone)]
pub enum QueueFound {
    /// It can be worked for.
    Found {
        /// What it means.
        policy: Arc<QueuePolicy>,
        /// Where its workers' credentials lie.
        location: Location,
        /// Its own condition Ready, where that is not true: reason and message.
        not_ready: Option<(String, String)>,
    },
    /// It is not there, or going: reason and message.
    Gone(&'static str, String),
    /// It is there and cannot be read: reason and message.
    Unusable(&'static str, String),
}

/// Finds the queue.
///
/// # Errors
/// When the API server fails.
pub async fn queue(ctx: &Context, namespace: &str, name: &str) -> Result<QueueFound, CallError> {
    let Some(object) = find(ctx, namespace, name).await? else {
        let message = format!("spec.queue: there is no JobQueue {name:?} in namespace {namespace:?}");
        return Ok(QueueFound::Gone(reason::QUEUE_NOT_FOUND, message));
    };
    Ok(judge(&object, &ctx.settings.owner))
}

/// What a queue object means for its pools. Pure.
fn judge(object: &AnyQueue, owner: &str) -> QueueFound {
    let queue = match &object.0 {
        Ok(queue) => queue,
        Err(invalid) => {
            let message =
                format!("the JobQueue does not fit this version of the operator: {}", invalid.error);
            return QueueFound::Unusable(reason::QUEUE_NOT_READY, message);
        }
    };
    if queue.metadata.deletion_timestamp.is_some() {
        return QueueFound::Gone(reason::QUEUE_DELETED, "the JobQueue is being deleted".to_owned());
    }
    match validate::validate(queue, owner) {
        Ok(policy) => QueueFound::Found {
            policy: Arc::new(policy),
            location: credentials::location(queue),
            not_ready: not_ready(queue),
        },
        Err(invalid) => QueueFound::Unusable(
            reason::QUEUE_NOT_READY,
            format!("the JobQueue is invalid: {}. Running workers stay as they are", invalid.message),
        ),
    }
}

fn not_ready(queue: &JobQueue) -> Option<(String, String)> {
    let conditions = queue.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    if is_true(conditions, kind::READY) {
        return None;
    }
    let said = queue.condition(kind::READY).map_or_else(
        || "the operator has not looked at it yet".to_owned(),
        |ready| format!("{}: {}", ready.reason, ready.message),
    );
    Some((reason::QUEUE_NOT_READY.to_owned(), format!("the JobQueue is not ready: {said}")))
}

/// From the cache, and from the API server before it counts as missing: replicas hang on it.
async fn find(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Arc<AnyQueue>>, CallError> {
    let cached = ctx.stores.queues.get(&ObjectRef::new(name).within(namespace));
    if cached.is_some() {
        return Ok(cached);
    }
    let api: Api<AnyQueue> = Api::namespaced(ctx.client.clone(), namespace);
    Ok(call(format!("read jobqueue {namespace}/{name}"), api.get_opt(name)).await?.map(Arc::new))
}

/// The workers' credentials, with a checksum of their contents. `Err` in `Ok`: what is missing.
///
/// # Errors
/// When the API server fails.
pub async fn workers_credentials(
    ctx: &Context,
    namespace: &str,
    at: &Location,
) -> Result<Result<Credentials, String>, CallError> {
    let Some(found) = secret(ctx, namespace, &at.url.name).await? else {
        return Ok(Err(format!("Secret {:?} with the workers' Redis URL does not exist (yet)", at.url.name)));
    };
    let Some(url) = value(&found, &at.url.key) else {
        return Ok(Err(format!("Secret {:?} has no key {:?}", at.url.name, at.url.key)));
    };
    let mut contents = url.to_vec();
    let mut ca = None;
    if let Some(wanted) = &at.ca {
        let holder = if wanted.name == at.url.name {
            Some(found.clone())
        } else {
            secret(ctx, namespace, &wanted.name).await?
        };
        match holder.as_ref().and_then(|holder| value(holder, &wanted.key)) {
            Some(pem) => {
                contents.push(0);
                contents.extend_from_slice(pem);
                ca = Some(wanted.clone());
            }
            // A Secret of our own has one only where Redis has.
            None if at.managed => {}
            None => return Ok(Err(format!("Secret {:?} has no key {:?}", wanted.name, wanted.key))),
        }
    }
    Ok(Ok(Credentials { url: at.url.clone(), ca, checksum: checksum(&contents) }))
}

/// The signing keys of handlers in these lanes.
#[must_use]
pub fn signing_keys(policy: &QueuePolicy, lanes: &[String]) -> BTreeSet<SecretKey> {
    let types = lanes.iter().flat_map(|lane| policy.types_in(lane));
    types
        .filter_map(|(_, job_type)| match &job_type.handler {
            Handler::Http(http) => http.signing.clone(),
            Handler::Exec(_) => None,
        })
        .collect()
}

/// Which of these keys are not there, in one sentence.
///
/// # Errors
/// When the API server fails.
pub async fn missing_signing_keys(
    ctx: &Context,
    namespace: &str,
    keys: &BTreeSet<SecretKey>,
) -> Result<Option<String>, CallError> {
    let mut missing = Vec::new();
    for key in keys {
        let found = secret(ctx, namespace, &key.name).await?;
        if found.as_ref().and_then(|found| value(found, &key.key)).is_none() {
            missing.push(format!("{:?} in Secret {:?}", key.key, key.name));
        }
    }
    Ok((!missing.is_empty()).then(|| {
        format!(
            "signing keys of handlers are missing: {}; their jobs fail until they are there",
            missing.join(", ")
        )
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(metadata: Value, status: Value) -> AnyQueue {
        let mut metadata = metadata;
        metadata["name"] = json!("saas");
        metadata["namespace"] = json!("apps");
        serde_json::from_value(json!({
            "apiVersion": "lanekeeper.dev/v1beta1", "kind": "JobQueue", "metadata": metadata, "status": status,
            "spec": {
                "lanes": [{"name": "fast"}, {"name": "slow"}],
                "jobTypes": [
                    {"name": "a", "lane": "fast", "handler": {"http": {"url": "http://h/j",
                        "signing": {"secretRef": {"name": "mailer", "key": "hmac"}}}}},
                    {"name": "b", "lane": "slow", "handler": {"http": {"url": "http://h/j",
                        "signing": {"secretRef": {"name": "other", "key": "hmac"}}}}}
                ]}
        }))
        .unwrap()
    }

    fn condition(status: &str) -> Value {
        json!({"conditions": [{"type": "Ready", "status": status, "reason": "R", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    }

    #[test]
    fn a_ready_queue_can_be_worked_for() {
        let found = judge(&object(json!({}), condition("True")), "o");
        assert!(matches!(found, QueueFound::Found { not_ready: None, .. }), "{found:?}");
    }

    #[test]
    fn a_queue_that_is_not_ready_says_why() {
        let QueueFound::Found { not_ready: Some((reason, message)), .. } =
            judge(&object(json!({}), condition("False")), "o")
        else {
            panic!("found, and not ready");
        };
        assert_eq!(reason, "QueueNotReady");
        assert!(message.contains("R: m"), "{message}");
    }

    #[test]
    fn a_queue_that_is_going_is_gone() {
        let going = object(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), json!({}));
        assert!(matches!(judge(&going, "o"), QueueFound::Gone(reason::QUEUE_DELETED, _)));
    }

    #[test]
    fn only_the_signing_keys_of_the_pools_lanes_count() {
        let QueueFound::Found { policy, .. } = judge(&object(json!({}), condition("True")), "o") else {
            panic!("found");
        };
        let keys = signing_keys(&policy, &["fast".to_owned()]);
        assert_eq!(keys.into_iter().map(|key| key.name).collect::<Vec<_>>(), ["mailer"]);
    }
}
