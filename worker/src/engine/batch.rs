//! Settlements under way: what a batch's reply means, and what is said of ended attempts in the log.

use std::time::Duration;

use lanekeeper_queue::types::{AttemptError, DeadReason, ErrorClass, Outcome, Settled, Settlement, Spends};

use super::Shared;
use super::health::{CallError, bounded};
use super::table::Unsettled;
use crate::handler::{JobContext, code};
use crate::metrics::Ending;

/// Most settlements in a call, and about the most bytes of answers and messages.
pub(super) const MOST: usize = 100;
const BYTES: usize = 1024 * 1024;
/// A settlement that Redis itself refuses this often is not sent again.
const REFUSALS: u32 = 5;

/// Settlements on their way to Redis; they stay held until it has answered.
pub(super) struct Batch {
    number: u64,
    taken: Vec<Unsettled>,
    settlements: Vec<Settlement>,
}

impl Batch {
    /// Takes the next settlements out of the table.
    pub(super) fn take(shared: &Shared) -> Self {
        let (number, mut taken) = shared.table().take_batch(MOST, BYTES);
        let settlements = taken.iter_mut().filter_map(|unsettled| unsettled.settlement.take()).collect();
        Self { number, taken, settlements }
    }

    pub(super) fn settlements(&self) -> &[Settlement] {
        &self.settlements
    }

    pub(super) fn is_empty(&self) -> bool {
        self.settlements.is_empty()
    }

    /// Redis answered: each is recorded or refused as stale, and nothing is held any more.
    pub(super) fn settled(self, shared: &Shared, results: &[Settled]) {
        shared.table().batch_settled(self.number);
        for ((unsettled, settlement), result) in self.taken.iter().zip(&self.settlements).zip(results) {
            answered(shared, unsettled, settlement, result);
        }
    }

    /// The call failed: everything is kept and sent again. What arrived the first time will be refused as stale, which
    /// changes nothing.
    pub(super) fn failed(mut self, shared: &Shared, error: &CallError) {
        shared.metrics.settle_retries.inc_by(self.settlements.len() as u64);
        for (unsettled, settlement) in self.taken.iter_mut().zip(self.settlements) {
            unsettled.settlement = Some(settlement);
            unsettled.sent += 1;
            unsettled.refused += u32::from(error.refused());
        }
        shared.table().put_back(self.number, self.taken);
    }

    /// Redis refused the call as a whole: settles one by one, so that one bad settlement holds up no other, and drops
    /// what is refused again and again.
    pub(super) async fn one_by_one(mut self, shared: &Shared) {
        let mut again = Vec::new();
        let mut reached = true;
        for (mut unsettled, settlement) in self.taken.drain(..).zip(self.settlements.drain(..)) {
            if reached {
                let one = std::slice::from_ref(&settlement);
                let error = match bounded(shared.queue.settle(&shared.options.identity, one)).await {
                    Ok(results) => {
                        results.iter().for_each(|result| answered(shared, &unsettled, &settlement, result));
                        continue;
                    }
                    Err(error) => error,
                };
                // Once Redis is gone the rest would only wait for it one after the other.
                reached = error.refused();
                unsettled.sent += 1;
                unsettled.refused += u32::from(reached);
                if unsettled.refused >= REFUSALS {
                    give_up(shared, &settlement, &error);
                    continue;
                }
            }
            unsettled.settlement = Some(settlement);
            again.push(unsettled);
        }
        shared.table().put_back(self.number, again);
    }
}

/// What Redis said of one settlement.
fn answered(shared: &Shared, unsettled: &Unsettled, settlement: &Settlement, result: &Settled) {
    match result {
        Settled::Done => {}
        Settled::Refused { why } => {
            tracing::warn!(
                job = settlement.id,
                why,
                "a follow-up job was refused: the job goes to the dead letters"
            );
            shared.table().push(refused(settlement, why));
        }
        // One that was sent before without an answer was most likely recorded then.
        Settled::Stale if unsettled.sent > 0 => {
            tracing::debug!(
                job = settlement.id,
                token = settlement.token,
                "settled by an earlier call, or lost"
            );
        }
        Settled::Stale => {
            shared.metrics.stale_settlements.inc();
            tracing::warn!(
                job = settlement.id,
                token = settlement.token,
                "the lease is another's by now: this attempt's outcome was refused"
            );
        }
    }
}

