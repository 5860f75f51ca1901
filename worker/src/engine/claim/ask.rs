//! What the next claim asks for: slots, lanes in the order in which they are served, shares.

use std::sync::Arc;
use std::time::Instant;

use lanekeeper_queue::types::{ClaimOrder, ClaimReply, ClaimRequest};

use super::Loop;
use crate::engine::lanes::{Kind, Lanes, Order, Room};
use crate::engine::order::{Plan, RoundRobin};

/// Most jobs in one claim: with more slots than this the worker runs some while Redis hands out others, and no call keeps Redis
/// from other clients for long.
const MOST: usize = 100;

/// The request, and what it was made from.
pub(super) struct Ask {
    pub(super) want: ClaimRequest,
    /// What there was room for.
    pub(super) room: Room,
    lanes: Arc<Lanes>,
    robin: Option<RoundRobin>,
    plan: Option<Plan>,
}

impl Ask {
    pub(super) fn new(order: &Order) -> Self {
        let order = if *order == Order::Deadline { ClaimOrder::Deadline } else { ClaimOrder::Listed };
        Self {
            want: ClaimRequest { order, ..ClaimRequest::default() },
            room: Room::default(),
            lanes: Arc::default(),
            robin: None,
            plan: None,
        }
    }

    /// Writes slots, lanes and shares: critical lanes first and without a bound, others where there is room for their jobs.
    fn fill(&mut self, lanes: &Arc<Lanes>, room: Room) {
        if self.lanes != *lanes {
            // Which lanes are critical has changed, which is rare enough to begin a new round.
            self.robin = (lanes.weights().len() > 1).then(|| RoundRobin::new(lanes.weights()));
            self.lanes = Arc::clone(lanes);
        }
        self.room = room;
        let slots = u32::try_from(room.slots().min(MOST)).unwrap_or(u32::MAX);
        self.want.slots = slots;
        self.want.lanes.clear();
        self.want.shares.clear();
        let (critical, others) = (lanes.of(Kind::Critical), lanes.of(Kind::Other));
        self.want.lanes.extend_from_slice(critical);
        self.plan = self.robin.as_ref().filter(|_| room.others > 0).map(|robin| robin.plan(slots));
        if let Some(plan) = &self.plan {
            self.want.shares.extend(critical.iter().map(|_| slots));
            for &(lane, share) in &plan.shares {
                self.want.lanes.push(others[lane].clone());
                self.want.shares.push(share);
            }
        } else if room.others > 0 {
            self.want.lanes.extend_from_slice(others);
        }
    }

    /// Tells the round what came of its plan.
    pub(super) fn replied(&mut self, reply: &ClaimReply) {
        let (Some(robin), Some(plan)) = (&mut self.robin, self.plan.take()) else { return };
        if reply.held.is_some() {
            return;
        }
        let others = self.lanes.of(Kind::Other);
        let (mut took, mut outside) = (vec![0; others.len()], 0);
        for job in &reply.jobs {
            match others.iter().position(|lane| *lane == job.lane) {
                Some(lane) => took[lane] += 1,
                None => outside += 1,
            }
        }
        robin.settle(&plan, outside, &took);
    }

    /// Whether this reply brought all that was asked for.
    pub(super) fn filled_by(&self, reply: &ClaimReply) -> bool {
        reply.jobs.len() >= self.want.slots as usize
    }

    /// Whether this reply says that nothing waits in any of the worker's lanes.
    pub(super) fn found_all_empty(&self, reply: &ClaimReply) -> bool {
        !reply.waits && self.want.lanes.len() >= self.lanes.count()
    }

    /// Whether the slot that is kept is all that is free after this reply, which showed the critical lanes to be empty.
    pub(super) fn leaves_only_the_kept_slot(&self, reply: &ClaimReply) -> bool {
        let critical = self.lanes.of(Kind::Critical);
        self.filled_by(reply)
            && self.want.slots as usize == self.room.others
            && self.room.critical > self.room.others
            && !reply.jobs.iter().any(|job| critical.contains(&job.lane))
    }
}

