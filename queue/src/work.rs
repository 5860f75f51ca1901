//! The worker's side: claim, settle, extend, sweep.

use redis::Value;

use crate::answer::{Answer, Lease};
use crate::client::Queue;
use crate::error::Result;
use crate::pack;
use crate::record::{identity_blob, identity_from};
use crate::settlements::{Packed, pack_note};
use crate::types::ClaimReply;
use crate::types::{
    AttemptError, ClaimOrder, ClaimRequest, DeadReason, ErrorClass, Expired, HandedOver, HeartbeatReply,
    Held, Note, Offer, Outcome, Settled, Settlement, Spends, SweepReply, WorkerIdentity, WorkerInfo,
};
use crate::unpack;
use crate::wire::Reply;

/// Most settlements of one call: with 200, which the library takes, Redis is kept from others for up to 5 ms.
pub const MAX_BATCH: usize = 100;
/// Most leases extended by one call: more would keep Redis from others for too long.
const MAX_HELD: usize = 400;
/// Most bytes of notes (by [`Note::weight`]) that one heartbeat may bring.
pub const MAX_NOTES: usize = 1024 * 1024;

impl Queue {
    /// Settle what is done and take new jobs in one call. Either list may be empty.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy. What was sent may have happened all the same: settling it
    /// again then answers `Stale`.
    pub async fn settle_and_claim(
        &self,
        worker: &WorkerIdentity,
        done: &[Settlement],
        want: &ClaimRequest,
    ) -> Result<(Vec<Settled>, ClaimReply)> {
        let mut settled = Vec::with_capacity(done.len());
        let mut rest = done;
        while rest.len() > MAX_BATCH {
            let (now, later) = rest.split_at(MAX_BATCH);
            settled.extend(self.settle(worker, now).await?);
            rest = later;
        }
        let packed = Packed::new(rest);
        let call = self
            .call("lk_claim")
            .arg(identity_blob(worker))
            .arg(packed.bytes.as_slice())
            .arg(pack_request(want));
        let call = match &want.offer {
            Some(offer) => call.arg(pack_offer(offer)),
            None => call,
        };
        let function = call.function();
        let mut reply = Reply::new(function, call.run().await?)?;
        let Answer { claim, letters, refusals, damaged } = Answer::read(&mut reply)?;
        settled.extend(packed.read(&reply, &letters, refusals)?);
        self.bury(worker, &damaged).await;
        Ok((settled, claim))
    }

    /// Jobs that were handed to this worker by a message to its channel; none where the message says something else.
    ///
    /// # Errors
    /// When such a message cannot be read: what it handed over is leased here all the same.
    pub async fn handed_over(&self, worker: &WorkerIdentity, message: &[u8]) -> Result<Option<HandedOver>> {
        let Some((epoch, value)) = unpack::message(message) else { return Ok(None) };
        let mut reply = Reply::new("lk_enqueue", value)?;
        let Answer { claim, damaged, .. } = Answer::read(&mut reply)?;
        let count = claim.jobs.len() + damaged.len();
        self.bury(worker, &damaged).await;
        Ok(Some(HandedOver { epoch, claim, count }))
    }

    /// Records how attempts ended.
    ///
    /// # Errors
    /// As `settle_and_claim`.
    pub async fn settle(&self, worker: &WorkerIdentity, done: &[Settlement]) -> Result<Vec<Settled>> {
        let mut settled = Vec::with_capacity(done.len());
        for batch in done.chunks(MAX_BATCH) {
            let packed = Packed::new(batch);
            let call = self.call("lk_settle").arg(identity_blob(worker)).arg(packed.bytes.as_slice());
            let function = call.function();
            let mut reply = Reply::new(function, call.run().await?)?;
            let (_now, _version) = (reply.uint()?, reply.uint()?);
            let (letters, refusals) = (reply.bytes()?, reply.texts()?);
            settled.extend(packed.read(&reply, &letters, refusals)?);
        }
        Ok(settled)
    }

