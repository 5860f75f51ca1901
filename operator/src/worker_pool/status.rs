//! What the operator reports of a pool. Everything but the write is pure.

use k8s_openapi::api::apps::v1::Deployment;
use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_api::validate::PoolPlan;
use lanekeeper_api::worker_pool::{ScalingMode, WorkerPoolStatus};

use crate::autoscale::view::PoolView;
use crate::autoscale::{LimitedBy, Reason};
use crate::kubernetes::conditions::{self, Says, kind, reason};
use crate::kubernetes::status::{age, same_conditions};
use crate::kubernetes::time::meta_time;
use crate::kubernetes::{names, pods};
use crate::platform::Observed;

/// What a run found out.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// Why the pool does not do what it says: reason and message, the first that was met.
    pub obstacle: Option<(String, String)>,
    /// The pool in plain figures; absent where the spec cannot work.
    pub plan: Option<&'a PoolPlan>,
    /// Its queue's policy, where that is known.
    pub policy: Option<&'a QueuePolicy>,
    /// Its Deployment, as the cache shows it.
    pub deployment: Option<&'a Deployment>,
    /// Its workers, as the caches show them.
    pub observed: Option<&'a Observed>,
    /// What the autoscaler last saw and decided.
    pub view: Option<&'a PoolView>,
    /// Why the autoscaler cannot read the queue.
    pub unreadable: Option<String>,
    /// Time a worker takes to start, before any has been measured, ms.
    pub startup_prior_ms: u64,
}

/// The new status.
#[must_use]
pub fn status(
    pool: &str,
    old: Option<&WorkerPoolStatus>,
    facts: &Facts<'_>,
    generation: i64,
    wall_ms: u64,
) -> WorkerPoolStatus {
    let before = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let deployed = facts.deployment.and_then(|deployment| deployment.status.as_ref());
    let view = facts.view;
    WorkerPoolStatus {
        conditions: conditions::merge(before, &says(facts), generation, wall_ms),
        observed_generation: Some(generation),
        replicas: deployed.and_then(|status| status.replicas).unwrap_or(0),
        desired: desired(facts).and_then(|desired| i32::try_from(desired).ok()),
        ready: facts.observed.and_then(|seen| i32::try_from(seen.ready).ok()),
        busy: view.map(|view| view.busy),
        oldest: view.and_then(|view| view.oldest_age_ms).map(age),
        oldest_seconds: view.and_then(|view| view.oldest_age_ms).map(|ms| ms / 1000),
        reason: why(facts).map(|reason| reason.as_str().to_owned()),
        selector: Some(selector(pool)),
        last_scale_time: view
            .and_then(|view| view.last_scale_ms)
            .map(meta_time)
            .or_else(|| old.and_then(|old| old.last_scale_time.clone())),
    }
}

/// Whether people, or whoever reads `/scale`, would act differently on the new status.
#[must_use]
pub fn means_something_else(old: Option<&WorkerPoolStatus>, new: &WorkerPoolStatus) -> bool {
    let Some(old) = old else { return true };
    let meaning = |status: &WorkerPoolStatus| {
        (
            status.observed_generation,
            status.replicas,
            status.desired,
            status.ready,
            status.reason.clone(),
            status.selector.clone(),
        )
    };
    !same_conditions(&old.conditions, &new.conditions) || meaning(old) != meaning(new)
}

/// Whether workers are coming or going, so that the next look should be soon.
#[must_use]
pub fn is_moving(facts: &Facts<'_>) -> bool {
    facts.observed.is_some_and(|seen| seen.replicas != seen.ready || !seen.problems.is_empty())
}