/// Redis refuses this outcome whenever it is sent. Without another one the lease would lapse and the job run again, to the same
/// end, for ever: so it is settled as dead, in words that Redis takes. Where it refuses these too, the lease lapses.
fn give_up(shared: &Shared, settlement: &Settlement, error: &CallError) {
    let given_up =
        matches!(&settlement.outcome, Outcome::Dead { error, .. } if error.code == code::SETTLEMENT_REFUSED);
    if given_up {
        tracing::error!(job = settlement.id, %error, "Redis refuses this settlement; its lease will lapse");
        return;
    }
    tracing::error!(job = settlement.id, %error, "Redis refuses this settlement: the job goes to the dead letters");
    let error = AttemptError {
        class: ErrorClass::Ambiguous,
        code: code::SETTLEMENT_REFUSED.to_owned(),
        message: format!("the attempt ended, but Redis refuses to record how: {error}"),
    };
    let outcome = Outcome::Dead { reason: DeadReason::PermanentError, error, spends: Spends::Try };
    shared.table().push(Settlement { outcome, note: None, ..settlement.clone() });
}

/// What becomes of a success whose follow-up jobs cannot be stored: a person has to look, for trying again would do the
/// work once more and fail the same way.
fn refused(success: &Settlement, why: &str) -> Settlement {
    let error = AttemptError {
        class: ErrorClass::Permanent,
        code: code::FOLLOW_UP_REFUSED.to_owned(),
        message: format!("the handler succeeded, but its answer asks for a job that cannot be stored: {why}"),
    };
    let outcome = Outcome::Dead { reason: DeadReason::PermanentError, error, spends: Spends::Try };
    Settlement { outcome, ..success.clone() }
}

/// Says how an attempt ended: successes quietly, the rest loudly, payloads never.
pub(super) fn log_end(ctx: &JobContext, outcome: &Outcome, ending: Ending, took: Duration) {
    let (code, error) = match outcome {
        Outcome::Retry { error, .. } | Outcome::Dead { error, .. } => {
            (error.code.as_str(), head(&error.message))
        }
        Outcome::Release { why } | Outcome::Snooze { why, .. } => ("", head(why)),
        Outcome::Success { .. } => ("", ""),
    };
    let (job, outcome, ms) = (&ctx.job, ending.as_str(), crate::handler::millis(took));
    let (id, job_type, attempt, trace) = (&job.id, &job.job_type, job.attempt, ctx.trace_id());
    match ending {
        Ending::Success => {
            tracing::debug!(job = id, r#type = job_type, attempt, trace, outcome, ms, "attempt ended");
        }
        Ending::Dead => {
            tracing::warn!(
                job = id,
                r#type = job_type,
                attempt,
                trace,
                outcome,
                ms,
                code,
                error,
                "attempt ended"
            );
        }
        _ => tracing::info!(
            job = id,
            r#type = job_type,
            attempt,
            trace,
            outcome,
            ms,
            code,
            error,
            "attempt ended"
        ),
    }
}

/// Says that an attempt ended whose lease had gone.
pub(super) fn log_lost(ctx: &JobContext) {
    let job = &ctx.job;
    tracing::warn!(
        job = job.id,
        r#type = job.job_type,
        attempt = job.attempt,
        trace = ctx.trace_id(),
        outcome = Ending::Lost.as_str(),
        "attempt ended"
    );
}

/// The first line of a message, which is the worker's own; what a receiver or a program said, and might have copied from
/// the payload, follows it and stays in the history.
fn head(message: &str) -> &str {
    const MOST: usize = 200;
    let line = message.lines().next().unwrap_or_default();
    let end = line.char_indices().map(|(at, _)| at).nth(MOST).unwrap_or(line.len());
    &line[..end]
}
