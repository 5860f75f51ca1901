//! `sweep`.

use super::given::Given;
use super::state::Model;
use crate::types::{Expired, SweepReply, WorkerIdentity};

/// Policy leases of silence after which a worker is forgotten.
const SILENT_LEASES: u64 = 20;

/// Whether a part did as much as it may, and whether something is left of it.
#[derive(Default)]
struct Bound {
    reached: bool,
    left: bool,
}

impl Bound {
    fn note(&mut self, did: usize, limit: usize, left: bool) {
        self.reached |= did >= limit;
        self.left |= left;
    }
}

impl Model {
    pub(super) fn sweep(
        &mut self,
        sweeper: &WorkerIdentity,
        limit: u32,
        now_us: u64,
        given: &Given,
    ) -> SweepReply {
        let now_ms = now_us / 1_000;
        let limit = limit.clamp(1, 200) as usize;
        let lease_ms = self.lease_ms(now_ms);
        let mut bound = Bound { reached: self.has_unsorted() || self.groups.sought, left: false };
        self.groups.sought &= given.more;
        self.sweep_groups(now_us);
        self.sweep_gates(now_ms);
        self.touch(now_ms);
        let (mut rearmed, mut expired) = (0, Vec::new());
        let near = self.bring_near(now_ms + lease_ms, limit);
        bound.reached |= near >= limit;
        let lapsed = self.lapsed(now_ms, limit);
        if now_ms < self.outage_ms + lease_ms {
            rearmed = lapsed.len() as u64;
            for id in &lapsed {
                if let Some(lease) = self.leases.get_mut(id) {
                    lease.expires_ms = self.outage_ms + lease_ms;
                }
            }
        } else {
            expired = lapsed.iter().map(|id| self.take_over(sweeper, id, lease_ms, now_ms, given)).collect();
        }
        bound.note(lapsed.len(), limit, !self.lapsed(now_ms, 1).is_empty());
        let promoted = self.promote(limit, now_ms);
        bound.note(promoted, limit, self.next_due().is_some_and(|due| due <= now_ms));
        let trimmed = self.trim(limit, now_ms);
        let left = self.too_old_or_many(now_ms) > 0;
        bound.note(trimmed, limit, left && trimmed >= limit);
        self.forget_types();
        let (checked, left) = self.forget_keys(limit, now_ms);
        bound.note(checked, limit, left);
        // Where a worker is forgotten for its silence, the next sweep forgets its offer.
        self.forget_silent_offers();
        let silent_ms = now_ms.saturating_sub(SILENT_LEASES * self.policy().lease_ms);
        self.workers.retain(|_, worker| worker.seen_ms >= silent_ms);
        SweepReply {
            now_ms,
            policy_version: self.version(),
            expired,
            rearmed: rearmed + near as u64,
            promoted: promoted as u64,
            trimmed: trimmed as u64,
            // A part that stopped at its bound need not know whether it was the end.
            more: bound.left || (bound.reached && given.more),
        }
    }

    /// Leases that a clock gone back left in the far future end at the horizon, at most `limit` of them; how many did.
    fn bring_near(&mut self, horizon_ms: u64, limit: usize) -> usize {
        if self.back_ms.is_none() {
            return 0;
        }
        let far = self.leases.iter().filter(|(_, lease)| lease.expires_ms > horizon_ms);
        let mut found: Vec<_> = far.map(|(id, lease)| (lease.expires_ms, id.clone())).collect();
        found.sort();
        found.truncate(limit);
        for (_, id) in &found {
            self.leases.get_mut(id).expect("it was found a moment ago").expires_ms = horizon_ms;
        }
        if found.len() < limit {
            self.back_ms = None;
        }
        found.len()
    }

