//! The job ledger: was every accepted job done, and none done twice?
//!
//! Three sources that know nothing of each other are compared: what enqueues were answered, what handlers did and what
//! settlements were answered, and what stands in Redis at the end. An answer that was lost is *unknown*: it may have
//! happened or not, and neither is held against anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::client::Queue;
use crate::error::Result;
use crate::types::{Find, JobState};

/// One line of a history, as its witness wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Event {
    /// An enqueue was answered with "accepted".
    #[serde(rename_all = "camelCase")]
    Accepted {
        /// Job.
        id: String,
    },
    /// An enqueue under an id of the caller's own got no answer: the job may be there.
    #[serde(rename_all = "camelCase")]
    MaybeAccepted {
        /// Job.
        id: String,
    },
    /// A handler began an attempt.
    #[serde(rename_all = "camelCase")]
    Started {
        /// Job.
        id: String,
        /// Fencing token of the lease.
        token: u64,
    },
    /// A handler did the work; written before it is settled.
    #[serde(rename_all = "camelCase")]
    Effect {
        /// Job.
        id: String,
        /// Fencing token of the lease.
        token: u64,
    },
    /// A settlement was answered.
    #[serde(rename_all = "camelCase")]
    Settled {
        /// Job.
        id: String,
        /// Fencing token of the lease.
        token: u64,
        /// It was to be a success.
        success: bool,
        /// `Done`, or refused as stale.
        accepted: bool,
    },
    /// A settlement got no answer: it may have been accepted.
    #[serde(rename_all = "camelCase")]
    MaybeSettled {
        /// Job.
        id: String,
        /// Fencing token of the lease.
        token: u64,
        /// It was to be a success.
        success: bool,
    },
    /// A person deleted the job.
    #[serde(rename_all = "camelCase")]
    Deleted {
        /// Job.
        id: String,
    },
}

/// A job as it stands in Redis at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Final {
    /// State.
    pub state: JobState,
    /// Tokens of the attempts in its history, in order, with whether they succeeded.
    pub attempts: Vec<(u64, bool)>,
    /// Attempts that its history left out.
    pub dropped: u32,
}

/// What is wrong. Names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Rule {
    /// An accepted job is neither in Redis nor known to have ended.
    Lost,
    /// More than one success of a job was accepted.
    DoubleSuccess,
    /// A job succeeded although no handler did its work.
    SuccessWithoutEffect,
    /// A settlement under an older token was accepted after a newer lease had begun.
    StaleAccepted,
    /// A token came twice, or a later attempt has a lower one.
    TokenFell,
    /// Redis holds a job that nobody enqueued.
    Unasked,
    /// Something else was accepted after the job had succeeded.
    AfterTheEnd,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// Job.
    pub id: String,
    /// What was found.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: job {}: {}", self.rule, self.id, self.detail)
    }
}

/// How many jobs ended how, beside the violations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Jobs whose acceptance was answered.
    pub accepted: usize,
    /// Jobs by final state; jobs whose record was trimmed after an accepted success count as `succeeded`.
    pub by_state: BTreeMap<&'static str, usize>,
    /// Settlements that were refused as stale, as they should be.
    pub stale_refused: usize,
    /// What is wrong; empty when all is well.
    pub violations: Vec<Violation>,
}

/// Whatever is known of one job.
#[derive(Default)]
struct Story<'a> {
    accepted: bool,
    maybe_accepted: bool,
    deleted: bool,
    started: Vec<u64>,
    effects: BTreeSet<u64>,
    /// Answered settlements in the order of their answers.
    settled: Vec<(u64, bool)>,
    maybe_success: BTreeSet<u64>,
    last: Option<&'a Final>,
}

/// Checks a history against the final state. Events of one witness come in its order; witnesses may be joined in any.
#[must_use]
pub fn check(events: &[Event], finals: &BTreeMap<String, Final>) -> Report {
    let mut report = Report::default();
    let mut stories: BTreeMap<&str, Story<'_>> = BTreeMap::new();
    for event in events {
        tell(event, &mut stories, &mut report);
    }
    for (id, last) in finals {
        stories.entry(id).or_default().last = Some(last);
    }
    for (id, story) in &stories {
        report.accepted += usize::from(story.accepted);
        if let Some(state) = final_state(story) {
            *report.by_state.entry(state.name()).or_default() += 1;
        }
        judge(id, story, &mut report.violations);
    }
    report
}

fn tell<'a>(event: &'a Event, stories: &mut BTreeMap<&'a str, Story<'_>>, report: &mut Report) {
    match event {
        Event::Accepted { id } => stories.entry(id).or_default().accepted = true,
        Event::MaybeAccepted { id } => stories.entry(id).or_default().maybe_accepted = true,
        Event::Deleted { id } => stories.entry(id).or_default().deleted = true,
        Event::Started { id, token } => stories.entry(id).or_default().started.push(*token),
        Event::Effect { id, token } => drop(stories.entry(id).or_default().effects.insert(*token)),
        Event::Settled { id, token, success, accepted: true } => {
            stories.entry(id).or_default().settled.push((*token, *success));
        }
        Event::Settled { accepted: false, .. } => report.stale_refused += 1,
        Event::MaybeSettled { id, token, success } => {
            let story = stories.entry(id).or_default();
            if *success {
                story.maybe_success.insert(*token);
            }
        }
    }
}

