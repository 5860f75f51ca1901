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

/// A request, and what it was made from.
pub(super) struct Ask {
    pub(super) want: ClaimRequest,
    /// What there was room for.
    pub(super) room: Room,
    lanes: Arc<Lanes>,
    plan: Option<Plan>,
}

/// Makes requests: lanes in their order, with shares where they have weights.
pub(super) struct Asker {
    order: ClaimOrder,
    lanes: Arc<Lanes>,
    robin: Option<RoundRobin>,
}

impl Asker {
    pub(super) fn new(order: &Order) -> Self {
        let order = if *order == Order::Deadline { ClaimOrder::Deadline } else { ClaimOrder::Listed };
        Self { order, lanes: Arc::default(), robin: None }
    }

    /// A request for so much room: critical lanes first and without a bound, others where there is room for their jobs.
    /// `ahead` is on its way, and is taken to bring what it asks for.
    pub(super) fn ask(&mut self, lanes: &Arc<Lanes>, room: Room, ahead: Option<&Ask>) -> Ask {
        if self.lanes != *lanes {
            // Which lanes are critical has changed, which is rare enough to begin a new round.
            self.robin = (lanes.weights().len() > 1).then(|| RoundRobin::new(lanes.weights()));
            self.lanes = Arc::clone(lanes);
        }
        let slots = u32::try_from(room.slots().min(MOST)).unwrap_or(u32::MAX);
        let plan = self.robin.as_ref().filter(|_| room.others > 0).map(|robin| {
            let before = ahead.and_then(|ahead| ahead.plan.as_ref());
            before.map_or_else(|| robin.plan(slots), |before| robin.after(before).plan(slots))
        });
        let (critical, others) = (lanes.of(Kind::Critical), lanes.of(Kind::Other));
        let mut want = ClaimRequest { slots, order: self.order, ..ClaimRequest::default() };
        want.lanes.extend_from_slice(critical);
        if let Some(plan) = &plan {
            want.shares.extend(critical.iter().map(|_| slots));
            for &(lane, share) in &plan.shares {
                want.lanes.push(others[lane].clone());
                want.shares.push(share);
            }
        } else if room.others > 0 {
            want.lanes.extend_from_slice(others);
        }
        Ask { want, room, lanes: Arc::clone(lanes), plan }
    }

    /// Tells the round what came of its plan. Replies come in the order of the requests.
    pub(super) fn replied(&mut self, ask: &Ask, reply: &ClaimReply) {
        let (Some(robin), Some(plan)) = (&mut self.robin, &ask.plan) else { return };
        if reply.held.is_some() || self.lanes != ask.lanes {
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
        robin.settle(plan, outside, &took);
    }
}

impl Ask {
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
    /// A request for what there is room for, beside what a call under way asks for; none where there is no room.
    pub(super) fn ask(&mut self, now: Instant, ahead: Option<&Ask>) -> Option<Ask> {
        let policy = self.shared.policy()?;
        if self.drain.began() {
            // Only to end what was offered.
            return self.offers.stands().then(|| self.asker.ask(&policy.lanes, Room::default(), None));
        }
        let table = self.shared.table();
        let asked = ahead.map_or(0, |ahead| ahead.want.slots as usize);
        let room = table.room(&policy.lanes).without(asked);
        if room.is_none() {
            return None;
        }
        let mut ask = self.asker.ask(&policy.lanes, room, ahead);
        table.limits(&policy.limits, &mut ask.want.type_limits);
        for (job_type, (until, _)) in &self.unknown {
            if now < *until {
                ask.want.type_limits.insert(job_type.clone(), 0);
            }
        }
        Some(ask)
    }

    /// The request with what it says of the room it will leave.
    pub(super) fn offering(&mut self, mut ask: Ask, wanted: bool) -> Ask {
        ask.want.offer = self.offers.word(&self.shared.ears, wanted && !self.drain.began());
        ask
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
        let mut asker = Asker::new(&order);
        let ask = asker.ask(&lanes, lanes.room(4, 4, 0), None);
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
        let ask = asker.ask(&lanes, lanes.room(4, 1, 0), None);
        assert_eq!((ask.want.slots, ask.want.lanes.as_slice()), (1, ["urgent".to_owned()].as_slice()));
        assert!(!ask.leaves_only_the_kept_slot(&reply(&["urgent"])));
        let by_deadline = Asker::new(&Order::Deadline).ask(&lanes, lanes.room(4, 4, 0), None);
        assert_eq!(by_deadline.want.order, ClaimOrder::Deadline);
    }

    #[test]
    fn shares_follow_the_weights_and_what_came_of_them() {
        let order = Order::Weighted(vec![2, 1, 1]);
        let lanes = lanes(&order);
        let mut asker = Asker::new(&order);
        let first = asker.ask(&lanes, lanes.room(4, 4, 0), None);
        assert_eq!(first.want.lanes, ["urgent", "a", "b"]);
        assert_eq!(first.want.shares, [3, 2, 1]);
        // One slot went to a critical job and one lane was cut short: it is its turn.
        asker.replied(&first, &reply(&["urgent", "a", "a"]));
        let second = asker.ask(&lanes, lanes.room(4, 1, 1), None);
        assert_eq!(
            (second.want.lanes.as_slice(), second.want.shares.as_slice()),
            (["urgent", "b", "a"].map(str::to_owned).as_slice(), [1, 1, 0].as_slice())
        );
        // A paused queue says nothing of the lanes, and a reply that never came neither.
        asker.replied(&second, &ClaimReply { held: Some("paused".into()), ..ClaimReply::default() });
        assert_eq!(asker.ask(&lanes, lanes.room(4, 1, 1), None).want.shares, [1, 1, 0]);
    }

    #[test]
    fn a_request_that_is_sent_before_the_last_was_answered_goes_on_where_that_one_ends() {
        let order = Order::Weighted(vec![2, 1, 1]);
        let lanes = lanes(&order);
        let mut asker = Asker::new(&order);
        let first = asker.ask(&lanes, lanes.room(6, 3, 0), None);
        assert_eq!((first.want.slots, first.want.shares.as_slice()), (2, [2, 2, 0].as_slice()));
        let second = asker.ask(&lanes, lanes.room(6, 3, 0), Some(&first));
        assert_eq!((second.want.lanes[1].as_str(), second.want.shares[1]), ("b", 1), "{:?}", second.want);
        asker.replied(&first, &reply(&["a", "a"]));
        asker.replied(&second, &reply(&["b", "a"]));
        let third = asker.ask(&lanes, lanes.room(6, 3, 0), None);
        assert_eq!((third.want.lanes[1].as_str(), third.want.shares[1]), ("a", 1), "{:?}", third.want);
    }
}
