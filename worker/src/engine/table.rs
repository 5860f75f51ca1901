//! What this worker holds: running attempts by slot, finished ones until Redis knows of them.
//!
//! One mutex guards it, held for moments only: the claim loop writes it, the lease keeper and the probes read it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lanekeeper_queue::types::{Held, Note, Settlement};

use super::lanes::{Kind, Lanes, Room};
use super::policy::TypeEntry;
use crate::handler::{Cause, JobContext, STOP_GRACE};

/// One running attempt.
pub(super) struct Running {
    pub(super) ctx: Arc<JobContext>,
    pub(super) entry: Arc<TypeEntry>,
    /// Settled over the handler's head because it blocks and cannot be stopped; only the slot is still taken.
    written_off: bool,
}

/// A finished attempt that Redis does not know of yet.
pub(super) struct Unsettled {
    pub(super) id: String,
    pub(super) token: u64,
    /// What is to be said; away while it is being sent.
    pub(super) settlement: Option<Settlement>,
    /// Times it was sent without a certain answer.
    pub(super) sent: u32,
    /// Times Redis answered this very settlement with an error.
    pub(super) refused: u32,
}

/// See the module.
pub(super) struct Table {
    slots: Vec<Option<Running>>,
    free: Vec<usize>,
    by_type: HashMap<String, u32>,
    by_lane: HashMap<String, u32>,
    outbox: VecDeque<Unsettled>,
    /// What calls under way settle, by the number of the batch.
    in_flight: Vec<(u64, Vec<Held>)>,
    batches: u64,
}

