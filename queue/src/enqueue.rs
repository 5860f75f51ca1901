//! Enqueueing.

use crate::client::Queue;
use crate::error::{Error, Result};
use crate::types::{Enqueued, JobState, NewJob};
use crate::wire::Reply;

/// Most jobs of one call.
pub const MAX_JOBS_PER_CALL: usize = 200;
/// Most payload bytes of one call.
pub const MAX_BYTES_PER_CALL: usize = 1024 * 1024;

/// More jobs than this are a call of their own.
const COMPANY: usize = 20;

/// One job as it is sent.
pub(crate) struct Pair {
    pub(crate) options: String,
    pub(crate) payload: Vec<u8>,
}

impl Pair {
    pub(crate) fn parts(&self) -> (&str, &[u8]) {
        (&self.options, &self.payload)
    }
}

impl Queue {
    /// At most 200 jobs or 1 MiB of payload a call; `enqueue_all` splits. A few jobs may share a call of Redis with those that
    /// other tasks enqueue at the same moment; each has its own outcome, and none waits for others to come.
    ///
    /// # Errors
    /// When Redis cannot be reached or is full, the queue has no policy, or the call is too large. A job that is refused
    /// is no error: its own outcome says so.
    pub async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let options = jobs.iter().map(options).collect::<Result<Vec<_>>>()?;
        if jobs.len() > COMPANY
            || jobs.iter().map(|job| job.payload.len()).sum::<usize>() > MAX_BYTES_PER_CALL
        {
            let payloads = jobs.iter().map(|job| job.payload.as_slice());
            return self.enqueue_pairs(options.iter().map(String::as_str).zip(payloads)).await;
        }
        let payloads = jobs.iter().map(|job| job.payload.clone());
        let pairs = options.into_iter().zip(payloads).map(|(options, payload)| Pair { options, payload });
        self.enqueue_together(pairs.collect()).await
    }

    /// One call with these options and payloads.
    pub(crate) async fn enqueue_pairs(
        &self,
        pairs: impl Iterator<Item = (&str, &[u8])>,
    ) -> Result<Vec<Enqueued>> {
        let mut call = self.call("lk_enqueue");
        for (options, payload) in pairs {
            call = call.arg(options).arg(payload);
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

fn options(job: &NewJob) -> Result<String> {
    serde_json::to_string(&job.options)
        .map_err(|e| Error::Refused(format!("the options cannot be written as JSON: {e}")))
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
        // The owner of a key may be whatever something else wrote there.
        redis::Value::BulkString(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
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
