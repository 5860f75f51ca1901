//! I2, I3, I4 and I13, event by event: one lease, the holder's word only, one success, nothing after the end, one job per id.

use std::collections::HashSet;

use super::history::{Act, Ending, Event};
use super::life::Life;
use super::phase::{End, Phase};
use super::report::Violation;

/// Judges an accepted act before it is taken into the job's life. `possible`: whether any phase allows it.
pub(super) fn judge(
    life: &Life<'_>,
    event: &Event,
    possible: bool,
    lost_claims: &HashSet<&str>,
    found: &mut Vec<Violation>,
) {
    match &event.act {
        Act::Grant { token, .. } | Act::Takeover { token, .. } if *token <= life.max_token => {
            let (earlier, later) = (life.max_token, *token);
            found.push(Violation::TokensFell { job: life.job.into(), earlier, later, at_ms: event.at_ms });
        }
        _ if !possible => found.extend(object(life, event, lost_claims)),
        Act::Takeover { token, .. } => found.extend(too_early(life, *token, event.at_ms)),
        Act::Settle { token, .. } | Act::Extend { token, .. } => {
            found.extend(not_the_holder(life, *token, event));
        }
        _ => {}
    }
}

/// What is wrong with an act that no phase allows.
fn object(life: &Life<'_>, event: &Event, lost_claims: &HashSet<&str>) -> Option<Violation> {
    let (job, at_ms) = (life.job.to_owned(), event.at_ms);
    match &event.act {
        Act::Grant { token, .. } | Act::Takeover { token, .. } => match life.held() {
            Some(held) => {
                let since_ms = life.lease(held).map_or(at_ms, |lease| lease.since_ms);
                Some(Violation::LeasesOverlap { job, held, since_ms, granted: *token, at_ms })
            }
            None => after_terminal(life, event),
        },
        Act::Settle { token, ending, .. } => settlement(life, event, *token, *ending, lost_claims),
        Act::Extend { token, .. } => {
            if life.any(Phase::is_live) {
                let newer = life.held().unwrap_or(0).max(life.max_token);
                Some(Violation::StaleExtension { job, token: *token, newer, at_ms })
            } else {
                after_terminal(life, event)
            }
        }
        Act::Enqueue { .. } => {
            life.accepted_ms.map(|first_ms| Violation::AcceptedTwice { job, first_ms, second_ms: at_ms })
        }
        Act::Cancel { .. } if !life.any(Phase::is_live) => after_terminal(life, event),
        // Replays and removals: see dead_letters.rs.
        _ => None,
    }
}

fn settlement(
    life: &Life<'_>,
    event: &Event,
    token: u64,
    ending: Ending,
    lost_claims: &HashSet<&str>,
) -> Option<Violation> {
    let (job, at_ms) = (life.job.to_owned(), event.at_ms);
    if !life.any(Phase::is_live) {
        let first = life.settled.iter().find(|settled| settled.success);
        return match (first, ending) {
            (Some(first), Ending::Success) => Some(Violation::FinishedTwice {
                job,
                tokens: vec![first.token, token],
                at_ms: vec![first.at_ms, at_ms],
            }),
            _ => after_terminal(life, event),
        };
    }
    let newer = life.held().unwrap_or(0).max(life.max_token);
    if newer > token {
        return Some(Violation::StaleSettlement { job, token, newer, at_ms });
    }
    if let Some(first) = life.settled.iter().find(|settled| settled.token == token) {
        return Some(Violation::SettledTwice { job, token, first_ms: first.at_ms, second_ms: at_ms });
    }
    // A client whose claim was answered by nobody may know more of it than its log.
    let client = event.client.as_str();
    let told = lost_claims.contains(client) || life.lease(token).is_some();
    (!told).then(|| Violation::NeverGranted { job, token, client: client.into(), at_ms })
}

fn after_terminal(life: &Life<'_>, event: &Event) -> Option<Violation> {
    let possible = life.phases.iter().find_map(|phase| phase.ended()).map(|end| (end, event.at_ms));
    let removed = life.all(|phase| phase == Phase::Absent).then_some((End::Dead, event.at_ms));
    let (end, ended_ms) = life.end.or(possible).or(removed)?;
    Some(Violation::AfterTerminal {
        job: life.job.into(),
        ended: end.state(),
        ended_ms,
        what: event.act.name().into(),
        token: event.act.token(),
        at_ms: event.at_ms,
    })
}

/// A lease must not be taken over before it expired. Only where it certainly was the one lease of the job.
fn too_early(life: &Life<'_>, by: u64, at_ms: u64) -> Option<Violation> {
    let token = life.held()?;
    let expires_ms = life.lease(token)?.expires_ms?;
    let sure = life.all(|phase| matches!(phase, Phase::Leased { token: held, .. } if held == token));
    (sure && at_ms < expires_ms).then(|| Violation::TakenTooEarly {
        job: life.job.into(),
        token,
        expires_ms,
        taken_by: by,
        at_ms,
    })
}

fn not_the_holder(life: &Life<'_>, token: u64, event: &Event) -> Option<Violation> {
    let lease = life.lease(token)?;
    (lease.client != event.client).then(|| Violation::NotTheHolder {
        job: life.job.into(),
        token,
        holder: lease.client.into(),
        client: event.client.clone(),
        at_ms: event.at_ms,
    })
}
