//! Gates of lanes: pauses by hand, holds, circuits, concurrency, rates.

use std::collections::{BTreeMap, BTreeSet};

use lanekeeper_api::policy::{Circuit, LanePolicy};

use super::rate::Rate;
use super::state::Model;
use super::waiting::clip;
use crate::types::{ClosedGate, ErrorClass, Gate, Holds, Outcome, Spends, Toggled};

/// Longest time for which a circuit stays open before the next probe, ms.
const PROBE_MOST_MS: u64 = 300_000;
/// Longest time between the end of a hold and the next one that counts as the same, ms.
const HOLD_GAP_MS: u64 = 60_000;
/// How much further ahead than it was long a wait may end, ms; beyond that it began before the clock went back, and is over.
const CLOCK_SLACK_MS: u64 = 60_000;
const BY_MOST: usize = 128;
const WHY_MOST: usize = 1024;

/// What gates remember.
#[derive(Debug, Clone, Default)]
pub(super) struct Gates {
    /// Pauses by hand; the queue's under the empty name.
    pauses: BTreeMap<String, Pause>,
    holds: BTreeMap<String, Hold>,
    /// Theoretical arrival times by lane, µs.
    arrivals: BTreeMap<String, u64>,
    /// Failures in a row by lane.
    failures: BTreeMap<String, u32>,
    open: BTreeMap<String, Open>,
}

#[derive(Debug, Clone)]
struct Pause {
    at_ms: u64,
    by: String,
    why: String,
}

/// A hold of a lane: since when, and its end as it was told last.
#[derive(Debug, Clone, Copy)]
struct Hold {
    since_ms: u64,
    wait: Wait,
}

/// Something that ends by itself, and how long that was ahead when it was told, ms.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wait {
    pub(super) until_ms: u64,
    pub(super) length_ms: u64,
}

impl Wait {
    /// A wait from now on; no shorter than one that goes on already.
    pub(super) fn new(delay_ms: u64, going_on: Option<u64>, now_ms: u64) -> Self {
        let until_ms = (now_ms + delay_ms).max(going_on.unwrap_or(0));
        Self { until_ms, length_ms: until_ms - now_ms }
    }

    /// Whether it began before the clock went back.
    pub(super) fn is_unsound(self, now_ms: u64) -> bool {
        self.until_ms > now_ms + self.length_ms + CLOCK_SLACK_MS
    }

    /// When it ends, where it goes on.
    pub(super) fn end(self, now_ms: u64) -> Option<u64> {
        (self.until_ms > now_ms && !self.is_unsound(now_ms)).then_some(self.until_ms)
    }
}

/// How long a circuit waits for its next probe when it opened for the nth time in a row, ms.
fn probe_wait(circuit: &Circuit, openings: u32) -> u64 {
    let longer = circuit.probe_after_ms.saturating_mul(1 << (openings - 1).min(40));
    longer.min(PROBE_MOST_MS.max(circuit.probe_after_ms))
}

/// A circuit that is open, or waits for its probe.
#[derive(Debug, Clone)]
struct Open {
    until_ms: u64,
    openings: u32,
    since_ms: u64,
    probe: Option<String>,
}

/// How much a gate lets through, or which does not and until when (ms) where time opens it.
pub(super) type Room = Result<usize, (Gate, Option<u64>)>;

fn lane_name(lane: &str) -> Option<String> {
    (!lane.is_empty()).then(|| lane.to_owned())
}

impl Model {
    /// Pauses lanes, or the queue.
    pub(super) fn pause(&mut self, by: &str, why: &str, lanes: &[String], now_ms: u64) -> Vec<Toggled> {
        let pause = Pause { at_ms: now_ms, by: clip(by, BY_MOST), why: clip(why, WHY_MOST) };
        self.toggle(lanes, |gates, lane| {
            let new = !gates.pauses.contains_key(lane);
            gates.pauses.entry(lane.to_owned()).or_insert_with(|| pause.clone());
            new
        })
    }

    /// Ends pauses, and holds of lanes that are named.
    pub(super) fn resume(&mut self, lanes: &[String], now_ms: u64) -> Vec<Toggled> {
        self.toggle(lanes, |gates, lane| {
            let lifted = gates.holds.remove(lane).is_some_and(|hold| hold.wait.end(now_ms).is_some());
            gates.pauses.remove(lane).is_some() || lifted
        })
    }

    fn toggle(&mut self, lanes: &[String], change: impl Fn(&mut Gates, &str) -> bool) -> Vec<Toggled> {
        let whole = [String::new()];
        let lanes = if lanes.is_empty() { &whole } else { lanes };
        lanes
            .iter()
            .map(|lane| Toggled { lane: lane_name(lane), changed: change(&mut self.gates, lane) })
            .collect()
    }

