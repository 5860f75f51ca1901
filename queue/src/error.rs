//! Errors of queue calls.

use crate::name::QueueName;

/// Errors of queue calls.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Redis answered with an error or could not be reached.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// The queue has no policy yet.
    #[error("queue {0} has no policy in this Redis: apply a JobQueue first")]
    NoPolicy(QueueName),
    /// The stored policy or its version was overwritten; the jobs are there. Applying the JobQueue again repairs it.
    #[error("the policy of queue {queue} cannot be read: {why}; apply its JobQueue again")]
    BadPolicy {
        /// The queue.
        queue: QueueName,
        /// What cannot be read, and where it stands.
        why: String,
    },
    /// A reply that this version does not understand.
    #[error("unexpected reply of {function}: {what}")]
    Reply {
        /// The function.
        function: &'static str,
        /// What was wrong with it.
        what: String,
    },
    /// The function library is not in this Redis and this user may not load it.
    #[error("the lanekeeper function library is not loaded in this Redis, and this user may not load it")]
    NoLibrary,
    /// Redis has reached `maxmemory`: it takes no more jobs until some are done.
    #[error("redis is out of memory and takes no more jobs until some are done: {0}")]
    OutOfMemory(String),
    /// The server cannot hold a queue.
    #[error("this Redis is too old: lanekeeper needs Redis 7.0 or Valkey 7.2")]
    TooOld,
    /// The call made no sense to the library.
    #[error("refused: {0}")]
    Refused(String),
    /// The URL or the CA bundle cannot be used. Never names the URL, which may hold a password.
    #[error("redis url: {0}")]
    Url(String),
}

/// Result of queue calls.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Sorts an error of Redis by what the caller can do about it.
    pub(crate) fn from_redis(error: redis::RedisError) -> Self {
        let detail = error.detail().unwrap_or_default();
        match error.code() {
            Some("OOM") => Self::OutOfMemory(detail.to_owned()),
            Some("LKARGS" | "LKLIMIT" | "LKPOLICY") => Self::Refused(detail.to_owned()),
            _ if detail.contains("unknown command") => Self::TooOld,
            _ => Self::Redis(error),
        }
    }
}