fn selector(pool: &str) -> String {
    let labels = names::selector(pool);
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn desired(facts: &Facts<'_>) -> Option<u32> {
    let plan = facts.plan?;
    match plan.scaling.mode {
        ScalingMode::Manual => Some(plan.replicas),
        ScalingMode::Auto => facts.view?.decision.as_ref().map(|decision| decision.replicas),
    }
}

fn why(facts: &Facts<'_>) -> Option<Reason> {
    match facts.plan?.scaling.mode {
        ScalingMode::Manual => Some(Reason::Manual),
        ScalingMode::Auto => facts.view?.decision.as_ref().map(|decision| decision.reason),
    }
}

/// The conditions, in the order they are shown.
#[must_use]
pub fn says(facts: &Facts<'_>) -> Vec<Says> {
    let mut said = vec![ready(facts), progressing(facts)];
    if let Some(plan) = facts.plan {
        said.push(scaling_active(plan, facts));
        said.push(scaling_limited(plan, facts));
        if let Some(policy) = facts.policy {
            said.push(promise(plan, policy, facts));
        }
    }
    said
}

fn ready(facts: &Facts<'_>) -> Says {
    if let Some((reason, message)) = &facts.obstacle {
        return Says::new(kind::READY, false, reason.clone(), message.clone());
    }
    let problems = facts.observed.map(|seen| seen.problems.as_slice()).unwrap_or_default();
    if !problems.is_empty() {
        return Says::new(kind::READY, false, reason::PODS_FAILING, pods::sentence(problems));
    }
    Says::new(kind::READY, true, reason::AS_EXPECTED, "")
}

fn progressing(facts: &Facts<'_>) -> Says {
    let Some(seen) = facts.observed else {
        return Says::new(kind::PROGRESSING, facts.obstacle.is_none(), reason::APPLYING, "");
    };
    let rolling = facts.deployment.is_some_and(is_rolling);
    if !seen.problems.is_empty() {
        return Says::new(kind::PROGRESSING, true, reason::PODS_FAILING, pods::sentence(&seen.problems));
    }
    if rolling || seen.replicas != seen.ready || seen.terminating > 0 {
        return Says::new(kind::PROGRESSING, true, reason::ROLLING, "workers are starting or going");
    }
    Says::new(kind::PROGRESSING, false, reason::COMPLETE, "")
}

fn is_rolling(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return true };
    let replicas = status.replicas.unwrap_or(0);
    status.observed_generation < deployment.metadata.generation
        || status.updated_replicas.unwrap_or(0) < replicas
}

fn scaling_active(plan: &PoolPlan, facts: &Facts<'_>) -> Says {
    let says =
        |active: bool, reason: &str, message: &str| Says::new(kind::SCALING_ACTIVE, active, reason, message);
    if plan.scaling.mode == ScalingMode::Manual {
        return says(false, reason::MANUAL, "scaling.mode is Manual: spec.replicas counts");
    }
    if let Some(error) = &facts.unreadable {
        let message = format!("the queue cannot be read, so replicas stay as they are: {error}");
        return says(false, reason::REDIS_UNREACHABLE, &message);
    }
    match facts.view {
        Some(PoolView { error: Some(error), .. }) => says(false, reason::REFUSED, error),
        Some(PoolView { decision: Some(_), .. }) => {
            says(true, reason::AUTOSCALING, "replicas follow the load")
        }
        _ => says(false, reason::NOT_STARTED, "the autoscaler has not looked at this pool yet"),
    }
}

fn scaling_limited(plan: &PoolPlan, facts: &Facts<'_>) -> Says {
    let limit = facts.view.and_then(|view| view.decision.as_ref()).and_then(|decision| decision.limited_by);
    match limit {
        Some(LimitedBy::MaxReplicas) => {
            let message =
                format!("the load asks for more workers than scaling.maxReplicas ({})", plan.scaling.max);
            Says::new(kind::SCALING_LIMITED, true, reason::MAX_REPLICAS, message)
        }
        Some(LimitedBy::MinReplicas) => {
            let message =
                format!("the load asks for fewer workers than scaling.minReplicas ({})", plan.scaling.min);
            Says::new(kind::SCALING_LIMITED, true, reason::MIN_REPLICAS, message)
        }
        // The others hold for a moment, by design; they show in status.reason.
        _ => Says::new(kind::SCALING_LIMITED, false, reason::WITHIN_BOUNDS, ""),
    }
}