    /// Heartbeat: shows the worker alive and extends its leases by the policy's lease.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn extend(&self, worker: &WorkerInfo, held: &[Held]) -> Result<HeartbeatReply> {
        self.extend_telling(worker, held, &[]).await
    }

    /// A heartbeat that brings what handlers tell, each with the place of its job's lease in `held`; about [`MAX_NOTES`] bytes of
    /// it at most. What is told of a lease that is another's by now changes nothing.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn extend_telling(
        &self,
        worker: &WorkerInfo,
        held: &[Held],
        notes: &[(usize, Note)],
    ) -> Result<HeartbeatReply> {
        let identity = identity_blob(&worker.identity);
        let info = pack_info(worker);
        let mut all = HeartbeatReply::default();
        let (mut rest, mut from) = (held, 0);
        loop {
            let (now, later) = rest.split_at(rest.len().min(MAX_HELD));
            let told = pack_notes(notes, from..from + now.len());
            from += now.len();
            let call =
                self.call("lk_extend").arg(identity.as_slice()).arg(info.as_slice()).arg(pack_held(now));
            let call = if told.is_empty() { call } else { call.arg(told) };
            let function = call.function();
            let mut reply = Reply::new(function, call.run().await?)?;
            all.now_ms = reply.uint()?;
            all.policy_version = reply.uint()?;
            all.lost.extend(reply.texts()?);
            all.cancelled.extend(reply.texts()?);
            if reply.len() > 0 {
                all.handed = Some((reply.uint()?, reply.uint()?));
            }
            rest = later;
            if rest.is_empty() {
                return Ok(all);
            }
        }
    }

    /// The worker is gone: forget its heartbeat.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn leave(&self, worker: &WorkerIdentity) -> Result<()> {
        self.call("lk_leave").arg(identity_blob(worker)).run().await.map(|_: Value| ())
    }

    /// Hands a wake token on that was taken in vain (every slot was filled meanwhile): wakes another worker for those of the
    /// lanes in which something still waits.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn pass_on(&self, lanes: &[String]) -> Result<()> {
        if lanes.is_empty() {
            return Ok(());
        }
        self.call("lk_pass_on").arg(lanes).run().await.map(|_: Value| ())
    }

    /// The leases that this boot of the worker holds. After a claim whose answer was lost, those it knows nothing of are
    /// to be released: otherwise they cost their jobs a crash when they expire.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn leases_of(&self, worker: &WorkerIdentity) -> Result<Vec<Held>> {
        let mut found = std::collections::BTreeMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let call = self.read("lk_leases").arg(&worker.boot).arg(cursor);
            let function = call.function();
            let mut reply = Reply::new(function, call.run().await?)?;
            cursor = reply.text()?;
            while reply.len() > 0 {
                let (id, token, _since_ms) = (reply.text()?, reply.uint()?, reply.uint()?);
                found.insert(id, token);
            }
            if cursor == "0" {
                return Ok(found.into_iter().map(|(id, token)| Held { id, token }).collect());
            }
        }
    }

    /// Housekeeping: promotes due jobs, takes over expired leases, trims. At most 200 of each a call.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn sweep(&self, sweeper: &WorkerIdentity, limit: u32) -> Result<SweepReply> {
        let call = self.call("lk_sweep").arg(identity_blob(sweeper)).arg(limit.max(1));
        let function = call.function();
        let mut reply = Reply::new(function, call.run().await?)?;
        let mut sweep = SweepReply {
            now_ms: reply.uint()?,
            policy_version: reply.uint()?,
            rearmed: reply.uint()?,
            promoted: reply.uint()?,
            trimmed: reply.uint()?,
            more: reply.int()? != 0,
            expired: Vec::new(),
        };
        let token = reply.uint()?;
        let mut damaged = Vec::new();
        while reply.len() > 0 {
            let (id, lane, since_ms) = (reply.text()?, reply.text()?, reply.uint()?);
            let lease = Lease { id, token, lane, since_ms };
            let (lost_by, raw, past) = (reply.bytes()?, reply.bytes()?, reply.bytes()?);
            match lease.job(&raw, &past) {
                Ok(job) => {
                    let lost_by = identity_from(&lost_by).unwrap_or_else(unknown_worker);
                    sweep.expired.push(Expired { job, lost_by });
                }
                Err(lease) => damaged.push(lease),
            }
        }
        self.bury(sweeper, &damaged).await;
        Ok(sweep)
    }

    /// Ends leased jobs whose records this client cannot read among the dead letters: given back they would come round for
    /// ever. Where that fails their leases expire, and the next sweep tries again.
    async fn bury(&self, worker: &WorkerIdentity, damaged: &[Lease]) {
        if damaged.is_empty() {
            return;
        }
        let words: Vec<Settlement> = damaged
            .iter()
            .map(|lease| {
                tracing::error!(queue = %self.name(), id = lease.id, "the record of a job cannot be read: it goes to the dead letters");
                Settlement {
                    id: lease.id.clone(),
                    token: lease.token,
                    key: None,
                    note: None,
                    policy_version: 0,
                    outcome: Outcome::Dead {
                        reason: DeadReason::PermanentError,
                        error: AttemptError {
                            class: ErrorClass::Permanent,
                            code: "DamagedRecord".to_owned(),
                            message: "the job's record cannot be read".to_owned(),
                        },
                        spends: Spends::Nothing,
                    },
                }
            })
            .collect();
        if let Err(error) = self.settle(worker, &words).await {
            tracing::warn!(queue = %self.name(), %error, "damaged jobs could not be settled: a sweep will");
        }
    }
}

