//! The rows of the fault table (`reliability.md` §3), a file each: what is done, what must hold, and the figures.

mod clocks;
mod cut_log;
mod cut_replies;
mod dead_letters;
mod duplicates;
mod eviction;
mod flushes;
mod frozen_workers;
mod full_memory;
mod lost_indexes;
mod million;
mod odd_payloads;
mod payload_sizes;
mod poison;
mod replays;
mod slow_network;
mod storm;
mod worker_kills;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use futures::future::BoxFuture;
use lanekeeper_queue::testing::ledger::Verdict;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::court::describe;
use crate::stage::Judged;

pub use replays::replay_all;

/// What a run is given.
#[derive(Debug, Clone)]
pub struct Cx {
    /// The worker binary under test.
    pub worker: PathBuf,
    /// The `lanekeeper` binary under test.
    pub cli: PathBuf,
    /// Full sizes, or those of `make test`.
    pub full: bool,
    /// Draws plans and jobs.
    pub seed: u64,
}

impl Cx {
    /// The size for this run.
    #[must_use]
    pub fn size(&self, full: usize, short: usize) -> usize {
        if self.full { full } else { short }
    }
}

/// What a row saw.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its figures.
    pub figures: Map<String, Value>,
    /// Targets in figures that this run missed: told, no failure.
    pub missed: Vec<String>,
    /// Promises that were broken: the run fails.
    pub broken: Vec<String>,
    /// The ledger's word.
    pub ledger: Option<Verdict>,
}

impl Report {
    /// Writes a figure down.
    pub fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// Something that must hold.
    pub fn must(&mut self, what: impl Into<String>, holds: bool) {
        if !holds {
            self.broken.push(what.into());
        }
    }

    /// A target.
    pub fn aim(&mut self, what: impl Into<String>, met: bool) {
        if !met {
            self.missed.push(what.into());
        }
    }

    /// The ledger's word: no violation.
    pub fn judged(&mut self, judged: &Judged) {
        let verdict = judged.verdict.clone();
        self.must(format!("ledger: {}", describe(&verdict)), verdict.violations.is_empty());
        if judged.undone_grants > 0 {
            self.figure("grantsUndoneByRedisKills", judged.undone_grants);
        }
        self.ledger = Some(verdict);
    }
}

/// A row.
pub struct Row {
    /// Its number in the table, or a name.
    pub name: &'static str,
    /// What is done.
    pub title: &'static str,
    /// Whether it is part of the short run.
    pub short: bool,
    /// Longest it may take in full.
    pub bound: Duration,
    /// Plays it.
    pub play: fn(Cx) -> BoxFuture<'static, Result<Report>>,
}

macro_rules! row {
    ($name:literal, $title:literal, $short:literal, $bound:literal, $play:path) => {
        Row {
            name: $name,
            title: $title,
            short: $short,
            bound: Duration::from_secs($bound),
            play: |cx| Box::pin($play(cx)),
        }
    };
}

/// All rows, in the order in which they play.
#[must_use]
pub fn all() -> Vec<Row> {
    vec![
        row!(
            "storm",
            "kill -9 of workers and Redis, SIGSTOP, stale settlements, under load",
            true,
            600,
            storm::mixed
        ),
        row!("1", "kill -9 of workers mid-job", false, 300, worker_kills::play),
        row!("2", "SIGSTOP past the lease, peers finish, continue", true, 120, frozen_workers::play),
        row!("3", "replies cut after enqueue, claim and settle", true, 180, cut_replies::play),
        row!("4", "kill -9 of Redis", false, 300, storm::redis_kills),
        row!("5", "append-only file cut behind the last sync", true, 180, cut_log::play),
        row!("8", "maxmemory reached", true, 120, full_memory::play),
        row!("9", "maxmemory-policy allkeys-lru set", true, 90, eviction::play),
        row!("10", "FUNCTION FLUSH and SCRIPT FLUSH under load", true, 120, flushes::play),
        row!("11", "500 ms latency, 5 % resets", false, 180, slow_network::play),
        row!("12", "clock of Redis an hour forth and back", false, 120, clocks::play),
        row!("13", "each index key deleted in turn", true, 600, lost_indexes::play),
        row!("14", "a handler that kills its worker each time", false, 300, poison::play),
        row!("15", "duplicate enqueues by 32 clients", true, 120, duplicates::play),
        row!("16", "payloads of 0 B, limit, limit + 1 and 100 MB", true, 60, payload_sizes::play),
        row!("17", "payloads that are no JSON, no UTF-8, NUL, 2^63, []", true, 60, odd_payloads::play),
        row!("18", "50,000 dead letters", true, 300, dead_letters::play),
        row!("19", "replay of 10,000 dead letters, killed and run again", true, 180, replays::play),
        row!("20", "every call at a million jobs", false, 600, million::play),
    ]
}

/// The value below which `percent` of the sorted values are.
#[must_use]
pub fn percentile(values: &mut [u64], percent: f64) -> u64 {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = (values.len() as f64 * percent / 100.0).ceil() as usize;
    values.get(at.saturating_sub(1).min(last)).copied().unwrap_or(0)
}