impl Table {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| None).collect(),
            free: (0..slots).rev().collect(),
            by_type: HashMap::new(),
            by_lane: HashMap::new(),
            outbox: VecDeque::new(),
            in_flight: Vec::new(),
            batches: 0,
        }
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// What room there is for critical jobs and for others.
    pub(super) fn room(&self, lanes: &Lanes) -> Room {
        let running = |lane: &String| self.by_lane.get(lane).copied().unwrap_or(0) as usize;
        let critical = lanes.of(Kind::Critical).iter().map(running).sum();
        lanes.room(self.slots.len(), self.free(), critical)
    }

    pub(super) fn busy(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Attempts whose handlers are still expected to end.
    pub(super) fn live(&self) -> usize {
        self.running().filter(|r| !r.written_off).count()
    }

    pub(super) fn unsettled(&self) -> usize {
        self.outbox.len() + self.sent().count()
    }

    /// Attempts that ended and are not on their way to Redis yet.
    pub(super) fn to_settle(&self) -> usize {
        self.outbox.len()
    }

    /// Puts an attempt into a free slot; none when there is no such slot.
    pub(super) fn start(&mut self, ctx: Arc<JobContext>, entry: Arc<TypeEntry>) -> Option<usize> {
        let slot = self.free.pop()?;
        // Every type is counted: a policy that comes meanwhile may limit it, and what runs by then counts too.
        count(&mut self.by_type, &ctx.job.job_type);
        count(&mut self.by_lane, &ctx.job.lane);
        self.slots[slot] = Some(Running { ctx, entry, written_off: false });
        Some(slot)
    }

    /// Frees the slot; none when the attempt was written off, so that its end means nothing any more.
    pub(super) fn finish(&mut self, slot: usize) -> Option<Running> {
        let running = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        let job = &running.ctx.job;
        let counts = [self.by_type.get_mut(&job.job_type), self.by_lane.get_mut(&job.lane)];
        for count in counts.into_iter().flatten() {
            *count = count.saturating_sub(1);
        }
        (!running.written_off).then_some(running)
    }

    /// What may still be taken of the types that are limited per worker.
    pub(super) fn limits(&self, per_worker: &[(String, u32)], into: &mut BTreeMap<String, u32>) {
        for (job_type, most) in per_worker {
            let running = self.by_type.get(job_type).copied().unwrap_or(0);
            into.insert(job_type.clone(), most.saturating_sub(running));
        }
    }

    pub(super) fn push(&mut self, settlement: Settlement) {
        let (id, token) = (settlement.id.clone(), settlement.token);
        self.outbox.push_back(Unsettled { id, token, settlement: Some(settlement), sent: 0, refused: 0 });
    }

    /// Takes settlements to send, at most `most` of them and about `bytes` of answers and messages. What is sent again goes
    /// without what is new: after an outage both may speak of the same job under two leases, and one call takes one.
    pub(super) fn take_batch(&mut self, most: usize, bytes: usize) -> (u64, Vec<Unsettled>) {
        let mut batch = Vec::with_capacity(most.min(self.outbox.len()));
        let mut size = 0;
        while batch.len() < most && size < bytes {
            let again = batch.first().map(|first: &Unsettled| first.sent > 0);
            let alike = |next: &Unsettled| again.is_none_or(|again| again == (next.sent > 0));
            if !self.outbox.front().is_some_and(alike) {
                break;
            }
            let Some(next) = self.outbox.pop_front() else { break };
            size += next.settlement.as_ref().map_or(0, weight);
            batch.push(next);
        }
        self.batches += 1;
        if !batch.is_empty() {
            let held = batch.iter().map(|next| Held { id: next.id.clone(), token: next.token }).collect();
            self.in_flight.push((self.batches, held));
        }
        (self.batches, batch)
    }

    /// The batch is settled; nothing of it is held any more.
    pub(super) fn batch_settled(&mut self, number: u64) {
        self.in_flight.retain(|(sent, _)| *sent != number);
    }

    /// The batch may or may not have arrived: it is sent again, before anything newer.
    pub(super) fn put_back(&mut self, number: u64, batch: Vec<Unsettled>) {
        self.batch_settled(number);
        for unsettled in batch.into_iter().rev() {
            self.outbox.push_front(unsettled);
        }
    }

    /// Drops what was to be settled and says how much it was.
    pub(super) fn forget_unsettled(&mut self) -> usize {
        self.in_flight.clear();
        std::mem::take(&mut self.outbox).len()
    }

    /// Every lease to renew.
    pub(super) fn held(&self) -> Vec<Held> {
        let running = self.renewed().map(|r| Held { id: r.ctx.job.id.clone(), token: r.ctx.job.token });
        let waiting = self.outbox.iter().map(|u| Held { id: u.id.clone(), token: u.token });
        running.chain(waiting).chain(self.sent().cloned()).collect()
    }

    /// Every lease to renew, and the attempts whose handlers told something since the last heartbeat, with the places of their
    /// leases.
    pub(super) fn held_and_speakers(&self) -> (Vec<Held>, Vec<(usize, Arc<JobContext>)>) {
        let speakers = self.renewed().enumerate().filter(|(_, r)| r.ctx.notes.waits());
        (self.held(), speakers.map(|(at, r)| (at, Arc::clone(&r.ctx))).collect())
    }

    /// Whether some lease on this job is or was just held here.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.running().any(|r| r.ctx.job.id == id)
            || self.outbox.iter().any(|u| u.id == id)
            || self.sent().any(|h| h.id == id)
    }

    /// Stops the attempts with these leases.
    pub(super) fn stop(&self, leases: &HashMap<&str, u64>, cause: Cause) -> usize {
        let mut stopped = 0;
        for running in self.running() {
            let job = &running.ctx.job;
            if leases.get(job.id.as_str()) == Some(&job.token) && running.ctx.stop.cause().is_none() {
                running.ctx.stop.request(cause);
                stopped += 1;
            }
        }
        stopped
    }

    /// Stops every attempt, with or without grace.
    pub(super) fn stop_all(&self, cause: Cause, at_once: bool) {
        for running in self.running() {
            if at_once {
                running.ctx.stop.request_at_once(cause);
            } else {
                running.ctx.stop.request(cause);
            }
        }
    }

    /// Attempts that should have ended at the latest `slack` before `now`, written off: their handlers block, or wait for
    /// a thread behind those that do. Either way they are told to stop: nothing holds their leases from now on.
    pub(super) fn write_off_overdue(
        &mut self,
        now: Instant,
        slack: Duration,
    ) -> Vec<(Arc<JobContext>, Arc<TypeEntry>)> {
        self.write_off(Cause::Timeout, |r| now > r.ctx.deadline() + STOP_GRACE + slack)
    }

    /// Everything that still runs, written off for the worker's end.
    pub(super) fn write_off_all(&mut self) -> Vec<(Arc<JobContext>, Arc<TypeEntry>)> {
        self.write_off(Cause::Drain, |_| true)
    }

    fn write_off(
        &mut self,
        cause: Cause,
        which: impl Fn(&Running) -> bool,
    ) -> Vec<(Arc<JobContext>, Arc<TypeEntry>)> {
        let overdue = self.slots.iter_mut().flatten().filter(|r| !r.written_off && which(r));
        overdue
            .map(|running| {
                running.written_off = true;
                running.ctx.stop.request_at_once(cause);
                (Arc::clone(&running.ctx), Arc::clone(&running.entry))
            })
            .collect()
    }

    /// Running attempts whose leases are renewed; they come first in [`Self::held`].
    fn renewed(&self) -> impl Iterator<Item = &Running> {
        self.running().filter(|r| !r.written_off && r.ctx.stop.cause() != Some(Cause::LeaseLost))
    }

    /// What calls under way settle.
    fn sent(&self) -> impl Iterator<Item = &Held> {
        self.in_flight.iter().flat_map(|(_, held)| held)
    }

    fn running(&self) -> impl Iterator<Item = &Running> {
        self.slots.iter().flatten()
    }
}

