//! All that a queue is.

use std::collections::{BTreeMap, BTreeSet};

use lanekeeper_api::policy::{Debounce, KeyPart, LanePolicy, OnConflict, QueuePolicy, Retention};

use super::gates::Gates;
use super::groups::{Group, Groups};
use super::offers::Offers;
use super::order::Order;
use crate::types::{Attempt, DeadReason, ProgressTold, WorkerIdentity, WorkerInfo};

/// A day: retention, and how long keys stand, of types that the policy no longer has.
const DAY_MS: u64 = 86_400_000;
/// Leases for which a longer one stays in force after the policy shortened it.
pub(super) const LEASE_GRACE: u64 = 2;

/// A queue.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub(super) order: Order,
    pub(super) stored: Option<Stored>,
    pub(super) jobs: BTreeMap<String, Job>,
    pub(super) leases: BTreeMap<String, Lease>,
    pub(super) gates: Gates,
    pub(super) groups: Groups,
    pub(super) offers: Offers,
    /// Boots of workers that have subscribed to their channels, whatever becomes of the queue.
    pub(super) listening: BTreeSet<String>,
    /// Idempotency keys.
    pub(super) keys: BTreeMap<String, Owner>,
    /// When somebody will look whether a key is over.
    pub(super) key_checks: BTreeMap<String, u64>,
    /// Job types that may have jobs.
    pub(super) types: BTreeMap<String, Counters>,
    /// Last heartbeats by boot.
    pub(super) workers: BTreeMap<String, WorkerInfo>,
    /// Last call of a worker or sweeper, ms.
    pub(super) served_ms: Option<u64>,
    /// End of the last outage, ms.
    pub(super) outage_ms: u64,
    /// When the clock last went back, ms, until sweeps saw to the leases that it left in the far future.
    pub(super) back_ms: Option<u64>,
    /// A longer lease that is still in force, and until when, ms.
    pub(super) longer: Option<(u64, u64)>,
    /// Every id that a job ever had.
    pub(super) ids: BTreeSet<String>,
    /// The last id that the library made, and when, ms.
    pub(super) last_made: Option<(String, u64)>,
    /// The last policy version, and when it was given, ms.
    pub(super) last_version: (u64, u64),
    /// The latest moment of any call, ms, and whether one was before it: where the clock goes back, what comes from it
    /// alone may come again.
    pub(super) latest_ms: u64,
    /// When the last call was, µs.
    pub(super) last_us: u64,
    pub(super) went_back: bool,
    /// The last token of every job.
    pub(super) tokens: BTreeMap<String, u64>,
    /// Entries that were found damaged.
    pub(super) damaged: u64,
    /// What the library chose although it promises not to.
    pub(super) broken: Option<String>,
}

/// A policy and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) policy: QueuePolicy,
    pub(super) version: u64,
    /// Uid of the object before this one.
    pub(super) replaced: Option<String>,
}

/// Who holds an idempotency key, and until when once that succeeded.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) id: String,
    pub(super) until_ms: Option<u64>,
}

/// Where a job is. A live one with a lease runs, wherever it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In its line.
    Line,
    /// In the schedule: not due yet, or due and not promoted.
    Schedule,
    /// Taken out of its line by a lease.
    Leased,
    Succeeded,
    Dead,
    Cancelled,
    Discarded,
}

impl Place {
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Line | Self::Schedule | Self::Leased)
    }

    /// Whether an idempotency key may be its own.
    pub(super) fn holds_key(self) -> bool {
        !matches!(self, Self::Cancelled | Self::Discarded)
    }

    /// Ended, and trimmed in time.
    pub(super) fn is_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Cancelled)
    }
}

/// A job.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) job_type: String,
    pub(super) place: Place,
    pub(super) enqueued_ms: u64,
    pub(super) due_ms: u64,
    /// Where it stands among those that wait: its due time, or before it where the clock went back behind the enqueue.
    pub(super) line_ms: u64,
    /// Due time that the enqueue asked for.
    pub(super) asked_ms: u64,
    /// The last replay.
    pub(super) replayed_ms: u64,
    pub(super) priority: u8,
    pub(super) key: Option<String>,
    pub(super) group: Group,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) tries: u32,
    pub(super) crashes: u32,
    pub(super) attempts: u32,
    pub(super) history: Vec<Attempt>,
    pub(super) dropped: u32,
    pub(super) finished_ms: Option<u64>,
    pub(super) reason: Option<DeadReason>,
    pub(super) result: Vec<u8>,
    pub(super) payload: Vec<u8>,
    /// What its handler told last.
    pub(super) progress: Option<ProgressTold>,
    /// What was left for the next attempt, and when.
    pub(super) checkpoint: Option<(Vec<u8>, u64)>,
    /// The payload that it was enqueued with, where a replay brought another.
    pub(super) original: Option<Vec<u8>>,
}

