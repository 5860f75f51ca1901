//! Acts on many dead letters, batch by batch: at a rate, with a progress bar, to be interrupted at any time.
//!
//! Nothing is remembered between runs: what was acted on does not pass the filter any more, so the same command goes on where
//! one that was interrupted or killed ended. Nor does a run by filters act on what passed when it was listed and does no more. But
//! what was replayed may have died again by then, and only the run knows when it began: a run by filters says at its start until when
//! the letters died that it means, for whoever kills it; one that is interrupted says it again, or names the ids that it left.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::ProgressBar;
use lanekeeper_queue::types::{Acted, DeadAct, DeadFilter, Meant};
use serde_json::json;
use tokio::signal::unix::Signal;
use tokio::time::Instant;

use super::rate::Rate;
use crate::commands::damaged;
use crate::failure::{Failure, Result};
use crate::target::Opened;
use crate::{human, out, present};

/// Jobs per call.
const BATCH: u32 = 200;
/// Refusals listed one by one.
const LISTED: usize = 1000;

/// Where the ids come from.
pub(super) enum Source {
    /// Named; those before `at` were answered for.
    Ids {
        ids: Vec<String>,
        at: usize,
    },
    Filter {
        filter: Box<DeadFilter>,
        cursor: Option<String>,
    },
}

impl Source {
    /// How a run that does not come to its end is gone on with; none for ids, which whoever gave them has.
    fn to_go_on(&self) -> Option<String> {
        let Self::Filter { filter, .. } = self else { return None };
        // An age would count from another time by then.
        let since = filter.since_ms.map_or_else(String::new, |since| format!("--since {since} "));
        let until = filter.until_ms.unwrap_or_default();
        Some(format!("the same command with {since}--until {until} does the rest, and nothing twice"))
    }

    /// What the filter asked for: what it found may be decided about by somebody else, or run and die again, before its turn comes.
    fn meant(&self) -> Option<Meant> {
        let Self::Filter { filter, .. } = self else { return None };
        Some(Meant { state: filter.state, until_ms: filter.until_ms.unwrap_or(u64::MAX) })
    }

    /// So many of the ids named were answered for.
    fn answered(&mut self, count: usize) {
        if let Self::Ids { at, .. } = self {
            *at += count;
        }
    }
}

/// One run.
pub(super) struct Run<'a> {
    pub(super) opened: &'a Opened,
    pub(super) act: DeadAct,
    pub(super) by: &'a str,
    pub(super) why: &'a str,
    pub(super) rate: Option<Rate>,
    /// How many there are, for the progress bar.
    pub(super) total: u64,
}

/// What became of them.
#[derive(Default)]
struct Account {
    outcomes: BTreeMap<String, u64>,
    /// All answers where ids were named, else the refusals.
    listed: Vec<Acted>,
    left_out: u64,
    /// How many were sent and not answered.
    in_doubt: usize,
}

