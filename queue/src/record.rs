//! Records, leases and identities as bytes: the Rust side of `lua/record.lua`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_bytes::ByteBuf;

use crate::types::{Attempt, AttemptError, DeadReason, ErrorClass, ProgressTold, WorkerIdentity};

/// What was enqueued. Fields missing at the end have their defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Enqueued {
    version: u32,
    job_type: String,
    enqueued_ms: u64,
    priority: u8,
    /// Due time asked for, less the enqueue time.
    asked_after_ms: u64,
    key: String,
    /// Name, value, name, value …
    meta: Vec<String>,
    /// The first payload, where a replay brought another.
    original: Vec<ByteBuf>,
}

/// What became of it since. Fields missing at the end have their defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Past {
    version: u32,
    _state: u8,
    /// Present due time; 0 while it is the one asked for.
    due_ms: u64,
    tries: u32,
    crashes: u32,
    attempts: u32,
    /// Time of the last replay.
    counts_from_ms: u64,
    history: Vec<Entry>,
    dropped: u32,
    finished_ms: u64,
    reason: String,
    result: ByteBuf,
}

/// A job's record and its past.
#[derive(Debug)]
pub(crate) struct Record {
    record: Enqueued,
    past: Past,
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

/// A record and a past (empty: none yet) taken apart, and the payload; none when either is damaged.
pub(crate) fn split<'a>(raw: &'a [u8], past: &[u8]) -> Option<(Record, &'a [u8])> {
    let mut reader = std::io::Cursor::new(raw);
    let record: Enqueued = rmp_serde::from_read(&mut reader).ok()?;
    let at = usize::try_from(reader.position()).ok()?;
    let past = match past {
        [] => Past { version: 1, ..Past::default() },
        bytes => rmp_serde::from_slice(bytes).ok()?,
    };
    (record.version == 1 && past.version == 1).then(|| (Record { record, past }, &raw[at..]))
}

impl Record {
    pub(crate) fn job_type(&self) -> &str {
        &self.record.job_type
    }

    pub(crate) fn enqueued_ms(&self) -> u64 {
        self.record.enqueued_ms
    }

    pub(crate) fn priority(&self) -> u8 {
        self.record.priority
    }

    pub(crate) fn tries(&self) -> u32 {
        self.past.tries
    }

    pub(crate) fn crashes(&self) -> u32 {
        self.past.crashes
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.past.attempts
    }

    fn asked_ms(&self) -> u64 {
        self.record.enqueued_ms.saturating_add(self.record.asked_after_ms)
    }

    pub(crate) fn due_ms(&self) -> u64 {
        if self.past.due_ms > 0 { self.past.due_ms } else { self.asked_ms() }
    }

    /// From when age counts: the due time asked for with the enqueue, or the last replay.
    pub(crate) fn accepted_ms(&self) -> u64 {
        self.asked_ms().max(self.past.counts_from_ms)
    }

    pub(crate) fn meta(&self) -> BTreeMap<String, String> {
        self.record.meta.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }

    pub(crate) fn key(&self) -> Option<String> {
        (!self.record.key.is_empty()).then(|| self.record.key.clone())
    }

    pub(crate) fn original(&self) -> Option<&[u8]> {
        self.record.original.first().map(|payload| payload.as_slice())
    }

    pub(crate) fn finished_ms(&self) -> Option<u64> {
        (self.past.finished_ms > 0).then_some(self.past.finished_ms)
    }

    pub(crate) fn dead_reason(&self) -> Option<DeadReason> {
        DeadReason::from_name(&self.past.reason)
    }

    pub(crate) fn history(&self) -> Vec<Attempt> {
        self.past.history.iter().map(Entry::attempt).collect()
    }

    pub(crate) fn history_dropped(&self) -> u32 {
        self.past.dropped
    }

    pub(crate) fn result(&self) -> Option<String> {
        let result = &self.past.result;
        (!result.is_empty()).then(|| String::from_utf8_lossy(result).into_owned())
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

/// The fields of a lease that clients see.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseRecord {
    pub(crate) token: u64,
    pub(crate) since_ms: u64,
    _type: String,
    holder: ByteBuf,
    _marks: u8,
    pub(crate) cancel: Asked,
    _lost_token: u64,
    _lost_by: ByteBuf,
}

/// Who asked for a cancellation: 0 nobody, 1 someone, or a name.
#[derive(Debug, Default)]
pub(crate) struct Asked(pub(crate) Option<String>);

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Asked;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number or a name")
            }

            fn visit_u64<E>(self, value: u64) -> Result<Asked, E> {
                Ok(Asked((value > 0).then(|| "someone".to_owned())))
            }

            fn visit_str<E>(self, value: &str) -> Result<Asked, E> {
                Ok(Asked(Some(value.to_owned())))
            }

            fn visit_bytes<E>(self, value: &[u8]) -> Result<Asked, E> {
                Ok(Asked(Some(text(value))))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Progress as it is stored; none when the bytes are none.
pub(crate) fn read_progress(raw: &[u8]) -> Option<ProgressTold> {
    if raw.is_empty() {
        return None;
    }
    let (told_ms, done, total, unit, message): (u64, u64, u64, String, String) =
        rmp_serde::from_slice(raw).ok()?;
    Some(ProgressTold { done, total: (total > 0).then_some(total), unit, message, told_ms })
}

/// A lease and who holds it; none when the bytes are none.
pub(crate) fn read_lease(raw: &[u8]) -> Option<(LeaseRecord, WorkerIdentity)> {
    let lease: LeaseRecord = rmp_serde::from_slice(raw).ok()?;
    let holder = identity_from(&lease.holder)?;
    Some((lease, holder))
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
