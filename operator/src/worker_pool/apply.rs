//! Applies the objects of a pool, and deletes what is no longer wanted.
//!
//! **Replicas have one owner.** Server-side apply deletes a field that its manager applied before and leaves out now, and
//! a Deployment without `replicas` gets 1. So a new Deployment is applied with 0, the scaler's field manager then
//! takes the field over through `/scale`, and only then is it left out. A run that dies in between is finished by
//! the next one, which sees in `managedFields` who owns the field.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::build::{Resources, ValidatedPool};
use crate::kubernetes::call::{CallError, absent_is_fine, call};
use crate::kubernetes::context::Context;
use crate::kubernetes::names;

/// Everything is applied again after this long, whatever the caches show.
const AGAIN_AFTER_MS: u64 = 5 * 60_000;

/// What was applied last for a pool: the same again is skipped while nobody has touched the Deployment since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    checksum: String,
    generation: i64,
    at_ms: u64,
}

/// Why objects were not applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object of someone else has the name.
    #[error(
        "{kind} {name:?} exists and does not belong to this pool: rename or delete it, or rename the pool"
    )]
    NameTaken {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
    },
    /// The API server says no to what was built from the spec.
    #[error("{0}")]
    Refused(CallError),
    /// The API server failed.
    #[error(transparent)]
    Call(CallError),
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error.code() {
            // Nothing changes by trying again; 404 is a namespace that goes, 409 and 429 pass.
            Some(code @ 400..=499) if !matches!(code, 401 | 404 | 408 | 409 | 429) => Self::Refused(error),
            _ => Self::Call(error),
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// A Deployment was made.
    Created,
    /// Everything was applied to what was there.
    Applied,
    /// Nothing had changed.
    Skipped,
}

/// Applies. `seen` is the Deployment as the cache shows it.
///
/// # Errors
/// When an object cannot be written.
pub async fn apply(
    ctx: &Context,
    pool: &ValidatedPool,
    resources: &Resources,
    seen: Option<&Deployment>,
    now_ms: u64,
) -> Result<Done, Error> {
    let sum = fingerprint(resources);
    let uid = &pool.owner.uid;
    if is_current(ctx.applied.get(uid).as_ref(), &sum, seen, now_ms) {
        return Ok(Done::Skipped);
    }
    // Exhaustive on purpose: a new kind of object cannot be built and then forgotten here.
    let Resources { deployment, service_account, disruption_budget } = resources;
    let name = names::deployment(&pool.name);
    keep_or_prune::<ServiceAccount>(ctx, pool, &name, service_account.as_ref()).await?;
    keep_or_prune::<PodDisruptionBudget>(ctx, pool, &name, disruption_budget.as_ref()).await?;
    // Last: its pods use the account.
    let (generation, done) = apply_deployment(ctx, pool, &name, deployment).await?;
    ctx.applied.set(uid, Applied { checksum: sum, generation, at_ms: now_ms });
    Ok(done)
}

fn fingerprint(resources: &Resources) -> String {
    let Resources { deployment, service_account, disruption_budget } = resources;
    // Objects made of strings, numbers and maps with string keys always serialise.
    let text = serde_json::to_vec(&(deployment, service_account, disruption_budget)).unwrap_or_default();
    names::checksum(&text)
}

/// Whether what was applied last is still what is there. Pure.
fn is_current(last: Option<&Applied>, sum: &str, seen: Option<&Deployment>, now_ms: u64) -> bool {
    let (Some(last), Some(seen)) = (last, seen) else { return false };
    let untouched = seen.metadata.generation.is_some_and(|generation| generation <= last.generation);
    last.checksum == sum && untouched && now_ms.saturating_sub(last.at_ms) < AGAIN_AFTER_MS
}

async fn keep_or_prune<K>(
    ctx: &Context,
    pool: &ValidatedPool,
    name: &str,
    wanted: Option<&K>,
) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &pool.namespace);
    let kind = K::kind(&());
    let there = call(format!("read {kind} {name}"), api.get_opt(name)).await?;
    let ours = there.as_ref().is_some_and(|object| belongs(object, &pool.owner.uid));
    match (wanted, there) {
        (Some(_), Some(_)) if !ours => {
            Err(Error::NameTaken { kind: kind.into_owned(), name: name.to_owned() })
        }
        (Some(object), _) => {
            let params = PatchParams::apply(names::RECONCILER).force();
            let doing = format!("apply {kind} {}/{name}", pool.namespace);
            call(doing, api.patch(name, &params, &Patch::Apply(object))).await?;
            Ok(())
        }
        (None, Some(object)) if ours => {
            let same = Preconditions { uid: object.uid(), resource_version: None };
            let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
            let doing = format!("delete {kind} {}/{name}", pool.namespace);
            Ok(absent_is_fine(call(doing, api.delete(name, &params)).await)?)
        }
        (None, _) => Ok(()),
    }
}

