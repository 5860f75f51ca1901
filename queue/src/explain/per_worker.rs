//! Types of which as many jobs run as `perWorker` lets their workers run.

use super::words::count;
use super::{Cause, Explanation, Scene};
use crate::types::TypeStats;

/// Of a job type of the lane.
pub(super) fn of_type(job_type: &str, lane: &str, subject: &str, scene: &Scene<'_>) -> Option<Explanation> {
    let stats = scene.types_in(lane).find(|stats| stats.name == job_type)?;
    Some(told(subject, reached(stats, lane, scene)?))
}

/// Of every type of the lane of which jobs wait: what else is there goes.
pub(super) fn of_lane(lane: &str, scene: &Scene<'_>) -> Option<Explanation> {
    let waiting = scene.types_in(lane).filter(|stats| stats.ready > 0);
    let sentences: Option<Vec<String>> = waiting.map(|stats| reached(stats, lane, scene)).collect();
    let mut sentences = sentences?.into_iter();
    let mut found = told(lane, sentences.next()?);
    found.also.extend(sentences);
    Some(found)
}

fn told(subject: &str, sentence: String) -> Explanation {
    Explanation::new(Cause::TypeAtPerWorker, subject, sentence).advice(
        "Raise `spec.jobTypes[].perWorker` of that type if a worker can bear more, or let the pool have more workers.",
    )
}

/// That the type's workers run as many of it as they may.
fn reached(stats: &TypeStats, lane: &str, scene: &Scene<'_>) -> Option<String> {
    let most = scene.policy.job_types.get(&stats.name)?.per_worker?;
    // Draining ones too, whose jobs are counted among those that run: never said while one may still have room.
    let workers = scene.workers_of(lane).len() as u64;
    let room = workers.saturating_mul(most.into());
    (workers > 0 && stats.running >= room).then(|| {
        let (running, name) = (count(stats.running, "job"), &stats.name);
        let workers = count(workers, "worker");
        format!("Type {name} is at its perWorker of {most}: {running} of it running in {workers}.")
    })
}
