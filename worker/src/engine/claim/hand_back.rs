//! What was leased here and will not be run: handed back at once instead of waiting for the end of its lease.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lanekeeper_queue::types::{ClaimReply, Claimed, Outcome, Settlement};

use super::Loop;
use crate::engine::health::{Backoff, bounded};

impl Loop {
    /// After a claim whose reply was lost: hands back what was leased here unheard; false when the call failed. Without
    /// this the jobs would wait for the end of their leases.
    pub(super) async fn release_lost(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        // What the sweep is taking over right now is leased here as well, and in good hands.
        let Ok(_gate) = shared.sweeping.try_lock() else { return true };
        if !self.reply_lost || self.flights.count() > 0 {
            return true;
        }
        let held = match bounded(shared.queue.leases_of(&shared.options.identity)).await {
            Ok(held) => held,
            Err(error) if error.no_policy() || error.lasting() => {
                // Asking again would keep the results from being settled. The sweep finds those jobs when their leases
                // lapse; a deleted queue has none.
                if error.lasting() && !std::mem::replace(&mut self.leases_refused, true) {
                    tracing::warn!(%error, "Redis does not say what is leased here: jobs whose claim was never answered wait for the end of their leases");
                }
                self.reply_lost = false;
                return true;
            }
            Err(error) => {
                shared.health.failed("leases", &error, &shared.metrics);
                return false;
            }
        };
        let version = shared.policy().map_or(0, |policy| policy.version);
        let unheard: Vec<_> = held.into_iter().filter(|lease| !shared.table().knows(&lease.id)).collect();
        if !unheard.is_empty() {
            tracing::info!(jobs = unheard.len(), "handing back jobs whose claim was never answered");
        }
        for lease in unheard {
            self.offers.give_up(&lease.id, lease.token, Instant::now());
            self.release(lease.id, lease.token, "the reply to its claim was lost", version);
        }
        self.reply_lost = false;
        true
    }

    /// Jobs of a reply that was read so late that their leases may be over: the process was frozen, and others may have them.
    pub(super) fn hand_back_late(&mut self, sent: Instant, reply: &mut ClaimReply) {
        let late = self.shared.policy().is_some_and(|policy| sent.elapsed() >= policy.lease * 2 / 3);
        if late {
            for job in std::mem::take(&mut reply.jobs) {
                self.release(job.id, job.token, "the reply to its claim came too late", reply.policy_version);
            }
        }
    }

    /// Unknown here, perhaps known to a newer worker: handed back, and not taken again at once.
    pub(super) fn release_unknown(&mut self, job: Claimed, version: u64) {
        let first = || (Instant::now(), Backoff::new(Duration::from_secs(1), Duration::from_secs(60)));
        let (until, backoff) = self.unknown.entry(job.job_type.clone()).or_insert_with(first);
        if *until <= Instant::now() {
            *until = Instant::now() + backoff.pause();
            tracing::warn!(
                job = job.id,
                r#type = job.job_type,
                version,
                "the policy has no such job type: handed back"
            );
        }
        self.release(job.id, job.token, "this worker's policy has no such job type", version);
    }

    pub(super) fn release(&self, id: String, token: u64, why: &str, policy_version: u64) {
        let outcome = Outcome::Release { why: why.to_owned() };
        self.shared.table().push(Settlement { id, token, key: None, outcome, policy_version, note: None });
    }
}