    /// Why nothing is handed out.
    pub(super) fn held(&self) -> Option<String> {
        let policy = self.policy();
        let word = match (policy.paused, &policy.closed) {
            (true, _) => "paused",
            (false, Some(_)) => "closed",
            (false, None) if self.paused_by_hand() => "paused",
            (false, None) => return None,
        };
        Some(word.to_owned())
    }

    /// Whether somebody paused the whole queue.
    pub(super) fn paused_by_hand(&self) -> bool {
        self.gates.pauses.contains_key("")
    }

    /// How many jobs the lane's gates let through, at most `most`.
    pub(super) fn lane_room(&self, lane: &LanePolicy, mut most: usize, now_us: u64) -> Room {
        let (gates, name, now_ms) = (&self.gates, lane.name.as_str(), now_us / 1_000);
        if gates.pauses.contains_key(name) {
            return Err((Gate::Paused, None));
        }
        if let Some(until_ms) = gates.holds.get(name).and_then(|hold| hold.wait.end(now_ms)) {
            return Err((Gate::Hold, Some(until_ms)));
        }
        if let Some((open, circuit)) = gates.open.get(name).zip(lane.circuit.as_ref()) {
            let wait = Wait { until_ms: open.until_ms, length_ms: probe_wait(circuit, open.openings) };
            if let Some(until_ms) = wait.end(now_ms) {
                return Err((Gate::Circuit, Some(until_ms)));
            }
            if open.probe.as_ref().is_some_and(|probe| self.leases.contains_key(probe)) {
                return Err((Gate::Circuit, None));
            }
            most = most.min(1);
        }
        if let Some(concurrency) = lane.concurrency {
            let room = (concurrency as usize).saturating_sub(self.running_in(name));
            if room == 0 {
                return Err((Gate::Concurrency, None));
            }
            most = most.min(room);
        }
        match &lane.rate_limit {
            Some(rate) => {
                let arrival = gates.arrivals.get(name).copied().unwrap_or(0);
                Rate::of(rate).room(arrival, now_us, most).map_err(|opens| (Gate::Rate, Some(opens)))
            }
            None => Ok(most),
        }
    }

    fn running_in(&self, lane: &str) -> usize {
        let types = &self.policy().job_types;
        let of_lane = |id: &&String| {
            let job = self.jobs.get(*id);
            job.and_then(|job| types.get(&job.job_type)).is_some_and(|spec| spec.lane == lane)
        };
        self.leases.keys().filter(of_lane).count()
    }

    /// Jobs of the lane were handed out, this one last.
    pub(super) fn lane_spent(&mut self, lane: &LanePolicy, count: usize, last: &str, now_us: u64) {
        if let Some(rate) = &lane.rate_limit {
            let arrival = self.gates.arrivals.entry(lane.name.clone()).or_default();
            *arrival = Rate::of(rate).spent(*arrival, now_us, count);
        }
        if let Some(open) = self.gates.open.get_mut(&lane.name).filter(|_| lane.circuit.is_some()) {
            open.probe = Some(last.to_owned());
        }
    }

    /// What the end of an attempt means for the gates of its lane.
    pub(super) fn tell_gates(&mut self, job_type: &str, id: &str, outcome: &Outcome, now_ms: u64) {
        let Some(lane) = self.rules(job_type).lane.cloned() else { return };
        match outcome {
            Outcome::Snooze { delay_ms, holds: Holds::Lane, .. } => {
                let delay_ms = (*delay_ms).min(super::options::MAX_DELAY_MS);
                let same = |hold: &&Hold| {
                    now_ms.saturating_sub(hold.wait.until_ms) <= HOLD_GAP_MS && !hold.wait.is_unsound(now_ms)
                };
                let standing = self.gates.holds.get(&lane.name).filter(same);
                let since_ms = standing.map_or(now_ms, |hold| hold.since_ms);
                let wait = Wait::new(delay_ms, standing.map(|hold| hold.wait.until_ms), now_ms);
                self.gates.holds.insert(lane.name.clone(), Hold { since_ms, wait });
            }
            Outcome::Success { .. } => self.works(&lane),
            Outcome::Retry { error, .. } | Outcome::Dead { error, .. }
                if error.class == ErrorClass::Permanent =>
            {
                // It speaks of the job alone, unless it probes.
                if self.gates.open.contains_key(&lane.name) {
                    self.fails(&lane, id, now_ms);
                } else {
                    self.works(&lane);
                }
            }
            Outcome::Retry { spends: Spends::Try, .. } | Outcome::Dead { spends: Spends::Try, .. } => {
                self.fails(&lane, id, now_ms);
            }
            _ => {}
        }
    }