/// Answers the generation and whether the Deployment is new.
async fn apply_deployment(
    ctx: &Context,
    pool: &ValidatedPool,
    name: &str,
    wanted: &Deployment,
) -> Result<(i64, Done), Error> {
    let api: Api<Deployment> = Api::namespaced(ctx.client.clone(), &pool.namespace);
    let there = call(format!("read deployment {}/{name}", pool.namespace), api.get_opt(name)).await?;
    if there.as_ref().is_some_and(|there| !belongs(there, &pool.owner.uid)) {
        return Err(Error::NameTaken { kind: "Deployment".to_owned(), name: name.to_owned() });
    }
    let done = if there.is_some() { Done::Applied } else { Done::Created };
    let there = match there {
        Some(there) => there,
        None => {
            let mut empty = wanted.clone();
            empty.spec.get_or_insert_default().replicas = Some(0);
            patch(&api, name, &empty).await?
        }
    };
    if reconciler_owns_replicas(&there) {
        hand_over_replicas(&api, name, &there).await?;
    }
    // With the uid: a Deployment deleted in between must not be made anew without `replicas`.
    let mut without_replicas = wanted.clone();
    without_replicas.metadata.uid = there.metadata.uid;
    let applied = patch(&api, name, &without_replicas).await?;
    Ok((applied.metadata.generation.unwrap_or(0), done))
}

async fn patch(api: &Api<Deployment>, name: &str, object: &Deployment) -> Result<Deployment, CallError> {
    let params = PatchParams::apply(names::RECONCILER).force();
    call(format!("apply deployment {name}"), api.patch(name, &params, &Patch::Apply(object))).await
}

/// Makes the scaler the owner of `replicas`, at the value that is there.
async fn hand_over_replicas(api: &Api<Deployment>, name: &str, there: &Deployment) -> Result<(), CallError> {
    let replicas = there.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    let scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": name, "namespace": there.metadata.namespace},
        "spec": {"replicas": replicas},
    });
    let params = PatchParams::apply(names::AUTOSCALER).force();
    let doing = format!("hand the replicas of deployment {name} to the scaler");
    call(doing, api.patch_scale(name, &params, &Patch::Apply(&scale))).await.map(|_| ())
}

/// Whether the reconciler's own applied configuration has `spec.replicas`. Pure.
fn reconciler_owns_replicas(deployment: &Deployment) -> bool {
    deployment.managed_fields().iter().any(|entry| {
        entry.manager.as_deref() == Some(names::RECONCILER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.is_none()
            && entry.fields_v1.as_ref().is_some_and(|fields| owns(&fields.0))
    })
}

fn owns(fields: &Value) -> bool {
    fields.get("f:spec").and_then(|spec| spec.get("f:replicas")).is_some()
}

/// Controlled by the object with this uid.
pub(super) fn belongs<K: Resource>(object: &K, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid)
}

#[cfg(test)]
mod tests {
    use super::super::build::build;
    use super::super::build::tests::pool;
    use super::*;

    fn deployment(metadata: Value) -> Deployment {
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn the_same_again_is_skipped_until_someone_touches_it_or_time_passes() {
        let last = Applied { checksum: "a".to_owned(), generation: 3, at_ms: 1_000 };
        let at = |generation: i64| deployment(json!({"generation": generation}));
        assert!(is_current(Some(&last), "a", Some(&at(3)), 2_000));
        assert!(!is_current(Some(&last), "a", Some(&at(4)), 2_000), "touched");
        assert!(!is_current(Some(&last), "b", Some(&at(3)), 2_000), "changed");
        assert!(!is_current(Some(&last), "a", None, 2_000), "gone");
        assert!(!is_current(Some(&last), "a", Some(&at(3)), 1_000 + AGAIN_AFTER_MS), "old");
    }

    #[test]
    fn every_object_counts_in_the_fingerprint() {
        let mut other = pool();
        other.max_replicas = 1;
        assert_ne!(fingerprint(&build(&pool())), fingerprint(&build(&other)));
        assert_eq!(fingerprint(&build(&pool())), fingerprint(&build(&pool())));
    }

    #[test]
    fn replicas_are_handed_over_only_while_the_reconciler_applied_them() {
        let managed = |manager: &str, operation: &str, fields: Value| {
            deployment(json!({"managedFields": [
                {"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields}]}))
        };
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        assert!(reconciler_owns_replicas(&managed(names::RECONCILER, "Apply", replicas.clone())));
        assert!(!reconciler_owns_replicas(&managed(names::RECONCILER, "Apply", json!({"f:spec": {}}))));
        assert!(!reconciler_owns_replicas(&managed(names::AUTOSCALER, "Apply", replicas)));
    }

    #[test]
    fn an_object_of_another_owner_does_not_belong() {
        let owned = deployment(json!({"ownerReferences": [
            {"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u-1", "controller": true}]}));
        assert!(belongs(&owned, "u-1"));
        assert!(!belongs(&owned, "u-2"));
        assert!(!belongs(&deployment(json!({})), "u-1"));
    }
}