impl Loop {
    /// What there is room for; the request is filled in accordingly, with the limits of each type.
    pub(super) fn room(&mut self, now: Instant) -> Room {
        let Some(policy) = self.shared.policy().filter(|_| !self.drain.began()) else {
            return Room::default();
        };
        let table = self.shared.table();
        let room = table.room(&policy.lanes);
        if room.is_none() {
            return room;
        }
        self.ask.fill(&policy.lanes, room);
        let limits = &mut self.ask.want.type_limits;
        limits.clear();
        table.limits(&policy.limits, limits);
        for (job_type, (until, _)) in &self.unknown {
            if now < *until {
                limits.insert(job_type.clone(), 0);
            }
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lanekeeper_api::policy::LanePolicy;

    fn lanes(order: &Order) -> Arc<Lanes> {
        let lane = |name: &str, critical| LanePolicy { critical, ..LanePolicy::new(name, 1) };
        let served = ["a".to_owned(), "urgent".to_owned(), "b".to_owned()];
        Arc::new(Lanes::new(&served, order, &[lane("a", false), lane("urgent", true), lane("b", false)]))
    }

    fn reply(lanes: &[&str]) -> ClaimReply {
        let job = |lane: &&str| {
            let mut job = crate::handler::testing::context(b"", std::time::Duration::ZERO).job;
            job.lane = (*lane).to_owned();
            job
        };
        ClaimReply { jobs: lanes.iter().map(job).collect(), ..ClaimReply::default() }
    }

    #[test]
    fn critical_lanes_come_first_and_alone_where_only_their_slot_is_free() {
        let (order, lanes) = (Order::Strict, lanes(&Order::Strict));
        let mut ask = Ask::new(&order);
        ask.fill(&lanes, lanes.room(4, 4, 0));
        assert_eq!(
            (ask.want.slots, ask.want.lanes.as_slice()),
            (3, ["urgent", "a", "b"].map(str::to_owned).as_slice())
        );
        assert!(ask.want.shares.is_empty() && ask.want.order == ClaimOrder::Listed);
        assert!(ask.leaves_only_the_kept_slot(&reply(&["a", "a", "b"])));
        assert!(
            !ask.leaves_only_the_kept_slot(&reply(&["urgent", "a", "b"])),
            "that one counts as the kept one"
        );
        assert!(!ask.leaves_only_the_kept_slot(&reply(&["a", "a"])));
        ask.fill(&lanes, lanes.room(4, 1, 0));
        assert_eq!((ask.want.slots, ask.want.lanes.as_slice()), (1, ["urgent".to_owned()].as_slice()));
        assert!(!ask.leaves_only_the_kept_slot(&reply(&["urgent"])));
        assert_eq!(Ask::new(&Order::Deadline).want.order, ClaimOrder::Deadline);
    }

    #[test]
    fn shares_follow_the_weights_and_what_came_of_them() {
        let order = Order::Weighted(vec![2, 1, 1]);
        let lanes = lanes(&order);
        let mut ask = Ask::new(&order);
        ask.fill(&lanes, lanes.room(4, 4, 0));
        assert_eq!(ask.want.lanes, ["urgent", "a", "b"]);
        assert_eq!(ask.want.shares, [3, 2, 1]);
        // One slot went to a critical job and one lane was cut short: it is its turn.
        ask.replied(&reply(&["urgent", "a", "a"]));
        ask.fill(&lanes, lanes.room(4, 1, 1));
        assert_eq!(
            (ask.want.lanes.as_slice(), ask.want.shares.as_slice()),
            (["urgent", "b", "a"].map(str::to_owned).as_slice(), [1, 1, 0].as_slice())
        );
        // A paused queue says nothing of the lanes, and a reply that never came neither.
        ask.replied(&ClaimReply { held: Some("paused".into()), ..ClaimReply::default() });
        ask.fill(&lanes, lanes.room(4, 1, 1));
        assert_eq!(ask.want.shares, [1, 1, 0]);
    }
}
