//! I1, I12 and the end of I4: what Redis holds in the end is what the history leads to, each record in one index.

use super::evidence::{Index, Record};
use super::judge::Found;
use super::life::Life;
use super::phase::{End, Phase};
use super::report::Violation;
use super::rules::Rules;

/// Judges what is left of a job that the history knows.
pub(super) fn judge(life: &Life<'_>, left: &Found<'_>, rules: &Rules, found: &mut Vec<Violation>) {
    let job = || life.job.to_owned();
    let Some(record) = left.record else {
        // Retention may forget what succeeded or was cancelled; a lost dead letter is told in dead_letters.rs.
        let may_be_gone = |phase| match phase {
            Phase::Absent => true,
            Phase::Ended(End::Succeeded | End::Cancelled) => rules.trims,
            _ => false,
        };
        if !life.any(may_be_gone) && !life.all(|phase| phase == Phase::Ended(End::Dead)) {
            found.push(Violation::Lost { job: job(), accepted_ms: life.accepted_ms });
        }
        return;
    };
    match End::of(record.state) {
        Some(end) if !life.any(|phase| phase == Phase::Ended(end)) => {
            found.push(Violation::EndedByNobody { job: job(), state: record.state });
        }
        None if !life.any(Phase::is_live) => {
            let (end, ended_ms) = life.end.unwrap_or((End::Dead, 0));
            found.push(Violation::Reopened { job: job(), ended: end.state(), ended_ms, state: record.state });
        }
        _ => {}
    }
}

/// I12: exactly one index of the right kind. How often the dead stand in theirs is told in dead_letters.rs.
pub(super) fn one_index(job: &str, left: &Found<'_>) -> Option<Violation> {
    let mut kinds = left.entries.iter().map(|entry| entry.index);
    let right = match left.record.map(|record| End::of(record.state)) {
        None => left.entries.is_empty(),
        Some(Some(End::Dead)) => kinds.all(|kind| kind == Index::Dead),
        Some(Some(_)) => left.entries.len() == 1 && kinds.all(|kind| kind == Index::Finished),
        Some(None) => {
            let live = |kind| matches!(kind, Index::Ready | Index::Scheduled | Index::Running);
            left.entries.len() == 1 && kinds.all(live)
        }
    };
    (!right).then(|| Violation::Misindexed {
        job: job.into(),
        state: left.record.map(|record: &Record| record.state),
        indexes: left.entries.iter().map(|entry| entry.name.clone()).collect(),
    })
}
