//! The worker's side: claim, settle, extend, sweep.

use std::collections::{BTreeMap, HashSet};

use redis::Value;

use crate::client::Queue;
use crate::error::Result;
use crate::pack;
use crate::record::{identity_blob, identity_from, split};
use crate::types::ClaimReply;
use crate::types::{
    AttemptError, ClaimOrder, ClaimRequest, Claimed, DeadReason, ErrorClass, Expired, HeartbeatReply, Held,
    Holds, NewJob, Outcome, Settled, Settlement, Spends, SweepReply, WorkerIdentity, WorkerInfo,
};
use crate::wire::Reply;

/// Most settlements, and most claimed jobs, of one call.
pub const MAX_BATCH: usize = 200;
/// Most leases extended by one call.
const MAX_HELD: usize = 1000;

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
        let function = call.function();
        let mut reply = Reply::new(function, call.run().await?)?;
        let mut claim = ClaimReply {
            now_ms: reply.uint()?,
            policy_version: reply.uint()?,
            next_due_ms: reply.maybe_uint()?,
            held: reply.maybe_text()?,
            jobs: Vec::new(),
        };
        let letters = reply.bytes()?;
        let token = reply.uint()?;
        let refusals = reply.texts()?;
        settled.extend(packed.read(&reply, &letters, refusals)?);
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
        self.bury(worker, &damaged).await;
        Ok((settled, claim))
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
        let identity = identity_blob(&worker.identity);
        let info = pack_info(worker);
        let mut all = HeartbeatReply::default();
        let mut rest = held;
        loop {
            let (now, later) = rest.split_at(rest.len().min(MAX_HELD));
            let call =
                self.call("lk_extend").arg(identity.as_slice()).arg(info.as_slice()).arg(pack_held(now));
            let function = call.function();
            let mut reply = Reply::new(function, call.run().await?)?;
            all.now_ms = reply.uint()?;
            all.policy_version = reply.uint()?;
            all.lost.extend(reply.texts()?);
            all.cancelled.extend(reply.texts()?);
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

/// What a reply says of a leased job beside its record.
struct Lease {
    id: String,
    token: u64,
    lane: String,
    since_ms: u64,
}

impl Lease {
    /// The job with its record, or the lease back when the record cannot be read.
    fn job(self, raw: &[u8], past: &[u8]) -> std::result::Result<Claimed, Self> {
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
            job_type: record.job_type().to_owned(),
        })
    }
}

/// Stands for a worker whose identity cannot be read.
fn unknown_worker() -> WorkerIdentity {
    let unknown = || "unknown".to_owned();
    WorkerIdentity { name: unknown(), boot: unknown(), pool: String::new(), node: String::new() }
}

/// Settlements as they are sent: successes without a result share one entry for all jobs of one token.
struct Packed {
    bytes: Vec<u8>,
    /// Which settlement each letter of the reply will be about.
    order: Vec<usize>,
}

impl Packed {
    /// What a reply says of each settlement, in the order in which they were given.
    fn read(&self, reply: &Reply, letters: &[u8], refusals: Vec<String>) -> Result<Vec<Settled>> {
        if letters.len() != self.order.len() {
            return Err(reply.wrong(&format!(
                "it has {} letters for {} jobs",
                letters.len(),
                self.order.len()
            )));
        }
        let mut refusals = refusals.into_iter();
        let mut settled = vec![Settled::Stale; letters.len()];
        for (letter, at) in letters.iter().zip(&self.order) {
            settled[*at] = match letter {
                b'd' => Settled::Done,
                b'f' => Settled::Refused { why: refusals.next().unwrap_or_default() },
                _ => Settled::Stale,
            };
        }
        Ok(settled)
    }