    /// The first leases that have run out, by expiry.
    fn lapsed(&self, now_ms: u64, limit: usize) -> Vec<String> {
        let mut found: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.expires_ms <= now_ms)
            .map(|(id, lease)| (lease.expires_ms, id.clone()))
            .collect();
        found.sort();
        found.into_iter().take(limit).map(|(_, id)| id).collect()
    }

    fn take_over(
        &mut self,
        sweeper: &WorkerIdentity,
        id: &str,
        lease_ms: u64,
        now_ms: u64,
        given: &Given,
    ) -> Expired {
        let token = self.new_token(id, given.tokens.get(id));
        let lease = self.leases.get_mut(id).expect("it was found a moment ago");
        let lost = lease.lost.get_or_insert_with(|| (lease.holder.clone(), lease.token));
        let lost_by = lost.0.clone();
        lease.token = token;
        lease.holder = sweeper.clone();
        lease.expires_ms = now_ms + lease_ms;
        let lane = self.rules(&self.jobs[id].job_type).lane.map(|lane| lane.name.clone());
        Expired { job: self.claimed(id, &lane.unwrap_or_default()), lost_by }
    }

    /// Removes finished jobs beyond their number or age, and discarded ones beyond theirs, at most `limit`; how many.
    fn trim(&mut self, limit: usize, now_ms: u64) -> usize {
        let names: Vec<String> = self.types.keys().cloned().collect();
        let mut removed = 0;
        for name in names {
            removed += self.trim_count(&name, limit - removed, 0);
            let old = self.too_old(&name, now_ms);
            for id in old.iter().take(limit - removed) {
                self.jobs.remove(id);
            }
            removed += old.len().min(limit - removed);
            let discarded = self.discarded_too_old(&name, now_ms);
            for id in discarded.iter().take(limit - removed) {
                self.jobs.remove(id);
            }
            removed += discarded.len().min(limit - removed);
        }
        removed + self.make_room(self.pressure().min(limit - removed))
    }

    /// Removes finished jobs before their time, of every type in proportion, at most `excess`; how many.
    pub(super) fn make_room(&mut self, excess: usize) -> usize {
        let finished: Vec<(String, Vec<(u64, String)>)> =
            self.types.keys().map(|name| (name.clone(), self.finished_of(name))).collect();
        let all: usize = finished.iter().map(|(_, jobs)| jobs.len()).sum();
        let mut removed = 0;
        for (_, jobs) in finished {
            let share = (excess * jobs.len()).div_ceil(all.max(1)).min(excess - removed);
            for (_, id) in jobs.iter().take(share) {
                self.jobs.remove(id);
                removed += 1;
            }
        }
        removed
    }

    /// How many jobs stand above nine tenths of the capacity.
    pub(super) fn pressure(&self) -> usize {
        let most = self.policy().capacity.and_then(|capacity| capacity.jobs);
        most.map_or(0, |most| (self.jobs.len() as f64 - 0.9 * most as f64).ceil().max(0.0) as usize)
    }

    fn too_old(&self, job_type: &str, now_ms: u64) -> Vec<String> {
        let for_ms = self.rules(job_type).completed.for_ms;
        let old = |at: u64| now_ms.checked_sub(for_ms).is_some_and(|horizon| at <= horizon);
        self.finished_of(job_type).into_iter().filter(|(at, _)| old(*at)).map(|(_, id)| id).collect()
    }

    /// How many finished jobs retention would remove.
    pub(super) fn too_old_or_many(&self, now_ms: u64) -> usize {
        self.types.keys().map(|name| self.excess_of(name, now_ms)).sum()
    }

    fn excess_of(&self, job_type: &str, now_ms: u64) -> usize {
        let keep = usize::try_from(self.rules(job_type).completed.keep).unwrap_or(usize::MAX);
        let many = self.finished_of(job_type).len().saturating_sub(keep);
        many.max(self.too_old(job_type, now_ms).len()) + self.discarded_too_old(job_type, now_ms).len()
    }

    /// Whether the model can tell which jobs a sweep trims: where several types have too many and the bound does not allow
    /// all of them, the library is free to choose.
    #[must_use]
    pub fn foresees_sweep(&self, limit: u32, now_ms: u64) -> bool {
        if self.stored.is_none() {
            return true;
        }
        let excess: Vec<usize> =
            self.types.keys().map(|name| self.excess_of(name, now_ms)).filter(|n| *n > 0).collect();
        excess.len() < 2 || excess.iter().sum::<usize>() <= limit.clamp(1, 200) as usize
    }

    /// Forgets keys whose time is over; how many it looked at, and whether more are over.
    fn forget_keys(&mut self, limit: usize, now_ms: u64) -> (usize, bool) {
        let mut over: Vec<_> = self
            .key_checks
            .iter()
            .filter(|(_, at)| **at <= now_ms)
            .map(|(key, at)| (*at, key.clone()))
            .collect();
        over.sort();
        let checked = over.len().min(limit);
        for (_, key) in &over[..checked] {
            self.key_checks.remove(key);
            // A new owner may have taken it meanwhile.
            if self.keys.get(key).and_then(|owner| owner.until_ms).is_some_and(|until| until <= now_ms) {
                self.keys.remove(key);
            }
        }
        (checked, over.len() > checked)
    }
}