impl Story<'_> {
    /// Tokens of successes that were accepted for certain: answered, or told by the record.
    fn successes(&self) -> BTreeSet<u64> {
        let answered = self.settled.iter().filter(|(_, success)| *success).map(|(token, _)| *token);
        let told = self.last.iter().flat_map(|last| &last.attempts).filter(|(_, success)| *success);
        answered.chain(told.map(|(token, _)| *token)).collect()
    }
}

fn final_state(story: &Story<'_>) -> Option<JobState> {
    match story.last {
        Some(last) => Some(last.state),
        None => (!story.successes().is_empty()).then_some(JobState::Succeeded),
    }
}

fn judge(id: &str, story: &Story<'_>, found: &mut Vec<Violation>) {
    let mut violate = |rule, detail: String| found.push(Violation { rule, id: id.to_owned(), detail });
    let successes = story.successes();
    // Without a record the job must have ended in a way that lets its record go.
    if story.accepted
        && story.last.is_none()
        && !story.deleted
        && successes.is_empty()
        && story.maybe_success.is_empty()
    {
        violate(
            Rule::Lost,
            format!("accepted, never done, and no record stands (started: {:?})", story.started),
        );
    }
    if !story.accepted && !story.maybe_accepted && story.last.is_some() {
        violate(Rule::Unasked, "a record stands, but nobody enqueued it".to_owned());
    }
    if successes.len() > 1 {
        violate(Rule::DoubleSuccess, format!("successes under the tokens {successes:?} were all accepted"));
    }
    if let Some(token) = successes.iter().find(|token| !story.effects.contains(token)) {
        violate(
            Rule::SuccessWithoutEffect,
            format!("success under token {token}, but no handler did the work under it"),
        );
    }
    for detail in falls(&story.started) {
        violate(Rule::TokenFell, detail);
    }
    if let Some(last) = story.last {
        let tokens: Vec<u64> = last.attempts.iter().map(|(token, _)| *token).collect();
        for detail in falls(&tokens) {
            violate(Rule::TokenFell, format!("in its record: {detail}"));
        }
        for (token, _) in
            story.settled.iter().filter(|(token, _)| last.dropped == 0 && !tokens.contains(token))
        {
            // A sweeper settles under its own token; its record names the token of the lease that was lost.
            if story.started.contains(token) {
                violate(
                    Rule::StaleAccepted,
                    format!("token {token} was settled, but the record tells of no such attempt"),
                );
            }
        }
    }
    for window in story.settled.windows(2) {
        let ((before, success), (after, _)) = (window[0], window[1]);
        if after < before {
            violate(Rule::StaleAccepted, format!("token {after} was accepted after token {before}"));
        }
        if success {
            violate(
                Rule::AfterTheEnd,
                format!("token {after} was accepted after the success under token {before}"),
            );
        }
    }
}

/// Where a list of tokens does not rise. Starts are told by several workers, so only repeats count as falls there.
fn falls(tokens: &[u64]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    tokens
        .iter()
        .filter(|token| **token > 0 && !seen.insert(**token))
        .map(|token| format!("token {token} was given twice"))
        .chain(
            tokens
                .windows(2)
                .filter(|pair| pair[0] > 0 && pair[1] > 0 && pair[1] < pair[0])
                .map(|pair| format!("token {} came after {}", pair[1], pair[0])),
        )
        .collect()
}

