//! The end of the demo: the account, for people and as JSON.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use lanekeeper_queue::types::Job;
use serde::Serialize;

use super::observe::Seen;
use crate::account::{Account, Counts};
use crate::files::write_whole;
use crate::table;
use crate::traffic::plan::MIX;
use crate::verify::{self, Findings};

/// Least dead letters that a demo ends with.
const LEAST_DEAD: u64 = 3;

/// How many workers a pool had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct PoolShown {
    /// At most.
    pub(super) max_replicas: u32,
    /// At the end.
    pub(super) final_replicas: u32,
}

/// What happened on the way.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shown {
    /// Drew everything.
    pub(super) seed: u64,
    /// How long traffic was to last.
    pub(super) seconds: u64,
    /// How long the demo took.
    pub(super) took: Duration,
    /// Workers killed.
    pub(super) killed: Vec<String>,
    /// Dead letters replayed and done.
    pub(super) replayed: Vec<String>,
}

/// Everything in one document.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Drew everything.
    pub(super) seed: u64,
    /// How long traffic lasted.
    pub(super) seconds: u64,
    /// How long the demo took, start and end included.
    pub(super) took_ms: u128,
    /// Where every job stands.
    #[serde(flatten)]
    pub(super) account: Account,
    /// Workers by pool.
    pub(super) pools: BTreeMap<String, PoolShown>,
    /// From the first enqueue to the first worker's word, from zero replicas.
    pub(super) first_worker_ms: Option<u64>,
    /// Workers killed with -9.
    pub(super) workers_killed: Vec<String>,
    /// Jobs that lost an attempt to it, and went on.
    pub(super) jobs_recovered: u64,
    /// Dead letters replayed and done.
    pub(super) replayed: Vec<String>,
    /// What the handlers did.
    pub(super) effects: Findings,
    /// Why the exit code is 1; empty when all is well.
    pub(super) problems: Vec<String>,
}

impl Summary {
    pub(super) fn of(
        account: Account,
        effects: Findings,
        jobs: &HashMap<String, Job>,
        seen: &Seen,
        shown: Shown,
    ) -> Self {
        let pool = |(name, most): (&String, &u32)| {
            let left = seen.pools.get(name).map_or(0, |pool| pool.replicas);
            (name.clone(), PoolShown { max_replicas: *most, final_replicas: left })
        };
        let first = jobs.values().map(|job| job.enqueued_ms).min();
        let mut summary = Self {
            seed: shown.seed,
            seconds: shown.seconds,
            took_ms: shown.took.as_millis(),
            pools: seen.max_replicas.iter().map(pool).collect(),
            first_worker_ms: first
                .zip(seen.first_worker_ms)
                .map(|(first, worker)| worker.saturating_sub(first)),
            workers_killed: shown.killed,
            jobs_recovered: jobs.values().filter(|job| job.crashes > 0).count() as u64,
            replayed: shown.replayed,
            account,
            effects,
            problems: Vec::new(),
        };
        summary.problems = summary.find_problems();
        summary
    }

    /// What a demo must not end with.
    fn find_problems(&self) -> Vec<String> {
        let all = &self.account.all;
        let mut problems = Vec::new();
        let mut must = |holds: bool, what: String| {
            if !holds {
                problems.push(what);
            }
        };
        let lost = &self.account.unaccounted_ids;
        let named: Vec<&str> = lost.iter().take(5).map(String::as_str).collect();
        must(
            lost.is_empty(),
            format!("{} accepted jobs are unaccounted for: {}", lost.len(), named.join(", ")),
        );
        must(verify::holds(&self.effects), "effects do not match what the queue says was done".into());
        must(all.waiting == 0, format!("{} jobs were still waiting at the time limit", all.waiting));
        must(all.dead >= LEAST_DEAD, format!("{} dead letters, not at least {LEAST_DEAD}", all.dead));
        must(!self.workers_killed.is_empty(), "no worker was killed".into());
        must(!self.replayed.is_empty(), "no dead letter was replayed and done".into());
        for (job_type, _, least) in MIX {
            let least = if job_type == "pdf-report" { 5 } else { least.min(50) };
            let done = self.account.by_type.get(job_type).map_or(0, |counts| counts.completed);
            must(done >= least, format!("{done} jobs of {job_type} are done, not at least {least}"));
        }
        for (name, pool) in &self.pools {
            must(pool.max_replicas > 0, format!("pool {name} never had a worker"));
            must(pool.final_replicas == 0, format!("pool {name} still has {} workers", pool.final_replicas));
        }
        problems
    }

