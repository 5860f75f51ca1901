//! The history of the clients that live in this process: what each asked for, and what it was told.

use std::sync::{Arc, Mutex, PoisonError};

use lanekeeper_queue::testing::ledger::history::{Act, Ending, Event, Fate};
use lanekeeper_queue::types::{Outcome, Spends};

/// Shared by all clients of a run.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<Vec<Event>>>);

impl History {
    /// Writes one act down.
    pub fn note(&self, client: &str, at_ms: u64, fate: Fate, act: Act) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Event {
            client: client.to_owned(),
            at_ms,
            fate,
            act,
        });
    }

    /// What was written so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody can rely on what was answered in this time, ms: the answers count as lost.
    pub fn unsettle(&self, from_ms: u64, to_ms: u64) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let then = |event: &&mut Event| event.fate == Fate::Ok && (from_ms..=to_ms).contains(&event.at_ms);
        events.iter_mut().filter(then).for_each(|event| event.fate = Fate::Unknown);
    }
}

/// How an attempt ends, as the ledger says it.
#[must_use]
pub fn ending(outcome: &Outcome) -> Ending {
    match outcome {
        Outcome::Success { .. } => Ending::Success,
        Outcome::Retry { spends, .. } => Ending::Retry(*spends),
        Outcome::Dead { spends, .. } => Ending::Dead(*spends),
        Outcome::Release { .. } => Ending::Release,
        Outcome::Snooze { .. } => Ending::Snooze,
    }
}

/// How an attempt of a record's history ended; none for what is no attempt.
#[must_use]
pub fn ending_of(outcome: &str, lost: bool) -> Option<Ending> {
    let spends = if lost { Spends::Crash } else { Spends::Try };
    Some(match outcome {
        "success" => Ending::Success,
        "retry" => Ending::Retry(spends),
        "dead" => Ending::Dead(spends),
        "release" | "cancel" => Ending::Release,
        "snooze" => Ending::Snooze,
        _ => return None,
    })
}
