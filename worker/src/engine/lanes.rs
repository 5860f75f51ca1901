//! The lanes a worker takes from: which go first, and what room there is for each kind of job. Pure.

use lanekeeper_api::policy::LanePolicy;

/// Which of a worker's lanes goes first. Critical lanes do in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Order {
    /// The first of the list before the second.
    #[default]
    Strict,
    /// By weight, one for each lane of the list; a lane without one has 1.
    Weighted(Vec<u32>),
    /// The lane whose oldest due job has the least time left to its promise.
    Deadline,
}

/// The two kinds of lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One slot is kept free for these.
    Critical,
    /// The others.
    Other,
}

/// The lanes of a worker under one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lanes {
    critical: Vec<String>,
    others: Vec<String>,
    /// Weights of the others; empty unless the order is by weight.
    weights: Vec<u32>,
}

/// How many jobs a worker has room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Of critical lanes.
    pub(super) critical: usize,
    /// Of all others; less than `critical` by the slot that is kept.
    pub(super) others: usize,
}

impl Lanes {
    /// The lanes that a worker serves, by what the policy says of them; a lane that the policy does not have is not critical.
    pub(super) fn new(served: &[String], order: &Order, policy: &[LanePolicy]) -> Self {
        let mut lanes = Self::default();
        for (at, name) in served.iter().enumerate() {
            if policy.iter().any(|lane| lane.critical && lane.name == *name) {
                lanes.critical.push(name.clone());
                continue;
            }
            lanes.others.push(name.clone());
            if let Order::Weighted(weights) = order {
                lanes.weights.push(weights.get(at).copied().unwrap_or(1).max(1));
            }
        }
        lanes
    }

    /// Those of a kind, in the order given.
    pub(super) fn of(&self, kind: Kind) -> &[String] {
        match kind {
            Kind::Critical => &self.critical,
            Kind::Other => &self.others,
        }
    }

    /// How many there are of both kinds.
    pub(super) fn count(&self) -> usize {
        self.critical.len() + self.others.len()
    }

    /// Weights of the lanes that are not critical, in their order; empty unless the order is by weight.
    pub(super) fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// What room there is with so many slots, of which some are free and some run jobs of critical lanes. A worker of one
    /// slot keeps none.
    pub(super) fn room(&self, slots: usize, free: usize, busy_critical: usize) -> Room {
        let kept = usize::from(!self.critical.is_empty() && slots > 1);
        let busy_others = slots.saturating_sub(free + busy_critical);
        let others = free.min((slots - kept.min(slots)).saturating_sub(busy_others));
        Room {
            critical: if self.critical.is_empty() { 0 } else { free },
            others: if self.others.is_empty() { 0 } else { others },
        }
    }
}

impl Room {
    /// For no job at all.
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }

    /// What is left of it beside so many jobs of whatever kind.
    pub(super) fn without(self, jobs: usize) -> Self {
        Self { critical: self.critical.saturating_sub(jobs), others: self.others.saturating_sub(jobs) }
    }

    /// Of a kind of lanes.
    pub(super) fn of(self, kind: Kind) -> usize {
        match kind {
            Kind::Critical => self.critical,
            Kind::Other => self.others,
        }
    }

    /// Jobs to ask for in one claim, which cannot ask for more of one lane than of all: without the slot that is kept,
    /// unless only that is free.
    pub(super) fn slots(self) -> usize {
        if self.others > 0 { self.others } else { self.critical }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(served: &[&str], order: &Order) -> Lanes {
        let lane = |name: &str, critical| LanePolicy { critical, ..LanePolicy::new(name, 1) };
        let policy = [lane("a", false), lane("urgent", true), lane("b", false)];
        Lanes::new(&served.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), order, &policy)
    }

    #[test]
    fn lanes_are_told_apart_and_keep_their_weights() {
        let by_weight = lanes(&["a", "urgent", "b", "gone"], &Order::Weighted(vec![6, 5, 3]));
        assert_eq!(by_weight.of(Kind::Critical), ["urgent"]);
        assert_eq!(by_weight.of(Kind::Other), ["a", "b", "gone"]);
        assert_eq!(by_weight.weights(), [6, 3, 1]);
        assert_eq!(lanes(&["a", "b"], &Order::Deadline).weights(), [0_u32; 0]);
    }

    #[test]
    fn one_slot_is_kept_for_critical_lanes() {
        let room = |served: &[&str], slots, free, busy_critical| {
            let room = lanes(served, &Order::Strict).room(slots, free, busy_critical);
            (room.critical, room.others, room.slots())
        };
        let both = ["a", "urgent"];
        assert_eq!(room(&both, 4, 4, 0), (4, 3, 3));
        assert_eq!(room(&both, 4, 2, 0), (2, 1, 1));
        assert_eq!(room(&both, 4, 1, 0), (1, 0, 1), "only the kept slot is free");
        assert_eq!(room(&both, 4, 0, 0), (0, 0, 0), "a lane became critical when all slots were taken");
        assert_eq!(room(&both, 4, 1, 1), (1, 1, 1), "a critical job is in the slot that was kept for it");
        assert_eq!(room(&both, 4, 3, 1), (3, 3, 3));
        assert_eq!(room(&both, 4, 0, 4), (0, 0, 0));
        assert_eq!(room(&both, 1, 1, 0), (1, 1, 1), "one slot cannot be kept");
        assert_eq!(room(&["urgent"], 4, 4, 0), (4, 0, 4));
        assert_eq!(room(&["a", "b"], 4, 4, 0), (0, 4, 4));
    }
}