    /// Writes the JSON document.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        write_whole(path, &json).context("summary")
    }

    /// The tables for people.
    pub(super) fn print(&self, path: &Path, out: &mut dyn Write) -> std::io::Result<()> {
        let mut jobs =
            table::new(&["job type", "accepted", "completed", "waiting", "dead", "cancelled", "unaccounted"]);
        for (name, counts) in &self.account.by_type {
            jobs.add_row(row(name, counts));
        }
        jobs.add_row(row("all", &self.account.all));
        let mut pools = table::new(&["pool", "most replicas", "replicas now"]);
        for (name, pool) in &self.pools {
            pools.add_row([name.clone(), pool.max_replicas.to_string(), pool.final_replicas.to_string()]);
        }
        writeln!(out, "\n{jobs}\n\n{pools}\n")?;
        verify::command::print(&self.effects, out)?;
        let first = self.first_worker_ms.map_or("never".to_owned(), |ms| format!("after {ms} ms"));
        writeln!(
            out,
            "\n{} duplicates and {} unusable jobs were turned away. The first worker was there {first}.\n\
             {} worker killed, {} of its jobs went on; {} dead letter replayed. Seed {}, {:.0} s in all. {}",
            self.account.duplicates,
            self.account.rejected,
            self.workers_killed.len(),
            self.jobs_recovered,
            self.replayed.len(),
            self.seed,
            self.took_ms as f64 / 1000.0,
            path.display()
        )?;
        if self.problems.is_empty() {
            return writeln!(out, "\nEvery accepted job is accounted for.");
        }
        for problem in &self.problems {
            writeln!(out, "PROBLEM: {problem}")?;
        }
        Ok(())
    }
}

fn row(name: &str, counts: &Counts) -> [String; 7] {
    let Counts { accepted, completed, waiting, dead, cancelled, unaccounted } = *counts;
    let [a, b, c, d, e, f] =
        [accepted, completed, waiting, dead, cancelled, unaccounted].map(|n| n.to_string());
    [name.to_owned(), a, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Found;

    /// A change for the worse, and what is said of it.
    type Case = (fn(&mut Summary), &'static str);

    fn good() -> Summary {
        let counts = Counts { accepted: 60, completed: 60, ..Counts::default() };
        let by_type = MIX.iter().map(|(name, _, _)| ((*name).to_owned(), counts)).collect();
        let all = Counts { accepted: 430, completed: 420, dead: 10, ..Counts::default() };
        Summary {
            account: Account { all, by_type, ..Account::default() },
            pools: BTreeMap::from([("a".into(), PoolShown { max_replicas: 2, final_replicas: 0 })]),
            workers_killed: vec!["w".into()],
            replayed: vec!["j".into()],
            ..Summary::default()
        }
    }

    #[test]
    fn a_good_run_has_no_problems_and_its_figures_stand_at_the_top_of_the_json() {
        assert_eq!(good().find_problems(), Vec::<String>::new());
        let json = serde_json::to_value(good()).unwrap();
        for field in ["accepted", "completed", "waiting", "dead", "cancelled", "unaccounted"] {
            assert!(json[field].is_u64(), "{field}");
        }
        assert_eq!(json["pools"]["a"]["max_replicas"], 2);
        assert_eq!(json["by_type"]["pdf-report"]["accepted"], 60);
    }

    #[test]
    fn each_shortfall_is_a_problem() {
        let found = |change: fn(&mut Summary)| {
            let mut summary = good();
            change(&mut summary);
            summary.find_problems()
        };
        assert!(found(|s| s.account.unaccounted_ids.push("x-1".into()))[0].contains("x-1"));
        let wrong = Found { wrong: vec!["twice".into()], ..Found::default() };
        let cases: [Case; 6] = [
            (|s| s.account.all.waiting = 2, "2 jobs were still waiting"),
            (|s| s.account.all.dead = 2, "2 dead letters"),
            (|s| s.workers_killed.clear(), "no worker was killed"),
            (|s| s.replayed.clear(), "no dead letter was replayed"),
            (|s| s.pools.get_mut("a").unwrap().final_replicas = 1, "still has 1"),
            (|s| s.account.by_type.clear(), "0 jobs of receipt-email"),
        ];
        for (change, what) in cases {
            assert!(found(change)[0].contains(what), "{what}");
        }
        let mut summary = good();
        summary.effects.insert("receipt-email".into(), wrong);
        assert_eq!(summary.find_problems().len(), 1);
    }
}
