//! Workers' credentials: where they lie, and the Secret the operator makes. Pure, but for the new password.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use lanekeeper_api::job_queue::JobQueue;
use lanekeeper_api::policy::SecretKey;
use lanekeeper_queue::client::RedisOptions;
use rand::Rng;
use rand::distr::Alphanumeric;

use super::dereference::value;
use crate::kubernetes::names;

/// Key of the workers' URL.
pub const URL_KEY: &str = "url";
/// Key of the certificate authority.
pub const CA_KEY: &str = "ca.crt";
/// Key of the ACL user's name.
pub const USER_KEY: &str = "username";
/// Key of its password.
pub const PASSWORD_KEY: &str = "password";

const PASSWORD_LENGTH: usize = 40;

/// Where workers of a queue find their credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Secret key with the URL.
    pub url: SecretKey,
    /// Secret key with the certificate authority, if there is one.
    pub ca: Option<SecretKey>,
    /// The operator makes the Secret; whether it has a certificate authority shows in it.
    pub managed: bool,
}

/// Where workers of `queue` find their credentials.
#[must_use]
pub fn location(queue: &JobQueue) -> Location {
    let redis = queue.spec.redis.as_ref();
    let own = redis.and_then(|redis| redis.worker_secret_ref.as_ref());
    match own {
        Some(url) => Location {
            url: SecretKey { name: url.name.clone(), key: url.key.clone() },
            ca: redis
                .and_then(|redis| redis.ca_secret_ref.as_ref())
                .map(|ca| SecretKey { name: ca.name.clone(), key: ca.key.clone() }),
            managed: false,
        },
        None => {
            let name = names::worker_secret(queue.metadata.name.as_deref().unwrap_or_default());
            Location {
                url: SecretKey { name: name.clone(), key: URL_KEY.to_owned() },
                ca: Some(SecretKey { name, key: CA_KEY.to_owned() }),
                managed: true,
            }
        }
    }
}

/// The ACL user that workers of a queue are.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub user: String,
    /// Password.
    pub password: String,
}

// A password must not reach a log by way of a plan that is printed.
impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A password nobody knows yet.
#[must_use]
pub fn new_password() -> String {
    rand::rng().sample_iter(&Alphanumeric).take(PASSWORD_LENGTH).map(char::from).collect()
}

/// The password a Secret holds, if it holds a usable one.
#[must_use]
pub fn password_in(secret: &Secret) -> Option<String> {
    let password = String::from_utf8(value(secret, PASSWORD_KEY)?.to_vec()).ok()?;
    (password.len() >= 16 && password.chars().all(|c| c.is_ascii_alphanumeric())).then_some(password)
}

/// The workers' URL: the admin's, with the account in place of the admin. `None`: the admin URL cannot be read.
#[must_use]
pub fn worker_url(admin: &RedisOptions, account: &Account) -> Option<String> {
    let mut url = redis::parse_redis_url(&admin.url)?;
    url.set_username(&account.user).ok()?;
    url.set_password(Some(&account.password)).ok()?;
    Some(url.to_string())
}

/// The Secret that should be there. `None`: the admin URL cannot be read.
#[must_use]
pub fn secret(
    namespace: &str,
    queue: &str,
    owner: OwnerReference,
    admin: &RedisOptions,
    account: &Account,
) -> Option<Secret> {
    let mut data = BTreeMap::from([
        (URL_KEY.to_owned(), bytes(worker_url(admin, account)?)),
        (USER_KEY.to_owned(), bytes(account.user.clone())),
        (PASSWORD_KEY.to_owned(), bytes(account.password.clone())),
    ]);
    if let Some(ca) = &admin.ca_pem {
        data.insert(CA_KEY.to_owned(), ByteString(ca.clone()));
    }
    Some(Secret {
        metadata: ObjectMeta {
            name: Some(names::worker_secret(queue)),
            namespace: Some(namespace.to_owned()),
            labels: Some(names::queue_labels(queue)),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

/// Made by the operator: only such a Secret may be overwritten or deleted.
#[must_use]
pub fn is_ours(secret: &Secret) -> bool {
    let labels = secret.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get("app.kubernetes.io/managed-by")).is_some_and(|by| by == "lanekeeper")
        && labels.is_some_and(|labels| labels.contains_key(names::QUEUE_LABEL))
}

fn bytes(text: String) -> ByteString {
    ByteString(text.into_bytes())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn owner() -> OwnerReference {
        OwnerReference {
            api_version: "lanekeeper.dev/v1beta1".to_owned(),
            kind: "JobQueue".to_owned(),
            name: "saas".to_owned(),
            uid: "u-1".to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    pub(in super::super) fn admin(url: &str) -> RedisOptions {
        RedisOptions { url: url.to_owned(), ca_pem: None }
    }

    fn account() -> Account {
        Account { user: "lanekeeper.apps.saas".to_owned(), password: "p".repeat(40) }
    }

    #[test]
    fn the_workers_url_has_the_admins_server_and_the_accounts_name() {
        let url = worker_url(&admin("rediss://default:root@redis.infra:6380/2"), &account()).unwrap();
        assert_eq!(url, format!("rediss://lanekeeper.apps.saas:{}@redis.infra:6380/2", "p".repeat(40)));
        assert!(!url.contains("root"));
    }

    #[test]
    fn the_secret_is_owned_ours_and_keeps_its_password() {
        let secret = secret("apps", "saas", owner(), &admin("redis://r:6379"), &account()).unwrap();
        assert!(is_ours(&secret));
        assert_eq!(secret.metadata.owner_references.as_ref().unwrap()[0].uid, "u-1");
        assert_eq!(password_in(&secret), Some("p".repeat(40)));
    }

    #[test]
    fn a_secret_of_someone_else_is_not_ours() {
        assert!(!is_ours(&Secret::default()));
    }

    #[test]
    fn a_spoilt_password_counts_as_none() {
        let mut spoilt = secret("apps", "saas", owner(), &admin("redis://r"), &account()).unwrap();
        spoilt.data.as_mut().unwrap().insert(PASSWORD_KEY.to_owned(), bytes("a b".to_owned()));
        assert_eq!(password_in(&spoilt), None);
    }

    #[test]
    fn an_account_does_not_print_its_password() {
        assert!(!format!("{:?}", account()).contains("pppp"));
        assert_ne!(new_password(), new_password());
    }
}
