//! What a command says when it cannot do what was asked: what was wrong, where, what to do, and the exit code.

use std::fmt;
use std::process::ExitCode;

use crate::redact::redact;

/// Exit codes; programs may rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The thing asked about failed: a rejected job, a job that died while waited for.
    Failed = 1,
    /// Usage or invalid input.
    Invalid = 2,
    /// Redis or the cluster cannot be reached, or refuses.
    Unreachable = 3,
    /// No such job, queue, lane or pool.
    NotFound = 4,
}

/// A failure for people, with its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    details: Vec<String>,
    advice: Option<String>,
}

/// Result of everything a command does.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure of that kind; the message says what was wrong and where.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), details: Vec::new(), advice: None }
    }

    /// The thing asked about failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Invalid input.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Exit::Invalid, message)
    }

    /// Redis or the cluster cannot be reached.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, message)
    }

    /// No such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// Lines below the message: one per problem.
    pub(crate) fn details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(lines);
        self
    }

    /// What to do about it.
    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The kind.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// As the process ends.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }

    /// A queue call that failed on the Redis described by `whereabouts`.
    pub(crate) fn queue(error: &lanekeeper_queue::client::Error, whereabouts: &str) -> Self {
        use lanekeeper_queue::client::Error;
        match error {
            Error::Redis(cause) => Self::redis(cause, whereabouts),
            Error::NoPolicy(name) => Self::not_found(format!("there is no queue {name} in {whereabouts}"))
                .advice("load its JobQueue with `lanekeeper apply -f FILE`, or check -q and --redis"),
            Error::BadPolicy { queue, why } => {
                Self::failed(format!("the policy of queue {queue} in {whereabouts} cannot be read: {why}"))
                    .advice("its jobs are there: apply its JobQueue again (`lanekeeper apply -f FILE`), and they go on; on a cluster the operator does so by itself")
            }
            Error::OutOfMemory(_) => {
                Self::failed(format!("{whereabouts} is full and takes no more jobs until some are done"))
                    .advice(
                        "let the workers drain it, or raise maxmemory; claiming and settling go on meanwhile",
                    )
            }
            Error::NoLibrary => Self::failed(format!(
                "{whereabouts} does not have the function library, and this user may not load it"
            ))
            .advice("load it with `lanekeeper apply -f FILE` as an admin, or let the operator do it"),
            Error::TooOld => Self::failed(format!("{whereabouts} is too old"))
                .advice("Lanekeeper needs Redis 7.0 or Valkey 7.2, or later"),
            Error::Url(what) => Self::invalid(format!("{whereabouts}: {what}")),
            Error::Refused(what) => Self::invalid(format!("the queue refuses this: {what}")),
            other @ Error::Reply { .. } => Self::failed(redact(&other.to_string()))
                .advice("this lanekeeper and the function library in Redis may be of different versions"),
        }
    }

    /// A Redis call that failed.
    pub(crate) fn redis(cause: &redis::RedisError, whereabouts: &str) -> Self {
        let text = redact(&cause.to_string());
        let refused = || {
            Self::unreachable(format!("{whereabouts} refuses the credentials: {text}"))
                .advice("put the right user and password into the URL (redis://user:password@host:port), best through LANEKEEPER_REDIS_URL")
        };
        match cause.code() {
            Some("NOAUTH" | "WRONGPASS") => refused(),
            _ if cause.kind() == redis::ErrorKind::AuthenticationFailed => refused(),
            _ if cause.kind() == redis::ErrorKind::Parse => {
                Self::unreachable(format!("{whereabouts} does not speak the Redis protocol: something else listens there"))
                    .advice("check host and port; a Redis that wants TLS needs rediss://")
            }
            Some("NOPERM") => Self::unreachable(format!("{whereabouts} does not permit this: {text}"))
                .advice("use the admin URL, or a user whose ACL covers this queue's keys and channels"),
            Some("LOADING") => Self::unreachable(format!("{whereabouts} is still loading its data"))
                .advice("try again in a moment"),
            Some(_) if !cause.is_io_error() => Self::failed(format!("{whereabouts} answered: {text}")),
            _ => Self::unreachable(format!("cannot reach {whereabouts}: {text}"))
                .advice("check that Redis runs there and that this machine may connect; --redis or LANEKEEPER_REDIS_URL names another"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for line in &self.details {
            write!(f, "\n  {}", line.replace('\n', "\n  "))?;
        }
        if let Some(advice) = &self.advice {
            write!(f, "\n  → {advice}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_what_where_and_what_to_do() {
        let failure = Failure::invalid("2 problems").details(["a.yaml:3: x".to_owned()]).advice("fix them");
        assert_eq!(failure.to_string(), "error: 2 problems\n  a.yaml:3: x\n  → fix them");
        assert_eq!(failure.exit(), Exit::Invalid);
    }
}
