//! Counts what became of every line, shows progress, keeps the rejected ones.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use lanekeeper_queue::types::{Enqueued, JobState};
use serde::Serialize;

use super::line::Problem;
use super::read::Raw;
use super::{Bulk, complain};
use crate::commands::enqueue::QUEUE_FULL;
use crate::failure::{Failure, Result};
use crate::human::count;
use crate::out;

/// Reasons shown one by one; a file of broken lines must not flood the terminal.
const SHOWN: u64 = 20;
/// Rejected lines listed in the JSON summary.
const LISTED: usize = 1000;

/// What became of the lines.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    lines: u64,
    queued: u64,
    scheduled: u64,
    replaced: u64,
    duplicate: u64,
    rejected: u64,
    rejected_by_reason: BTreeMap<String, u64>,
    rejects: Vec<Reject>,
    rejects_left_out: u64,
    /// The last line that was answered for.
    acknowledged_through_line: u64,
}

#[derive(Debug, Serialize)]
struct Reject {
    line: u64,
    reason: String,
    message: String,
}

/// The running account.
pub(super) struct Summary {
    counts: Counts,
    bar: ProgressBar,
    rejects: Option<(PathBuf, BufWriter<File>)>,
}

impl Summary {
    /// An empty account; `bytes` is the input's size, if known.
    pub(super) fn new(rejects: Option<&Path>, skip: u64, bytes: Option<u64>) -> Result<Self> {
        let open = |path: &Path| {
            let file = File::create(path).map_err(|error| {
                Failure::invalid(format!("cannot write --rejects {}: {error}", path.display()))
            })?;
            Ok((path.to_owned(), BufWriter::new(file)))
        };
        let counts = Counts { acknowledged_through_line: skip, ..Counts::default() };
        Ok(Self { counts, bar: bar(bytes), rejects: rejects.map(open).transpose()? })
    }

    /// The queue's answer for a line.
    pub(super) fn answered(&mut self, raw: &Raw, answer: &Enqueued) -> Result<()> {
        match answer {
            Enqueued::Accepted { state: JobState::Scheduled, .. } => self.counts.scheduled += 1,
            Enqueued::Accepted { .. } => self.counts.queued += 1,
            Enqueued::Replaced { .. } => self.counts.replaced += 1,
            Enqueued::Duplicate { .. } => self.counts.duplicate += 1,
            Enqueued::Rejected { reason, message } => self.reject(raw, reason, message)?,
        }
        self.passed(raw);
        Ok(())
    }

    /// A line that is no job.
    pub(super) fn invalid(&mut self, raw: &Raw, problem: &Problem) -> Result<()> {
        self.reject(raw, problem.reason, &problem.message)?;
        self.passed(raw);
        Ok(())
    }

    fn passed(&mut self, raw: &Raw) {
        self.counts.lines += 1;
        self.counts.acknowledged_through_line = raw.number;
        self.bar.inc(raw.bytes);
        if self.counts.lines.is_multiple_of(100) || self.counts.rejected > 0 {
            self.bar.set_message(self.counts.sentence());
        }
    }

    fn reject(&mut self, raw: &Raw, reason: &str, message: &str) -> Result<()> {
        self.counts.rejected += 1;
        *self.counts.rejected_by_reason.entry(reason.to_owned()).or_default() += 1;
        if self.counts.rejected <= SHOWN {
            self.bar.suspend(|| complain(raw.number, reason, message));
        }
        if self.counts.rejects.len() < LISTED {
            self.counts.rejects.push(Reject {
                line: raw.number,
                reason: reason.to_owned(),
                message: message.to_owned(),
            });
        } else {
            self.counts.rejects_left_out += 1;
        }
        if let Some((path, file)) = &mut self.rejects {
            file.write_all(&raw.text).and_then(|()| file.write_all(b"\n")).map_err(|error| {
                Failure::failed(format!("cannot write --rejects {}: {error}", path.display()))
            })?;
        }
        Ok(())
    }

    /// All lines were read.
    pub(super) fn finish(mut self, json: bool) -> Result<()> {
        self.close()?;
        if json {
            out::json(&self.counts)?;
        } else {
            out::print(&self.counts.sentence())?;
        }
        if self.counts.rejected == 0 {
            return Ok(());
        }
        let reasons: Vec<String> =
            self.counts.rejected_by_reason.iter().map(|(reason, n)| format!("{n} × {reason}")).collect();
        let failure = Failure::failed(format!(
            "{} rejected ({})",
            count(self.counts.rejected, "line"),
            reasons.join(", ")
        ));
        let kept = self.rejects.as_ref().map(|(path, _)| path.display().to_string());
        Err(failure.advice(self.counts.advice(kept.as_deref())))
    }