/// Reads every record of a queue that its indexes know.
///
/// # Errors
/// When Redis cannot be reached or the queue has no policy.
pub async fn read_finals(queue: &Queue) -> Result<BTreeMap<String, Final>> {
    let mut finals = BTreeMap::new();
    let mut find = Find { limit: 200, ..Find::default() };
    loop {
        let page = queue.find(&find).await?;
        for job in page.jobs {
            let attempts = job
                .history
                .iter()
                .filter(|attempt| attempt.outcome != "replay")
                .map(|attempt| (attempt.token, attempt.outcome == "success"))
                .collect();
            finals.insert(job.id, Final { state: job.state, attempts, dropped: job.history_dropped });
        }
        find.cursor = page.cursor;
        if find.cursor.is_none() {
            return Ok(finals);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(id: &str) -> Event {
        Event::Accepted { id: id.into() }
    }

    fn started(id: &str, token: u64) -> Event {
        Event::Started { id: id.into(), token }
    }

    fn effect(id: &str, token: u64) -> Event {
        Event::Effect { id: id.into(), token }
    }

    fn settled(id: &str, token: u64, success: bool, accepted: bool) -> Event {
        Event::Settled { id: id.into(), token, success, accepted }
    }

    fn done(id: &str, token: u64) -> Vec<Event> {
        vec![accepted(id), started(id, token), effect(id, token), settled(id, token, true, true)]
    }

    fn record(state: JobState, attempts: &[(u64, bool)]) -> Final {
        Final { state, attempts: attempts.to_vec(), dropped: 0 }
    }

    fn with(events: &[Event], finals: &[(&str, Final)]) -> Report {
        check(events, &finals.iter().map(|(id, last)| ((*id).to_owned(), last.clone())).collect())
    }

    fn rules(report: &Report) -> Vec<Rule> {
        report.violations.iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn a_good_history_has_no_violation() {
        let mut events = done("a", 5);
        // b: retried once, then done by another worker, record trimmed; the first worker woke up late and was refused.
        events.extend([accepted("b"), started("b", 6), effect("b", 6)]);
        events.extend([
            started("b", 9),
            effect("b", 9),
            settled("b", 9, true, true),
            settled("b", 6, true, false),
        ]);
        // c waits, d is dead, e got no answer at all and is there, f got none and is not.
        events.extend([accepted("c"), accepted("d"), started("d", 7), settled("d", 7, false, true)]);
        events.extend(["e", "f"].map(|id| Event::MaybeAccepted { id: id.into() }));
        // g's success got no answer and its record is trimmed; h was deleted.
        events.extend([accepted("g"), started("g", 8), effect("g", 8)]);
        events.push(Event::MaybeSettled { id: "g".into(), token: 8, success: true });
        events.extend([accepted("h"), Event::Deleted { id: "h".into() }]);
        let report = with(
            &events,
            &[
                ("a", record(JobState::Succeeded, &[(5, true)])),
                ("c", record(JobState::Ready, &[])),
                ("d", record(JobState::Dead, &[(7, false)])),
                ("e", record(JobState::Scheduled, &[])),
            ],
        );
        assert_eq!(report.violations, []);
        assert_eq!((report.accepted, report.stale_refused), (6, 1));
        assert_eq!(report.by_state["succeeded"], 2);
        assert_eq!(report.by_state["dead"], 1);
    }

    #[test]
    fn a_lost_job_is_caught() {
        let report = with(&[accepted("a")], &[]);
        assert_eq!(rules(&report), [Rule::Lost]);
        let report = with(&[accepted("a"), started("a", 1), settled("a", 1, false, true)], &[]);
        assert_eq!(rules(&report), [Rule::Lost]);
    }

    #[test]
    fn a_doubled_job_is_caught() {
        let mut events = done("a", 5);
        events.extend([started("a", 6), effect("a", 6), settled("a", 6, true, true)]);
        assert!(rules(&with(&events, &[])).contains(&Rule::DoubleSuccess));
        // Also when only the record tells of the other one.
        let events = done("a", 5);
        let report = with(&events, &[("a", record(JobState::Succeeded, &[(5, true), (8, true)]))]);
        assert!(rules(&report).contains(&Rule::DoubleSuccess));
    }

    #[test]
    fn a_success_that_nobody_worked_for_is_caught() {
        let events = [accepted("a"), started("a", 5), settled("a", 5, true, true)];
        assert_eq!(rules(&with(&events, &[])), [Rule::SuccessWithoutEffect]);
    }

    #[test]
    fn a_stale_settlement_that_was_accepted_is_caught() {
        let mut events =
            vec![accepted("a"), started("a", 5), started("a", 9), effect("a", 5), effect("a", 9)];
        events.extend([settled("a", 9, false, true), settled("a", 5, true, true)]);
        assert!(rules(&with(&events, &[])).contains(&Rule::StaleAccepted));
        let events = [accepted("a"), started("a", 5), effect("a", 5), settled("a", 5, false, true)];
        let report = with(&events, &[("a", record(JobState::Ready, &[(9, false)]))]);
        assert_eq!(rules(&report), [Rule::StaleAccepted]);
    }

    #[test]
    fn tokens_that_repeat_or_fall_are_caught() {
        let events = [accepted("a"), started("a", 5), started("a", 5)];
        assert_eq!(rules(&with(&events, &[("a", record(JobState::Ready, &[]))])), [Rule::TokenFell]);
        let report = with(&[accepted("a")], &[("a", record(JobState::Ready, &[(9, false), (5, false)]))]);
        assert_eq!(rules(&report), [Rule::TokenFell]);
    }

    #[test]
    fn a_job_out_of_nowhere_and_life_after_the_end_are_caught() {
        assert_eq!(rules(&with(&[], &[("a", record(JobState::Ready, &[]))])), [Rule::Unasked]);
        let mut events = done("a", 5);
        events.extend([started("a", 7), settled("a", 7, false, true)]);
        assert_eq!(rules(&with(&events, &[])), [Rule::AfterTheEnd]);
    }
}
