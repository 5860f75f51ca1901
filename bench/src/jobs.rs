//! The job of the peer benchmarks: type `noop`, payload `{"i":…,"ts":…,"pad":"xxx…"}`.

use anyhow::{Result, bail};
use lanekeeper_queue::types::{EnqueueOptions, Enqueued, NewJob};

use crate::policy::JOB_TYPE;

/// Length of the padding that makes a payload about 200 bytes.
pub const PAD: usize = 160;

/// A payload with its number, the time it was sent (s) and `pad` bytes of padding.
#[must_use]
pub fn payload(i: usize, ts: f64, pad: usize) -> String {
    format!("{{\"i\":{i},\"ts\":{ts:.6},\"pad\":\"{:x<pad$}\"}}", "")
}

/// When the job of this payload was sent, s.
#[must_use]
pub fn sent_at(payload: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(payload).ok()?;
    text.split_once("\"ts\":")?.1.split(',').next()?.parse().ok()
}

/// The job to enqueue, with nothing but its type.
#[must_use]
pub fn job(i: usize, ts: f64, pad: usize) -> NewJob {
    NewJob {
        payload: payload(i, ts, pad).into_bytes(),
        options: EnqueueOptions { job_type: JOB_TYPE.into(), ..EnqueueOptions::default() },
    }
}

/// Tenants that the jobs of [`job_of_tenant`] belong to.
pub const TENANTS: usize = 100;

/// A job whose payload, as long as the others, names one of [`TENANTS`] tenants.
#[must_use]
pub fn job_of_tenant(i: usize) -> NewJob {
    let mut job = job(i, 0.0, PAD - 13);
    let tenant = format!(",\"tenant\":{:03}}}", 100 + i % TENANTS);
    job.payload.pop();
    job.payload.extend_from_slice(tenant.as_bytes());
    job
}

/// Whether all were accepted.
///
/// # Errors
/// Names the first that was not.
pub fn accepted(replies: &[Enqueued]) -> Result<()> {
    match replies.iter().find(|reply| !matches!(reply, Enqueued::Accepted { .. })) {
        Some(other) => bail!("not accepted: {other:?}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_of_about_200_bytes_and_tells_when_it_was_sent() {
        let text = payload(7, 12.5, PAD);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((value["i"].as_u64(), value["pad"].as_str().map(str::len)), (Some(7), Some(PAD)));
        assert!((190..220).contains(&text.len()));
        assert_eq!(sent_at(text.as_bytes()), Some(12.5));
        assert_eq!(sent_at(b"{}"), None);
        let of_tenant: serde_json::Value = serde_json::from_slice(&job_of_tenant(207).payload).unwrap();
        assert_eq!((of_tenant["i"].as_u64(), of_tenant["tenant"].as_u64()), (Some(207), Some(107)));
        assert_eq!(job_of_tenant(7).payload.len(), job(7, 0.0, PAD).payload.len());
    }
}
