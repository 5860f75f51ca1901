//! Lanes, types, pools and workers of a queue.

use std::collections::BTreeMap;

use comfy_table::Cell;
use lanekeeper_api::policy::{LanePolicy, QueuePolicy};
use lanekeeper_queue::types::{ClosedGate, Gate, LaneStats, Stats, TypeStats, WorkerInfo};
use serde::Serialize;

use super::gates;
use crate::human::{age, count, duration, visible};
use crate::local::state::PoolState;
use crate::out::{bad, cell, good, render, table, warn};

/// A queue at one moment, for programs and for the tables.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QueueView {
    /// `namespace/name`.
    pub(crate) queue: String,
    /// By lane.
    pub(crate) lanes: Vec<LaneView>,
    /// By `namespace/name`, where something is known of pools.
    pub(crate) pools: BTreeMap<String, PoolState>,
    /// Everything that `lk_stats` answers.
    pub(crate) stats: Stats,
}

/// One lane at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LaneView {
    /// Lane; empty for types that no lane claims.
    pub(crate) name: String,
    /// The promise; absent when the policy no longer has the lane.
    pub(crate) start_within_ms: Option<u64>,
    /// Whether the oldest due job still waits within the promise.
    pub(crate) kept: Option<bool>,
    /// Due and waiting.
    pub(crate) due: u64,
    /// Leased.
    pub(crate) running: u64,
    /// Not due yet.
    pub(crate) scheduled: u64,
    /// Dead letters.
    pub(crate) dead: u64,
    /// How long the oldest due job has waited.
    pub(crate) oldest_ms: Option<u64>,
    /// What holds its due jobs back, for people.
    pub(crate) held_back: Vec<String>,
}

impl LaneView {
    /// Sums up a lane.
    pub(crate) fn of(lane: &LaneStats, policy: Option<&QueuePolicy>, now_ms: u64) -> Self {
        let sum = |figure: fn(&TypeStats) -> u64| lane.types.iter().map(figure).sum();
        let oldest_ms =
            lane.types.iter().filter_map(|t| t.oldest_due_ms).min().map(|due| now_ms.saturating_sub(due));
        let start_within_ms =
            policy.and_then(|policy| policy.lane(&lane.name)).map(|lane| lane.start_within_ms);
        Self {
            name: lane.name.clone(),
            start_within_ms,
            kept: start_within_ms.map(|promise| oldest_ms.is_none_or(|age| age <= promise)),
            due: sum(|t| t.ready),
            running: sum(|t| t.running),
            scheduled: sum(|t| t.scheduled),
            dead: sum(|t| t.dead),
            oldest_ms,
            held_back: Vec::new(),
        }
    }
}

impl QueueView {
    /// What is known of a queue, put together.
    pub(crate) fn new(
        queue: String,
        stats: Stats,
        policy: Option<&QueuePolicy>,
        pools: BTreeMap<String, PoolState>,
    ) -> Self {
        let view = |lane: &LaneStats| {
            let known = policy.and_then(|policy| policy.lane(&lane.name));
            LaneView {
                held_back: held_back(&stats, &lane.name, known),
                ..LaneView::of(lane, policy, stats.now_ms)
            }
        };
        let lanes = stats.lanes.iter().map(view).collect();
        Self { queue, lanes, pools, stats }
    }

    /// For people.
    pub(crate) fn render(&self) -> String {
        let mut parts = vec![headline(self), lanes(self)];
        if !self.pools.is_empty() {
            parts.push(pools(&self.pools));
        }
        if !self.stats.workers.is_empty() {
            parts.push(workers(&self.stats.workers, self.stats.now_ms));
        }
        parts.join("\n\n")
    }
}

fn held_back(stats: &Stats, lane: &str, policy: Option<&LanePolicy>) -> Vec<String> {
    // A lane that runs as many as it may holds nothing back while nothing is due.
    let due = stats.lanes.iter().filter(|of| of.name == lane).flat_map(|of| &of.types).any(|of| of.ready > 0);
    let closed = stats.gates.iter().filter(|gate| gate.lane.as_deref() == Some(lane));
    let closed = closed.filter(|gate| due || gate.gate != Gate::Concurrency);
    closed.map(|gate| gates::words(gate, policy, stats.now_ms)).collect()
}

