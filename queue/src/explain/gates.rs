//! What holds due jobs back whatever workers there are: pauses, and the gates of lanes and concurrency keys.

use super::words::{count, duration};
use super::{Cause, Explanation, Scene};
use crate::types::{ClosedGate, Gate, KeyStanding};
use lanekeeper_api::policy::{LanePolicy, RateLimit};

/// What holds the whole queue back.
pub(super) fn of_queue(subject: &str, scene: &Scene<'_>) -> Option<Explanation> {
    let queue = &scene.policy.queue;
    let by_hand = scene.stats.gates.iter().find(|gate| gate.lane.is_none() && gate.gate == Gate::Paused);
    if let Some(gate) = by_hand.filter(|_| !scene.policy.paused) {
        let sentence = paused(&format!("Queue {queue}"), gate, scene);
        let found = Explanation::new(Cause::Paused, subject, sentence);
        return Some(found.advice(format!("Once the reason is gone: `lanekeeper resume {queue}`.")));
    }
    if scene.stats.paused {
        let mut found = Explanation::new(Cause::Paused, subject, format!("Queue {queue} is paused."));
        found.also.extend(by_hand.map(|gate| paused("It", gate, scene)));
        return Some(found.advice("Set `paused: false` in the JobQueue."));
    }
    let why = scene.stats.closed.as_ref()?;
    let found =
        Explanation::new(Cause::Closed, subject, format!("Queue {queue} is closed to workers: {why}."));
    // Who looks may not see what manages the queue: the sentence holds for each.
    Some(found.advice(
        "Remove the cause. What manages the queue says more: in a cluster the conditions of the JobQueue, in the local mode \
         what `lanekeeper up` printed.",
    ))
}

/// What holds a lane back.
pub(super) fn of_lane(lane: &str, subject: &str, scene: &Scene<'_>) -> Option<Explanation> {
    let closed = |gate: &&ClosedGate| gate.lane.as_deref() == Some(lane);
    let mut gates = scene.stats.gates.iter().filter(closed);
    let mut found = told(lane, subject, gates.next()?, scene);
    found.also.extend(gates.map(|gate| told(lane, subject, gate, scene).sentence));
    Some(found)
}

fn told(lane: &str, subject: &str, gate: &ClosedGate, scene: &Scene<'_>) -> Explanation {
    let policy = scene.policy.lane(lane);
    let new = |cause, sentence: String| Explanation::new(cause, subject, sentence);
    match gate.gate {
        Gate::Paused => {
            let advice =
                format!("Once the reason is gone: `lanekeeper resume {} --lane {lane}`.", scene.policy.queue);
            new(Cause::Paused, paused(&format!("Lane {lane}"), gate, scene)).advice(advice)
        }
        Gate::Hold => {
            let sentence = format!(
                "Lane {lane} is held{}, {}: what its jobs depend on asked for patience (Retry-After).",
                left(gate.until_ms, scene),
                since("held", gate, scene),
            );
            new(Cause::LaneHeld, sentence).advice(format!(
                "If it can take jobs sooner: `lanekeeper resume {} --lane {lane}`.",
                scene.policy.queue
            ))
        }
        Gate::Circuit => new(Cause::CircuitOpen, circuit(lane, policy, gate, scene))
            .advice("Find out why its jobs fail: `lanekeeper get` shows the errors of each."),
        Gate::Concurrency => {
            let running = count(scene.types_in(lane).map(|t| t.running).sum(), "job");
            let most = policy.and_then(|lane| lane.concurrency);
            let most = most.map(|most| format!(" of {most}")).unwrap_or_default();
            let sentence = format!("Lane {lane} is at its concurrency{most}: {running} running.");
            new(Cause::LaneAtConcurrency, sentence)
                .advice("Raise the lane's `concurrency` if what it protects can take more.")
        }
        Gate::Rate => {
            let rate = policy.and_then(|lane| lane.rate_limit.as_ref()).map(rate).unwrap_or_default();
            let sentence =
                format!("The rate of lane {lane}{rate} is spent; {}.", next_start(gate.until_ms, scene));
            new(Cause::LaneRateSpent, sentence)
        }
    }
}