    fn new(done: &[Settlement]) -> Self {
        let mut alike: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
        let mut others = Vec::new();
        // Of two words on one job the first counts: a later one may not overtake it.
        let mut said = HashSet::new();
        for (at, settlement) in done.iter().enumerate() {
            let first = said.insert(settlement.id.as_str());
            match &settlement.outcome {
                Outcome::Success { result, follow_ups }
                    if first && result.is_empty() && follow_ups.is_empty() =>
                {
                    alike.entry((settlement.token, settlement.policy_version)).or_default().push(at);
                }
                _ => others.push(at),
            }
        }
        let mut packed = Self { bytes: Vec::new(), order: Vec::with_capacity(done.len()) };
        if done.is_empty() {
            return packed;
        }
        packed.bytes.reserve(32 * done.len());
        pack::array(&mut packed.bytes, alike.len() + others.len());
        for ((token, version), members) in &alike {
            packed.successes(*token, *version, members, done);
        }
        for at in others {
            pack_settlement(&mut packed.bytes, &done[at]);
            packed.order.push(at);
        }
        packed
    }

    fn successes(&mut self, token: u64, version: u64, members: &[usize], done: &[Settlement]) {
        let out = &mut self.bytes;
        let keyed = members.iter().any(|at| done[*at].key.is_some());
        pack::array(out, if keyed { 6 } else { 5 });
        pack::array(out, members.len());
        for at in members {
            pack::bytes(out, done[*at].id.as_bytes());
        }
        pack::uint(out, token);
        pack::uint(out, version);
        pack::bytes(out, b"s");
        pack::bytes(out, b"");
        if keyed {
            pack::array(out, members.len());
            for at in members {
                pack::bytes(out, done[*at].key.as_deref().unwrap_or_default().as_bytes());
            }
        }
        self.order.extend(members);
    }
}

fn pack_settlement(out: &mut Vec<u8>, settlement: &Settlement) {
    let (kind, fields) = match &settlement.outcome {
        Outcome::Success { .. } => (b's', 7),
        Outcome::Retry { .. } => (b'r', 9),
        Outcome::Dead { .. } => (b'x', 9),
        Outcome::Release { .. } => (b'l', 5),
        Outcome::Snooze { .. } => (b'z', 7),
    };
    pack::array(out, fields);
    pack::bytes(out, settlement.id.as_bytes());
    pack::uint(out, settlement.token);
    pack::uint(out, settlement.policy_version);
    pack::bytes(out, &[kind]);
    match &settlement.outcome {
        Outcome::Success { result, follow_ups } => {
            pack::bytes(out, result);
            pack::bytes(out, settlement.key.as_deref().unwrap_or_default().as_bytes());
            pack::bytes(out, &pack_follow_ups(follow_ups));
        }
        Outcome::Retry { delay_ms, spends, error } => {
            pack::uint(out, *delay_ms);
            pack_error(out, *spends, error);
        }
        Outcome::Dead { reason, error, spends } => {
            pack::bytes(out, reason.name().as_bytes());
            pack_error(out, *spends, error);
        }
        Outcome::Release { why } => pack::bytes(out, why.as_bytes()),
        Outcome::Snooze { delay_ms, why, holds } => {
            pack::uint(out, *delay_ms);
            pack::bytes(out, why.as_bytes());
            pack::bytes(
                out,
                match holds {
                    Holds::Job => b"j",
                    Holds::Key => b"k",
                    Holds::Lane => b"l",
                },
            );
        }
    }
}

/// Options as JSON and payload of each; nothing where there are none.
fn pack_follow_ups(jobs: &[NewJob]) -> Vec<u8> {
    let mut out = Vec::new();
    if jobs.is_empty() {
        return out;
    }
    pack::array(&mut out, jobs.len());
    for job in jobs {
        let options = serde_json::to_vec(&job.options).expect("strings and numbers can always be written");
        pack::array(&mut out, 2);
        pack::bytes(&mut out, &options);
        pack::bytes(&mut out, &job.payload);
    }
    out
}

fn pack_error(out: &mut Vec<u8>, spends: Spends, error: &AttemptError) {
    pack::bytes(
        out,
        match spends {
            Spends::Try => b"t",
            Spends::Crash => b"c",
            Spends::Nothing => b"n",
        },
    );
    pack::bytes(out, error.class.name().as_bytes());
    pack::bytes(out, error.code.as_bytes());
    pack::bytes(out, error.message.as_bytes());
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
