//! Shares of the lanes by weight: deficit round-robin. Pure.
//!
//! After M. Shreedhar and G. Varghese, "Efficient Fair Queueing using Deficit Round Robin", SIGCOMM 1995. Lanes have their
//! turns in a circle. A turn adds the lane's quantum to what it may take, the turn ends when that is used up or the lane is
//! empty, and an empty lane keeps nothing: being idle earns no credit. Jobs all cost one, quanta are the weights without
//! their common divisor, and no dice are thrown: the shares are exact over any window of claims.
//!
//! One thing differs from a router. A claim is one call for many jobs, and which lanes are empty shows in the reply only.
//! So a plan says what each lane may take if lanes are what they were at the last look; Redis gives what is left over to
//! whoever has jobs; and the round is then gone through once more with what was really there. A lane that got more or less
//! than its turns gave it, because of what was left over or because critical jobs came first, has that set off in its
//! next turns.

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct RoundRobin {
    lanes: Vec<Lane>,
    /// The lane whose turn it is.
    turn: usize,
    /// It has had its quantum for this turn.
    begun: bool,
}

#[derive(Debug, Clone, Default)]
struct Lane {
    quantum: i64,
    /// What it may still take in its turn; below zero when it had more than its turns gave it.
    deficit: i64,
    /// It was empty when it was last looked at.
    idle: bool,
}

/// What to ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Every lane, by its place among the weights, in the order in which to list it, with the most to take from it
    /// before anything is left over.
    pub(super) shares: Vec<(usize, u32)>,
    slots: u32,
}

impl RoundRobin {
    /// Lanes with these weights, of which none is zero.
    pub(super) fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().copied().fold(0, gcd).max(1);
        let lane = |weight: &u32| Lane { quantum: i64::from((weight / divisor).max(1)), ..Lane::default() };
        Self { lanes: weights.iter().map(lane).collect(), turn: 0, begun: false }
    }

    /// Shares for a claim of so many slots.
    pub(super) fn plan(&self, slots: u32) -> Plan {
        let mut after = self.clone();
        let all_idle = self.lanes.iter().all(|lane| lane.idle);
        let mut shares = vec![0; self.lanes.len()];
        let (mut offered, mut served) = (Vec::new(), Vec::new());
        let mut left = i64::from(slots);
        while left > 0 && !self.lanes.is_empty() {
            let (at, lane) = (after.turn, &after.lanes[after.turn]);
            if lane.idle && !all_idle {
                // It may have filled up: in its turn it is offered its quantum, without counting on it.
                if shares[at] == 0 {
                    shares[at] = lane.quantum.min(i64::from(slots));
                    offered.push(at);
                }
                after.end_turn();
                continue;
            }
            let granted = after.take(left, i64::MAX);
            if shares[at] == 0 && granted > 0 {
                served.push(at);
            }
            shares[at] += granted;
            left -= granted;
        }
        let without = (0..self.lanes.len()).filter(|&at| shares[at] == 0);
        // Offers first: a turn that falls into this claim must not find its slots gone to later turns of others. Then by
        // turns, so that critical jobs cut those short whose turns come last.
        let listed = offered.into_iter().chain(served).chain(without);
        let share = |at: usize| u32::try_from(shares[at]).unwrap_or(u32::MAX);
        Plan { shares: listed.map(|at| (at, share(at))).collect(), slots }
    }

    /// The round as it will be if this plan brings all it asks for.
    pub(super) fn after(&self, plan: &Plan) -> Self {
        let mut left = plan.slots;
        let mut took = vec![0; self.lanes.len()];
        for &(at, share) in &plan.shares {
            took[at] = share.min(left);
            left -= took[at];
        }
        let mut after = self.clone();
        after.settle(plan, 0, &took);
        after
    }

    /// What came of a plan: how many jobs each lane gave, in the order of the weights, and how many came from lanes outside
    /// the shares, which were served first.
    pub(super) fn settle(&mut self, plan: &Plan, outside: u32, took: &[u32]) {
        let room = i64::from(plan.slots) - i64::from(outside);
        let took: Vec<i64> = took.iter().copied().map(i64::from).collect();
        let total: i64 = took.iter().sum();
        self.look(plan, room, &took);
        let granted = self.replay(total, &took);
        for ((lane, granted), took) in self.lanes.iter_mut().zip(granted).zip(took) {
            lane.deficit = if lane.idle { 0 } else { lane.deficit + granted - took };
        }
        // A turn that has not begun was not offered yet.
        if self.begun && self.lanes[self.turn].idle {
            self.end_turn();
        }
    }

    /// Learns which lanes are empty: all, if the claim came back short, else those that gave less than they were asked for
    /// while there was room.
    fn look(&mut self, plan: &Plan, mut room: i64, took: &[i64]) {
        let short = took.iter().sum::<i64>() < room;
        for &(at, share) in &plan.shares {
            let asked = i64::from(share).min(room).max(0);
            let lane = &mut self.lanes[at];
            if short || took[at] < asked {
                lane.idle = true;
            } else if took[at] > 0 {
                lane.idle = false;
            }
            room -= took[at].min(asked);
        }
    }

    /// Hands out so many jobs turn by turn, as if it had been known which lanes have how many.
    fn replay(&mut self, total: i64, took: &[i64]) -> Vec<i64> {
        let mut granted = vec![0; self.lanes.len()];
        let mut left = total;
        while left > 0 {
            let at = self.turn;
            let there = if self.lanes[at].idle { took[at] - granted[at] } else { i64::MAX };
            let given = self.take(left, there);
            granted[at] += given;
            left -= given;
        }
        granted
    }

    /// The lane whose turn it is takes what it may of what is left and there; its turn ends unless it may take more.
    fn take(&mut self, left: i64, there: i64) -> i64 {
        let at = self.turn;
        let lane = &mut self.lanes[at];
        if !self.begun {
            lane.deficit += lane.quantum;
            self.begun = true;
        }
        let taken = lane.deficit.max(0).min(left).min(there);
        lane.deficit -= taken;
        if lane.deficit <= 0 || taken == there {
            self.end_turn();
        }
        taken
    }

    fn end_turn(&mut self) {
        self.turn = (self.turn + 1) % self.lanes.len();
        self.begun = false;
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
