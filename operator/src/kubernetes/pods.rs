//! What Pods show: readiness, being on the way out, and what keeps them from coming up. Pure.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateWaiting, ContainerStatus, Pod, PodCondition};

use crate::platform::{Problem, ProblemKind};

/// A container that is not ready after so many restarts keeps dying.
const RESTARTS: i32 = 3;

/// Counts and problems of one pool's pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Ready and staying.
    pub ready: u32,
    /// On their way out.
    pub terminating: u32,
    /// What keeps pods from coming up, one per pod, by pod name.
    pub problems: Vec<Problem>,
}

/// Sums up the pods of one pool.
pub fn summarise<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Summary {
    let mut summary = Summary::default();
    for pod in pods {
        if is_finished(pod) {
            continue;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            summary.terminating += 1;
        } else if is_ready(pod) {
            summary.ready += 1;
        } else if let Some(problem) = problem(pod) {
            summary.problems.push(problem);
        }
    }
    summary.problems.sort_by(|a, b| a.worker.cmp(&b.worker));
    summary
}

/// The problems in one sentence: kinds with counts, and the words of the first. Empty where there are none.
#[must_use]
pub fn sentence(problems: &[Problem]) -> String {
    let Some(first) = problems.first() else { return String::new() };
    let mut kinds: Vec<(ProblemKind, usize)> = Vec::new();
    for problem in problems {
        match kinds.iter_mut().find(|(kind, _)| *kind == problem.kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((problem.kind, 1)),
        }
    }
    let counts: Vec<String> =
        kinds.iter().map(|(kind, count)| format!("{count} × {}", kind.as_str())).collect();
    format!("{}; pod {}: {}", counts.join(", "), first.worker, first.message)
}

/// A pod that takes part: `Ready` and not being deleted.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// A pod whose containers have ended for good.
#[must_use]
pub fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// What keeps this pod from coming up, if anything is known.
fn problem(pod: &Pod) -> Option<Problem> {
    let worker = pod.metadata.name.clone().unwrap_or_default();
    if let Some(scheduled) = condition(pod, "PodScheduled")
        && scheduled.status == "False"
        && scheduled.reason.as_deref() == Some("Unschedulable")
    {
        let message = scheduled.message.clone().unwrap_or_else(|| "no node fits".to_owned());
        return Some(Problem { worker, kind: ProblemKind::Unschedulable, message });
    }
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().chain(status.container_statuses.iter()).flatten();
    containers.filter_map(container_problem).next().map(|(kind, message)| Problem { worker, kind, message })
}

fn container_problem(status: &ContainerStatus) -> Option<(ProblemKind, String)> {
    // Between two waits a container that keeps dying runs for a moment: that is no recovery.
    let last = status.last_state.as_ref().and_then(last_end);
    if let Some(last) = last.filter(|_| !status.ready && status.restart_count >= RESTARTS) {
        let message = format!("container {} restarted {} times{last}", status.name, status.restart_count);
        return Some((ProblemKind::CrashLoop, message));
    }
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let kind = match waiting.reason.as_deref()? {
        "ImagePullBackOff"
        | "ErrImagePull"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "ImageInspectError"
        | "RegistryUnavailable" => ProblemKind::ImagePull,
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            ProblemKind::CannotStart
        }
        "CrashLoopBackOff" => ProblemKind::CrashLoop,
        _ => return None,
    };
    Some((kind, describe(status, waiting)))
}

fn describe(status: &ContainerStatus, waiting: &ContainerStateWaiting) -> String {
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let said = waiting.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    let ended = status.last_state.as_ref().and_then(last_end).unwrap_or_default();
    format!("container {} {reason}{said}{ended}", status.name)
}

fn last_end(state: &ContainerState) -> Option<String> {
    let ended = state.terminated.as_ref()?;
    let why = ended.reason.as_deref().unwrap_or("ended");
    Some(format!(" (last: {why}, exit code {})", ended.exit_code))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name}, "status": status})).unwrap()
    }

    fn waiting(reason: &str) -> Value {
        json!({"phase": "Pending", "containerStatuses": [{
            "name": "worker", "ready": false, "restartCount": 1, "image": "i", "imageID": "",
            "state": {"waiting": {"reason": reason, "message": "its words"}},
            "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}]})
    }

    #[test]
    fn every_known_cause_has_its_kind() {
        let cases = [
            ("ImagePullBackOff", Some(ProblemKind::ImagePull)),
            ("CreateContainerConfigError", Some(ProblemKind::CannotStart)),
            ("CrashLoopBackOff", Some(ProblemKind::CrashLoop)),
            ("ContainerCreating", None),
        ];
        for (reason, kind) in cases {
            let summary = summarise([&pod("a", waiting(reason))]);
            assert_eq!(summary.problems.first().map(|p| p.kind), kind, "{reason}");
        }
    }

    #[test]
    fn a_container_that_keeps_dying_is_not_well_while_it_runs() {
        let running = |restarts: i32| {
            json!({"phase": "Running", "containerStatuses": [{"name": "worker", "ready": false, "image": "i",
                "imageID": "", "restartCount": restarts, "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]})
        };
        assert!(summarise([&pod("a", running(2))]).problems.is_empty());
        let problem = summarise([&pod("a", running(3))]).problems.remove(0);
        assert_eq!(problem.kind, ProblemKind::CrashLoop);
        assert!(problem.message.contains("OOMKilled, exit code 137"), "{}", problem.message);
    }

    #[test]
    fn an_unschedulable_pod_says_the_schedulers_words() {
        let status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available: insufficient memory."}]});
        let summary = summarise([&pod("a", status)]);
        assert_eq!(summary.problems[0].kind, ProblemKind::Unschedulable);
        assert!(sentence(&summary.problems).contains("insufficient memory"));
    }

    #[test]
    fn pods_on_their_way_out_are_neither_ready_nor_a_problem() {
        let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        let mut going = pod("b", ready.clone());
        going.metadata.deletion_timestamp = Some(super::super::time::meta_time(0));
        let finished = pod("c", json!({"phase": "Failed"}));
        let summary = summarise([&pod("a", ready), &going, &finished]);
        assert_eq!(summary, Summary { ready: 1, terminating: 1, problems: vec![] });
    }

    #[test]
    fn the_sentence_counts_kinds_and_quotes_the_first() {
        let pods = [pod("b", waiting("CrashLoopBackOff")), pod("a", waiting("CrashLoopBackOff"))];
        let said = sentence(&summarise(&pods).problems);
        assert_eq!(
            said,
            "2 × CrashLoop; pod a: container worker CrashLoopBackOff: its words (last: Error, exit code 3)"
        );
    }
}
