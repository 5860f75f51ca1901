//! The decision: pure, deterministic, no clock.
//!
//! Up goes straight to the need: a burst must not wait for steps. Down goes in steps, only to what the
//! whole window behind needed, never below the workers that run jobs; the last replica goes after
//! `idleAfter` without any movement. A source that failed freezes everything.

use std::collections::{BTreeMap, VecDeque};

use super::estimate::Estimate;
use super::need::{Need, Terms, need};
use super::reason::{self, Reason};
use super::sample::{Held, Load, Mode, Sample, ScalePolicy};

/// Bounds of the time for which less must be needed before workers go, ms. Within them it is
/// `idleAfter`: who wants the last replica gone after a minute wants the others to follow as fast.
const WINDOW_MS: (u64, u64) = (10_000, 180_000);
/// Bounds of the time between two steps down, ms.
const STEP_MS: (u64, u64) = (1_000, 15_000);
/// Above this many replicas a need within a tenth of them is no reason to move.
const DEAD_BAND_FROM: u32 = 10;

/// How many replicas, and why.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Replicas to have.
    pub replicas: u32,
    /// The term that decided.
    pub reason: Reason,
    /// One sentence for people, with figures.
    pub message: String,
    /// What kept the figure from following the terms, if anything.
    pub limited_by: Option<LimitedBy>,
    /// Replicas by each term; absent when nothing could be read.
    pub terms: Option<Terms>,
}

/// What kept replicas from following the terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum LimitedBy {
    /// `maxReplicas`.
    MaxReplicas,
    /// `minReplicas`.
    MinReplicas,
    /// Workers that run jobs are not taken away.
    BusyWorkers,
    /// Less must be needed for a while before workers go, and then they go in steps.
    Stabilization,
    /// The last replica stays for `idleAfter`.
    IdleAfter,
}

impl LimitedBy {
    /// The name, as conditions and tables show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxReplicas => "MaxReplicas",
            Self::MinReplicas => "MinReplicas",
            Self::BusyWorkers => "BusyWorkers",
            Self::Stabilization => "Stabilization",
            Self::IdleAfter => "IdleAfter",
        }
    }
}

/// What a pool's decisions remember of earlier samples. Starts empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    estimates: BTreeMap<String, Estimate>,
    /// When the last load was read.
    read_ms: Option<u64>,
    /// Replicas wanted, by time, newest last.
    window: VecDeque<(u64, u32)>,
    /// When anything last moved or waited.
    active_ms: u64,
    last_up_ms: u64,
    last_down_ms: u64,
    /// The last sample had no load.
    blind: bool,
}

/// Decides on the replicas of one pool. `now_ms` is monotonic.
#[must_use]
pub fn decide(policy: &ScalePolicy, sample: &Sample, state: &State, now_ms: u64) -> (Decision, State) {
    let Some(load) = &sample.load else {
        return (frozen(policy, sample), State { blind: true, ..state.clone() });
    };
    let mut state = learn(policy, sample, load, state, now_ms);
    let need = need(policy, sample, load, &state.estimates);
    if need.due + need.running + need.soon > 0 {
        state.active_ms = now_ms;
    }
    let decision = match policy.mode {
        Mode::Manual(replicas) => Decision {
            replicas,
            reason: Reason::Manual,
            message: reason::manual(replicas),
            limited_by: None,
            terms: Some(need.terms),
        },
        Mode::Auto => auto(policy, sample, load, &need, &mut state, now_ms),
    };
    if decision.replicas > sample.replicas {
        state.last_up_ms = now_ms;
    } else if decision.replicas < sample.replicas {
        state.last_down_ms = now_ms;
    }
    (decision, state)
}

/// Redis cannot be read: replicas stay, for what is unknown must not look like nothing.
fn frozen(policy: &ScalePolicy, sample: &Sample) -> Decision {
    let (replicas, reason) = match policy.mode {
        Mode::Manual(replicas) => (replicas, Reason::Manual),
        Mode::Auto => (sample.replicas.max(policy.min), Reason::RedisUnreachable),
    };
    Decision { replicas, reason, message: reason::frozen(replicas), limited_by: None, terms: None }
}

fn window_ms(policy: &ScalePolicy) -> u64 {
    policy.idle_after_ms.clamp(WINDOW_MS.0, WINDOW_MS.1)
}

fn step_ms(policy: &ScalePolicy) -> u64 {
    (window_ms(policy) / 8).clamp(STEP_MS.0, STEP_MS.1)
}