    /// The run ended before the input did: what is certain, what is not, and how to go on.
    pub(super) fn stopped(mut self, failure: Failure, bulk: &Bulk<'_>) -> Failure {
        let through = self.counts.acknowledged_through_line;
        let closed = self.close().err().map(|failure| failure.to_string());
        let mut details = vec![
            format!("{} acknowledged ({}), through line {through}", count(self.counts.lines, "line"), self.counts.sentence()),
            "the lines right after it may or may not have been accepted; sent again, those with an id answer `duplicate` as long as \
             the job's record is kept (`completed` of its type), those with a key as long as `keyFor` says"
                .to_owned(),
        ];
        details.extend(closed);
        if bulk.json {
            // The failure is what counts; a reader that went away does not change it.
            let _ = out::json(&self.counts);
        }
        failure.details(details).advice(format!(
            "go on with: lanekeeper enqueue --ndjson {} --skip {through}",
            bulk.file.display()
        ))
    }

    fn close(&mut self) -> Result<()> {
        self.bar.finish_and_clear();
        if self.counts.rejected > SHOWN {
            out::note(&format!("… and {} more rejected lines", self.counts.rejected - SHOWN));
        }
        match &mut self.rejects {
            Some((path, file)) => file.flush().map_err(|error| {
                Failure::failed(format!("cannot write --rejects {}: {error}", path.display()))
            }),
            None => Ok(()),
        }
    }
}

impl Counts {
    fn sentence(&self) -> String {
        let parts = [
            (self.queued, "queued"),
            (self.scheduled, "scheduled"),
            (self.replaced, "replaced"),
            (self.duplicate, "duplicate"),
            (self.rejected, "rejected"),
        ];
        let said: Vec<String> = parts
            .into_iter()
            .filter(|(n, name)| *n > 0 || *name == "queued")
            .map(|(n, name)| format!("{} {name}", indicatif::HumanCount(n)))
            .collect();
        said.join(", ")
    }

    /// What to do with the rejected lines, kept in a file of that name or not. For want of room a line is rejected as it is: there
    /// is nothing to correct in it.
    fn advice(&self, kept: Option<&str>) -> String {
        let full = self.rejected_by_reason.get(QUEUE_FULL).copied().unwrap_or_default();
        match (kept, full) {
            (Some(kept), 0) => format!("correct {kept} and send it again"),
            (None, 0) => "--rejects FILE keeps rejected lines, to be corrected and sent again".to_owned(),
            (Some(kept), full) if full == self.rejected => {
                format!("send {kept} again once jobs have ended; there is nothing to correct in it")
            }
            (None, full) if full == self.rejected => {
                "--rejects FILE keeps rejected lines, to be sent again once jobs have ended".to_owned()
            }
            (Some(kept), full) => format!(
                "correct {kept} and send it again once jobs have ended; there is nothing to correct in the {} rejected:{QUEUE_FULL}",
                count(full, "line")
            ),
            (None, _) => format!(
                "--rejects FILE keeps rejected lines, to be corrected (but for {QUEUE_FULL}) and sent again once jobs have ended"
            ),
        }
    }
}

/// On standard error, and only on a terminal.
fn bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:30} {bytes}/{total_bytes} {msg} ({eta} left)"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} ({elapsed})"),
    };
    let style = ProgressStyle::with_template(template);
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_found_no_room_need_no_correction() {
        let advice = |reasons: &[(&str, u64)], kept| {
            let rejected_by_reason = reasons.iter().map(|(reason, n)| ((*reason).to_owned(), *n)).collect();
            let rejected = reasons.iter().map(|(_, n)| n).sum();
            Counts { rejected, rejected_by_reason, ..Counts::default() }.advice(kept)
        };
        assert_eq!(advice(&[("key-field", 1)], Some("r")), "correct r and send it again");
        assert!(advice(&[("queue-full", 2)], Some("r")).contains("nothing to correct in it"));
        let both = advice(&[("key-field", 1), ("queue-full", 2)], Some("r"));
        assert!(both.starts_with("correct r") && both.contains("in the 2 lines"), "{both}");
        assert!(!advice(&[("queue-full", 2)], None).contains("correct"));
    }
}
