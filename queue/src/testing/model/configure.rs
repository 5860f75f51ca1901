//! `configure`, `policy` and `destroy`.

use std::collections::BTreeMap;

use lanekeeper_api::policy::QueuePolicy;

use super::given::Given;
use super::state::{LEASE_GRACE, Model, Stored};
use crate::types::Configured;

impl Model {
    pub(super) fn configure(
        &mut self,
        policy: &QueuePolicy,
        adopt: bool,
        now_ms: u64,
        given: &Given,
    ) -> Configured {
        if let Some(refusal) = self.stored.as_ref().and_then(|stored| refusal(stored, policy, adopt)) {
            return refusal;
        }
        let before = self.stored.take();
        let last = before.as_ref().map_or(0, |stored| stored.version);
        let version = given.version.unwrap_or(0);
        self.check_version(last, given, now_ms);
        if let Some(before) = &before
            && before.policy.lease_ms > policy.lease_ms
        {
            let longer = self.longer_lease(before.policy.lease_ms, now_ms);
            self.longer = Some((longer, now_ms + LEASE_GRACE * longer));
        }
        let old = before.as_ref().map(|before| before.policy.clone());
        let replaced = before.and_then(|before| {
            let changed = before.policy.source.uid != policy.source.uid;
            if changed { Some(before.policy.source.uid) } else { before.replaced }
        });
        self.stored = Some(Stored { policy: policy.clone(), version, replaced });
        self.forget_gates();
        self.note_groups(old.as_ref());
        for name in policy.job_types.keys() {
            self.counters(name);
        }
        self.forget_types();
        Configured::Applied { version }
    }

    /// Types that the policy no longer has stay known while they have jobs.
    pub(super) fn forget_types(&mut self) {
        let policy = &self.stored.as_ref().expect("it was written before").policy;
        let jobs = &self.jobs;
        self.types.retain(|name, _| {
            policy.job_types.contains_key(name) || jobs.values().any(|job| job.job_type == *name)
        });
    }

    /// Versions rise; so do those of a queue that was destroyed and written anew, as far as the clock can tell.
    fn check_version(&mut self, last: u64, given: &Given, now_ms: u64) {
        let Some(version) = given.version else { return };
        let (ever, at_ms) = self.last_version;
        let last = if now_ms > at_ms && !self.went_back { ever.max(last) } else { last };
        if version <= last {
            self.broken = Some(format!("policy version {version} follows {last}"));
        }
        self.last_version = (version, now_ms);
    }

    pub(super) fn stored_policy(&self) -> Option<(QueuePolicy, u64)> {
        self.stored.as_ref().map(|stored| (stored.policy.clone(), stored.version))
    }

    pub(super) fn destroy(&mut self) -> u64 {
        let jobs = self.jobs.len() as u64;
        // What was once given stays given, whatever becomes of the queue.
        *self = Self {
            order: self.order,
            listening: std::mem::take(&mut self.listening),
            ids: std::mem::take(&mut self.ids),
            last_made: self.last_made.take(),
            tokens: if self.went_back { BTreeMap::new() } else { std::mem::take(&mut self.tokens) },
            last_version: self.last_version,
            latest_ms: self.latest_ms,
            last_us: self.last_us,
            went_back: self.went_back,
            ..Self::default()
        };
        jobs
    }
}

/// The answer where a policy is not written.
fn refusal(stored: &Stored, policy: &QueuePolicy, adopt: bool) -> Option<Configured> {
    let (old, new) = (&stored.policy.source, &policy.source);
    let stale = Some(Configured::Stale { generation: old.generation });
    if old.owner != new.owner {
        return (!adopt).then(|| Configured::Foreign { owner: old.owner.clone() });
    }
    if old.uid == new.uid {
        if new.generation < old.generation {
            return stale;
        }
        let same = stored.policy == *policy;
        return same.then_some(Configured::Unchanged { version: stored.version });
    }
    let twin = new.created_ms == old.created_ms && stored.replaced.as_ref() == Some(&new.uid);
    if new.created_ms < old.created_ms || twin { stale } else { None }
}