/// The right to run an attempt.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) token: u64,
    pub(super) since_ms: u64,
    pub(super) expires_ms: u64,
    pub(super) holder: WorkerIdentity,
    /// Who asked for a cancellation.
    pub(super) cancel: Option<String>,
    /// The worker that lost it, with its token, where a sweeper holds it.
    pub(super) lost: Option<(WorkerIdentity, u64)>,
}

/// Counters of a type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) enqueued: u64,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) died: u64,
    pub(super) cancelled: u64,
    pub(super) attempts: u64,
    pub(super) busy_ms: u64,
}

/// A job type under the present policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct TypeRules<'a> {
    pub(super) lane: Option<&'a LanePolicy>,
    pub(super) priority: u8,
    pub(super) key: Option<&'a [KeyPart]>,
    pub(super) key_for_ms: u64,
    pub(super) on_conflict: OnConflict,
    pub(super) debounce: Option<Debounce>,
    pub(super) completed: Retention,
    pub(super) keep_reviewed_ms: Option<u64>,
}

impl Model {
    /// A queue that does not exist yet, with the order that its lanes will have.
    #[must_use]
    pub fn new(order: Order) -> Self {
        Self { order, ..Self::default() }
    }

    pub(super) fn policy(&self) -> &QueuePolicy {
        &self.stored.as_ref().expect("calls without a policy are refused before").policy
    }

    pub(super) fn version(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.version)
    }

    /// The rules of a type, also of one that the policy no longer has.
    pub(super) fn rules(&self, job_type: &str) -> TypeRules<'_> {
        let policy = self.policy();
        match policy.job_types.get(job_type) {
            Some(found) => TypeRules {
                lane: policy.lane(&found.lane),
                priority: found.priority,
                key: found.key.as_deref(),
                key_for_ms: found.key_for_ms,
                on_conflict: found.on_conflict,
                debounce: found.debounce,
                completed: found.completed,
                keep_reviewed_ms: found.dead.keep_reviewed_for_ms,
            },
            None => TypeRules {
                lane: None,
                priority: 5,
                key: None,
                key_for_ms: DAY_MS,
                on_conflict: OnConflict::Existing,
                debounce: None,
                completed: Retention { keep: 1_000, for_ms: DAY_MS },
                keep_reviewed_ms: None,
            },
        }
    }

    /// The lease in force: for a while after it was shortened the longer one stays.
    pub(super) fn lease_ms(&self, now_ms: u64) -> u64 {
        let lease = self.policy().lease_ms;
        self.longer_lease(lease, now_ms)
    }

    pub(super) fn longer_lease(&self, lease_ms: u64, now_ms: u64) -> u64 {
        match self.longer {
            Some((longer, until)) if now_ms < until && until - now_ms <= LEASE_GRACE * longer => {
                lease_ms.max(longer)
            }
            _ => lease_ms,
        }
    }

    /// Marks the queue as served; a gap of more than half a lease was an outage.
    pub(super) fn touch(&mut self, now_ms: u64) {
        let lease = self.lease_ms(now_ms);
        let outage = self.served_ms.is_none_or(|last| now_ms < last || 2 * (now_ms - last) > lease);
        if self.served_ms.is_some_and(|last| now_ms < last) {
            self.back_ms = Some(now_ms);
        }
        if outage {
            self.outage_ms = now_ms;
        }
        self.served_ms = Some(now_ms);
    }

    pub(super) fn counters(&mut self, job_type: &str) -> &mut Counters {
        self.types.entry(job_type.to_owned()).or_default()
    }

    /// The token of a new lease, as the library gave it; for one job they strictly rise.
    pub(super) fn new_token(&mut self, id: &str, given: Option<&u64>) -> u64 {
        let Some(&token) = given else { return 0 };
        let last = self.tokens.insert(id.to_owned(), token).unwrap_or(0);
        if token <= last {
            self.broken = Some(format!("job {id} had token {last} and now has {token}"));
        }
        token
    }

    /// Frees a key, if the job still holds it.
    pub(super) fn free_key(&mut self, id: &str, key: Option<&str>) {
        let Some(key) = key else { return };
        if self.keys.get(key).is_some_and(|owner| owner.id == id) {
            self.keys.remove(key);
            self.key_checks.remove(key);
        }
    }
}