/// What holds the concurrency key of a ready job back.
pub(super) fn of_key(standing: &KeyStanding, subject: &str, scene: &Scene<'_>) -> Option<Explanation> {
    let KeyStanding { key, running, limit, held_until_ms, rate_opens_ms, .. } = standing;
    let new = |cause, sentence: String| Some(Explanation::new(cause, subject, sentence));
    if held_until_ms.is_some() {
        let left = left(*held_until_ms, scene);
        return new(
            Cause::KeyHeld,
            format!("Its key {key} is held{left}: what it depends on asked for patience (Retry-After)."),
        );
    }
    if let Some(limit) = limit.filter(|limit| running >= limit) {
        let running = count(*running, "job");
        let sentence = format!("Its key {key} is at its limit of {limit}: {running} of it running.");
        return new(Cause::KeyAtLimit, sentence);
    }
    rate_opens_ms.as_ref()?;
    new(
        Cause::KeyRateSpent,
        format!("The rate of its key {key} is spent; {}.", next_start(*rate_opens_ms, scene)),
    )
}

/// That others of the same key go first.
pub(super) fn turns(standing: &KeyStanding) -> Option<String> {
    let verb = if standing.ahead == 1 { "goes" } else { "go" };
    let others = count(standing.ahead, "job");
    (standing.ahead > 0)
        .then(|| format!("{others} of its key {} {verb} first; keys take turns.", standing.key))
}

/// `Queue a/b was paused by ada 5 min ago: vendor is down.`
fn paused(subject: &str, gate: &ClosedGate, scene: &Scene<'_>) -> String {
    let by = gate.by.as_deref().unwrap_or("someone");
    let ago =
        gate.since_ms.map(|since| format!(" {} ago", duration(scene.stats.now_ms.saturating_sub(since))));
    let why = gate.why.as_deref().map(|why| why.trim_end_matches('.')).unwrap_or("no reason was given");
    format!("{subject} was paused by {by}{}: {why}.", ago.unwrap_or_default())
}

fn circuit(lane: &str, policy: Option<&LanePolicy>, gate: &ClosedGate, scene: &Scene<'_>) -> String {
    let failures = policy
        .and_then(|lane| lane.circuit)
        .map_or_else(|| "too many attempts".to_owned(), |circuit| count(circuit.failures.into(), "attempt"));
    let probe = match gate.until_ms {
        _ if gate.next_probes(scene.stats.now_ms) => "the next job probes whether it works again".to_owned(),
        Some(until) => format!("the next probe is in {}", duration(until.saturating_sub(scene.stats.now_ms))),
        None => "one job probes whether it works again".to_owned(),
    };
    format!(
        "The circuit of lane {lane} is open, {}: {failures} in a row failed; {probe}.",
        since("open", gate, scene)
    )
}

/// ` for another 30 s`.
fn left(until_ms: Option<u64>, scene: &Scene<'_>) -> String {
    let left = until_ms.map(|until| duration(until.saturating_sub(scene.stats.now_ms)));
    left.map(|left| format!(" for another {left}")).unwrap_or_default()
}

/// `held for 5 min by now`.
fn since(state: &str, gate: &ClosedGate, scene: &Scene<'_>) -> String {
    gate.since_ms.map_or_else(
        || "since when is not known".to_owned(),
        |since| format!("{state} for {} by now", duration(scene.stats.now_ms.saturating_sub(since))),
    )
}

fn next_start(at_ms: Option<u64>, scene: &Scene<'_>) -> String {
    let wait = at_ms.map(|at| duration(at.saturating_sub(scene.stats.now_ms)));
    wait.map_or_else(
        || "the next job may start soon".to_owned(),
        |wait| format!("the next job may start in {wait}"),
    )
}

/// ` of 100 per 1 min`.
fn rate(rate: &RateLimit) -> String {
    format!(" of {} per {}", rate.limit, duration(rate.per_ms))
}
