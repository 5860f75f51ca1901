//! Settlements as bytes, and what the reply says of each.

use std::collections::{BTreeMap, HashSet};

use crate::error::Result;
use crate::pack;
use crate::types::{AttemptError, Holds, NewJob, Note, Outcome, Settled, Settlement, Spends};
use crate::wire::Reply;

/// Settlements as they are sent: successes without a result share one entry for all jobs of one token.
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    /// Which settlement each letter of the reply will be about.
    order: Vec<usize>,
}

impl Packed {
    /// What a reply says of each settlement, in the order in which they were given.
    pub(crate) fn read(&self, reply: &Reply, letters: &[u8], refusals: Vec<String>) -> Result<Vec<Settled>> {
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

    pub(crate) fn new(done: &[Settlement]) -> Self {
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
    let note = settlement.note.as_ref().filter(|note| kind != b's' && !note.is_empty());
    pack::array(out, fields + usize::from(note.is_some()));
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
    if let Some(note) = note {
        pack_note(out, note);
    }
}

/// Progress or an empty list, and a list of the checkpoint or none.
pub(crate) fn pack_note(out: &mut Vec<u8>, note: &Note) {
    pack::array(out, 2);
    match &note.progress {
        Some(told) => {
            pack::array(out, 4);
            pack::uint(out, told.done);
            pack::uint(out, told.total.unwrap_or_default());
            pack::bytes(out, told.unit.as_bytes());
            pack::bytes(out, told.message.as_bytes());
        }
        None => pack::array(out, 0),
    }
    pack::array(out, note.checkpoint.iter().len());
    if let Some(left) = &note.checkpoint {
        pack::bytes(out, left);
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
