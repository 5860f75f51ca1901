//! Failures that repeat: which event fails, and how often, follows from the seed and the event's id.

use rusqlite::Transaction;

use crate::dice::Dice;
use crate::store;

/// Tables of this module.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS attempts (
    endpoint TEXT NOT NULL,
    event_id TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (endpoint, event_id)
) WITHOUT ROWID;";

/// How often the endpoints fail.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// Decides which events.
    pub seed: u64,
    /// Share of events whose first tries fail, 0 to 1.
    pub share: f64,
}

impl Faults {
    /// How many tries of this event fail before one succeeds: mostly none, seldom two.
    #[must_use]
    pub fn planned(&self, endpoint: &str, event_id: &str) -> u32 {
        let mut dice = Dice::of(self.seed, &format!("{endpoint}/{event_id}"));
        match dice.share() / self.share.max(f64::MIN_POSITIVE) {
            x if x >= 1.0 => 0,
            x if x >= 0.25 => 1,
            _ => 2,
        }
    }

    /// Counts this try and tells whether it is one that fails. The count stands in the database, so that a
    /// restart of the application does not make an event fail for longer.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn strike(&self, tx: &Transaction<'_>, endpoint: &str, event_id: &str) -> Result<bool, store::Error> {
        let attempts: u32 = tx.query_row(
            "INSERT INTO attempts (endpoint, event_id, attempts) VALUES (?1, ?2, 1)
             ON CONFLICT DO UPDATE SET attempts = attempts + 1 RETURNING attempts",
            [endpoint, event_id],
            |row| row.get(0),
        )?;
        Ok(attempts <= self.planned(endpoint, event_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_events_fails_and_a_quarter_of_those_twice() {
        let faults = Faults { seed: 3, share: 0.2 };
        let planned: Vec<u32> = (0..10_000).map(|n| faults.planned("stripe", &format!("evt-{n}"))).collect();
        let failing = planned.iter().filter(|n| **n > 0).count();
        let twice = planned.iter().filter(|n| **n == 2).count();
        assert!((1_800..2_200).contains(&failing), "{failing}");
        assert!((400..600).contains(&twice), "{twice}");
    }

    #[test]
    fn without_a_share_nothing_fails() {
        let faults = Faults { seed: 3, share: 0.0 };
        assert!((0..1_000).all(|n| faults.planned("stripe", &format!("evt-{n}")) == 0));
    }
}