impl Run<'_> {
    /// Acts on all; fails when one was refused.
    pub(super) async fn all(&self, mut source: Source, json: bool) -> Result<()> {
        let named = matches!(source, Source::Ids { .. });
        if let Some(how) = source.to_go_on().filter(|_| self.total > 0) {
            out::note(&format!("should this be killed, {how}"));
        }
        let mut account = Account::default();
        let bar = present::dead::bar(self.total);
        let mut interrupt = out::interrupts()?;
        let ended = self.batches(&mut source, &mut account, &bar, &mut interrupt, named).await;
        bar.finish_and_clear();
        match ended {
            Err(failure) => Err(self.stopped(failure, &account, &source)),
            Ok(()) if named => present::acted::report(&account.listed, Some(self.act), json),
            Ok(()) => self.report(&account, json),
        }
    }

    async fn batches(
        &self,
        source: &mut Source,
        account: &mut Account,
        bar: &ProgressBar,
        interrupt: &mut Signal,
        named: bool,
    ) -> Result<()> {
        let mut next_at = Instant::now();
        while let Some(ids) = self.next(source).await? {
            if !ids.is_empty() {
                wait(next_at, interrupt).await?;
                let now = Instant::now();
                account.in_doubt = ids.len();
                let acted = self.act(&ids, source.meant()).await?;
                account.in_doubt = 0;
                source.answered(ids.len());
                account.add(acted, named);
                bar.inc(ids.len() as u64);
                bar.set_message(account.sentence());
                next_at =
                    now.max(next_at) + self.rate.map_or(Duration::ZERO, |rate| rate.time_for(ids.len()));
            }
        }
        Ok(())
    }

    /// The next ids, none after the last.
    async fn next(&self, source: &mut Source) -> Result<Option<Vec<String>>> {
        let most = self.rate.map_or(BATCH, Rate::batch);
        match source {
            Source::Ids { ids, at } => {
                let batch: Vec<String> = ids[*at..].iter().take(most as usize).cloned().collect();
                Ok((!batch.is_empty()).then_some(batch))
            }
            Source::Filter { filter, cursor } => {
                if cursor.as_deref() == Some("") {
                    return Ok(None);
                }
                let page = self.opened.queue.dead_ids(filter, most, cursor.as_deref()).await;
                let page = page.map_err(|error| self.opened.failure(&error))?;
                *cursor = Some(page.cursor.unwrap_or_default());
                Ok(Some(page.ids))
            }
        }
    }

    async fn act(&self, ids: &[String], meant: Option<Meant>) -> Result<Vec<Acted>> {
        let acted = self.opened.queue.dead_act(self.act, ids, self.by, self.why, meant.as_ref()).await;
        damaged::told_apart(self.opened, acted.map_err(|error| self.opened.failure(&error))?).await
    }

    fn report(&self, account: &Account, json: bool) -> Result<()> {
        if json {
            out::json(&json!({
                "outcomes": account.outcomes,
                "refused": account.listed,
                "refusedLeftOut": account.left_out,
            }))?;
        } else if account.outcomes.is_empty() {
            out::note(&format!("no dead letters in {} to act on", self.opened.queue.name()));
        } else {
            out::print(&present::acted::summary(&account.outcomes, &account.listed, self.act))?;
        }
        let refused = account.listed.len() as u64 + account.left_out;
        if refused == 0 {
            return Ok(());
        }
        Err(Failure::failed(format!("{refused} of {} not {}", account.sum(), self.act.done())))
    }

    /// What is certain, and how to go on.
    fn stopped(&self, failure: Failure, account: &Account, source: &Source) -> Failure {
        let done = account.outcomes.get(self.act.done()).copied().unwrap_or_default();
        let doubt = if account.in_doubt > 0 { "; those of the last call may have been, too" } else { "" };
        let said = format!(
            "{} of {} {}{doubt}",
            indicatif::HumanCount(done),
            human::count(self.total, "dead letter"),
            self.act.done()
        );
        match source {
            Source::Ids { ids, at } => {
                let (unsure, rest) = ids[*at..].split_at(account.in_doubt);
                let lists = [("the last call", unsure), ("not sent", rest)];
                let lists = lists.iter().filter(|(_, ids)| !ids.is_empty());
                let advice = match (unsure, rest) {
                    ([], _) => "name those that were not sent to do the rest",
                    _ => {
                        "`lanekeeper get JOB` shows what became of those of the last call; name the rest again"
                    }
                };
                let lists = lists.map(|(what, ids)| format!("{what}: {}", ids.join(" ")));
                failure.details(std::iter::once(said).chain(lists)).advice(advice)
            }
            Source::Filter { .. } => failure.details([said]).advice(source.to_go_on().unwrap_or_default()),
        }
    }
}

async fn wait(until: Instant, interrupt: &mut Signal) -> Result<()> {
    tokio::select! {
        biased;
        _ = interrupt.recv() => Err(Failure::failed("interrupted")),
        () = tokio::time::sleep_until(until) => Ok(()),
    }
}

impl Account {
    fn add(&mut self, acted: Vec<Acted>, named: bool) {
        for one in acted {
            *self.outcomes.entry(one.outcome.clone()).or_default() += 1;
            // Somebody else was faster: not a refusal where nobody named the job.
            let told = named || !(present::acted::done(&one) || one.outcome == "wrong-state");
            if told && (named || self.listed.len() < LISTED) {
                self.listed.push(one);
            } else if told {
                self.left_out += 1;
            }
        }
    }

    fn sum(&self) -> u64 {
        self.outcomes.values().sum()
    }

    fn sentence(&self) -> String {
        present::acted::counts(&self.outcomes)
    }
}
