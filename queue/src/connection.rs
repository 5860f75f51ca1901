//! Reaching a Redis: URLs, TLS, time-outs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    Client, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, ServerErrorKind, TlsCertificates,
};

use crate::error::{Error, Result};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for a reply. Calls are bounded to milliseconds; a Redis that loads its data answers at once with LOADING.
/// Shorter than the patience of callers, so that the connection hears of it (see `Link`).
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);
/// When a peer that acknowledges nothing is given up, and how often an idle one is probed.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);
const TCP_PROBE: Duration = Duration::from_secs(5);
/// Shortest time between two replacements of a connection.
const REPLACE_PAUSE: Duration = Duration::from_millis(500);

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
        Ok(info.set_redis_settings(settings).set_tcp_settings(tcp_settings()))
    }

    /// A connection that comes back by itself.
    ///
    /// # Errors
    /// When the URL is unusable or the first attempts to connect fail.
    pub async fn connect(&self) -> Result<ConnectionManager> {
        Ok(self.client()?.get_connection_manager_with_config(config()).await?)
    }
}

fn config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_millis(1000))
        .set_number_of_retries(2)
}

/// A peer that vanished without a word is noticed by the kernel too.
fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(TCP_PROBE).with_interval(TCP_PROBE);
    let settings = TcpSettings::default().set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(TCP_TIMEOUT);
    settings
}

/// The connection that all clones of a queue share.
///
/// A `ConnectionManager` connects anew after I/O errors only. It keeps the failure of a connection that Redis refused (its
/// ACL users may come back a moment after a restart), one whose peer answers nothing any more, and one to a primary that
/// became a replica: after those this puts a fresh manager in its place.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    /// None where the connection was made elsewhere: then it cannot be made again.
    client: Option<Client>,
    current: Mutex<Current>,
}

struct Current {
    manager: ConnectionManager,
    /// Counts replacements: an error of an earlier connection says nothing about this one.
    number: u64,
    replaced: Option<Instant>,
}

impl Link {
    pub(crate) async fn connect(options: &RedisOptions) -> Result<Self> {
        let client = options.client()?;
        let manager = client.get_connection_manager_with_config(config()).await?;
        Ok(Self::new(Some(client), manager))
    }

    pub(crate) fn on(manager: ConnectionManager) -> Self {
        Self::new(None, manager)
    }

    fn new(client: Option<Client>, manager: ConnectionManager) -> Self {
        Self(Arc::new(Inner { client, current: Mutex::new(Current { manager, number: 0, replaced: None }) }))
    }

    /// The present connection and its number.
    pub(crate) fn get(&self) -> (ConnectionManager, u64) {
        let current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        (current.manager.clone(), current.number)
    }

    /// Hears that a call on connection `number` failed.
    pub(crate) fn failed(&self, number: u64, error: &RedisError) {
        let Some(client) = self.0.client.as_ref().filter(|_| is_beyond_repair(error)) else { return };
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.number != number || current.replaced.is_some_and(|at| at.elapsed() < REPLACE_PAUSE) {
            return;
        }
        // Connects with its first call.
        match ConnectionManager::new_lazy_with_config(client.clone(), config()) {
            Ok(manager) => {
                tracing::warn!(%error, "the connection to Redis is replaced");
                *current = Current { manager, number: number + 1, replaced: Some(Instant::now()) };
            }
            Err(error) => tracing::error!(%error, "the connection to Redis cannot be replaced"),
        }
    }
}

/// Whether the manager would keep a connection that fails like this, and a new one may do better.
fn is_beyond_repair(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io => error.is_timeout(),
        ErrorKind::Server(ServerErrorKind::ReadOnly) => true,
        ErrorKind::Server(_) => error.detail().is_some_and(|detail| detail.contains("max number of clients")),
        ErrorKind::Extension => matches!(error.code(), Some("NOAUTH" | "WRONGPASS")),
        // The rest never comes as an answer to a call: the connection could not be set up, or is out of step.
        _ => true,
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
