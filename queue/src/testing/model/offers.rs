//! Offers: workers say with their claims how much room they have left, and an enqueue leases jobs that nothing holds back to one of
//! them at once. The worker learns of it by a message, which may be lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::given::Given;
use super::reply::Reply;
use super::state::{Model, Place};
use crate::types::{ClaimReply, ClaimRequest, Claimed, Enqueued, HandedOver, Offer, WorkerIdentity};

/// Most jobs of a type that one call hands over.
const MOST_JOBS: usize = 8;
/// Most workers that are looked at for them.
const MOST_LOOKS: usize = 4;
/// Longest silence of a worker that is handed anything.
const FRESH_MS: u64 = 7_500;
/// Longest time for which it may leave unsaid that it heard of what it was handed.
const UNHEARD_MS: u64 = 100;

/// What is known of workers that make offers.
#[derive(Debug, Clone, Default)]
pub(super) struct Offers {
    /// By boot. Those without room are among them, for it counts on what they were handed.
    of: BTreeMap<String, Kept>,
    /// The boots that have room. Whose turn it is comes first; whoever was looked at, or offers anew, goes to the end.
    turns: VecDeque<String>,
}

/// An offer as it stands.
#[derive(Debug, Clone)]
struct Kept {
    identity: WorkerIdentity,
    /// The policy under which it was made: the worker may not know of another one's limits.
    version: u64,
    lanes: BTreeSet<String>,
    /// The last slot is not given away: the worker may have been woken for a job that goes first.
    several_lanes: bool,
    room: usize,
    /// Most jobs of a type, as far as the worker has said.
    limits: BTreeMap<String, u32>,
    epoch: u64,
    /// Jobs of this epoch that were handed to it, and of how many it has said that it heard.
    handed: u64,
    heard: u64,
    /// When it was handed the first of those that it has not said it heard of; or when it last said that it heard of some more.
    unheard_since_ms: Option<u64>,
    /// Its last claim or heartbeat.
    seen_ms: u64,
}

impl Kept {
    fn fits(&self, version: u64, kind: &str, lane: &str, count: usize, now_ms: u64) -> bool {
        let fresh = (self.seen_ms..=self.seen_ms + FRESH_MS).contains(&now_ms);
        let answers = self.unheard_since_ms.is_none_or(|since| now_ms <= since + UNHEARD_MS);
        fresh
            && answers
            && self.version == version
            && self.lanes.contains(lane)
            && self.room >= count + usize::from(self.several_lanes)
            && self.limits.get(kind).is_none_or(|most| *most as usize >= count)
    }
}

impl Offers {
    /// How many jobs were handed to a worker in the epoch of which it speaks. It may know of more than is remembered here.
    fn handed_in(&self, boot: &str, said: &Offer) -> u64 {
        let same = self.of.get(boot).filter(|kept| kept.epoch == said.epoch);
        same.map_or(said.heard, |kept| kept.handed.max(said.heard))
    }

    /// Jobs that a worker was handed and has not heard of.
    pub(super) fn unheard(&self, boot: &str, said: &Offer) -> u64 {
        self.handed_in(boot, said) - said.heard
    }

    /// The epoch of a worker's offer, and how many jobs it was handed in it.
    pub(super) fn handed_to(&self, boot: &str) -> Option<(u64, u64)> {
        self.of.get(boot).map(|kept| (kept.epoch, kept.handed))
    }

    /// The worker sent a heartbeat.
    pub(super) fn beat(&mut self, boot: &str, now_ms: u64) {
        if let Some(kept) = self.of.get_mut(boot) {
            kept.seen_ms = now_ms;
        }
    }

    /// Since when a worker owes word, at a claim that says this.
    fn unheard_since(&self, boot: &str, said: &Offer, now_ms: u64) -> Option<u64> {
        if self.unheard(boot, said) == 0 {
            return None;
        }
        let before = self.of.get(boot).filter(|kept| kept.epoch == said.epoch && kept.heard == said.heard);
        Some(before.and_then(|kept| kept.unheard_since_ms).unwrap_or(now_ms))
    }

    fn withdraw(&mut self, boot: &str) {
        self.turns.retain(|other| other != boot);
    }

    pub(super) fn forget(&mut self, boot: &str) {
        self.withdraw(boot);
        self.of.remove(boot);
    }

    fn forget_unless(&mut self, stays: impl Fn(&String) -> bool) {
        self.of.retain(|boot, _| stays(boot));
        self.turns.retain(stays);
    }
}

impl Model {
    /// After a claim that said something of an offer, with what it left of its slots and limits.
    pub(super) fn keep_offer(
        &mut self,
        worker: &WorkerIdentity,
        want: &ClaimRequest,
        said: &Offer,
        left: usize,
        limits: BTreeMap<String, u32>,
        now_ms: u64,
    ) {
        let known: Vec<String> =
            want.lanes.iter().filter(|lane| self.policy().lane(lane).is_some()).cloned().collect();
        let kept = Kept {
            identity: worker.clone(),
            version: self.version(),
            several_lanes: known.len() > 1,
            lanes: known.into_iter().collect(),
            room: if said.stands { left } else { 0 },
            limits,
            epoch: said.epoch,
            handed: self.offers.handed_in(&worker.boot, said),
            heard: said.heard,
            unheard_since_ms: self.offers.unheard_since(&worker.boot, said, now_ms),
            seen_ms: now_ms,
        };
        self.offers.withdraw(&worker.boot);
        if kept.room > 0 {
            self.offers.turns.push_back(worker.boot.clone());
        }
        self.offers.of.insert(worker.boot.clone(), kept);
    }

