//! Writes one queue's policy to its Redis: library, safety, generation.

use lanekeeper_api::policy::{QueuePolicy, Source};
use lanekeeper_queue::types::Configured;
use lanekeeper_queue::{
    LIBRARY_VERSION, Queue, QueueName, RedisOptions, Safety, install_library, newer_library, safety,
};

use super::event::LocalEventKind;
use crate::clock;

/// Owner of policies that were written from manifests without a cluster.
pub const OWNER: &str = "cli";
/// Identity of such a policy's object: there is no object that could be recreated.
pub const UID: &str = "local";
/// Why a queue is closed whose Redis may lose jobs.
pub const UNSAFE: &str = "RedisUnsafe";

/// What makes a Redis keep jobs, or what accepts that it does not.
pub const SAFE_ADVICE: &str = "set `appendonly yes` and `maxmemory-policy noeviction` there, or accept it with spec.redis.allowUnsafe: true";

/// What became of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The policy as written, with its source.
    pub policy: QueuePolicy,
    /// What the queue said.
    pub configured: Configured,
    /// What its Redis promises.
    pub safety: Safety,
    /// What was wrong with the stored policy, where it could not be read and was replaced.
    pub damage: Option<String>,
    /// Version of the function library there, where a newer program than this one loaded it.
    pub newer_library: Option<i64>,
}

/// Loads the function library, looks whether the Redis keeps jobs, and writes the policy, closed to workers when
/// it does not and `allow_unsafe` is not set. `adopt` takes the queue over from another owner.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub async fn apply(
    redis: &RedisOptions,
    name: &QueueName,
    policy: &QueuePolicy,
    allow_unsafe: bool,
    adopt: bool,
) -> lanekeeper_queue::Result<Applied> {
    let mut conn = redis.connect().await?;
    install_library(&mut conn).await?;
    let newer_library = newer_library(&mut conn).await?;
    let safety = safety(&mut conn).await?;
    let queue = Queue::on(conn, name.clone());
    let stored = queue.replaceable_policy().await?;
    let mut policy = policy.clone();
    if matches!(safety, Safety::Unsafe { .. }) && !allow_unsafe {
        policy.closed = Some(UNSAFE.to_owned());
    }
    let mut policy = stamp(policy, stored.policy.as_ref().map(|(stored, _)| stored), clock::wall_ms());
    let configured = queue.replace(&stored, &mut policy, adopt).await?;
    Ok(Applied { policy, configured, safety, damage: stored.damage, newer_library })
}

impl Applied {
    /// What is worth telling of it; `first`: nothing was told of this queue before.
    #[must_use]
    pub fn news(&self, redis: &str, first: bool) -> Vec<(LocalEventKind, String)> {
        let mut news = Vec::new();
        if let Some(damage) = &self.damage {
            let words =
                format!("the policy that was in {redis} could not be read and was replaced: {damage}");
            news.push((LocalEventKind::PolicyDamaged, words));
        }
        if let Some(version) = self.newer_library.filter(|_| first) {
            news.push((LocalEventKind::LibraryNewer, format!("warning: {}", newer_words(version))));
        }
        if let Configured::Applied { version } = self.configured {
            news.push((LocalEventKind::PolicyApplied, format!("policy version {version} is in {redis}")));
        }
        news
    }
}

/// Says that a newer program was at work.
#[must_use]
pub fn newer_words(version: i64) -> String {
    format!(
        "the function library in this Redis is version {version}, newer than this program's {LIBRARY_VERSION}: it is left as it \
         is. Update this program"
    )
}

/// The policy with its source: the next generation when its content changed, else the one that is there.
#[must_use]
pub fn stamp(mut policy: QueuePolicy, stored: Option<&QueuePolicy>, now_ms: u64) -> QueuePolicy {
    let ours = stored.filter(|s| s.source.owner == OWNER && s.source.uid == UID);
    policy.source = match ours {
        Some(stored) => {
            policy.source = stored.source.clone();
            let generation = stored.source.generation + i64::from(policy != *stored);
            Source { generation, ..stored.source.clone() }
        }
        None => Source { owner: OWNER.to_owned(), uid: UID.to_owned(), created_ms: now_ms, generation: 1 },
    };
    policy
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn policy(paused: bool) -> QueuePolicy {
        QueuePolicy {
            queue: "apps/saas".into(),
            source: Source { owner: String::new(), uid: String::new(), created_ms: 0, generation: 0 },
            paused,
            closed: None,
            max_payload: 1,
            capacity: None,
            lease_ms: 15_000,
            lanes: Vec::new(),
            job_types: BTreeMap::new(),
        }
    }

    #[test]
    fn the_generation_rises_when_the_content_changes_and_only_then() {
        let first = stamp(policy(false), None, 7);
        assert_eq!((first.source.generation, first.source.created_ms), (1, 7));
        let same = stamp(policy(false), Some(&first), 9);
        assert_eq!(same, first);
        let changed = stamp(policy(true), Some(&first), 9);
        assert_eq!((changed.source.generation, changed.source.created_ms), (2, 7));
    }

    #[test]
    fn another_owners_generation_is_none_of_ours() {
        let mut theirs = policy(false);
        theirs.source.owner = "kubernetes:1".into();
        theirs.source.generation = 40;
        assert_eq!(stamp(policy(false), Some(&theirs), 9).source.generation, 1);
    }
}
