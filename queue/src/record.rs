//! Records, leases and identities as bytes: the Rust side of `lua/record.lua`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_bytes::ByteBuf;

use crate::types::{Attempt, AttemptError, DeadReason, ErrorClass, WorkerIdentity};

/// The header of a record. Fields missing at the end have their defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) job_type: String,
    pub(crate) enqueued_ms: u64,
    pub(crate) priority: u8,
    /// Due time less the enqueue time. Older libraries wrote it below zero after the clock went back.
    due_after_ms: i64,
    pub(crate) key: String,
    /// Name, value, name, value …
    meta: Vec<String>,
    pub(crate) tries: u32,
    pub(crate) crashes: u32,
    pub(crate) attempts: u32,
    /// From when age counts, where not from the enqueue.
    counts_from_ms: u64,
    history: Vec<Entry>,
    pub(crate) dropped: u32,
    pub(crate) state: u8,
    pub(crate) finished_ms: u64,
    reason: String,
    pub(crate) result: ByteBuf,
}

/// One finished attempt. The last three are absent where nothing went wrong.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    number: u32,
    started_ms: u64,
    ended_ms: u64,
    // Texts of people and programs: bytes that are not UTF-8 must not make the record unreadable.
    worker: ByteBuf,
    node: ByteBuf,
    token: u64,
    policy_version: u64,
    outcome: String,
    class: String,
    code: ByteBuf,
    message: ByteBuf,
}

/// A record taken apart; none when the bytes are damaged.
pub(crate) fn split(raw: &[u8]) -> Option<(Header, &[u8])> {
    let mut reader = std::io::Cursor::new(raw);
    let header: Header = rmp_serde::from_read(&mut reader).ok()?;
    let at = usize::try_from(reader.position()).ok()?;
    (header.version == 1).then(|| (header, &raw[at..]))
}

impl Header {
    pub(crate) fn due_ms(&self) -> u64 {
        self.enqueued_ms.saturating_add_signed(self.due_after_ms)
    }

    /// From when age counts: the enqueue, the time for which a delayed job was asked, or the last replay.
    pub(crate) fn accepted_ms(&self) -> u64 {
        let asked_ms = if self.attempts == 0 { self.due_ms() } else { 0 };
        self.enqueued_ms.max(self.counts_from_ms).max(asked_ms)
    }

    pub(crate) fn meta(&self) -> BTreeMap<String, String> {
        self.meta.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }

    pub(crate) fn key(&self) -> Option<String> {
        (!self.key.is_empty()).then(|| self.key.clone())
    }

    pub(crate) fn dead_reason(&self) -> Option<DeadReason> {
        DeadReason::from_name(&self.reason)
    }

    pub(crate) fn history(&self) -> Vec<Attempt> {
        self.history.iter().map(Entry::attempt).collect()
    }
}

impl Entry {
    fn attempt(&self) -> Attempt {
        let class = match self.class.as_str() {
            "transient" => Some(ErrorClass::Transient),
            "permanent" => Some(ErrorClass::Permanent),
            "ambiguous" => Some(ErrorClass::Ambiguous),
            _ => None,
        };
        Attempt {
            number: self.number,
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            worker: text(&self.worker),
            node: text(&self.node),
            token: self.token,
            policy_version: self.policy_version,
            outcome: self.outcome.clone(),
            error: class.map(|class| AttemptError {
                class,
                code: text(&self.code),
                message: text(&self.message),
            }),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A lease's own fields; the identity of its holder follows.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseHeader {
    pub(crate) token: u64,
    pub(crate) since_ms: u64,
    #[serde(rename = "type")]
    _type: String,
}

pub(crate) fn split_lease(raw: &[u8]) -> Option<(LeaseHeader, WorkerIdentity)> {
    let mut reader = std::io::Cursor::new(raw);
    let lease: LeaseHeader = rmp_serde::from_read(&mut reader).ok()?;
    let at = usize::try_from(reader.position()).ok()?;
    Some((lease, identity_from(&raw[at..])?))
}

/// The identity blob `{boot, name, pool, node}`.
pub(crate) fn identity_blob(who: &WorkerIdentity) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    crate::pack::array(&mut out, 4);
    for part in [&who.boot, &who.name, &who.pool, &who.node] {
        crate::pack::bytes(&mut out, part.as_bytes());
    }
    out
}

pub(crate) fn identity_from(raw: &[u8]) -> Option<WorkerIdentity> {
    let (boot, name, pool, node) = rmp_serde::from_slice(raw).ok()?;
    Some(WorkerIdentity { name, boot, pool, node })
}
