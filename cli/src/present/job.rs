//! One job, its history, and lists of jobs.

use comfy_table::Cell;
use lanekeeper_queue::types::{Attempt, AttemptError, ErrorClass, Job, JobState, Review};

use crate::human::{age, bytes, duration, relative, timestamp};
use crate::out::{bad, cell, fields, good, render, table, warn};

/// Longest error or answer shown in a table or summary; `-o json` has everything.
const MESSAGE_SHOWN: usize = 200;

/// Everything about one job.
pub(crate) fn detail(job: &Job, now_ms: u64) -> String {
    let mut text = fields(&summary(job, now_ms));
    if !job.history.is_empty() {
        text.push_str("\n\n");
        text.push_str(&history(job));
    }
    text
}

fn summary(job: &Job, now_ms: u64) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("job", job.id.clone()),
        ("type", job.job_type.clone()),
        ("lane", job.lane.clone().unwrap_or_else(|| "none: the policy does not know this type".to_owned())),
        ("state", job.state.name().to_owned()),
    ];
    if let Some(reason) = job.dead_reason {
        rows.push(("dead because", reason.name().to_owned()));
    }
    if let Some(fingerprint) = &job.fingerprint {
        rows.push(("fingerprint", fingerprint.clone()));
    }
    if let Some(review) = &job.review {
        rows.push(("review", reviewed(review, now_ms)));
    }
    if let Some(key) = &job.key {
        rows.push(("key", key.clone()));
    }
    rows.push(("priority", job.priority.to_string()));
    rows.push(("enqueued", moment(job.enqueued_ms, now_ms)));
    if matches!(job.state, JobState::Scheduled | JobState::Ready) {
        rows.push(("due", moment(job.due_ms, now_ms)));
    }
    if let Some(lease) = &job.lease {
        rows.push(("running on", on(&lease.worker, &lease.pool, &lease.node)));
        rows.push(("running for", age(now_ms, lease.since_ms)));
        rows.push((
            "lease",
            format!("token {}, expires {}", lease.token, relative(now_ms, lease.expires_ms)),
        ));
    }
    if let Some(by) = job.lease.as_ref().and_then(|lease| lease.cancelled_by.as_ref()) {
        rows.push(("being cancelled", format!("by {by}")));
    }
    if let Some(told) = &job.progress {
        rows.push(("progress", format!("{}, {}", told.sentence(), relative(now_ms, told.told_ms))));
    }
    if let Some(left) = &job.checkpoint {
        rows.push(("checkpoint", format!("{}, left {}", bytes(left.bytes), relative(now_ms, left.left_ms))));
    }
    if let Some(finished) = job.finished_ms {
        rows.push(("finished", moment(finished, now_ms)));
    }
    // A replay gives all tries again.
    let since =
        if job.history.iter().any(|attempt| attempt.outcome == "replay") { "since its replay: " } else { "" };
    rows.push((
        "attempts",
        format!("{} ({since}{} failed, {} lost to crashes)", job.attempts, job.tries, job.crashes),
    ));
    rows.push(("payload", bytes(job.payload_bytes)));
    if let Some(original) = job.original_bytes {
        let replaced =
            format!("replaced; the first one, {}: lanekeeper get {} --original", bytes(original), job.id);
        rows.push(("", replaced));
    }
    rows.extend(job.meta.iter().map(|(name, value)| ("meta", format!("{name}={value}"))));
    if let Some(result) = job.result.as_ref().filter(|result| !result.is_empty()) {
        rows.push(("result", shorten(result)));
    }
    rows
}

fn reviewed(review: &Review, now_ms: u64) -> String {
    let by = review.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let at = review.at_ms.map(|at| format!(" {}", relative(now_ms, at))).unwrap_or_default();
    let why = review.why.as_ref().map(|why| format!(": {}", shorten(why))).unwrap_or_default();
    format!("{}{by}{at}{why}", review.state.name())
}

fn moment(ms: u64, now_ms: u64) -> String {
    format!("{} ({})", timestamp(ms), relative(now_ms, ms))
}

fn on(worker: &str, pool: &str, node: &str) -> String {
    let pool = if pool.is_empty() { String::new() } else { format!(", pool {pool}") };
    let node = if node.is_empty() || node == worker { String::new() } else { format!(", node {node}") };
    format!("{worker}{pool}{node}")
}

/// The attempts of a job, oldest first.
pub(crate) fn history(job: &Job) -> String {
    let mut rows = table(&["ATTEMPT", "STARTED", "TOOK", "WORKER", "POLICY", "OUTCOME", "WHY"]);
    for attempt in &job.history {
        rows.add_row(vec![
            cell(attempt.number),
            cell(timestamp(attempt.started_ms)),
            cell(duration(attempt.ended_ms.saturating_sub(attempt.started_ms))),
            cell(&attempt.worker),
            cell(attempt.policy_version),
            outcome_cell(&attempt.outcome),
            cell(why(attempt)),
        ]);
    }
    let mut text = render(&rows);
    if job.history_dropped > 0 {
        text.push_str(&format!(
            "\n({} entries in the middle of this long history are no longer kept)",
            job.history_dropped
        ));
    }
    text
}

