//! The `http` handler: one POST per attempt, signed as Standard Webhooks say when a secret is configured.
//!
//! | response | means |
//! |---|---|
//! | 2xx | success; a body of at most 64 KiB is the answer, a larger one is left out. `{"snooze": "5m"}`: not done yet, held |
//! | 429, 503 with `Retry-After` | held for that long (`maxHold` at most), costs no try; with it its key or lane, by `onThrottle` |
//! | 408, 425, 429, 5xx | transient |
//! | 3xx | permanent: a redirect is never followed, so that payload and signature go nowhere else |
//! | other 4xx | permanent |
//! | no connection | transient: nothing was sent |
//! | broken connection, time-out | ambiguous: the receiver may have done the work |
//!
//! The body of a snooze and of an answer that is tried again may be JSON with a `checkpoint` (and `progress`): the next
//! attempt gets it back as the header `Lanekeeper-Checkpoint`, in base64.
//!
//! A signing secret, URL or header that cannot be used is transient: a fixed policy or a mounted Secret repairs it
//! while the job waits for its next try.

mod client;
mod request;
mod response;
mod signature;

use std::path::Path;

use lanekeeper_api::policy;
use reqwest::Response;

pub use client::{Client, ClientError};
use signature::Signer;

use super::{Answer, Cause, Failure, Handler, JobContext, Running, code};
use request::Template;

/// Longest checkpoint, in bytes: it travels in a header, and common receivers take 8 KiB of those in all.
const MAX_CHECKPOINT: usize = 4 * 1024;

/// Posts jobs to a URL.
pub struct HttpHandler {
    client: Client,
    template: Result<Template, String>,
    signer: Option<Signer>,
    /// For messages: the URL without path, query and password.
    host: String,
}

impl HttpHandler {
    /// A handler for `policy`; secrets are read from below `secrets_dir` when they are needed.
    #[must_use]
    pub fn new(client: Client, policy: policy::HttpHandler, secrets_dir: &Path) -> Self {
        let template = Template::new(&policy);
        let host = template.as_ref().map(Template::host).unwrap_or_default();
        let signer =
            policy.signing.map(|secret| Signer::new(secrets_dir.join(&secret.name).join(&secret.key)));
        Self { client, template, signer, host }
    }

    async fn exchange(&self, job: &JobContext) -> Result<Answer, Failure> {
        let template = self.template.as_ref().map_err(|why| Failure::transient(code::HTTP_REQUEST, why))?;
        let mut request = template.request(job)?;
        if let Some(signer) = &self.signer {
            let secrets =
                signer.secrets().await.map_err(|why| Failure::transient(code::SECRET_MISSING, why))?;
            request::add_signature(&mut request, job, &secrets);
        }
        match self.client.execute(request).await {
            Ok(response) => self.outcome(job, response).await,
            Err(error) => Err(self.no_response(error)),
        }
    }

    async fn outcome(&self, job: &JobContext, response: Response) -> Result<Answer, Failure> {
        let verdict = response::classify(response.status(), response.headers(), job.now_ms());
        let status = response.status();
        let body = response::body(response, verdict.keeps()).await;
        verdict.conclude(status, &self.host, body, &job.notes)
    }

    fn no_response(&self, error: reqwest::Error) -> Failure {
        let text = client::describe(&error);
        if error.is_connect() {
            Failure::transient(code::HTTP_CONNECT, format!("no connection to {}: {text}", self.host))
        } else if error.is_builder() {
            Failure::transient(code::HTTP_REQUEST, format!("cannot ask {}: {text}", self.host))
        } else {
            let text = format!("{} broke off after the request may have been sent: {text}", self.host);
            Failure::ambiguous(code::HTTP_BROKEN, text)
        }
    }

    fn stopped(&self, cause: Cause, job: &JobContext) -> Failure {
        match cause {
            Cause::Timeout => Failure::ambiguous(
                code::TIMEOUT,
                format!("no answer from {} within {:?}", self.host, job.timeout),
            ),
            other => Failure::ambiguous(
                code::STOPPED,
                format!("gave up waiting for {}: {}", self.host, other.as_str()),
            ),
        }
    }
}

impl Handler for HttpHandler {
    fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a> {
        Box::pin(async move {
            tokio::select! {
                biased;
                outcome = self.exchange(job) => outcome,
                cause = job.stop.requested() => Err(self.stopped(cause, job)),
            }
        })
    }
}
