//! Each violation as a sentence that names the job, its tokens and the times.

use std::fmt::{Display, Formatter, Result};

use super::report::{Budget, Violation};

impl Display for Budget {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Tries => "failed tries",
            Self::Crashes => "attempts lost to crashes",
            Self::Starts => "starts",
        })
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "I{}: ", self.invariant())?;
        match self.invariant() {
            1 | 12 | 14 => of_the_end(self, f),
            2 | 3 => of_leases(self, f),
            4..=6 => of_a_life(self, f),
            _ => of_many(self, f),
        }
    }
}

fn known(ms: Option<u64>) -> String {
    ms.map_or_else(|| "an unknown time".into(), |ms| format!("{ms} ms"))
}

/// I1, I12, I14.
fn of_the_end(violation: &Violation, f: &mut Formatter<'_>) -> Result {
    match violation {
        Violation::Lost { job, accepted_ms } => {
            write!(f, "job {job}, accepted at {}, has no record", known(*accepted_ms))
        }
        Violation::EndedByNobody { job, state } => {
            write!(f, "the record of job {job} says {}, but nobody ended it so", state.name())
        }
        Violation::Misindexed { job, state: None, indexes } => {
            write!(f, "job {job} stands in {} but has no record", indexes.join(", "))
        }
        Violation::Misindexed { job, state: Some(state), indexes } if indexes.is_empty() => {
            write!(f, "job {job} is {} but stands in no index", state.name())
        }
        Violation::Misindexed { job, state: Some(state), indexes } => {
            write!(f, "job {job} is {} but stands in {}", state.name(), indexes.join(" and "))
        }
        Violation::CountsDiffer { counted, records } => {
            write!(f, "the queue counted {counted} successes where there are {records}")
        }
        Violation::Unfinished { job, state, deadline_ms } => {
            write!(f, "job {job} is still {} and had to end by {}", state.name(), known(*deadline_ms))
        }
        Violation::FinishedLate { job, ended_ms, deadline_ms } => {
            write!(f, "job {job} ended at {ended_ms} ms and had to by {deadline_ms} ms")
        }
        other => write!(f, "{other:?}"),
    }
}

/// I2, I3.
fn of_leases(violation: &Violation, f: &mut Formatter<'_>) -> Result {
    match violation {
        Violation::TokensFell { job, earlier, later, at_ms } => {
            write!(f, "job {job} got token {later} at {at_ms} ms after token {earlier}")
        }
        Violation::LeasesOverlap { job, held, since_ms, granted, at_ms } => {
            write!(
                f,
                "job {job} was leased under token {granted} at {at_ms} ms while token {held} held it since {since_ms} ms"
            )
        }
        Violation::TakenTooEarly { job, token, expires_ms, taken_by, at_ms } => write!(
            f,
            "the lease of job {job} under token {token} was to expire at {expires_ms} ms but token {taken_by} took it over at {at_ms} ms"
        ),
        Violation::StaleSettlement { job, token, newer, at_ms } => {
            write!(
                f,
                "job {job} was settled under token {token} at {at_ms} ms although token {newer} had been granted"
            )
        }
        Violation::StaleExtension { job, token, newer, at_ms } => write!(
            f,
            "the lease of job {job} under token {token} was extended at {at_ms} ms although it had ended; newest token: {newer}"
        ),
        Violation::SettledTwice { job, token, first_ms, second_ms } => {
            write!(
                f,
                "job {job} was settled under token {token} at {first_ms} ms and again at {second_ms} ms"
            )
        }
        Violation::NeverGranted { job, token, client, at_ms } => {
            write!(
                f,
                "{client} settled job {job} at {at_ms} ms under token {token}, which nobody was granted"
            )
        }
        Violation::NotTheHolder { job, token, holder, client, at_ms } => {
            write!(f, "{client} spoke for job {job} under token {token} at {at_ms} ms, which {holder} held")
        }
        other => write!(f, "{other:?}"),
    }
}