fn headline(view: &QueueView) -> String {
    let stats = &view.stats;
    let mut line = format!(
        "queue {}  policy {}  {}  {}",
        view.queue,
        stats.policy_version,
        count(stats.workers.len() as u64, "worker"),
        count(stats.dead, "dead letter"),
    );
    if stats.paused {
        let by_hand = |gate: &&ClosedGate| gate.lane.is_none() && gate.gate == Gate::Paused;
        let pause = stats.gates.iter().find(by_hand).map(|gate| gates::words(gate, None, stats.now_ms));
        let how = pause.as_deref().and_then(|words| words.strip_prefix("paused")).unwrap_or_default();
        line.push_str(&format!("  PAUSED{how}: nothing is started"));
    }
    if let Some(why) = &stats.closed {
        line.push_str(&format!("  CLOSED ({why}): nothing is started"));
    }
    if stats.full {
        line.push_str(&format!("  FULL ({} records, spec.capacity): new jobs are refused", stats.records));
    }
    if stats.damaged > 0 {
        line.push_str(&format!(
            "  damage met so far: {} (lost or wrong entries of indexes, which were put right; jobs and keys that cannot \
             be read stand in `lanekeeper events`)",
            indicatif::HumanCount(stats.damaged)
        ));
    }
    visible(&line).into_owned()
}

/// The lanes, each followed by its types that have something to say.
fn lanes(view: &QueueView) -> String {
    let mut header =
        vec!["LANE", "START WITHIN", "KEPT", "DUE", "RUNNING", "SCHEDULED", "DEAD", "OLDEST", "DONE"];
    if view.lanes.iter().any(|lane| !lane.held_back.is_empty()) {
        header.push("HELD BACK");
    }
    let mut rows = table(&header);
    for (lane, stats) in view.lanes.iter().zip(&view.stats.lanes) {
        let mut row = lane_row(lane, stats);
        if !lane.held_back.is_empty() {
            row.push(warn(lane.held_back.join("; ")));
        }
        rows.add_row(row);
        for job_type in stats.types.iter().filter(|t| has_news(t)) {
            rows.add_row(type_row(job_type, view.stats.now_ms));
        }
    }
    render(&rows)
}

fn lane_row(lane: &LaneView, stats: &LaneStats) -> Vec<Cell> {
    let kept = match lane.kept {
        Some(true) => good("yes"),
        Some(false) => bad("NO"),
        None => cell("-"),
    };
    let name = if lane.name.is_empty() { "(no lane)" } else { &lane.name };
    vec![
        cell(name),
        cell(lane.start_within_ms.map_or_else(|| "-".to_owned(), duration)),
        kept,
        cell(lane.due),
        cell(lane.running),
        cell(lane.scheduled),
        if lane.dead > 0 { bad(lane.dead) } else { cell(0) },
        cell(lane.oldest_ms.map_or_else(|| "-".to_owned(), duration)),
        cell(stats.types.iter().map(|t| t.succeeded_total).sum::<u64>()),
    ]
}

fn has_news(job_type: &TypeStats) -> bool {
    job_type.enqueued_total > 0 || job_type.ready + job_type.scheduled + job_type.running + job_type.dead > 0
}

fn type_row(job_type: &TypeStats, now_ms: u64) -> Vec<Cell> {
    vec![
        cell(format!("  {}", job_type.name)),
        cell(""),
        cell(""),
        cell(job_type.ready),
        cell(job_type.running),
        cell(job_type.scheduled),
        cell(job_type.dead),
        cell(job_type.oldest_due_ms.map_or_else(|| "-".to_owned(), |due| age(now_ms, due))),
        cell(job_type.succeeded_total),
    ]
}