    fn works(&mut self, lane: &LanePolicy) {
        if lane.circuit.is_some() {
            self.gates.failures.remove(&lane.name);
            self.gates.open.remove(&lane.name);
        }
    }

    fn fails(&mut self, lane: &LanePolicy, id: &str, now_ms: u64) {
        let Some(circuit) = &lane.circuit else { return };
        if let Some(open) = self.gates.open.get_mut(&lane.name) {
            // Jobs that were running when it opened say nothing new.
            if open.probe.as_deref() == Some(id) {
                open.openings += 1;
                open.until_ms = now_ms + probe_wait(circuit, open.openings);
                open.probe = None;
            }
            return;
        }
        let failures = self.gates.failures.entry(lane.name.clone()).or_default();
        *failures += 1;
        if *failures >= circuit.failures {
            let until_ms = now_ms + circuit.probe_after_ms;
            let open = Open { until_ms, openings: 1, since_ms: now_ms, probe: None };
            self.gates.open.insert(lane.name.clone(), open);
        }
    }

    /// What holds lanes, for people.
    pub(super) fn closed_gates(&self, now_us: u64) -> Vec<ClosedGate> {
        let pause_of = |name: &str| {
            let pause = self.gates.pauses.get(name)?;
            Some(ClosedGate {
                lane: lane_name(name),
                gate: Gate::Paused,
                until_ms: None,
                since_ms: Some(pause.at_ms),
                by: Some(pause.by.clone()),
                why: Some(pause.why.clone()),
            })
        };
        let mut closed: Vec<ClosedGate> = pause_of("").into_iter().collect();
        for lane in &self.policy().lanes {
            closed.extend(pause_of(&lane.name));
            let mut room = self.lane_room(lane, 1, now_us);
            if room.is_ok() && lane.circuit.is_some() && self.gates.open.contains_key(&lane.name) {
                // The next job, at once, is a probe.
                room = Err((Gate::Circuit, Some(now_us / 1_000)));
            }
            let Err((gate, until_ms)) = room else { continue };
            let since_ms = match gate {
                Gate::Paused => continue,
                Gate::Hold => self.gates.holds.get(&lane.name).map(|hold| hold.since_ms),
                Gate::Circuit => self.gates.open.get(&lane.name).map(|open| open.since_ms),
                Gate::Concurrency | Gate::Rate => None,
            };
            let lane = lane_name(&lane.name);
            closed.push(ClosedGate { lane, gate, until_ms, since_ms, by: None, why: None });
        }
        closed
    }

    /// Holds from before the clock went back would begin anew once it has caught up.
    pub(super) fn sweep_gates(&mut self, now_ms: u64) {
        self.gates.holds.retain(|_, hold| !hold.wait.is_unsound(now_ms));
    }

    /// Gates that the policy no longer has are forgotten, but for pauses by hand.
    pub(super) fn forget_gates(&mut self) {
        let lanes = &self.policy().lanes;
        let names: BTreeSet<String> = lanes.iter().map(|lane| lane.name.clone()).collect();
        let circuits: BTreeSet<String> =
            lanes.iter().filter(|lane| lane.circuit.is_some()).map(|lane| lane.name.clone()).collect();
        let gates = &mut self.gates;
        gates.holds.retain(|name, _| names.contains(name));
        gates.arrivals.retain(|name, _| names.contains(name));
        gates.failures.retain(|name, _| circuits.contains(name));
        gates.open.retain(|name, _| circuits.contains(name));
    }

    /// Whether a lane is open, and no time, past or to come, has to do with it.
    pub(super) fn open_for_good(&self, lane: &LanePolicy) -> bool {
        let timed = lane.rate_limit.is_some()
            || self.gates.holds.contains_key(&lane.name)
            || (lane.circuit.is_some() && self.gates.open.contains_key(&lane.name));
        !timed && self.lane_room(lane, 1, 0).is_ok()
    }

    /// Whether somebody paused anything by hand.
    #[must_use]
    pub fn pauses(&self) -> bool {
        !self.gates.pauses.is_empty()
    }

    /// Moments at which a gate opens, ms; past ones among them.
    pub(super) fn gate_moments(&self) -> impl Iterator<Item = u64> {
        let holds = self.gates.holds.values().map(|hold| hold.wait.until_ms);
        holds
            .chain(self.gates.open.values().map(|open| open.until_ms))
            .chain(self.gates.arrivals.values().map(|us| us / 1_000))
    }
}
