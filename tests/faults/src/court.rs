//! The ledger's judgement over a run, and the ledger itself put to the test with the very run it judged.

use anyhow::Result;
use lanekeeper_queue::testing::ledger::history::{Act, Event, Fate};
use lanekeeper_queue::testing::ledger::{Rules, Verdict, Violation, judge};

use crate::testimony::{Witnesses, hear};

/// Judges the run, after the ledger has objected to a copy with one job lost and to one with one success doubled.
///
/// # Errors
/// When it does not object: its verdict is worth nothing then. Violations are no error here.
pub fn sentence(witnesses: &Witnesses, rules: &Rules) -> Result<Verdict> {
    a_lost_job_is_noticed(witnesses, rules)?;
    a_doubled_job_is_noticed(witnesses, rules)?;
    Ok(judge(&hear(witnesses).run, rules))
}

fn a_lost_job_is_noticed(witnesses: &Witnesses, rules: &Rules) -> Result<()> {
    if rules.trims {
        // A record that is gone may have been trimmed.
        return Ok(());
    }
    // Of a job whose acceptance nobody heard for certain (row 5 unsettles some), the ledger cannot know that it is gone.
    let accepted = |id: &str| {
        let told = |event: &Event| matches!(&event.act, Act::Enqueue { job: Some(job), .. } if job == id);
        witnesses.clients.iter().any(|event| event.fate == Fate::Ok && told(event))
    };
    let Some(victim) = witnesses.holdings.jobs.iter().map(|job| &job.id).find(|id| accepted(id)) else {
        return Ok(());
    };
    let mut copy = witnesses.clone();
    copy.holdings.jobs.retain(|job| job.id != *victim);
    copy.holdings.dump.records.retain(|record| record.job != *victim);
    copy.holdings.dump.entries.retain(|entry| entry.job != *victim);
    let told = |violation: &Violation| match violation {
        Violation::Lost { job, .. } | Violation::DeadLetterLost { job, .. } => job == victim,
        _ => false,
    };
    let found = judge(&hear(&copy).run, rules).violations;
    anyhow::ensure!(found.iter().any(told), "the ledger did not notice that {victim} was taken away");
    Ok(())
}

fn a_doubled_job_is_noticed(witnesses: &Witnesses, rules: &Rules) -> Result<()> {
    let mut copy = witnesses.clone();
    let succeeded = |job: &&mut lanekeeper_queue::types::Job| {
        job.history.last().is_some_and(|attempt| attempt.outcome == "success")
    };
    let Some(job) = copy.holdings.jobs.iter_mut().find(succeeded) else { return Ok(()) };
    let victim = job.id.clone();
    let again = job.history.last().cloned().map(|mut attempt| {
        attempt.token += 1;
        attempt
    });
    job.history.extend(again);
    let told = |violation: &Violation| match violation {
        Violation::FinishedTwice { job, .. } | Violation::AfterTerminal { job, .. } => *job == victim,
        _ => false,
    };
    let found = judge(&hear(&copy).run, rules).violations;
    anyhow::ensure!(found.iter().any(told), "the ledger did not notice that {victim} succeeded twice");
    Ok(())
}

/// The verdict for people.
#[must_use]
pub fn describe(verdict: &Verdict) -> String {
    let mut text = format!(
        "{} accepted = {} succeeded + {} dead + {} cancelled; {} attempts lost to crashes, {} jobs ran to success more than \
         once (at-least-once), {} violations",
        verdict.accepted,
        verdict.succeeded,
        verdict.dead,
        verdict.cancelled,
        verdict.crashes,
        verdict.repeated_effects,
        verdict.violations.len()
    );
    for violation in verdict.violations.iter().take(20) {
        text.push_str(&format!("\n    VIOLATION {violation}"));
    }
    text
}
