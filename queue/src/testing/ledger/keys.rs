//! I10: at most one live job per key.

use std::collections::HashMap;

use super::evidence::{Dump, Record};
use super::history::{Act, Ending, Event};
use super::life::Life;
use super::phase::{End, Phase};
use super::report::Violation;
use super::rules::KeyRules;

/// A time in which a job certainly held its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeySpan<'a> {
    pub(super) key: &'a str,
    pub(super) job: &'a str,
    pub(super) from_ms: u64,
    pub(super) until_ms: u64,
}

/// Follows one job's hold on its key.
#[derive(Debug, Default)]
pub(super) struct Hold<'a> {
    key: Option<&'a str>,
    open: Option<KeySpan<'a>>,
    /// Earliest success of the generation, accepted or lost, ms.
    success_ms: Option<u64>,
}

impl<'a> Hold<'a> {
    /// Looks at the job after an act was taken in; keeps the spans that ended.
    pub(super) fn look(
        &mut self,
        life: &Life<'a>,
        event: &'a Event,
        rules: KeyRules,
        spans: &mut Vec<KeySpan<'a>>,
    ) {
        match &event.act {
            Act::Enqueue { key, .. } => self.key = key.as_deref().or(self.key),
            Act::Settle { ending: Ending::Success, .. } => {
                self.success_ms = self.success_ms.or(Some(event.at_ms));
            }
            Act::Grant { .. } => self.success_ms = None,
            _ => {}
        }
        let Some(key) = self.key else { return };
        let now_ms = event.at_ms;
        let until_ms =
            life.phases.iter().map(|phase| self.until(*phase, now_ms, rules)).min().unwrap_or(now_ms);
        let going_on = self.open.filter(|span| span.until_ms >= now_ms);
        if let (None, Some(over)) = (going_on, self.open) {
            spans.push(over);
        }
        let from_ms = going_on.map_or(now_ms, |span| span.from_ms);
        self.open = Some(KeySpan { key, job: life.job, from_ms, until_ms });
        if until_ms <= now_ms {
            spans.extend(self.open.take());
        }
    }

    fn until(&self, phase: Phase, now_ms: u64, rules: KeyRules) -> u64 {
        match phase {
            Phase::Waiting | Phase::Leased { .. } => u64::MAX,
            Phase::Ended(End::Dead) if rules.dead_hold => u64::MAX,
            Phase::Ended(End::Succeeded) => {
                self.success_ms.unwrap_or(now_ms).saturating_add(rules.after_success_ms)
            }
            Phase::Ended(_) | Phase::Absent => now_ms,
        }
    }

    /// The run is over.
    pub(super) fn finish(self, spans: &mut Vec<KeySpan<'a>>) {
        spans.extend(self.open);
    }
}

/// Spans of one key must not overlap, unless they are of one job.
pub(super) fn judge(mut spans: Vec<KeySpan<'_>>, found: &mut Vec<Violation>) {
    spans.retain(|span| span.from_ms < span.until_ms);
    spans.sort_unstable_by_key(|span| (span.key, span.from_ms, span.until_ms));
    let mut last: Option<KeySpan<'_>> = None;
    for span in spans {
        let Some(before) = last.filter(|before| before.key == span.key) else {
            last = Some(span);
            continue;
        };
        if span.from_ms < before.until_ms && span.job != before.job {
            found.push(Violation::KeyShared {
                key: span.key.into(),
                job: span.job.into(),
                other: before.job.into(),
                at_ms: span.from_ms,
            });
        }
        last = Some(if span.until_ms >= before.until_ms { span } else { before });
    }
}

/// Live records own their keys, each alone.
pub(super) fn judge_dump(dump: &Dump, found: &mut Vec<Violation>) {
    let owners: Option<HashMap<&str, &str>> = dump
        .keys
        .as_ref()
        .map(|keys| keys.iter().map(|owner| (owner.key.as_str(), owner.job.as_str())).collect());
    let mut live: HashMap<&str, &Record> = HashMap::new();
    for record in dump.records.iter().filter(|record| End::of(record.state).is_none()) {
        let Some(key) = record.key.as_deref() else { continue };
        let owner = owners.as_ref().map(|owners| owners.get(key).copied());
        if let Some(other) = live.insert(key, record) {
            let (job, other) = (record.job.clone(), other.job.clone());
            found.push(Violation::KeyShared { key: key.into(), job, other, at_ms: dump.at_ms });
        } else if let Some(owner) = owner.filter(|owner| *owner != Some(record.job.as_str())) {
            let owner = owner.map(str::to_owned);
            found.push(Violation::KeyUnowned { key: key.into(), job: record.job.clone(), owner });
        }
    }
}
