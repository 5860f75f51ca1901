//! Reads the Secrets that a JobQueue's spec names.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use lanekeeper_api::job_queue::{RedisSpec, SecretKeyRef};
use lanekeeper_queue::client::RedisOptions;

use crate::kubernetes::call::{CallError, call};
use crate::kubernetes::conditions::reason;
use crate::kubernetes::context::Context;

/// Where a queue's jobs are, and as whom the operator goes there.
#[derive(Debug, Clone)]
pub struct Target {
    /// How the operator reaches Redis.
    pub admin: RedisOptions,
    /// Work also on a Redis that may lose jobs.
    pub allow_unsafe: bool,
    /// The operator makes the workers' credentials; else the spec names them.
    pub managed_credentials: bool,
}

/// Why a queue's Redis is not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Secret is not there.
    #[error("{field}: Secret {name:?} does not exist in namespace {namespace:?}")]
    NoSecret {
        /// Field that names it.
        field: &'static str,
        /// Namespace.
        namespace: String,
        /// Secret.
        name: String,
    },
    /// A Secret lacks the key.
    #[error("{field}: Secret {name:?} has no key {key:?}")]
    NoKey {
        /// Field that names it.
        field: &'static str,
        /// Secret.
        name: String,
        /// Key.
        key: String,
    },
    /// The value is not what it should be. It is not shown.
    #[error("{field}: key {key:?} of Secret {name:?} {what}")]
    Invalid {
        /// Field that names it.
        field: &'static str,
        /// Secret.
        name: String,
        /// Key.
        key: String,
        /// What it should be.
        what: &'static str,
    },
    /// The spec names no Redis and neither does the operator.
    #[error(
        "spec.redis names no Redis and the operator has no default one: set spec.redis.adminSecretRef, or start the operator with a Redis URL"
    )]
    NoDefault,
    /// The operator's own file cannot be read.
    #[error("the operator cannot read the file with the default Redis' URL or certificate authority: {0}")]
    DefaultFile(#[from] std::io::Error),
    /// The API server did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Error {
    /// Reason for the condition.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSecret { .. } | Self::NoKey { .. } => reason::SECRET_MISSING,
            Self::Invalid { .. } => reason::SECRET_INVALID,
            Self::NoDefault | Self::DefaultFile(_) => reason::NO_DEFAULT_REDIS,
            Self::Call(_) => reason::UNKNOWN,
        }
    }

    /// Nothing but a change by a person helps.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Self::Call(_))
    }
}

/// Finds the Redis of a queue.
///
/// # Errors
/// When a Secret is missing or unusable, or no Redis is named anywhere.
pub async fn dereference(ctx: &Context, namespace: &str, redis: Option<&RedisSpec>) -> Result<Target, Error> {
    let Some((spec, admin)) = redis.and_then(|spec| Some((spec, spec.admin_secret_ref.as_ref()?))) else {
        let admin = ctx.settings.default_redis.options().await?.ok_or(Error::NoDefault)?;
        let allow_unsafe = ctx.settings.default_redis.allow_unsafe || redis.is_some_and(|r| r.allow_unsafe);
        return Ok(Target { admin, allow_unsafe, managed_credentials: true });
    };
    let url = read(ctx, namespace, "spec.redis.adminSecretRef", admin).await?;
    let url = text_url("spec.redis.adminSecretRef", admin, url)?;
    let ca_pem = match &spec.ca_secret_ref {
        Some(ca) => Some(read(ctx, namespace, "spec.redis.caSecretRef", ca).await?),
        None => None,
    };
    if let Some(worker) = &spec.worker_secret_ref {
        let url = read(ctx, namespace, "spec.redis.workerSecretRef", worker).await?;
        text_url("spec.redis.workerSecretRef", worker, url)?;
    }
    Ok(Target {
        admin: RedisOptions { url, ca_pem },
        allow_unsafe: spec.allow_unsafe,
        managed_credentials: spec.worker_secret_ref.is_none(),
    })
}

/// A Secret by name; `None` where there is none.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn secret(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Secret>, CallError> {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    call(format!("read secret {namespace}/{name}"), api.get_opt(name)).await
}

/// The value of a key.
#[must_use]
pub fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    Some(secret.data.as_ref()?.get(key)?.0.as_slice())
}

async fn read(
    ctx: &Context,
    namespace: &str,
    field: &'static str,
    at: &SecretKeyRef,
) -> Result<Vec<u8>, Error> {
    let found = secret(ctx, namespace, &at.name).await?.ok_or_else(|| Error::NoSecret {
        field,
        namespace: namespace.to_owned(),
        name: at.name.clone(),
    })?;
    let value = value(&found, &at.key);
    value.map(<[u8]>::to_vec).ok_or_else(|| Error::NoKey {
        field,
        name: at.name.clone(),
        key: at.key.clone(),
    })
}

fn text_url(field: &'static str, at: &SecretKeyRef, value: Vec<u8>) -> Result<String, Error> {
    let invalid = |what| Error::Invalid { field, name: at.name.clone(), key: at.key.clone(), what };
    let text = String::from_utf8(value).map_err(|_| invalid("is not text"))?;
    let url = text.trim();
    if !(url.starts_with("redis://") || url.starts_with("rediss://")) || redis::parse_redis_url(url).is_none()
    {
        return Err(invalid("is no redis:// or rediss:// URL"));
    }
    Ok(url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_trimmed_and_checked_and_never_shown() {
        let at = SecretKeyRef { name: "r".to_owned(), key: "url".to_owned() };
        let url = |text: &str| text_url("spec.redis.adminSecretRef", &at, text.as_bytes().to_vec());
        assert_eq!(url("redis://:pw@host:1/0\n").unwrap(), "redis://:pw@host:1/0");
        let error = url("http://:hunter2@host").unwrap_err();
        assert_eq!(error.reason(), reason::SECRET_INVALID);
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().starts_with("spec.redis.adminSecretRef"), "{error}");
    }
}
