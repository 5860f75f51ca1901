//! What must be done for a queue. Pure.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_queue::client::Safety;

use super::credentials::{self, Account};
use super::dereference::Target;
use super::observe::Observed;
use crate::kubernetes::names;

/// Why a queue on an unsafe Redis starts no jobs; lands in the policy.
pub const CLOSED_UNSAFE: &str = "RedisUnsafe";

/// One thing to do. Everything is safe to do again.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Load the function library, or a newer one.
    InstallLibrary,
    /// Make or refresh the workers' ACL user. Done at every reconcile: users live in Redis' memory and do not survive its
    /// restart.
    SetUser(Account),
    /// Take the ACL user away: the spec now names credentials of its own.
    DropUser(String),
    /// Write the workers' Secret.
    WriteSecret(Box<Secret>),
    /// Delete the workers' Secret: the spec now names one of its own.
    DeleteSecret(String),
    /// Write the policy.
    Configure(Box<QueuePolicy>),
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A Secret of someone else has the name.
    #[error(
        "Secret {0:?} exists and was not made by Lanekeeper: rename it, or set spec.redis.workerSecretRef"
    )]
    SecretTaken(String),
    /// The admin URL cannot be turned into the workers' one.
    #[error("the workers' URL cannot be made from the admin URL: set spec.redis.workerSecretRef")]
    NoWorkerUrl,
}

/// Everything a plan depends on besides what is there.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// The JobQueue as the owner of its Secret.
    pub owner: OwnerReference,
    /// Its Redis.
    pub target: &'a Target,
    /// Its policy; absent where the spec is invalid: then the last good one stays.
    pub policy: Option<&'a QueuePolicy>,
    /// A password to use where there is none yet.
    pub spare_password: String,
}

/// What must be done, in order.
///
/// # Errors
/// When something of someone else's is in the way.
pub fn plan(wanted: &Wanted<'_>, observed: &Observed) -> Result<Vec<Change>, Error> {
    let mut changes = vec![Change::InstallLibrary];
    // Before the credentials: where the policy is someone else's, so is the ACL user, and the run ends there.
    if let Some(policy) = wanted.policy {
        changes.push(Change::Configure(Box::new(effective(policy, wanted.target, &observed.safety))));
    }
    let known = wanted.policy.is_some() || observed.secret.is_some();
    if wanted.target.managed_credentials && known {
        changes.extend(credentials_of(wanted, observed)?);
    } else if !wanted.target.managed_credentials && observed.secret.as_ref().is_some_and(credentials::is_ours)
    {
        changes.push(Change::DropUser(names::acl_user(wanted.namespace, wanted.name)));
        changes.push(Change::DeleteSecret(names::worker_secret(wanted.name)));
    }
    Ok(changes)
}

/// The policy, closed where Redis may lose jobs and nobody accepted that.
fn effective(policy: &QueuePolicy, target: &Target, safety: &Safety) -> QueuePolicy {
    let closed = matches!(safety, Safety::Unsafe { .. }) && !target.allow_unsafe;
    QueuePolicy { closed: closed.then(|| CLOSED_UNSAFE.to_owned()), ..policy.clone() }
}

fn credentials_of(wanted: &Wanted<'_>, observed: &Observed) -> Result<Vec<Change>, Error> {
    let existing = observed.secret.as_ref();
    if existing.is_some_and(|secret| !credentials::is_ours(secret)) {
        return Err(Error::SecretTaken(names::worker_secret(wanted.name)));
    }
    let account = Account {
        user: names::acl_user(wanted.namespace, wanted.name),
        // Kept for as long as it stands in the Secret: rotating it would roll every pool.
        password: existing
            .and_then(credentials::password_in)
            .unwrap_or_else(|| wanted.spare_password.clone()),
    };
    let desired = credentials::secret(
        wanted.namespace,
        wanted.name,
        wanted.owner.clone(),
        &wanted.target.admin,
        &account,
    )
    .ok_or(Error::NoWorkerUrl)?;
    let mut changes = Vec::new();
    if !existing.is_some_and(|existing| same(existing, &desired)) {
        changes.push(Change::WriteSecret(Box::new(desired)));
    }
    // After the Secret: a password that Redis knows and no Secret holds would be replaced at the next run.
    changes.push(Change::SetUser(account));
    Ok(changes)
}

