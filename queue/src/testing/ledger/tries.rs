//! I5: starts stay within the tries and, counted apart, the crash budget.

use super::history::{Act, Ending, Event, Fate};
use super::life::Life;
use super::report::{Budget, Violation};
use super::rules::TypeRules;
use crate::types::Spends;

/// What the present generation has spent.
#[derive(Debug, Default)]
pub(super) struct Tries {
    starts: u32,
    tries: u32,
    crashes: u32,
    /// The latest start was handed back and cost nothing.
    refunded: bool,
    reported: [bool; 3],
}

impl Tries {
    /// Takes an accepted or lost act in; call before the life accepts it.
    pub(super) fn take(
        &mut self,
        life: &Life<'_>,
        event: &Event,
        rules: Option<&TypeRules>,
        found: &mut Vec<Violation>,
    ) {
        match &event.act {
            Act::Enqueue { .. } | Act::Replay { .. } => *self = Self::default(),
            Act::Grant { .. } if event.fate == Fate::Ok => {
                self.starts += 1;
                self.refunded = false;
            }
            Act::Settle { ending, .. } => self.settle(life, *ending, event.fate),
            Act::Cancel { running: Some(false), .. } if event.fate == Fate::Ok => *self = Self::default(),
            _ => return,
        }
        if let Some(rules) = rules {
            self.judge(life, event, *rules, found);
        }
        // What comes after an end belongs to another generation, or is an objection of its own.
        if let Act::Settle { ending: Ending::Success | Ending::Dead(_), .. } = event.act
            && (event.fate == Fate::Ok || life.may_begin_again())
        {
            *self = Self::default();
        }
    }

    fn settle(&mut self, life: &Life<'_>, ending: Ending, fate: Fate) {
        match ending {
            Ending::Retry(Spends::Nothing) | Ending::Release | Ending::Snooze if !self.refunded => {
                self.starts = self.starts.saturating_sub(1);
                self.refunded = true;
            }
            // A lost word on a failure may not have counted.
            Ending::Retry(spends) | Ending::Dead(spends) if fate == Fate::Ok => match spends {
                Spends::Try => self.tries += 1,
                Spends::Crash => self.crashes += 1,
                Spends::Nothing => {}
            },
            _ => {}
        }
        debug_assert!(fate != Fate::Refused, "{}: a refusal spends nothing", life.job);
    }

    fn judge(&mut self, life: &Life<'_>, event: &Event, rules: TypeRules, found: &mut Vec<Violation>) {
        let crash_budget = rules.crash_budget.max(1);
        let bounds = [
            (Budget::Tries, self.tries, rules.max_attempts),
            (Budget::Crashes, self.crashes, crash_budget),
            (Budget::Starts, self.starts, rules.max_attempts.saturating_add(crash_budget)),
        ];
        for (at, (budget, spent, allowed)) in bounds.into_iter().enumerate() {
            if spent > allowed && !self.reported[at] {
                self.reported[at] = true;
                found.push(Violation::BudgetExceeded {
                    job: life.job.into(),
                    budget,
                    spent,
                    allowed,
                    token: event.act.token().unwrap_or_default(),
                    at_ms: event.at_ms,
                });
            }
        }
    }
}