/// Takes a load into the estimates, and drops what has left the window.
fn learn(policy: &ScalePolicy, sample: &Sample, load: &Load, state: &State, now_ms: u64) -> State {
    let mut next = State { blind: false, read_ms: Some(now_ms), ..state.clone() };
    if state.read_ms.is_none() || state.blind {
        // Nothing is known of the time before: reckon that it needed what is there.
        next.window.push_back((now_ms, sample.replicas));
        next.active_ms = now_ms;
    }
    let elapsed = state.read_ms.map_or(0, |then| now_ms.saturating_sub(then));
    next.estimates = load
        .types
        .iter()
        .map(|t| {
            let (estimate, moved) = match state.estimates.get(&t.name) {
                Some(known) => known.next(t, elapsed),
                None => (Estimate::first(t), false),
            };
            if moved {
                next.active_ms = now_ms;
            }
            (t.name.clone(), estimate)
        })
        .collect();
    let from = now_ms.saturating_sub(window_ms(policy));
    next.window.retain(|(at, _)| *at >= from);
    next
}

fn auto(
    policy: &ScalePolicy,
    sample: &Sample,
    load: &Load,
    need: &Need,
    state: &mut State,
    now_ms: u64,
) -> Decision {
    let have = sample.replicas;
    let quiet = now_ms.saturating_sub(state.active_ms) >= policy.idle_after_ms;
    let raw = if quiet { 0 } else { need.replicas() };
    let wanted = raw.clamp(policy.min, policy.max.max(policy.min));
    let bound = match raw.cmp(&wanted) {
        std::cmp::Ordering::Greater => Some(LimitedBy::MaxReplicas),
        std::cmp::Ordering::Less => Some(LimitedBy::MinReplicas),
        std::cmp::Ordering::Equal => None,
    };
    state.window.push_back((now_ms, wanted));
    let (replicas, limited_by) =
        if wanted >= have { (wanted, bound) } else { down(policy, sample, state, wanted, quiet, now_ms) };
    let reason = why(load, need, raw, wanted, replicas);
    let message = reason::sentence(reason, limited_by, policy, sample, need);
    Decision { replicas, reason, message, limited_by, terms: Some(need.terms) }
}

/// One step down, or none.
fn down(
    policy: &ScalePolicy,
    sample: &Sample,
    state: &State,
    wanted: u32,
    quiet: bool,
    now_ms: u64,
) -> (u32, Option<LimitedBy>) {
    let have = sample.replicas;
    let busy = sample.busy.min(have);
    // Quiet for idleAfter says more than the window, which may still remember that one was kept warm.
    let most = if quiet { wanted } else { state.window.iter().map(|(_, n)| *n).max().unwrap_or(have) };
    // The last replica waits for idleAfter, not for the window.
    let warm = most.max(u32::from(!quiet)).min(have);
    let settled = now_ms.saturating_sub(state.last_up_ms) >= sample.startup_ms + step_ms(policy);
    let spaced = now_ms.saturating_sub(state.last_down_ms) >= step_ms(policy);
    // A lowered maximum is the user's word: it does not wait for the window.
    let over = have > policy.max.max(policy.min);
    let near = have >= DEAD_BAND_FROM && f64::from(warm) > 0.9 * f64::from(have);
    if !over && (near || warm >= have) {
        let why = if warm == 1 && have == 1 { LimitedBy::IdleAfter } else { LimitedBy::Stabilization };
        return (have, Some(why));
    }
    if !spaced || (!settled && !over) {
        return (have, Some(LimitedBy::Stabilization));
    }
    let step = have - have.div_ceil(2);
    let to = if over { policy.max.max(policy.min).min(have) } else { warm.max(step) };
    if busy > to { (busy, Some(LimitedBy::BusyWorkers)) } else { (to, None) }
}

/// The reason that stands for the figure.
fn why(load: &Load, need: &Need, raw: u32, wanted: u32, replicas: u32) -> Reason {
    let Terms { backlog, throughput, depth, scheduled } = need.terms;
    if replicas > wanted {
        return if need.running > 0 && raw <= 1 && need.due == 0 {
            Reason::Running
        } else {
            Reason::CoolingDown
        };
    }
    if wanted > raw {
        return Reason::Minimum;
    }
    if need.due == 0 && need.running > 0 && throughput <= 1.0 {
        return Reason::Running;
    }
    match load.held {
        Some(Held::Paused) if need.running == 0 => return Reason::Paused,
        Some(Held::Closed) if need.running == 0 => return Reason::Closed,
        _ => {}
    }
    if raw == 0 {
        let held_back = load.types.iter().any(|t| t.held && t.due > 0);
        return if held_back { Reason::HeldBack } else { Reason::Idle };
    }
    let most = backlog.max(throughput).max(depth).max(scheduled);
    if need.due > 0 && backlog >= most {
        Reason::Backlog
    } else if need.due + need.running > 0 && depth >= most && depth > 0.0 {
        Reason::Depth
    } else if need.soon > 0 && scheduled >= most {
        Reason::Scheduled
    } else if throughput > 0.0 {
        Reason::Throughput
    } else {
        Reason::Backlog
    }
}
