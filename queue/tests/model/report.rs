//! What people read of a run: how often what happened, and why it failed.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use lanekeeper_queue::testing::model::{Damage, Op, Reply};
use lanekeeper_queue::types::{ClaimReply, Configured, Enqueued, Job, Settled};

use crate::drive::{Divergence, Step};

/// Most lines of a difference that are shown.
const MOST_LINES: usize = 60;

/// How often each kind of reply was seen.
#[derive(Default)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    pub fn merge(&mut self, other: Self) {
        other.0.iter().for_each(|(what, count)| self.add(what, *count));
    }

    pub fn note(&mut self, op: &Op, reply: &Reply) {
        self.add(name(op), 1);
        self.reply(reply);
    }

    fn reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Telling(reply, told) => {
                self.reply(reply);
                self.add("message of jobs", told.len() as u64);
                self.add("job handed over", told.iter().map(|(_, handed)| handed.count as u64).sum());
            }
            Reply::Enqueued(outcomes) => outcomes.iter().for_each(|outcome| match outcome {
                Enqueued::Accepted { .. } => self.add("job accepted", 1),
                Enqueued::Replaced { .. } => self.add("job replaced", 1),
                Enqueued::Duplicate { .. } => self.add("job duplicate", 1),
                Enqueued::Rejected { reason, .. } => self.add(&format!("job {reason}"), 1),
            }),
            Reply::Worked(settled, claim) => {
                self.settled(settled);
                self.add("claimed", claim.jobs.len() as u64);
            }
            Reply::Settled(settled) => self.settled(settled),
            Reply::Extended(reply) => {
                self.add("lease lost", reply.lost.len() as u64);
                self.add("heard of an offer", reply.handed.is_some().into());
            }
            Reply::Swept(sweep) => {
                self.add("lease expired", sweep.expired.len() as u64);
                self.add("lease re-armed", sweep.rearmed);
                self.add("job promoted", sweep.promoted);
                self.add("job trimmed", sweep.trimmed);
            }
            Reply::Acted(all) => all.iter().for_each(|one| self.add(&format!("job {}", one.outcome), 1)),
            Reply::Jobs(jobs) => {
                let long = jobs.iter().flatten().filter(|job| job.history_dropped > 0);
                self.add("long history", long.count() as u64);
            }
            Reply::Configured(outcome) => self.add(
                match outcome {
                    Configured::Applied { .. } => "policy applied",
                    Configured::Unchanged { .. } => "policy unchanged",
                    Configured::Stale { .. } => "policy stale",
                    Configured::Foreign { .. } => "policy foreign",
                },
                1,
            ),
            Reply::NoPolicy => self.add("no policy", 1),
            Reply::Toggled(lanes) => {
                self.add("pause changed", lanes.iter().filter(|lane| lane.changed).count() as u64);
            }
            Reply::Standing(Some(standing)) => {
                self.add("key standing", 1);
                self.add("key held", standing.held_until_ms.is_some().into());
                self.add(
                    "key at its limit",
                    standing.limit.is_some_and(|most| standing.running >= most).into(),
                );
                self.add("key at its rate", standing.rate_opens_ms.is_some().into());
            }
            Reply::Stats(stats) => {
                stats.gates.iter().for_each(|closed| self.add(&format!("closed {:?}", closed.gate), 1));
            }
            _ => {}
        }
    }

    fn settled(&mut self, settled: &[Settled]) {
        for one in settled {
            let what = match one {
                Settled::Done => "settled",
                Settled::Stale => "settled stale",
                Settled::Refused { .. } => "follow-ups refused",
            };
            self.add(what, 1);
        }
    }

    fn add(&mut self, what: &str, by: u64) {
        *self.0.entry(what.to_owned()).or_default() += by;
    }

    /// A long run in which something never happened tests less than it says.
    pub fn check(&self, ops: u64) {
        let must = [
            "job accepted",
            "job duplicate",
            "job unknown-type",
            "job payload-too-large",
            "job invalid-options",
            "job key-field",
            "claimed",
            "settled",
            "settled stale",
            "lease lost",
            "lease expired",
            "lease re-armed",
            "job promoted",
            "job trimmed",
            "job cancelled",
            "job cancelling",
            "job replayed",
            "job acknowledged",
            "job discarded",
            "job wrong-state",
            "job not-found",
            "policy applied",
            "policy unchanged",
            "policy stale",
            "policy foreign",
            "no policy",
            "job replaced",
            "job key-conflict",
            "follow-ups refused",
            "pause changed",
            "key standing",
            "key at its limit",
            "loss of a key",
            "loss of an entry",
            "job handed over",
            "heard of an offer",
        ];
        let never: Vec<_> = must.iter().filter(|what| self.0.get(**what).is_none_or(|n| *n == 0)).collect();
        assert!(ops < 10_000 || never.is_empty(), "in {ops} operations there never was: {never:?}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(what, count)| format!("{what} {count}")).collect();
        f.write_str(&parts.join(", "))
    }
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Enqueue(_) => "enqueue",
        Op::Work { .. } => "settle_and_claim",
        Op::Settle { .. } => "settle",
        Op::Extend { .. } => "extend",
        Op::Leave(_) => "leave",
        Op::PassOn(_) => "pass_on",
        Op::LeasesOf(_) => "leases_of",
        Op::Sweep { .. } => "sweep",
        Op::Configure { .. } => "configure",
        Op::Policy => "policy",
        Op::Stats => "stats",
        Op::Get { .. } => "get",
        Op::Find(_) => "find",
        Op::DeadList { .. } => "dead_list",
        Op::DeadGroups(_) => "dead_groups",
        Op::Position(_) => "position",
        Op::Standing(_) => "key_standing",
        Op::Cancel { .. } => "cancel",
        Op::Replay { .. } => "dead_replay",
        Op::Acknowledge { .. } => "dead_ack",
        Op::Discard { .. } => "dead_discard",
        Op::Edit { .. } => "dead_edit",
        Op::Pause { .. } => "pause",
        Op::Resume(_) => "resume",
        Op::Destroy => "destroy",
        Op::Subscribe(_) => "subscribe",
        Op::Unsubscribe(_) => "unsubscribe",
        Op::Damage(Damage::Key(_)) => "loss of a key",
        Op::Damage(Damage::Entry(..)) => "loss of an entry",
        Op::Damage(Damage::Lease(_)) => "loss of a lease",
        Op::Damage(Damage::Card(_)) => "garbled card",
    }
}