/// From zero replicas the first job waits for a worker to start: a promise below that cannot be kept.
fn promise(plan: &PoolPlan, policy: &QueuePolicy, facts: &Facts<'_>) -> Says {
    let startup = facts.view.map_or(facts.startup_prior_ms, |view| view.startup_ms.max(1));
    let from_zero = plan.scaling.mode == ScalingMode::Auto && plan.scaling.min == 0;
    let tightest =
        plan.lanes.iter().filter_map(|lane| policy.lane(lane)).min_by_key(|lane| lane.start_within_ms);
    match tightest {
        Some(lane) if from_zero && lane.start_within_ms < startup => {
            let message = format!(
                "a worker takes about {}s to start and lane {} promises {}: set scaling.minReplicas to 1 or more, or a \
                 longer startWithin",
                startup.div_ceil(1000),
                lane.name,
                age(lane.start_within_ms)
            );
            Says::new(kind::PROMISE_AT_RISK, true, reason::STARTS_TOO_SLOWLY, message)
        }
        _ => Says::new(kind::PROMISE_AT_RISK, false, reason::PROMISE_HOLDS, ""),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lanekeeper_api::policy::{LanePolicy, Source};
    use lanekeeper_api::validate::ScalingPlan;
    use lanekeeper_api::worker_pool::LaneOrder;
    use serde_json::json;

    use super::*;
    use crate::autoscale::Decision;
    use crate::kubernetes::conditions::Status;
    use crate::platform::{Problem, ProblemKind};

    fn plan(mode: ScalingMode) -> PoolPlan {
        PoolPlan {
            namespace: "apps".to_owned(),
            name: "p".to_owned(),
            queue: "apps/saas".to_owned(),
            lanes: vec!["slow".to_owned(), "fast".to_owned()],
            order: LaneOrder::Strict,
            weights: vec![1, 1],
            concurrency: 1,
            scaling: ScalingPlan {
                mode,
                min: 0,
                max: 4,
                oldest_age_ms: None,
                depth_per_replica: None,
                idle_after_ms: 1,
            },
            replicas: 3,
            drain_timeout_ms: None,
        }
    }

    fn policy() -> QueuePolicy {
        QueuePolicy {
            queue: "apps/saas".to_owned(),
            source: Source { owner: "o".to_owned(), uid: "u".to_owned(), created_ms: 0, generation: 1 },
            paused: false,
            closed: None,
            max_payload: 1,
            capacity: None,
            lease_ms: 1,
            lanes: vec![LanePolicy::new("fast", 5_000), LanePolicy::new("slow", 60_000)],
            job_types: BTreeMap::new(),
        }
    }

    fn decided(replicas: u32, limited_by: Option<LimitedBy>) -> PoolView {
        let decision =
            Decision { replicas, reason: Reason::Backlog, message: "m".to_owned(), limited_by, terms: None };
        PoolView { decision: Some(decision), startup_ms: 12_300, ..PoolView::default() }
    }

    fn condition(facts: &Facts<'_>, kind: &str) -> Says {
        says(facts).into_iter().find(|says| says.kind == kind).unwrap()
    }

    #[test]
    fn an_idle_pool_is_ready() {
        let (plan, policy, observed) = (plan(ScalingMode::Auto), policy(), Observed::default());
        let facts =
            Facts { plan: Some(&plan), policy: Some(&policy), observed: Some(&observed), ..Facts::default() };
        assert_eq!(condition(&facts, kind::READY).status, Status::True);
        assert_eq!(condition(&facts, kind::PROGRESSING).status, Status::False);
        assert_eq!(condition(&facts, kind::SCALING_ACTIVE).reason, reason::NOT_STARTED);
    }

    #[test]
    fn a_promise_below_the_start_up_time_is_at_risk_with_the_figures() {
        let (plan, policy, view) = (plan(ScalingMode::Auto), policy(), decided(0, None));
        let facts = Facts { plan: Some(&plan), policy: Some(&policy), view: Some(&view), ..Facts::default() };
        let says = condition(&facts, kind::PROMISE_AT_RISK);
        assert_eq!(says.status, Status::True);
        assert!(
            says.message.contains("13s") && says.message.contains("fast promises 5s"),
            "{}",
            says.message
        );
        let mut kept = plan.clone();
        kept.scaling.min = 1;
        let facts = Facts { plan: Some(&kept), ..facts };
        assert_eq!(condition(&facts, kind::PROMISE_AT_RISK).status, Status::False);
    }

    #[test]
    fn the_limit_is_named() {
        let (plan, view) = (plan(ScalingMode::Auto), decided(4, Some(LimitedBy::MaxReplicas)));
        let facts = Facts { plan: Some(&plan), view: Some(&view), ..Facts::default() };
        let says = condition(&facts, kind::SCALING_LIMITED);
        assert_eq!((says.status, says.reason.as_str()), (Status::True, reason::MAX_REPLICAS));
        assert!(says.message.contains("(4)"));
    }

    #[test]
    fn manual_replicas_are_the_users() {
        let plan = plan(ScalingMode::Manual);
        let facts = Facts { plan: Some(&plan), ..Facts::default() };
        let status = status("p", None, &facts, 1, 0);
        assert_eq!((status.desired, status.reason.as_deref()), (Some(3), Some("Manual")));
        assert_eq!(condition(&facts, kind::SCALING_ACTIVE).reason, reason::MANUAL);
    }

    #[test]
    fn failing_pods_are_shown_with_their_words() {
        let plan = plan(ScalingMode::Auto);
        let problem = Problem {
            worker: "p-1".to_owned(),
            kind: ProblemKind::ImagePull,
            message: "container worker ErrImagePull".to_owned(),
        };
        let observed = Observed { replicas: 1, problems: vec![problem], ..Observed::default() };
        let facts = Facts { plan: Some(&plan), observed: Some(&observed), ..Facts::default() };
        for kind in [kind::READY, kind::PROGRESSING] {
            let says = condition(&facts, kind);
            assert_eq!(says.reason, reason::PODS_FAILING);
            assert!(says.message.contains("ErrImagePull"));
        }
        assert!(is_moving(&facts));
    }

    #[test]
    fn an_unreadable_queue_freezes_visibly() {
        let (plan, view) = (plan(ScalingMode::Auto), decided(2, None));
        let facts = Facts {
            plan: Some(&plan),
            view: Some(&view),
            unreadable: Some("refused".to_owned()),
            ..Facts::default()
        };
        assert_eq!(condition(&facts, kind::SCALING_ACTIVE).reason, reason::REDIS_UNREACHABLE);
    }

    #[test]
    fn replicas_and_selector_serve_the_scale_subresource() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"generation": 2},
            "status": {"replicas": 3, "updatedReplicas": 3, "observedGeneration": 2}
        }))
        .unwrap();
        let facts = Facts { deployment: Some(&deployment), ..Facts::default() };
        let status = status("p", None, &facts, 1, 0);
        assert_eq!(status.replicas, 3);
        assert_eq!(
            status.selector.as_deref(),
            Some("app.kubernetes.io/instance=p,app.kubernetes.io/name=lanekeeper-worker")
        );
    }

    #[test]
    fn a_figure_is_no_change_of_meaning() {
        let busy = |busy| WorkerPoolStatus { busy: Some(busy), ..WorkerPoolStatus::default() };
        assert!(!means_something_else(Some(&busy(1)), &busy(2)));
        let more = WorkerPoolStatus { replicas: 1, ..busy(1) };
        assert!(means_something_else(Some(&busy(1)), &more));
    }
}