fn outcome_cell(outcome: &str) -> Cell {
    match outcome {
        "success" => good(outcome),
        "dead" => bad(outcome),
        "retry" => warn(outcome),
        _ => cell(outcome),
    }
}

fn why(attempt: &Attempt) -> String {
    attempt.error.as_ref().map_or_else(String::new, |error| {
        // Transient goes without saying: the job comes again.
        let class = match error.class {
            ErrorClass::Transient => String::new(),
            class => format!(" ({})", class.name()),
        };
        if error.message.is_empty() {
            format!("{}{class}", error.code)
        } else {
            format!("{}{class}: {}", error.code, shorten(&error.message))
        }
    })
}

/// One line, cut at a length that a terminal bears.
fn shorten(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MESSAGE_SHOWN) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// What the last attempt said; people's words are none.
pub(crate) fn last_error(job: &Job) -> String {
    job.history.iter().rfind(|entry| entry.ran()).map_or_else(String::new, why)
}

/// The same for programs.
pub(crate) fn last_attempt_error(job: &Job) -> Option<&AttemptError> {
    job.history.iter().rfind(|entry| entry.ran()).and_then(|entry| entry.error.as_ref())
}

/// Dead letters, in their order.
pub(crate) fn dead_list(jobs: &[Job], now_ms: u64) -> String {
    let mut rows =
        table(&["JOB", "TYPE", "STATE", "DIED", "REASON", "ATTEMPTS", "FINGERPRINT", "LAST ERROR"]);
    for job in jobs {
        let died = job.finished_ms.map_or_else(String::new, |at| relative(now_ms, at));
        let reason = job.dead_reason.map_or("", |reason| reason.name());
        rows.add_row(vec![
            cell(&job.id),
            cell(&job.job_type),
            cell(job.review.as_ref().map_or("", |review| review.state.name())),
            cell(died),
            cell(reason),
            cell(job.attempts),
            cell(job.fingerprint.as_deref().unwrap_or_default()),
            cell(last_error(job)),
        ]);
    }
    render(&rows)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use lanekeeper_queue::types::{AttemptError, CheckpointLeft, DeadReason, Lease, ProgressTold};

    use super::*;

    pub(crate) fn job(state: JobState) -> Job {
        Job {
            id: "01K".into(),
            job_type: "mail".into(),
            lane: Some("fast".into()),
            state,
            priority: 5,
            enqueued_ms: 1000,
            due_ms: 1000,
            finished_ms: None,
            tries: 1,
            crashes: 0,
            attempts: 1,
            key: None,
            meta: BTreeMap::new(),
            progress: None,
            checkpoint: None,
            lease: None,
            dead_reason: None,
            history: Vec::new(),
            history_dropped: 0,
            payload_bytes: 2,
            result: None,
            payload: None,
            fingerprint: None,
            review: None,
            original_bytes: None,
            original: None,
        }
    }

    #[test]
    fn a_dead_job_shows_its_reason_and_what_each_attempt_said() {
        let mut dead = job(JobState::Dead);
        dead.dead_reason = Some(DeadReason::TriesExhausted);
        dead.finished_ms = Some(61_000);
        dead.history = vec![Attempt {
            number: 1,
            started_ms: 1000,
            ended_ms: 2500,
            worker: "w-1".into(),
            node: "n".into(),
            token: 7,
            policy_version: 3,
            outcome: "dead".into(),
            error: Some(AttemptError {
                class: ErrorClass::Permanent,
                code: "HttpStatus".into(),
                message: "404\nno  such thing".into(),
            }),
        }];
        let text = detail(&dead, 61_000);
        for part in
            ["dead because", "TriesExhausted", "HttpStatus (permanent): 404 no such thing", "1.5s", "w-1"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(dead_list(&[dead], 121_000).contains("1m ago"));
    }

    #[test]
    fn a_running_job_shows_where_and_since_when() {
        let mut running = job(JobState::Running);
        running.lease = Some(Lease {
            worker: "w-1".into(),
            pool: "p".into(),
            node: "n".into(),
            token: 9,
            since_ms: 1000,
            expires_ms: 21_000,
            cancelled_by: Some("anna".into()),
        });
        let (unit, message) = ("rows".into(), "writing".into());
        running.progress = Some(ProgressTold { done: 3, total: Some(10), unit, message, told_ms: 9_000 });
        running.checkpoint = Some(CheckpointLeft { bytes: 2048, left_ms: 6_000 });
        let text = detail(&running, 11_000);
        for part in [
            "3 of 10 rows (30 %), writing, 2s ago",
            "left 5s ago",
            "by anna",
            "w-1, pool p, node n",
            "10s",
            "expires in 10s",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn long_errors_are_cut_at_a_character() {
        assert_eq!(shorten(&"é".repeat(300)).chars().count(), MESSAGE_SHOWN + 1);
    }
}