/// The operation on one line; of policies what a reader needs.
pub fn describe(op: &Op) -> String {
    let Op::Configure { policy, adopt } = op else { return shorten(&format!("{op:?}")) };
    let types: Vec<String> = policy
        .job_types
        .iter()
        .map(|(name, t)| {
            let (keep, for_ms) = (t.completed.keep, t.completed.for_ms);
            let conflict = format!("{:?} {:?} {:?}", t.on_conflict, t.debounce, t.on_dead);
            format!(
                "{name}@{} p{} keyFor {} keep {keep} for {for_ms} {conflict}{}",
                t.lane,
                t.priority,
                t.key_for_ms,
                t.concurrency_key.as_ref().map(|key| format!(" {key:?}")).unwrap_or_default()
            )
        })
        .collect();
    let lanes: Vec<String> = policy
        .lanes
        .iter()
        .map(|lane| format!("{} {:?} {:?} {:?}", lane.name, lane.concurrency, lane.rate_limit, lane.circuit))
        .collect();
    format!(
        "Configure {{ source: {:?}, adopt: {adopt}, paused: {}, closed: {:?}, lease_ms: {}, max_payload: {}, lanes: {lanes:?}, \
         types: {types:?} }}",
        policy.source, policy.paused, policy.closed, policy.lease_ms, policy.max_payload
    )
}