/// I4 to I6.
fn of_a_life(violation: &Violation, f: &mut Formatter<'_>) -> Result {
    match violation {
        Violation::SuccessWithoutEffect { job, token } => {
            write!(f, "job {job} succeeded under token {token}, but no handler answered so")
        }
        Violation::FinishedTwice { job, tokens, at_ms } => {
            write!(f, "job {job} went on after its success: tokens {tokens:?} at {at_ms:?} ms")
        }
        Violation::AfterTerminal { job, ended, ended_ms, what, token, at_ms } => {
            write!(f, "job {job} was {} at {ended_ms} ms, but a {what} ", ended.name())?;
            if let Some(token) = token {
                write!(f, "under token {token} ")?;
            }
            write!(f, "was accepted at {at_ms} ms")
        }
        Violation::Reopened { job, ended, ended_ms, state } => {
            write!(f, "job {job} was {} at {ended_ms} ms but is {} in the end", ended.name(), state.name())
        }
        Violation::BudgetExceeded { job, budget, spent, allowed, token, at_ms } => {
            write!(f, "job {job} had {spent} {budget} of {allowed} with token {token} at {at_ms} ms")
        }
        Violation::DeadLetterLost { job, died_ms } => {
            write!(f, "job {job}, dead at {}, is not in the dead letters", known(*died_ms))
        }
        Violation::DeadLetterDoubled { job, entries } => {
            write!(f, "job {job} stands in the dead letters {entries} times")
        }
        Violation::PayloadChanged { job, place, accepted, found } => {
            write!(
                f,
                "the payload of job {job} was handed in as {accepted:016x} and is {found:016x} in {place}"
            )
        }
        Violation::LeftWithoutAudit { job, what, at_ms } => {
            write!(f, "the {what} of job {job} at {at_ms} ms has no audit record")
        }
        Violation::NotDead { job, what, at_ms } => {
            write!(f, "a {what} of job {job} was accepted at {at_ms} ms, but it was not dead")
        }
        other => write!(f, "{other:?}"),
    }
}

/// I7 to I11, I13.
fn of_many(violation: &Violation, f: &mut Formatter<'_>) -> Result {
    match violation {
        Violation::OutOfOrder { job, token, at_ms, overtaken, ready_ms, overtaken_token } => write!(
            f,
            "job {job} started under token {token} at {at_ms} ms before job {overtaken}, which was ahead, waited since {ready_ms} ms \
             and started under token {overtaken_token}"
        ),
        Violation::UnfairShare { lane, granted, grants, weight_permille, from_ms, to_ms } => write!(
            f,
            "lane {lane} got {granted} of {grants} grants from {from_ms} to {to_ms} ms, its weight is {weight_permille} of 1000"
        ),
        Violation::LaneStarved { lane, grants, allowed, from_ms, to_ms } => write!(
            f,
            "lane {lane} had jobs waiting and was passed by {grants} times from {from_ms} to {to_ms} ms, allowed are {allowed}"
        ),
        Violation::RateExceeded { lane, grants, allowed, from_ms, to_ms } => {
            write!(f, "lane {lane} got {grants} grants from {from_ms} to {to_ms} ms, allowed are {allowed}")
        }
        Violation::KeyShared { key, job, other, at_ms } => {
            write!(f, "job {job} and job {other} were both live under key {key:?} at {at_ms} ms")
        }
        Violation::KeyUnowned { key, job, owner: Some(owner) } => {
            write!(f, "job {job} is live under key {key:?}, which job {owner} owns")
        }
        Violation::KeyUnowned { key, job, owner: None } => {
            write!(f, "job {job} is live under key {key:?}, which nobody owns")
        }
        Violation::CapExceeded { lane, live, cap, job, at_ms } => {
            write!(f, "lane {lane} had {live} live leases of {cap} when job {job} was leased at {at_ms} ms")
        }
        Violation::AcceptedTwice { job, first_ms, second_ms } => {
            write!(f, "id {job} was accepted at {first_ms} ms and again at {second_ms} ms")
        }
        other => write!(f, "{other:?}"),
    }
}
