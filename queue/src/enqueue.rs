//! Enqueueing.

use crate::client::Queue;
use crate::error::{Error, Result};
use crate::types::{Enqueued, JobState, NewJob};
use crate::wire::Reply;

/// Most jobs of one call.
pub const MAX_JOBS_PER_CALL: usize = 200;
/// Most payload bytes of one call.
pub const MAX_BYTES_PER_CALL: usize = 1024 * 1024;

impl Queue {
    /// At most 200 jobs or 1 MiB of payload a call; `enqueue_all` splits.
    ///
    /// # Errors
    /// When Redis cannot be reached or is full, the queue has no policy, or the call is too large. A job that is refused
    /// is no error: its own outcome says so.
    pub async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = self.call("lk_enqueue");
        for job in jobs {
            let options = serde_json::to_string(&job.options)
                .map_err(|e| Error::Refused(format!("the options cannot be written as JSON: {e}")))?;
            call = call.arg(options).arg(job.payload.as_slice());
        }
        let function = call.function();
        let mut reply = Reply::new(function, call.run().await?)?;
        (0..reply.len()).map(|_| read_outcome(&mut reply.list()?)).collect()
    }

    /// Any number of jobs, in calls of at most 200 jobs and 1 MiB, in order. A payload that no call can carry is answered
    /// as `payload-too-large` without being sent.
    ///
    /// # Errors
    /// As `enqueue`; jobs of earlier calls are stored then. Ids make it safe to send all of them again.
    pub async fn enqueue_all(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
        let mut outcomes = Vec::with_capacity(jobs.len());
        let mut rest = jobs;
        while let Some(first) = rest.first() {
            if first.payload.len() > MAX_BYTES_PER_CALL {
                outcomes.push(too_large(first));
                rest = &rest[1..];
                continue;
            }
            let (now, later) = rest.split_at(fitting(rest));
            outcomes.extend(self.enqueue(now).await?);
            rest = later;
        }
        Ok(outcomes)
    }
}

/// How many of the first jobs fit one call; at least one.
fn fitting(jobs: &[NewJob]) -> usize {
    let mut bytes = 0;
    jobs.iter()
        .take(MAX_JOBS_PER_CALL)
        .take_while(|job| {
            bytes += job.payload.len();
            bytes <= MAX_BYTES_PER_CALL
        })
        .count()
        .max(1)
}

fn too_large(job: &NewJob) -> Enqueued {
    Enqueued::Rejected {
        reason: "payload-too-large".to_owned(),
        message: format!(
            "the payload has {} bytes, one call takes at most {MAX_BYTES_PER_CALL}",
            job.payload.len()
        ),
    }
}

fn read_outcome(entry: &mut Reply) -> Result<Enqueued> {
    let id = match entry.next()? {
        redis::Value::BulkString(bytes) => {
            Some(String::from_utf8(bytes).map_err(|_| entry.wrong("an id is not UTF-8"))?)
        }
        _ => None,
    };
    let (outcome, last) = (entry.text()?, entry.text()?);
    match (id, outcome.strip_prefix("rejected:")) {
        (None, Some(reason)) => Ok(Enqueued::Rejected { reason: reason.to_owned(), message: last }),
        (Some(id), None) => {
            let state = JobState::from_name(&last).ok_or_else(|| entry.wrong("unknown state"))?;
            Ok(match outcome.as_str() {
                "duplicate" => Enqueued::Duplicate { id, state },
                "replaced" => Enqueued::Replaced { id, state },
                _ => Enqueued::Accepted { id, state },
            })
        }
        _ => Err(entry.wrong("an outcome makes no sense")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(bytes: usize) -> NewJob {
        NewJob { payload: vec![0; bytes], ..NewJob::default() }
    }

    #[test]
    fn calls_are_cut_by_number_and_by_bytes() {
        assert_eq!(fitting(&vec![job(1); 500]), MAX_JOBS_PER_CALL);
        assert_eq!(fitting(&vec![job(400 * 1024); 5]), 2);
        assert_eq!(fitting(&[job(MAX_BYTES_PER_CALL), job(1)]), 1);
        assert_eq!(fitting(&[job(MAX_BYTES_PER_CALL)]), 1);
    }
}
