//! The handlers that a policy can name.

use std::path::PathBuf;
use std::sync::Arc;

use lanekeeper_api::policy::{self, JobTypePolicy};

use super::http::{Client, HttpHandler};
use super::{Handler, Handlers, exec::ExecHandler};

/// `http` and `exec`, as the policy says.
pub struct Builtin {
    client: Client,
    secrets_dir: PathBuf,
}

impl Builtin {
    /// Handlers that read signing secrets from `<secrets_dir>/<secret name>/<key>`.
    ///
    /// # Errors
    /// When the TLS set-up is unusable.
    pub fn new(secrets_dir: PathBuf) -> Result<Self, super::http::ClientError> {
        Ok(Self { client: Client::new()?, secrets_dir })
    }
}

impl Handlers for Builtin {
    fn handler(&self, _: &str, policy: &JobTypePolicy) -> Arc<dyn Handler> {
        match &policy.handler {
            policy::Handler::Http(http) => {
                Arc::new(HttpHandler::new(self.client.clone(), http.clone(), &self.secrets_dir))
            }
            policy::Handler::Exec(exec) => Arc::new(ExecHandler::new(exec.clone())),
        }
    }
}
