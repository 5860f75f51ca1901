//! Why the jobs of a type wait that the policy does not have.

use super::words::{count, duration};
use super::{Cause, Explanation, Scene};

/// Explains a type that no lane claims; none where the queue has no job of such a type that could still run.
#[must_use]
pub fn orphans(job_type: &str, scene: &Scene<'_>) -> Option<Explanation> {
    let stats = scene.types_in("").find(|stats| stats.name == job_type)?;
    let waiting = stats.ready + stats.scheduled;
    if waiting + stats.running + stats.dead == 0 {
        return None;
    }
    let age = stats.oldest_due_ms.map_or_else(String::new, |due| {
        format!(", the oldest for {}", duration(scene.stats.now_ms.saturating_sub(due)))
    });
    let sentence = format!(
        "{} of type {job_type} {}{age}, {} running, {}; queue {} has no such job type any more.",
        count(waiting, "job"),
        if waiting == 1 { "waits" } else { "wait" },
        stats.running,
        count(stats.dead, "dead letter"),
        scene.policy.queue,
    );
    Some(Explanation::new(Cause::UnknownType, job_type, sentence).advice(
        "Nothing of it starts until the JobQueue has the job type again; `lanekeeper cancel JOB` ends a job that waits.",
    ))
}
