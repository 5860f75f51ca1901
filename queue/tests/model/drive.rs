//! One case: a fresh queue, and operations applied to the library and to the model.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use lanekeeper_queue::testing::model::{Given, Model, Op, Order, Reply};
use lanekeeper_queue::types::{DeadFilter, Find, JobState, ReviewState, WorkerIdentity};

use crate::bench::{BIRTH_US, Bench, EARLIEST_US};
use crate::ops::Generator;
use crate::report::Tally;

/// The order within lanes that the library has.
const ORDER: Order = Order::Ageing;
/// Operations between two comparisons of the whole state.
const CHECK_EVERY: usize = 80;
/// Most ids of jobs that are gone in such a comparison.
const GONE_IDS: usize = 30;

/// An operation and when it happens.
#[derive(Debug, Clone)]
pub struct Step {
    pub at_us: u64,
    pub op: Op,
}

/// A reply that is not the model's.
#[derive(Debug, Clone)]
pub struct Divergence {
    /// The call: the last step, or one of the comparison after it.
    pub op: Op,
    pub expected: Reply,
    pub found: Reply,
}

pub struct Case {
    pub steps: Vec<Step>,
    pub divergence: Option<Divergence>,
}

/// Runs a generated case of at most `most` operations.
pub async fn run_case(bench: &mut Bench, seed: u64, case: u64, most: u64, tally: &mut Tally) -> Case {
    bench.reset().await;
    let mut generator = Generator::new(seed, case);
    let mut model = Model::new(ORDER);
    let (mut steps, mut at_us) = (Vec::new(), BIRTH_US);
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(generator.length());
    while steps.len() < length {
        at_us = generator.next_us(&model, at_us);
        let op = generator.op(&model, at_us / 1_000);
        if !foreseen(&model, &op, at_us / 1_000) {
            continue;
        }
        steps.push(Step { at_us, op });
        let step = steps.last().expect("pushed a moment ago");
        let hurt = matches!(step.op, Op::Damage(_));
        let mut divergence = apply(bench, &mut model, step, Some(tally)).await.err();
        if divergence.is_none() && (steps.len() % CHECK_EVERY == 0 || steps.len() == length || hurt) {
            divergence = compare(bench, &mut model, at_us).await.err();
        }
        if divergence.is_some() {
            return Case { steps, divergence };
        }
    }
    Case { steps, divergence: None }
}

/// Runs given steps, comparing the whole state after each of the last ones and now and then before; how many steps it took
/// to diverge, and how they did.
pub async fn rerun(bench: &Bench, steps: &[Step]) -> Option<(usize, Divergence)> {
    bench.reset().await;
    let mut model = Model::new(ORDER);
    let often = steps.len() <= 60;
    for (at, step) in steps.iter().enumerate() {
        let now_ms = step.at_us / 1_000;
        if !foreseen(&model, &step.op, now_ms) {
            continue;
        }
        if let Err(divergence) = apply(bench, &mut model, step, None).await {
            return Some((at + 1, divergence));
        }
        let hurt = matches!(step.op, Op::Damage(_));
        let due = often || hurt || (at + 1) % CHECK_EVERY == 0 || at + 1 == steps.len();
        if due && let Err(divergence) = compare(bench, &mut model, step.at_us).await {
            return Some((at + 1, divergence));
        }
    }
    None
}

fn foreseen(model: &Model, op: &Op, now_ms: u64) -> bool {
    match op {
        Op::Sweep { limit, .. } => model.foresees_sweep(*limit, now_ms),
        // A shorter run may do it where it was not on offer.
        Op::Damage(damage) => model.is_calm(now_ms * 1_000) && model.damages().contains(damage),
        // A lane that is not there is an error of the call.
        Op::Pause { lanes, .. } | Op::Resume(lanes) => {
            let policy = model.present_policy();
            policy.is_some_and(|policy| lanes.iter().all(|lane| policy.lane(lane).is_some()))
        }
        _ => true,
    }
}

async fn apply(
    bench: &Bench,
    model: &mut Model,
    step: &Step,
    tally: Option<&mut Tally>,
) -> Result<(), Divergence> {
    bench.set_clock(step.at_us).await;
    let expected = one(bench, model, &step.op, step.at_us).await.map_err(|d| *d)?;
    if let Some(tally) = tally {
        tally.note(&step.op, &expected);
    }
    Ok(())
}

async fn one(bench: &Bench, model: &mut Model, op: &Op, now_us: u64) -> Result<Reply, Box<Divergence>> {
    let found = bench.call(op).await;
    let groups = bench.groups_of(&model.open_jobs()).await;
    let forgotten = bench.classless(&model.unsure_classes()).await;
    let given = Given::of(&found).with_groups(groups).with_forgotten(forgotten);
    let expected = model.apply(op, now_us, &given);
    if expected == found {
        Ok(expected)
    } else {
        Err(Box::new(Divergence { op: op.clone(), expected, found }))
    }
}

/// Compares all that callers can see.
async fn compare(bench: &Bench, model: &mut Model, now_us: u64) -> Result<(), Divergence> {
    let now_ms = now_us / 1_000;
    let holders: Vec<WorkerIdentity> = model.leases().map(|(_, _, holder)| holder.clone()).take(3).collect();
    let standing = model.jobs_in(None, now_ms);
    let stands: BTreeSet<&String> = standing.iter().collect();
    let mut gone: Vec<String> = model.known_ids().filter(|id| !stands.contains(id)).cloned().collect();
    drop(gone.drain(..gone.len().saturating_sub(GONE_IDS)));
    let ready = model.jobs_in(Some(JobState::Ready), now_ms);
    let keys: Vec<String> = model.keys().into_iter().cloned().collect();
    let mut ops = vec![
        Op::Stats,
        Op::Policy,
        Op::Find(Find { limit: 200, ..Find::default() }),
        Op::DeadList { filter: DeadFilter::default(), limit: 200 },
        Op::DeadGroups(DeadFilter::default()),
        Op::DeadGroups(DeadFilter { state: Some(ReviewState::Discarded), ..DeadFilter::default() }),
    ];
    ops.extend(
        [standing, gone]
            .into_iter()
            .filter(|ids: &Vec<String>| !ids.is_empty())
            .map(|ids| Op::Get { ids: ids.into_iter().take(400).collect(), with_payload: false }),
    );
    ops.extend(holders.into_iter().map(Op::LeasesOf));
    ops.extend(ready.iter().step_by(1 + ready.len() / 4).cloned().map(Op::Position));
    ops.extend(
        keys.iter()
            .step_by(1 + keys.len() / 4)
            .cloned()
            .map(|key| Op::Find(Find { key: Some(key), limit: 1, ..Find::default() })),
    );
    let keyed = model.keyed_jobs();
    ops.extend(keyed.iter().step_by(1 + keyed.len() / 6).cloned().map(Op::Standing));
    for op in ops {
        one(bench, model, &op, now_us).await.map(drop).map_err(|d| *d)?;
    }
    if let Some(found) = bench.misplaced(&model.keyed_types()).await {
        return Err(Divergence { op: Op::Stats, expected: Reply::Done, found });
    }
    for lane in model.waiting_lanes() {
        if let Some(found) = bench.sleepers(&lane).await {
            return Err(Divergence { op: Op::PassOn(vec![lane]), expected: Reply::Done, found });
        }
    }
    Ok(())
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = Duration::from_micros(self.at_us - EARLIEST_US).as_secs_f64() * 1_000.0;
        write!(f, "{ms:.3} ms  {}", crate::report::describe(&self.op))
    }
}
