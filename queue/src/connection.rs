//! Reaching a Redis: URLs, TLS, time-outs.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

use crate::error::{Error, Result};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for a reply. Calls are bounded to milliseconds; a Redis that loads its data answers at once with LOADING.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach a Redis.
#[derive(Clone, Default)]
pub struct RedisOptions {
    /// `redis://`, `rediss://` or `redis+unix://`.
    pub url: String,
    /// PEM bundle that signs the server, for `rediss://`; absent: the web's roots.
    pub ca_pem: Option<Vec<u8>>,
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("url", &redacted(&self.url))
            .field("ca_pem", &self.ca_pem.as_ref().map(Vec::len))
            .finish()
    }
}

/// The URL without user, password and parameters, for people and logs.
#[must_use]
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "(not a URL)".to_owned() };
    // A password may itself hold slashes, question and at signs: nothing before the last at sign is shown.
    let place = rest.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{}", place.split('?').next().unwrap_or_default())
}

impl RedisOptions {
    /// Options for a URL without a CA bundle of its own.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ca_pem: None }
    }

    /// A client for these options; connects nowhere yet.
    ///
    /// # Errors
    /// When the URL or the CA bundle cannot be used.
    pub fn client(&self) -> Result<Client> {
        let info = self.info()?;
        // Ignored when some other part of the process chose a provider before: either serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = match &self.ca_pem {
            Some(pem) => Client::build_with_tls(
                info,
                TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) },
            ),
            None => Client::open(info),
        };
        client.map_err(|e| Error::Url(e.to_string()))
    }

    fn info(&self) -> Result<ConnectionInfo> {
        let scheme = self.url.split("://").next().unwrap_or_default();
        if !matches!(scheme, "redis" | "rediss" | "unix" | "redis+unix") {
            return Err(Error::Url("it must start with redis:// or rediss://".to_owned()));
        }
        if self.ca_pem.is_some() && scheme != "rediss" {
            return Err(Error::Url("a CA bundle is given, but the URL is not rediss://".to_owned()));
        }
        // The text of the parse error is kept away: it may quote the URL.
        let info = self.url.as_str().into_connection_info().map_err(|_| {
            Error::Url("it cannot be read as redis://[user:password@]host[:port][/db]".to_owned())
        })?;
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        Ok(info.set_redis_settings(settings))
    }

    /// A connection that comes back by itself.
    ///
    /// # Errors
    /// When the URL is unusable or the first attempts to connect fail.
    pub async fn connect(&self) -> Result<ConnectionManager> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(1000))
            .set_number_of_retries(2);
        Ok(self.client()?.get_connection_manager_with_config(config).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_never_show() {
        for url in [
            "redis://user:pa55@host:6379/0",
            "rediss://:pa55@host/0?x=pa55",
            "redis://user:pa?55@host:1",
            "redis://user:p/a@pa55@host:1",
            "redis://user:pa55/x@host:1",
        ] {
            let options = RedisOptions { url: url.to_owned(), ca_pem: Some(b"pa55".to_vec()) };
            assert!(!format!("{options:?}").contains("pa55"), "{options:?}");
            assert!(format!("{options:?}").contains("host"), "{options:?}");
        }
        assert_eq!(redacted("redis://host:1/2?protocol=resp3"), "redis://host:1/2");
        assert_eq!(redacted("pa55"), "(not a URL)");
    }

    #[test]
    fn bad_urls_say_what_to_write_and_do_not_quote_themselves() {
        for url in ["", "host:6379", "http://pa55@host", "redis://u:pa55@:x"] {
            let error = RedisOptions::new(url).client().expect_err(url).to_string();
            assert!(error.contains("redis://"), "{error}");
            assert!(!error.contains("pa55"), "{error}");
        }
        let with_ca = RedisOptions { url: "redis://h".to_owned(), ca_pem: Some(vec![]) };
        assert!(with_ca.client().expect_err("no tls").to_string().contains("rediss://"));
    }
}
