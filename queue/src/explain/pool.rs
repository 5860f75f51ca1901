//! Why a pool has the workers it has.

use super::lane::gated;
use super::slots::usage;
use super::words::{count, first_line};
use super::{Cause, Explanation, PodProblem, PoolView, Scene};

/// Explains a pool.
#[must_use]
pub fn pool(name: &str, scene: &Scene<'_>) -> Explanation {
    let Some(pool) = scene.pools.unwrap_or_default().iter().find(|pool| pool.name == name) else {
        return Explanation::new(
            Cause::Unknown,
            name,
            format!("There is no pool {name} of queue {}.", scene.policy.queue),
        );
    };
    if let Some(found) = trouble(pool, name) {
        return found;
    }
    let waiting: u64 = pool.lanes.iter().flat_map(|lane| scene.types_in(lane)).map(|t| t.ready).sum();
    let workers: Vec<_> = scene.stats.workers.iter().filter(|worker| worker.identity.pool == name).collect();
    let (busy, slots) = usage(&workers, scene);
    let reason = if pool.reason.is_empty() { String::new() } else { format!(" ({})", pool.reason) };
    let state = format!(
        "Pool {name} has {} ready of {} wanted{reason}; {busy} of {slots} slots are busy, {waiting} due jobs wait in its lanes.",
        pool.ready, pool.desired,
    );
    // More workers do not help where every lane with due jobs is held back.
    let mut waiting_lanes =
        pool.lanes.iter().filter(|lane| scene.types_in(lane).any(|t| t.ready > 0)).peekable();
    if waiting_lanes.peek().is_some() && pool.ready >= pool.desired {
        let gates: Option<Vec<Explanation>> = waiting_lanes.map(|lane| gated(lane, name, scene)).collect();
        let mut gates = gates.into_iter().flatten();
        if let Some(mut found) = gates.next() {
            found.sentence = format!("{state} {}", found.sentence);
            let more =
                gates.map(|other| other.sentence).filter(|other| !found.sentence.ends_with(other.as_str()));
            found.also.extend(more.collect::<Vec<_>>());
            return found;
        }
    }
    let cause = match () {
        () if pool.ready < pool.desired => Cause::PoolStarting,
        () if waiting > 0 && pool.desired == 0 => Cause::PoolAtZero,
        () if waiting > 0 && slots > 0 && busy >= slots && pool.desired >= pool.max => Cause::PoolAtMax,
        () if waiting > 0 && slots > 0 && busy >= slots => Cause::SlotsBusy,
        () if busy > 0 || waiting > 0 => Cause::Working,
        () => Cause::Idle,
    };
    let found = Explanation::new(cause, name, state);
    match cause {
        Cause::PoolAtMax => found
            .advice("Raise `scaling.maxReplicas` or `concurrency`, or find out why its jobs take so long."),
        _ => found,
    }
}

/// What keeps pods of the pool from working, if anything does.
pub(super) fn trouble(pool: &PoolView, subject: &str) -> Option<Explanation> {
    let failing = pool.pods.iter().filter(|pod| pod.problem.is_some()).count();
    let pod = pool.pods.iter().find(|pod| pod.problem.is_some())?;
    let problem = pod.problem?;
    let (cause, what, advice) = match problem {
        PodProblem::Unschedulable => (
            Cause::PodsUnschedulable,
            "no node takes",
            "Lower the template's requests, loosen its nodeSelector or affinity, or add nodes.",
        ),
        PodProblem::ImagePull => (
            Cause::PodsFailing,
            "the image cannot be pulled for",
            "Check `template.image` and `imagePullSecrets`.",
        ),
        PodProblem::CrashLoop => (
            Cause::PodsFailing,
            "the worker ends again and again in",
            "Read the logs of that pod's previous container.",
        ),
        PodProblem::Config => (
            Cause::PodsFailing,
            "something that the template names is missing for",
            "Create what the message names, or take it out of the template.",
        ),
        PodProblem::Other => (Cause::PodsFailing, "something is wrong with", "Look at the pod's events."),
    };
    let others = if failing > 1 { format!(" (and {} more)", failing - 1) } else { String::new() };
    let sentence = format!(
        "Pool {} has {} ready of {} wanted: {what} pod {}{others}: {}.",
        pool.name,
        count(pool.ready.into(), "replica"),
        pool.desired,
        pod.name,
        first_line(&pod.message).trim_end_matches('.'),
    );
    Some(Explanation::new(cause, subject, sentence).advice(advice))
}