/// The pools.
pub(crate) fn pools(pools: &BTreeMap<String, PoolState>) -> String {
    let mut rows = table(&["POOL", "READY", "REPLICAS", "DESIRED", "MAX", "BUSY", "LANES", "REASON"]);
    for (name, pool) in pools {
        let ready = format!("{}/{}", pool.ready, pool.replicas);
        rows.add_row(vec![
            cell(name),
            if pool.ready < pool.replicas { warn(ready) } else { cell(ready) },
            cell(pool.replicas),
            cell(pool.desired),
            cell(pool.max),
            cell(pool.busy),
            cell(pool.lanes.join(",")),
            cell(&pool.reason),
        ]);
    }
    let mut text = render(&rows);
    for (name, pool) in pools {
        for problem in &pool.problems {
            text.push_str(&format!("\n{name}: {}: {}", problem.name, visible(&problem.message)));
        }
    }
    text
}

fn workers(workers: &[WorkerInfo], now_ms: u64) -> String {
    let mut rows = table(&["WORKER", "POOL", "NODE", "BUSY", "LANES", "UP", "SEEN"]);
    for worker in workers {
        let busy =
            format!("{}/{}{}", worker.busy, worker.slots, if worker.draining { " draining" } else { "" });
        rows.add_row(vec![
            cell(&worker.identity.name),
            cell(if worker.identity.pool.is_empty() { "-" } else { &worker.identity.pool }),
            cell(&worker.identity.node),
            if worker.draining { warn(busy) } else { cell(busy) },
            cell(worker.lanes.join(",")),
            cell(age(now_ms, worker.started_ms)),
            cell(format!("{} ago", age(now_ms, worker.seen_ms))),
        ]);
    }
    render(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(oldest_due_ms: Option<u64>) -> Stats {
        let mail = TypeStats {
            name: "mail".into(),
            ready: 2,
            oldest_due_ms,
            enqueued_total: 2,
            ..TypeStats::default()
        };
        let quiet = TypeStats { name: "quiet".into(), ..TypeStats::default() };
        Stats {
            now_ms: 100_000,
            policy_version: 3,
            lanes: vec![LaneStats { name: "fast".into(), types: vec![mail, quiet] }],
            ..Stats::default()
        }
    }

    fn policy() -> QueuePolicy {
        serde_json::from_value(serde_json::json!({
            "queue": "a/b",
            "source": {"owner": "cli", "uid": "local", "createdMs": 0, "generation": 1},
            "paused": false, "maxPayload": 1, "leaseMs": 1,
            "lanes": [{"name": "fast", "startWithinMs": 10_000}],
            "jobTypes": {},
        }))
        .unwrap()
    }

    #[test]
    fn a_lane_says_whether_its_promise_is_kept() {
        let policy = policy();
        let kept =
            |due| QueueView::new("a/b".into(), stats(due), Some(&policy), BTreeMap::new()).lanes[0].kept;
        assert_eq!(kept(None), Some(true));
        assert_eq!(kept(Some(90_000)), Some(true));
        assert_eq!(kept(Some(89_999)), Some(false));
        assert_eq!(LaneView::of(&stats(None).lanes[0], None, 0).kept, None);
    }

    #[test]
    fn closed_gates_stand_with_their_lane_and_a_pause_of_all_in_the_headline() {
        let pause = |lane: Option<&str>| ClosedGate {
            lane: lane.map(str::to_owned),
            gate: Gate::Paused,
            until_ms: None,
            since_ms: Some(40_000),
            by: Some("ada".into()),
            why: None,
        };
        let render =
            |stats: Stats| QueueView::new("a/b".into(), stats, Some(&policy()), BTreeMap::new()).render();
        assert!(!render(stats(None)).contains("HELD BACK"));
        let lane = render(Stats { gates: vec![pause(Some("fast"))], ..stats(None) });
        assert!(lane.contains("HELD BACK") && lane.contains("paused by ada 1m ago"), "{lane}");
        let all = render(Stats { paused: true, gates: vec![pause(None)], ..stats(None) });
        assert!(
            all.contains("PAUSED by ada 1m ago: nothing is started") && !all.contains("HELD BACK"),
            "{all}"
        );
        let by_policy = render(Stats { paused: true, ..stats(None) });
        assert!(by_policy.contains("PAUSED: nothing is started"), "{by_policy}");
    }

    #[test]
    fn types_without_news_are_left_out() {
        let text = QueueView::new("a/b".into(), stats(None), None, BTreeMap::new()).render();
        assert!(text.contains("  mail") && !text.contains("quiet"), "{text}");
    }
}
