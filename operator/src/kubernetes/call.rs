//! Calls to the API server: every one has an end.

use std::time::Duration;

/// Longest one call may take; the client itself has no read time-out.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a call to the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server refused, or could not be reached.
    #[error("the API server, asked to {doing}: {}", told(source))]
    Refused {
        /// What was asked, as a verb with its object.
        doing: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error("the API server, asked to {doing}, did not answer within {CALL_TIMEOUT:?}")]
    Timeout {
        /// What was asked, as a verb with its object.
        doing: String,
    },
}

/// What the server said, for people: kube's own text carries the whole `Status` as Debug has it.
fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => {
            format!("{} ({})", status.message, status.code)
        }
        other => other.to_string(),
    }
}

impl CallError {
    /// The HTTP status code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Timeout { .. } => None,
        }
    }

    /// The object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// The object has changed since it was read.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }
}

/// Makes a call, for at most [`CALL_TIMEOUT`].
///
/// # Errors
/// When the server refuses or does not answer in time.
pub async fn call<T>(
    doing: impl Into<String>,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    within(CALL_TIMEOUT, doing, future).await
}

async fn within<T>(
    limit: Duration,
    doing: impl Into<String>,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(CallError::Refused { doing: doing.into(), source: Box::new(source) }),
        Err(_) => Err(CallError::Timeout { doing: doing.into() }),
    }
}

/// A deletion of what may be gone already.
///
/// # Errors
/// As [`call`], except that an absent object is success.
pub fn absent_is_fine<T>(result: Result<T, CallError>) -> Result<(), CallError> {
    match result {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_without_an_answer_ends() {
        let never = std::future::pending::<kube::Result<()>>();
        let error = within(Duration::ZERO, "read nothing", never).await.unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. }));
        assert!(error.to_string().contains("read nothing"));
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let status = kube::core::Status::failure("deployments is forbidden", "Forbidden").with_code(403);
        let error = CallError::Refused {
            doing: "apply a Deployment".into(),
            source: Box::new(kube::Error::Api(Box::new(status))),
        };
        let told = "the API server, asked to apply a Deployment: deployments is forbidden (403)";
        assert_eq!(error.to_string(), told);
    }
}
