//! I6: an exhausted job has exactly one dead letter with its own payload, and leaves only with an audit record.

use super::evidence::{Index, Record};
use super::history::{Act, Event};
use super::judge::Found;
use super::life::Life;
use super::phase::{End, Phase};
use super::report::Violation;
use crate::types::JobState;

/// Judges an accepted act. `possible`: whether any phase allows it.
pub(super) fn judge(life: &Life<'_>, event: &Event, possible: bool, found: &mut Vec<Violation>) {
    let job = || life.job.to_owned();
    match &event.act {
        Act::Replay { audit, .. } | Act::Remove { audit, .. } => {
            let (what, at_ms) = (event.act.name().to_owned(), event.at_ms);
            if !possible {
                found.push(Violation::NotDead { job: job(), what, at_ms });
            } else if audit.is_none() {
                found.push(Violation::LeftWithoutAudit { job: job(), what, at_ms });
            }
        }
        Act::Grant { token, payload, .. } => {
            found.extend(changed(life, *payload, || format!("the lease {token}")));
        }
        _ => {}
    }
}

/// Judges what is left of the job in the end.
pub(super) fn judge_end(life: &Life<'_>, left: &Found<'_>, found: &mut Vec<Violation>) {
    let job = || life.job.to_owned();
    let died_ms = life.end.map(|(_, at_ms)| at_ms);
    let Some(record) = left.record else {
        if life.all(|phase| phase == Phase::Ended(End::Dead)) {
            found.push(Violation::DeadLetterLost { job: job(), died_ms });
        }
        return;
    };
    found.extend(changed(life, record.payload, || {
        let dead = record.state == JobState::Dead;
        if dead { "its dead letter".into() } else { "its record".into() }
    }));
    found.extend(one_entry(record, left, died_ms));
}

/// A dead record stands in the index of the dead once.
pub(super) fn one_entry(record: &Record, left: &Found<'_>, died_ms: Option<u64>) -> Option<Violation> {
    if record.state != JobState::Dead {
        return None;
    }
    let job = || record.job.clone();
    match left.entries.iter().filter(|entry| entry.index == Index::Dead).count() {
        0 => Some(Violation::DeadLetterLost { job: job(), died_ms }),
        1 => None,
        entries => Some(Violation::DeadLetterDoubled { job: job(), entries }),
    }
}

fn changed(life: &Life<'_>, seen: Option<u64>, place: impl Fn() -> String) -> Option<Violation> {
    let (accepted, seen) = (life.payload?, seen?);
    (accepted != seen).then(|| Violation::PayloadChanged {
        job: life.job.into(),
        place: place(),
        accepted,
        found: seen,
    })
}
