//! One HTTP client for all `http` handlers of a worker: a keep-alive pool that follows nothing and reads no proxy
//! settings from the environment.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Request, Response};
use rustls::{ClientConfig, RootCertStore};

/// A receiver that does not even accept a connection within this is treated as down. Shorter than most timeouts, so
/// that "nothing was sent" can be told from "no answer came".
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections go before the usual receivers' own keep-alive limits (60 s and more) can close them under us.
const IDLE: Duration = Duration::from_secs(45);

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No TLS protocol version is usable.
    #[error("TLS set-up: {0}")]
    Tls(#[from] rustls::Error),
    /// The HTTP client refused its settings.
    #[error("HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

/// A shared HTTP client.
#[derive(Clone)]
pub struct Client(reqwest::Client);

impl Client {
    /// A client that trusts the web's roots and the system's certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`).
    ///
    /// # Errors
    /// When the TLS set-up is unusable.
    pub fn new() -> Result<Self, ClientError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls()?)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("lanekeeper/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self(client))
    }

    pub(super) async fn execute(&self, request: Request) -> Result<Response, reqwest::Error> {
        self.0.execute(request).await
    }
}

/// The web's roots are compiled in, because the worker is copied into images that may carry no certificates at all.
fn tls() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The innermost causes of an error; the outer ones only repeat the URL, which may carry a password.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    if text.is_empty() { "unknown error".to_owned() } else { text }
}