fn same(existing: &Secret, desired: &Secret) -> bool {
    let owners = |secret: &Secret| {
        let owners = secret.metadata.owner_references.iter().flatten();
        owners.map(|owner| owner.uid.clone()).collect::<Vec<_>>()
    };
    existing.data == desired.data && owners(existing) == owners(desired)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lanekeeper_api::policy::Source;

    use super::super::credentials::tests::{admin, owner};
    use super::*;

    fn target() -> Target {
        Target { admin: admin("redis://:root@r:6379"), allow_unsafe: false, managed_credentials: true }
    }

    fn policy() -> QueuePolicy {
        QueuePolicy {
            queue: "apps/saas".to_owned(),
            source: Source {
                owner: "kubernetes:k".to_owned(),
                uid: "u".to_owned(),
                created_ms: 1,
                generation: 1,
            },
            paused: false,
            closed: None,
            max_payload: 1,
            capacity: None,
            lease_ms: 1,
            lanes: vec![],
            job_types: BTreeMap::new(),
        }
    }

    fn wanted<'a>(target: &'a Target, policy: Option<&'a QueuePolicy>) -> Wanted<'a> {
        Wanted {
            namespace: "apps",
            name: "saas",
            owner: owner(),
            target,
            policy,
            spare_password: "n".repeat(40),
        }
    }

    fn safe(secret: Option<Secret>) -> Observed {
        Observed { safety: Safety::Safe, secret }
    }

    fn written(changes: &[Change]) -> Option<Secret> {
        changes.iter().find_map(|change| match change {
            Change::WriteSecret(secret) => Some((**secret).clone()),
            _ => None,
        })
    }

    fn configured(changes: &[Change]) -> Option<QueuePolicy> {
        changes.iter().find_map(|change| match change {
            Change::Configure(policy) => Some((**policy).clone()),
            _ => None,
        })
    }

    #[test]
    fn a_new_queue_gets_library_policy_secret_and_user_in_that_order() {
        let (target, policy) = (target(), policy());
        let changes = plan(&wanted(&target, Some(&policy)), &safe(None)).unwrap();
        assert!(matches!(
            changes.as_slice(),
            [Change::InstallLibrary, Change::Configure(_), Change::WriteSecret(_), Change::SetUser(_)]
        ));
    }

    #[test]
    fn a_second_run_rotates_nothing_and_still_sets_the_user() {
        let (target, policy) = (target(), policy());
        let first = plan(&wanted(&target, Some(&policy)), &safe(None)).unwrap();
        let mut again = wanted(&target, None);
        again.spare_password = "x".repeat(40);
        let second = plan(&again, &safe(written(&first))).unwrap();
        assert_eq!(written(&second), None);
        assert_eq!(second.last(), first.last(), "the same account");
    }

    #[test]
    fn a_moved_redis_rewrites_the_secret_with_the_old_password() {
        let first = plan(&wanted(&target(), Some(&policy())), &safe(None)).unwrap();
        let moved = Target { admin: admin("redis://other:1"), ..target() };
        let second = written(&plan(&wanted(&moved, None), &safe(written(&first))).unwrap()).unwrap();
        assert_eq!(credentials::password_in(&second), Some("n".repeat(40)));
    }

    #[test]
    fn an_unsafe_redis_closes_the_queue_unless_that_was_accepted() {
        let (mut target, policy) = (target(), policy());
        let unsafe_redis =
            Observed { safety: Safety::Unsafe { why: "appendonly no".to_owned() }, secret: None };
        let closed = configured(&plan(&wanted(&target, Some(&policy)), &unsafe_redis).unwrap()).unwrap();
        assert_eq!(closed.closed.as_deref(), Some(CLOSED_UNSAFE));
        target.allow_unsafe = true;
        let open = configured(&plan(&wanted(&target, Some(&policy)), &unsafe_redis).unwrap()).unwrap();
        assert_eq!(open.closed, None);
    }

    #[test]
    fn what_redis_does_not_say_closes_nothing() {
        let (target, policy) = (target(), policy());
        let unknown =
            Observed { safety: Safety::Unknown { why: "CONFIG is disabled".to_owned() }, secret: None };
        let changes = plan(&wanted(&target, Some(&policy)), &unknown).unwrap();
        assert_eq!(configured(&changes).unwrap().closed, None);
    }

    #[test]
    fn an_invalid_spec_leaves_the_last_good_policy() {
        let (target, policy) = (target(), policy());
        let secret = written(&plan(&wanted(&target, Some(&policy)), &safe(None)).unwrap());
        let changes = plan(&wanted(&target, None), &safe(secret)).unwrap();
        assert_eq!(configured(&changes), None);
        assert!(changes.iter().any(|change| matches!(change, Change::SetUser(_))), "workers go on");
        // One that was never good makes nothing.
        assert_eq!(plan(&wanted(&target, None), &safe(None)).unwrap(), [Change::InstallLibrary]);
    }

    #[test]
    fn someone_elses_secret_is_not_overwritten() {
        let target = target();
        let error = plan(&wanted(&target, None), &safe(Some(Secret::default()))).unwrap_err();
        assert_eq!(error, Error::SecretTaken("saas-lanekeeper-worker".to_owned()));
    }

    #[test]
    fn credentials_of_the_users_own_take_ours_away() {
        let managed = target();
        let ours = written(&plan(&wanted(&managed, Some(&policy())), &safe(None)).unwrap());
        let own = Target { managed_credentials: false, ..target() };
        let changes = plan(&wanted(&own, None), &safe(ours)).unwrap();
        assert!(changes.contains(&Change::DropUser("lanekeeper.apps.saas".to_owned())));
        assert!(changes.contains(&Change::DeleteSecret("saas-lanekeeper-worker".to_owned())));
        assert!(
            !plan(&wanted(&own, None), &safe(None)).unwrap().iter().any(|c| matches!(c, Change::DropUser(_)))
        );
    }
}
