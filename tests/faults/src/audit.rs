//! Gathers the evidence of a run and puts the ledger itself to the test with it.

use std::collections::HashMap;

use anyhow::Result;
use lanekeeper_queue::Queue;
use lanekeeper_queue::testing::ledger::{Effect, Evidence, Verdict, Violation, check};
use lanekeeper_queue::types::Job;

/// Reads every accepted job's record.
pub async fn gather(queue: &Queue, accepted: Vec<String>, effects: Vec<Effect>) -> Result<Evidence> {
    let mut jobs: HashMap<String, Job> = HashMap::with_capacity(accepted.len());
    for ids in accepted.chunks(200) {
        jobs.extend(queue.get(ids, false).await?.into_iter().flatten().map(|job| (job.id.clone(), job)));
    }
    let stats = queue.stats().await?;
    let succeeded_total =
        stats.lanes.iter().flat_map(|lane| &lane.types).map(|figures| figures.succeeded_total).sum();
    Ok(Evidence { accepted, effects, jobs, succeeded_total })
}

/// The same evidence with one job lost, then with one success doubled: the ledger must object to each.
///
/// # Errors
/// When it does not; its verdict over the run is worth nothing then.
pub fn prove_the_ledger(evidence: &Evidence) -> Result<()> {
    let victim = evidence
        .jobs
        .values()
        .find(|job| job.history.last().is_some_and(|attempt| attempt.outcome == "success"))
        .ok_or_else(|| anyhow::anyhow!("no job succeeded: nothing to try the ledger with"))?
        .clone();
    let mut lost = evidence.clone();
    lost.jobs.remove(&victim.id);
    anyhow::ensure!(
        check(&lost).violations.iter().any(|v| matches!(v, Violation::Lost { job, .. } if *job == victim.id)),
        "the ledger did not notice that {} was taken away",
        victim.id
    );
    let mut doubled = evidence.clone();
    if let Some(job) = doubled.jobs.get_mut(&victim.id) {
        let again = job.history.last().cloned().map(|mut attempt| {
            attempt.token += 1;
            attempt
        });
        job.history.extend(again);
    }
    anyhow::ensure!(
        check(&doubled)
            .violations
            .iter()
            .any(|v| matches!(v, Violation::FinishedTwice { job, .. } if *job == victim.id)),
        "the ledger did not notice that {} succeeded twice",
        victim.id
    );
    Ok(())
}

/// Prints the verdict for people.
#[must_use]
pub fn describe(verdict: &Verdict) -> String {
    let mut lines = vec![format!(
        "ledger: {} accepted = {} succeeded + {} dead + {} cancelled; {} attempts lost to crashes, {} jobs ran to success more \
         than once (at-least-once), {} violations",
        verdict.accepted,
        verdict.succeeded,
        verdict.dead,
        verdict.cancelled,
        verdict.crashes,
        verdict.repeated_effects,
        verdict.violations.len()
    )];
    lines.extend(verdict.violations.iter().take(20).map(|violation| format!("  VIOLATION {violation}")));
    lines.join("\n")
}
