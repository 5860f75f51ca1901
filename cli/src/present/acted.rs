//! What became of a command on several jobs.

use std::collections::BTreeMap;

use lanekeeper_queue::types::{Acted, DeadAct, JobState};

use crate::failure::{Failure, Result};
use crate::out::{self, bad, cell, good, render, table};

/// No such job.
pub(crate) const NOT_FOUND: &str = "not-found";
/// A record of that id stands and cannot be read.
pub(crate) const DAMAGED: &str = "damaged";

/// Most jobs listed one by one.
const SHOWN: usize = 50;

/// Prints one line per job; fails when one was not acted on (4 when none exists, else 1).
/// `act`: what was to be done; none: they were to be cancelled.
pub(crate) fn report(acted: &[Acted], act: Option<DeadAct>, json: bool) -> Result<()> {
    if json {
        out::json(&acted)?;
    } else if !acted.is_empty() {
        out::print(&rendered(acted, act))?;
    }
    verdict(acted)
}

fn verdict(acted: &[Acted]) -> Result<()> {
    let refused: Vec<&Acted> = acted.iter().filter(|one| !done(one)).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let message = format!("{} of {} not done", refused.len(), acted.len());
    let missing = refused.len() == acted.len() && refused.iter().all(|one| one.outcome == NOT_FOUND);
    Err(if missing { Failure::not_found(message) } else { Failure::failed(message) })
}

/// Whether it was done.
pub(crate) fn done(acted: &Acted) -> bool {
    matches!(acted.outcome.as_str(), "cancelled" | "cancelling" | "acknowledged" | "replayed" | "discarded")
}

/// All of a few; of many, those that were refused and the number of the others.
fn rendered(acted: &[Acted], act: Option<DeadAct>) -> String {
    let many = acted.len() > SHOWN;
    let mut text = rows(acted.iter().filter(|one| !many || !done(one)), act);
    if many {
        let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
        acted.iter().for_each(|one| *outcomes.entry(one.outcome.clone()).or_default() += 1);
        text.push_str(&counts(&outcomes));
    }
    text
}

/// The first refusals, and how often what happened.
pub(crate) fn summary(outcomes: &BTreeMap<String, u64>, refused: &[Acted], act: DeadAct) -> String {
    format!("{}{}", rows(refused.iter().take(SHOWN), Some(act)), counts(outcomes))
}

/// How often what happened.
pub(crate) fn counts(outcomes: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> = outcomes.iter().map(|(outcome, n)| format!("{n} {outcome}")).collect();
    counts.join(", ")
}

fn rows<'a>(acted: impl Iterator<Item = &'a Acted>, act: Option<DeadAct>) -> String {
    let mut rows = table(&["JOB", "OUTCOME", ""]);
    for one in acted {
        let outcome = if done(one) { good(&one.outcome) } else { bad(&one.outcome) };
        rows.add_row(vec![cell(&one.id), outcome, cell(meaning(one, act))]);
    }
    if rows.is_empty() { String::new() } else { format!("{}\n", render(&rows)) }
}

/// What an outcome means where this was to be done; none: a cancellation.
pub(crate) fn meaning(acted: &Acted, act: Option<DeadAct>) -> String {
    let state = acted.state.map_or("gone", JobState::name);
    match acted.outcome.as_str() {
        "cancelling" => "it runs; its worker is stopping the handler".to_owned(),
        "replayed" => format!("it is {state} again"),
        NOT_FOUND => "there is no such job".to_owned(),
        DAMAGED => format!("it cannot be read; `lanekeeper get {}` says what to do", acted.id),
        "acknowledged" => "it stays a dead letter".to_owned(),
        "discarded" => "its record stays; a replay by its id takes it back".to_owned(),
        "payload-too-large" => "the queue's maxPayload is smaller".to_owned(),
        "wrong-state" if (act, acted.state) == (Some(DeadAct::Acknowledge), Some(JobState::Dead)) => {
            "somebody acknowledged it before".to_owned()
        }
        "wrong-state" => format!("it is {state}"),
        "key-conflict" => "its idempotency key belongs to another job by now".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn acted(outcome: &str) -> Acted {
        Acted { id: "1".into(), outcome: outcome.into(), state: Some(JobState::Ready) }
    }

    #[test]
    fn of_many_jobs_only_the_refused_are_listed() {
        let mut all: Vec<Acted> = (0..100).map(|_| acted("replayed")).collect();
        all.push(acted("key-conflict"));
        let text = rendered(&all, Some(DeadAct::Replay));
        assert!(text.lines().count() == 3 && text.ends_with("1 key-conflict, 100 replayed"), "{text}");
    }

    #[test]
    fn a_dead_letter_was_acknowledged_only_where_that_was_to_be_done() {
        let dead = Acted { state: Some(JobState::Dead), ..acted("wrong-state") };
        assert_eq!(meaning(&dead, None), "it is dead");
        assert_eq!(meaning(&dead, Some(DeadAct::Acknowledge)), "somebody acknowledged it before");
    }

    #[test]
    fn the_exit_code_tells_missing_from_refused() {
        let exit = |outcomes: &[&str]| {
            let all: Vec<Acted> = outcomes.iter().map(|o| acted(o)).collect();
            verdict(&all).err().map(|failure| failure.exit())
        };
        assert_eq!(exit(&["replayed", "cancelling"]), None);
        assert_eq!(exit(&["not-found"]), Some(Exit::NotFound));
        assert_eq!(exit(&["not-found", "discarded"]), Some(Exit::Failed));
        assert_eq!(exit(&["wrong-state"]), Some(Exit::Failed));
        assert_eq!(exit(&["damaged"]), Some(Exit::Failed), "it is there");
    }
}