    /// Hands over what may go at once of the jobs that an enqueue took in, and answers it. All jobs of a type go, and to one
    /// worker, or none does.
    pub(super) fn hand_over(&mut self, outcomes: Vec<Enqueued>, now_us: u64, given: &Given) -> Reply {
        let mut told = Vec::new();
        let came = self.came(&outcomes);
        let own: BTreeSet<String> = came.iter().flat_map(|(_, ids)| ids).cloned().collect();
        for (kind, ids) in came {
            let Some(lane) = self.goes_at_once(&kind, ids.len(), &own, now_us) else { continue };
            if let Some(boot) = self.taker(&kind, &lane, ids.len(), now_us / 1_000) {
                let handed = self.hand_to(&boot, &kind, &lane, &ids, now_us / 1_000, given);
                told.push((boot, handed));
            }
        }
        if !told.is_empty() {
            self.touch(now_us / 1_000);
        }
        Reply::Enqueued(outcomes).telling(told)
    }

    /// The jobs of a call that are due, by type; types and jobs in the order in which they came.
    fn came(&self, outcomes: &[Enqueued]) -> Vec<(String, Vec<String>)> {
        let mut came: Vec<(String, Vec<String>)> = Vec::new();
        for outcome in outcomes {
            let (Enqueued::Accepted { id, .. } | Enqueued::Replaced { id, .. }) = outcome else { continue };
            let job = &self.jobs[id];
            let at = came.iter().position(|(kind, _)| *kind == job.job_type).unwrap_or_else(|| {
                came.push((job.job_type.clone(), Vec::new()));
                came.len() - 1
            });
            let ids = &mut came[at].1;
            if job.place == Place::Line && !ids.contains(id) {
                ids.push(id.clone());
            }
        }
        came
    }

    /// The lane of so many jobs of a type, if nothing holds them back there and nothing waits but what came with them.
    fn goes_at_once(&self, kind: &str, count: usize, own: &BTreeSet<String>, now_us: u64) -> Option<String> {
        let lane = self.rules(kind).lane?;
        let gated = lane.concurrency.is_some() || lane.rate_limit.is_some() || lane.circuit.is_some();
        let goes = (1..=MOST_JOBS).contains(&count)
            && self.held().is_none()
            && self.key_rules(kind).is_none()
            && !gated
            && self.lane_room(lane, count, now_us) == Ok(count)
            && self.lane_line(&lane.name).iter().all(|(id, _)| own.contains(*id));
        goes.then(|| lane.name.clone())
    }

    /// The worker whose turn it is among those that may be handed so many jobs of a type. Whoever would be handed them and does
    /// not listen is forgotten.
    fn taker(&mut self, kind: &str, lane: &str, count: usize, now_ms: u64) -> Option<String> {
        for _ in 0..self.offers.turns.len().min(MOST_LOOKS) {
            let boot = self.offers.turns.pop_front()?;
            let fits = self.offers.of[&boot].fits(self.version(), kind, lane, count, now_ms);
            if fits && !self.listening.contains(&boot) {
                self.offers.of.remove(&boot);
                continue;
            }
            self.offers.turns.push_back(boot.clone());
            if fits {
                return Some(boot);
            }
        }
        None
    }

    fn hand_to(
        &mut self,
        boot: &str,
        kind: &str,
        lane: &str,
        ids: &[String],
        now_ms: u64,
        given: &Given,
    ) -> HandedOver {
        let worker = self.offers.of[boot].identity.clone();
        let jobs: Vec<Claimed> = ids.iter().map(|id| self.lease(&worker, lane, id, now_ms, given)).collect();
        if let Some(kept) = self.offers.of.get_mut(boot) {
            kept.room -= ids.len();
            kept.handed += ids.len() as u64;
            kept.unheard_since_ms = kept.unheard_since_ms.or(Some(now_ms));
            kept.limits.entry(kind.to_owned()).and_modify(|most| *most -= ids.len() as u32);
            if kept.room == 0 {
                self.offers.withdraw(boot);
            }
        }
        let epoch = self.offers.of[boot].epoch;
        let policy_version = self.version();
        let claim = ClaimReply { now_ms, policy_version, jobs, next_due_ms: None, held: None, waits: false };
        HandedOver { epoch, claim, count: ids.len() }
    }

    /// What a sweep does: offers of workers of which no heartbeat is known are forgotten.
    pub(super) fn forget_silent_offers(&mut self) {
        let workers = &self.workers;
        self.offers.forget_unless(|boot| workers.contains_key(boot));
    }

    /// The worker subscribes to its channel, or gives that up.
    pub(super) fn listen(&mut self, boot: &str, on: bool) -> Reply {
        if on {
            self.listening.insert(boot.to_owned());
        } else {
            self.listening.remove(boot);
        }
        Reply::Done
    }

    /// What a worker that made offers would hear with its heartbeat: the epoch, and how many jobs it was handed in it.
    #[must_use]
    pub fn handed_to(&self, boot: &str) -> Option<(u64, u64)> {
        self.offers.handed_to(boot)
    }

    /// Whether a worker listens to its channel.
    #[must_use]
    pub fn listens(&self, boot: &str) -> bool {
        self.listening.contains(boot)
    }
}