/// One more under this name.
fn count(counts: &mut HashMap<String, u32>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.to_owned(), 1)),
    }
}

/// What a follow-up job weighs beside its payload: so a batch of 1 MiB, and the one settlement that may exceed it, has at
/// most 200.
const FOLLOW_UP_WEIGHT: usize = 1024 * 1024 / 100;

fn weight(settlement: &Settlement) -> usize {
    use lanekeeper_queue::types::Outcome;
    let note = settlement.note.as_ref().map_or(0, Note::weight);
    note + 128
        + match &settlement.outcome {
            Outcome::Success { result, follow_ups } => {
                // One call may bring 200 of them, as one enqueue may.
                result.len()
                    + follow_ups.iter().map(|job| job.payload.len() + FOLLOW_UP_WEIGHT).sum::<usize>()
            }
            Outcome::Retry { error, .. } | Outcome::Dead { error, .. } => error.message.len(),
            Outcome::Release { .. } | Outcome::Snooze { .. } => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::lanes::Order;
    use crate::handler::{Always, Answer, Handler, Handlers as _, Running as Future, testing};
    use crate::metrics::Metrics;
    use lanekeeper_api::policy::{JobTypePolicy, LanePolicy};

    struct Done;

    impl Handler for Done {
        fn run<'a>(&'a self, _: &'a JobContext) -> Future<'a> {
            Box::pin(async { Ok(Answer::default()) })
        }
    }

    fn entry(per_worker: Option<u32>) -> Arc<TypeEntry> {
        let policy = JobTypePolicy { per_worker, ..testing::policy() };
        let handler = Always(Arc::new(Done)).handler("mail", &policy);
        Arc::new(TypeEntry { policy, handler, metrics: Metrics::default().of_type("mail") })
    }

    fn start(table: &mut Table, per_worker: Option<u32>) -> (usize, Arc<JobContext>) {
        let ctx = Arc::new(testing::context(b"", Duration::from_secs(1)));
        (table.start(Arc::clone(&ctx), entry(per_worker)).unwrap(), ctx)
    }

    #[test]
    fn a_limit_counts_what_began_before_it() {
        let mut table = Table::new(3);
        let (before, _) = start(&mut table, None);
        let (with, _) = start(&mut table, Some(2));
        let left = |table: &Table| {
            let mut limits = BTreeMap::new();
            table.limits(&[("mail".to_owned(), 2)], &mut limits);
            limits["mail"]
        };
        assert_eq!(left(&table), 0);
        table.finish(before);
        assert_eq!(left(&table), 1);
        table.finish(with);
        assert_eq!(left(&table), 2);
    }

    #[test]
    fn other_jobs_leave_a_slot_to_critical_lanes() {
        let lane = LanePolicy { critical: true, ..LanePolicy::new("urgent", 1) };
        let lanes = Lanes::new(&["urgent".to_owned(), "rest".to_owned()], &Order::Strict, &[lane]);
        let mut table = Table::new(2);
        let begin = |table: &mut Table, lane: &str| {
            let mut ctx = testing::context(b"", Duration::from_secs(1));
            ctx.job.lane = lane.to_owned();
            table.start(Arc::new(ctx), entry(None)).unwrap()
        };
        let room = |table: &Table| (table.room(&lanes).critical, table.room(&lanes).others);
        assert_eq!(room(&table), (2, 1));
        let other = begin(&mut table, "rest");
        assert_eq!(room(&table), (1, 0));
        let urgent = begin(&mut table, "urgent");
        assert_eq!(room(&table), (0, 0));
        table.finish(other);
        assert_eq!(room(&table), (1, 1));
        table.finish(urgent);
        assert_eq!(room(&table), (2, 1));
    }

    #[test]
    fn what_is_written_off_is_told_to_stop_at_once() {
        let mut table = Table::new(2);
        let (slot, ctx) = start(&mut table, None);
        let slack = Duration::from_secs(3);
        assert!(table.write_off_overdue(Instant::now(), slack).is_empty());
        assert_eq!(ctx.stop.cause(), None);
        let late = ctx.deadline() + STOP_GRACE + slack + Duration::from_millis(1);
        assert_eq!(table.write_off_overdue(late, slack).len(), 1);
        assert_eq!(ctx.stop.cause(), Some(Cause::Timeout));
        assert!(table.held().is_empty() && table.finish(slot).is_none());

        let (_, ctx) = start(&mut table, None);
        assert_eq!(table.write_off_all().len(), 1);
        assert_eq!(ctx.stop.cause(), Some(Cause::Drain));
    }
}