/// Lists of bytes as text, and long runs of one character cut.
fn shorten(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) =
        rest.find("payload: [").map(|at| at + 9).or_else(|| rest.find("result: [").map(|at| at + 8))
    {
        let end = rest[at..].find(']').map_or(rest.len(), |end| at + end);
        let bytes: Vec<u8> = rest[at + 1..end].split(", ").filter_map(|n| n.parse().ok()).collect();
        out.push_str(&rest[..at]);
        out.push_str(&format!("b{:?}", bytes.escape_ascii().to_string()));
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    out.push_str(rest);
    let (mut short, mut run, mut last) = (String::new(), 0, None);
    for each in out.chars() {
        run = if Some(each) == last && !each.is_ascii_digit() { run + 1 } else { 0 };
        last = Some(each);
        match run {
            0..4 => short.push(each),
            4 => short.push('…'),
            _ => {}
        }
    }
    short
}

/// The failure for people.
pub fn failure(seed: u64, case: u64, steps: &[Step], divergence: &Divergence) -> String {
    let mut out = format!(
        "library and model diverge: seed {seed}, case {case}; {} operations are enough:\n",
        steps.len()
    );
    for step in steps {
        let _ = writeln!(out, "  {step}");
    }
    let _ = writeln!(out, "in the reply to\n  {}", describe(&divergence.op));
    out + &difference(&divergence.expected, &divergence.found)
}

/// How the replies differ.
fn difference(expected: &Reply, found: &Reply) -> String {
    if let (Reply::Worked(settled, model), Reply::Worked(others, library)) = (expected, found)
        && settled == others
    {
        let taken = |claim: &ClaimReply| {
            let jobs =
                claim.jobs.iter().map(|job| format!("\n    {} {} of {}", job.id, job.token, job.job_type));
            format!(
                "{}\n    next due {:?}, held {:?}",
                jobs.collect::<String>(),
                claim.next_due_ms,
                claim.held
            )
        };
        let (model, library) = (taken(model), taken(library));
        if model != library {
            return format!("the model hands out{model}\nthe library{library}\n");
        }
    }
    let (Reply::Found(expected_jobs), Reply::Found(found_jobs)) = (expected, found) else {
        return lines(expected, found);
    };
    let ids = |jobs: &[Job]| jobs.iter().map(|job| job.id.clone()).collect::<Vec<_>>();
    let (a, b) = (ids(expected_jobs), ids(found_jobs));
    if a == b {
        return lines(expected, found);
    }
    let lacks = |of: &[String], other: &[String]| -> Vec<String> {
        of.iter().filter(|id| !other.contains(id)).cloned().collect()
    };
    let (missing, more) = (lacks(&a, &b), lacks(&b, &a));
    format!(
        "the model has {} jobs, the library {}; not found: {missing:?}; found, but not expected: {more:?}\n\
         in order: model {a:?}\n       library {b:?}\n",
        a.len(),
        b.len()
    )
}

/// The lines in which the replies differ.
fn lines(expected: &Reply, found: &Reply) -> String {
    let (expected, found) = (format!("{expected:#?}"), format!("{found:#?}"));
    let (expected, found): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let alike = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let tail = expected[alike..].iter().rev().zip(found[alike..].iter().rev());
    let same_end = tail.take_while(|(a, b)| a == b).count();
    let mut out = String::new();
    let from = alike.saturating_sub(8);
    for (sign, lines, start) in
        [(' ', &expected[..alike], from), ('-', &expected[..], alike), ('+', &found[..], alike)]
    {
        let end = if sign == ' ' { alike } else { lines.len() - same_end };
        for line in lines[start..end].iter().take(MOST_LINES) {
            let _ = writeln!(out, "{sign} {line}");
        }
    }
    format!("(- the model, + the library)\n{out}")
}
