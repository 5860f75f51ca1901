//! Compares what the queue says was done with what the application's database and files show.

pub mod command;

use std::collections::{BTreeMap, HashMap};

use lanekeeper_queue::types::{Job, JobState};
use serde::{Deserialize, Serialize};

use crate::analytics::Batch;
use crate::files::Files;
use crate::report;
use crate::store::{Error, Store};
use crate::thumbnail;
use crate::traffic::ledger::Entry;
use crate::traffic::plan::Intent;

/// What is known of the jobs' fate.
#[derive(Debug)]
pub enum Fate<'a> {
    /// The queue was asked.
    Known(&'a HashMap<String, Job>),
    /// Nobody was asked: what was meant as work counts as done, what was poisoned does not.
    Supposed,
}

/// How often a job's effect must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Once,
    Never,
    AtMostOnce,
}

impl Fate<'_> {
    fn due(&self, entry: &Entry, id: &str) -> Due {
        let done = match self {
            Self::Known(jobs) => jobs.get(id).is_some_and(|job| job.state == JobState::Succeeded),
            Self::Supposed => entry.intent == Intent::Work,
        };
        match (done, entry.intent) {
            (true, _) => Due::Once,
            (false, Intent::Poison) => Due::Never,
            // An attempt that was cut off may have had its effect all the same.
            (false, _) => Due::AtMostOnce,
        }
    }
}

/// What was found of one kind of effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Jobs that the queue says are done.
    pub done: u64,
    /// Of those, with exactly one effect.
    pub right: u64,
    /// What does not match, one sentence each.
    pub wrong: Vec<String>,
}

/// Findings by job type, and `books` for sums that must agree.
pub type Findings = BTreeMap<String, Found>;

/// Whether nothing is wrong.
#[must_use]
pub fn holds(findings: &Findings) -> bool {
    findings.values().all(|found| found.wrong.is_empty())
}

/// Checks every accepted job of the ledger.
///
/// # Errors
/// When the database cannot be read; a missing or broken file is a finding, not an error.
pub fn verify(ledger: &[Entry], fate: &Fate<'_>, store: &Store, files: &Files) -> Result<Findings, Error> {
    let mut findings = Findings::new();
    for entry in ledger {
        let Some(id) = entry.accepted() else { continue };
        let due = fate.due(entry, id);
        let seen = effects(entry, store, files)?;
        let found = findings.entry(entry.job_type.clone()).or_default();
        found.done += u64::from(due == Due::Once);
        match (due, seen) {
            (Due::Once, Ok(1)) => found.right += 1,
            (Due::Never | Due::AtMostOnce, Ok(0)) | (Due::AtMostOnce, Ok(1) | Err(_)) => {}
            (_, Ok(times)) => found.wrong.push(format!("{id}: {due:?} was due, {times} effects were found")),
            (_, Err(why)) => found.wrong.push(format!("{id}: {why}")),
        }
    }
    findings.insert("books".into(), books(store)?);
    Ok(findings)
}

/// How often the job's effect is there, or what is wrong with it.
fn effects(entry: &Entry, store: &Store, files: &Files) -> Result<Result<u64, String>, Error> {
    let text = |field: &str| entry.payload[field].as_str().unwrap_or_default().to_owned();
    Ok(match entry.job_type.as_str() {
        "password-reset" | "receipt-email" => {
            let key = format!("email:{}:{}:{}", entry.payload["userId"], text("templateId"), text("eventId"));
            Ok(rows(store, "SELECT count(*) FROM outbox WHERE key = ?1", key)?)
        }
        "webhook-delivery" => {
            Ok(rows(store, "SELECT count(*) FROM deliveries WHERE event_id = ?1", text("eventId"))?)
        }
        "stripe-event" => {
            Ok(rows(store, "SELECT count(*) FROM stripe_events WHERE event_id = ?1", text("eventId"))?)
        }
        "analytics-sync" => batch(entry, store)?,
        "image-thumbnail" => thumbnail(entry, files).unwrap_or(Ok(0)),
        "pdf-report" => report(entry, files).unwrap_or(Ok(0)),
        other => Err(format!("nothing is known of the effects of {other:?}")),
    })
}

fn rows(store: &Store, sql: &'static str, key: String) -> Result<u64, Error> {
    store.write(|tx| {
        Ok(tx.query_row(sql, [key], |row| row.get::<_, i64>(0)).map_err(Error::from)?.unsigned_abs())
    })
}

/// The batch must have been added with the very sum that was sent.
fn batch(entry: &Entry, store: &Store) -> Result<Result<u64, String>, Error> {
    let Ok(sent) = serde_json::from_value::<Batch>(entry.payload.clone()) else {
        return Ok(Err("its payload is not a batch".into()));
    };
    let events: u64 = sent.events.values().map(|count| u64::from(*count)).sum();
    let sql = "SELECT count(*) FROM analytics_batches WHERE batch_timestamp = ?1";
    let times = rows(store, sql, sent.batch_timestamp.clone())?;
    let sql = "SELECT coalesce(sum(events), 0) FROM analytics_batches WHERE batch_timestamp = ?1";
    let added = rows(store, sql, sent.batch_timestamp)?;
    Ok(if times == 1 && added != events {
        Err(format!("{added} events were added, not {events}"))
    } else {
        Ok(times)
    })
}

/// `None` when there is no file.
fn thumbnail(entry: &Entry, files: &Files) -> Option<Result<u64, String>> {
    let request: thumbnail::Request = serde_json::from_value(entry.payload.clone()).ok()?;
    let path = files.thumbnail(&request.image_id, request.size);
    path.exists().then(|| match image::open(&path) {
        Err(error) => Err(format!("{} cannot be decoded: {error}", path.display())),
        Ok(image) => {
            let (size, wanted) = ((image.width(), image.height()), thumbnail::painted_size(request.size));
            if size == wanted {
                Ok(1)
            } else {
                Err(format!("{} is {size:?}, not {wanted:?}", path.display()))
            }
        }
    })
}

/// `None` when there is no file.
fn report(entry: &Entry, files: &Files) -> Option<Result<u64, String>> {
    let request: report::Request = serde_json::from_value(entry.payload.clone()).ok()?;
    let path = files.report(&request.customer_id, &request.period);
    let bytes = std::fs::read(&path).ok()?;
    Some(report::whole(&bytes).map(|()| 1).map_err(|what| format!("{} {what}", path.display())))
}

/// Sums that only agree when nothing was booked twice or by half.
fn books(store: &Store) -> Result<Found, Error> {
    let sums = [
        (
            "mails sent and keys they were sent under",
            "SELECT count(*) FROM outbox",
            "SELECT count(*) FROM mails",
        ),
        (
            "balances and booked events",
            "SELECT total(cents) FROM balances",
            "SELECT total(amount_cents) FROM stripe_events",
        ),
        (
            "analytics totals and batches",
            "SELECT total(total) FROM analytics_totals",
            "SELECT total(events) FROM analytics_batches",
        ),
    ];
    let mut found = Found { done: sums.len() as u64, ..Found::default() };
    for (what, left, right) in sums {
        let sum = |sql: &str| {
            store.write(|tx| tx.query_row(sql, [], |row| row.get::<_, f64>(0)).map_err(Error::from))
        };
        let (left, right) = (sum(left)?, sum(right)?);
        if (left - right).abs() < 0.5 {
            found.right += 1;
        } else {
            found.wrong.push(format!("{what} differ: {left} and {right}"));
        }
    }
    Ok(found)
}
