//! What claims, and sweeps, answer of leased jobs.

use crate::error::Result;
use crate::record::split;
use crate::types::{ClaimReply, Claimed};
use crate::wire::Reply;

/// The reply to a claim, taken apart.
pub(crate) struct Answer {
    pub(crate) claim: ClaimReply,
    pub(crate) letters: Vec<u8>,
    pub(crate) refusals: Vec<String>,
    /// Leases on jobs whose records cannot be read.
    pub(crate) damaged: Vec<Lease>,
}

impl Answer {
    pub(crate) fn read(reply: &mut Reply) -> Result<Self> {
        let mut claim = ClaimReply {
            now_ms: reply.uint()?,
            policy_version: reply.uint()?,
            next_due_ms: reply.maybe_uint()?,
            held: reply.maybe_text()?,
            waits: true,
            jobs: Vec::new(),
        };
        let letters = reply.bytes()?;
        let token = reply.uint()?;
        let refusals = reply.texts()?;
        let mut checkpoints = reply.list()?;
        claim.waits = reply.uint()? != 0;
        claim.jobs.reserve(reply.len() / 4);
        let mut damaged = Vec::new();
        while reply.len() > 0 {
            let lease = Lease { id: reply.text()?, token, lane: reply.text()?, since_ms: claim.now_ms };
            let (raw, past) = (reply.bytes()?, reply.bytes()?);
            match lease.job(&raw, &past) {
                Ok(job) => claim.jobs.push(job),
                Err(lease) => damaged.push(lease),
            }
        }
        while checkpoints.len() > 0 {
            let (id, left) = (checkpoints.text()?, checkpoints.bytes()?);
            if let Some(job) = claim.jobs.iter_mut().find(|job| job.id == id) {
                job.checkpoint = Some(left);
            }
        }
        Ok(Self { claim, letters, refusals, damaged })
    }
}

/// What a reply says of a leased job beside its record.
pub(crate) struct Lease {
    pub(crate) id: String,
    pub(crate) token: u64,
    pub(crate) lane: String,
    pub(crate) since_ms: u64,
}

impl Lease {
    /// The job with its record, or the lease back when the record cannot be read.
    pub(crate) fn job(self, raw: &[u8], past: &[u8]) -> std::result::Result<Claimed, Self> {
        let Some((record, payload)) = split(raw, past) else { return Err(self) };
        Ok(Claimed {
            id: self.id,
            token: self.token,
            lane: self.lane,
            payload: payload.to_vec(),
            attempt: record.attempts() + 1,
            tries: record.tries(),
            crashes: record.crashes(),
            enqueued_ms: record.accepted_ms(),
            due_ms: record.due_ms(),
            claimed_ms: self.since_ms,
            key: record.key(),
            meta: record.meta(),
            checkpoint: None,
            job_type: record.job_type().to_owned(),
        })
    }
}