/// Stands for a worker whose identity cannot be read.
fn unknown_worker() -> WorkerIdentity {
    let unknown = || "unknown".to_owned();
    WorkerIdentity { name: unknown(), boot: unknown(), pool: String::new(), node: String::new() }
}

fn pack_request(want: &ClaimRequest) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    pack::array(&mut out, 5);
    pack::uint(&mut out, want.slots.into());
    pack::array(&mut out, want.lanes.len());
    for lane in &want.lanes {
        pack::bytes(&mut out, lane.as_bytes());
    }
    pack::map(&mut out, want.type_limits.len());
    for (name, limit) in &want.type_limits {
        pack::bytes(&mut out, name.as_bytes());
        pack::uint(&mut out, (*limit).into());
    }
    pack::uint(&mut out, u64::from(want.order == ClaimOrder::Deadline));
    pack::array(&mut out, want.shares.len());
    for share in &want.shares {
        pack::uint(&mut out, (*share).into());
    }
    out
}

fn pack_offer(offer: &Offer) -> Vec<u8> {
    let mut out = Vec::with_capacity(20);
    pack::array(&mut out, 3);
    for number in [u64::from(offer.stands), offer.epoch, offer.heard] {
        pack::uint(&mut out, number);
    }
    out
}

fn pack_held(held: &[Held]) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 * held.len() + 3);
    pack::array(&mut out, held.len());
    for lease in held {
        pack::array(&mut out, 2);
        pack::bytes(&mut out, lease.id.as_bytes());
        pack::uint(&mut out, lease.token);
    }
    out
}

/// The notes of leases in this range, each with its place there from 1; nothing where there are none.
fn pack_notes(notes: &[(usize, Note)], range: std::ops::Range<usize>) -> Vec<u8> {
    let mut out = Vec::new();
    let here: Vec<_> = notes.iter().filter(|(at, _)| range.contains(at)).collect();
    if here.is_empty() {
        return out;
    }
    pack::array(&mut out, here.len());
    for (at, note) in here {
        pack::array(&mut out, 2);
        pack::uint(&mut out, (at - range.start + 1) as u64);
        pack_note(&mut out, note);
    }
    out
}

/// The part of a heartbeat that only Rust reads: {identity, lanes, slots, busy, draining}.
fn pack_info(worker: &WorkerInfo) -> Vec<u8> {
    let WorkerInfo { identity, lanes, slots, busy, draining, seen_ms: _, started_ms: _ } = worker;
    rmp_serde::to_vec(&(
        (&identity.boot, &identity.name, &identity.pool, &identity.node),
        lanes,
        slots,
        busy,
        draining,
    ))
    .expect("strings and numbers can always be packed")
}

/// The other way round, for `stats`.
pub(crate) fn read_info(raw: &[u8], seen_ms: u64, started_ms: u64) -> Option<WorkerInfo> {
    let ((boot, name, pool, node), lanes, slots, busy, draining) = rmp_serde::from_slice(raw).ok()?;
    let identity = WorkerIdentity { name, boot, pool, node };
    Some(WorkerInfo { identity, lanes, slots, busy, draining, seen_ms, started_ms })
}
