//! What is known of a Redis's promise to keep jobs, and what people are told when that changes.

use lanekeeper_queue::{RedisOptions, Safety, redacted};

use super::LocalEventKind;
use super::apply::SAFE_ADVICE;

/// What a queue's Redis promises, and what follows for the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    redis: String,
    safety: Safety,
    /// The queue is closed to workers.
    closed: bool,
}

impl Verdict {
    pub(super) fn new(redis: &RedisOptions, safety: Safety, allow_unsafe: bool) -> Self {
        let closed = matches!(safety, Safety::Unsafe { .. }) && !allow_unsafe;
        Self { redis: redacted(&redis.url), safety, closed }
    }

    /// What to tell after `before`, if anything: the same again is no news.
    pub(super) fn news(&self, before: Option<&Self>) -> Option<(LocalEventKind, String)> {
        if before == Some(self) {
            return None;
        }
        let Self { redis, safety, closed } = self;
        match safety {
            Safety::Unsafe { why } if *closed => Some((
                LocalEventKind::RedisUnsafe,
                format!(
                    "{redis} may lose jobs: {why}; the queue takes jobs but is closed to workers: {SAFE_ADVICE}"
                ),
            )),
            Safety::Unsafe { why } => Some((
                LocalEventKind::RedisDoubtful,
                format!("warning: {redis} may lose jobs: {why} (accepted by allowUnsafe)"),
            )),
            Safety::Unknown { why } => Some((
                LocalEventKind::RedisDoubtful,
                format!("warning: whether {redis} may lose jobs cannot be told: {why}"),
            )),
            Safety::Safe if before.is_some_and(|before| before.closed) => Some((
                LocalEventKind::RedisSafe,
                format!("{redis} keeps jobs now: the queue is open to workers again"),
            )),
            Safety::Safe => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(safety: Safety, allow_unsafe: bool) -> Verdict {
        Verdict::new(&RedisOptions::new("redis://u:secret@here:1"), safety, allow_unsafe)
    }

    fn risky() -> Safety {
        Safety::Unsafe { why: "nothing is persisted".into() }
    }

    #[test]
    fn only_what_changed_is_told() {
        let closed = verdict(risky(), false);
        let (kind, message) = closed.news(None).expect("news");
        assert_eq!(kind, LocalEventKind::RedisUnsafe);
        assert!(message.contains("redis://here:1 may lose jobs: nothing is persisted"), "{message}");
        assert!(message.contains("allowUnsafe") && !message.contains("secret"), "{message}");
        assert_eq!(closed.news(Some(&closed)), None);
        let safe = verdict(Safety::Safe, false);
        assert_eq!(safe.news(Some(&closed)).map(|(kind, _)| kind), Some(LocalEventKind::RedisSafe));
        assert_eq!((safe.news(None), safe.news(Some(&safe))), (None, None));
        let accepted = verdict(risky(), true);
        assert_eq!(accepted.news(Some(&safe)).map(|(kind, _)| kind), Some(LocalEventKind::RedisDoubtful));
        assert_eq!(safe.news(Some(&accepted)), None, "it had never been closed");
    }
}
