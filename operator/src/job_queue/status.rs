//! What the operator reports of a queue. Everything but the write is pure.

use lanekeeper_api::job_queue::{JobQueueStatus, LaneStatus};
use lanekeeper_queue::client::Safety;
use lanekeeper_queue::types::{Configured, LaneStats, Stats};

use super::gates;
use super::validate::Invalid;
use crate::kubernetes::conditions::{self, Says, Status, kind, reason};
use crate::kubernetes::status::{age, same_conditions};

/// What a run found out.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// What is wrong with the spec.
    pub invalid: Option<Invalid>,
    /// `spec.paused`; absent where the spec cannot be read.
    pub paused: Option<bool>,
    /// What became of Redis.
    pub redis: Redis,
}

/// What became of Redis.
#[derive(Debug, Clone, PartialEq)]
pub enum Redis {
    /// It was not tried, or is not known: reason and message.
    Unknown(&'static str, String),
    /// It could not be reached.
    Unreachable(String),
    /// It answered.
    Reached(Box<Reached>),
}

/// What a Redis that answers showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Reached {
    /// Whether it may lose jobs.
    pub safety: Safety,
    /// The spec, or the operator, accepts that.
    pub allow_unsafe: bool,
    /// Something that could not be done: reason and message.
    pub failed: Option<(&'static str, String)>,
    /// What became of the policy; absent: none was written.
    pub configured: Option<Configured>,
    /// Figures; absent where they could not be read.
    pub stats: Option<Stats>,
}

/// The new status.
#[must_use]
pub fn status(
    name: &str,
    old: Option<&JobQueueStatus>,
    facts: &Facts,
    generation: i64,
    wall_ms: u64,
) -> JobQueueStatus {
    let before = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let mut status = JobQueueStatus {
        conditions: conditions::merge(before, &says(name, facts), generation, wall_ms),
        observed_generation: Some(generation),
        policy_version: old.and_then(|old| old.policy_version),
        ..JobQueueStatus::default()
    };
    if let Redis::Reached(reached) = &facts.redis {
        if let Some(Configured::Applied { version } | Configured::Unchanged { version }) = reached.configured
        {
            status.policy_version = Some(version);
        }
        if let Some(stats) = &reached.stats {
            figures(&mut status, stats);
        }
    }
    status
}

/// Whether people would act differently on the new status.
#[must_use]
pub fn means_something_else(old: Option<&JobQueueStatus>, new: &JobQueueStatus) -> bool {
    let Some(old) = old else { return true };
    let waits = |status: &JobQueueStatus| status.depth.map(|depth| depth > 0);
    !same_conditions(&old.conditions, &new.conditions)
        || old.observed_generation != new.observed_generation
        || old.policy_version != new.policy_version
        || waits(old) != waits(new)
        || old.dead.is_some_and(|dead| dead == 0) != new.dead.is_some_and(|dead| dead == 0)
}

/// The conditions, in the order they are shown.
#[must_use]
pub fn says(name: &str, facts: &Facts) -> Vec<Says> {
    let mut said = vec![ready(name, facts), reachable(&facts.redis), safe(&facts.redis), progressing(facts)];
    let stats = match &facts.redis {
        Redis::Reached(reached) => reached.stats.as_ref(),
        Redis::Unknown(..) | Redis::Unreachable(_) => None,
    };
    said.extend(facts.paused.map(|by_spec| gates::paused(name, by_spec, stats)));
    said.push(gates::held(stats));
    said.push(gates::full(stats));
    said
}

fn ready(name: &str, facts: &Facts) -> Says {
    let no = |reason: &str, message: String| Says::new(kind::READY, false, reason, message);
    if let Some(invalid) = &facts.invalid {
        let message = format!("{}. The last good policy, if there was one, stays in force", invalid.message);
        return no(invalid.reason, message);
    }
    let reached = match &facts.redis {
        Redis::Unknown(reason, message) => return no(reason, message.clone()),
        Redis::Unreachable(message) => return no(reason::REDIS_UNREACHABLE, message.clone()),
        Redis::Reached(reached) => reached,
    };
    if let Some((reason, message)) = &reached.failed {
        return no(reason, message.clone());
    }
    match &reached.configured {
        Some(Configured::Foreign { owner }) => no(
            reason::FOREIGN_OWNER,
            format!(
                "the policy of {name} in this Redis is managed by {owner:?}: delete it there, or take it over with \
                 `lanekeeper adopt {name}`"
            ),
        ),
        Some(Configured::Stale { generation }) => no(
            reason::NEWER_POLICY,
            format!(
                "Redis holds a newer policy of {name} (generation {generation}): this one is out of date"
            ),
        ),
        None => no(reason::UNKNOWN, "no policy has been written yet".to_owned()),
        Some(Configured::Applied { version } | Configured::Unchanged { version }) => {
            match (&reached.safety, reached.allow_unsafe) {
                (Safety::Unsafe { why }, false) => no(reason::REDIS_UNSAFE, closed_message(why)),
                _ => Says::new(
                    kind::READY,
                    true,
                    reason::POLICY_APPLIED,
                    format!("policy version {version} is in force"),
                ),
            }
        }
    }
}

fn closed_message(why: &str) -> String {
    format!(
        "this Redis may lose jobs, so none is started: {why}. Correct that, or set spec.redis.allowUnsafe"
    )
}

fn reachable(redis: &Redis) -> Says {
    match redis {
        Redis::Unknown(reason, message) => {
            Says::new(kind::REDIS_REACHABLE, Status::Unknown, *reason, message.clone())
        }
        Redis::Unreachable(message) => {
            Says::new(kind::REDIS_REACHABLE, false, reason::REDIS_UNREACHABLE, message.clone())
        }
        Redis::Reached(_) => Says::new(kind::REDIS_REACHABLE, true, reason::REDIS_ANSWERS, ""),
    }
}

fn safe(redis: &Redis) -> Says {
    let Redis::Reached(reached) = redis else {
        let message = "Redis could not be asked";
        return Says::new(kind::REDIS_SAFE, Status::Unknown, reason::UNKNOWN, message);
    };
    match &reached.safety {
        Safety::Safe => {
            Says::new(kind::REDIS_SAFE, true, reason::REDIS_SAFE, "jobs are persisted and never evicted")
        }
        Safety::Unsafe { why } if reached.allow_unsafe => {
            let message = format!("{why}. The spec, or the operator, accepts that jobs may be lost");
            Says::new(kind::REDIS_SAFE, false, reason::REDIS_UNSAFE_ALLOWED, message)
        }
        Safety::Unsafe { why } => {
            Says::new(kind::REDIS_SAFE, false, reason::REDIS_UNSAFE, closed_message(why))
        }
        Safety::Unknown { why } => Says::new(
            kind::REDIS_SAFE,
            Status::Unknown,
            reason::UNKNOWN,
            format!("whether this Redis may lose jobs cannot be seen ({why}): check it yourself"),
        ),
    }
}

/// True while the operator itself will try again; an invalid spec waits for a person.
fn progressing(facts: &Facts) -> Says {
    let ready = ready("", facts);
    let retried = match ready.reason.as_str() {
        _ if ready.status == Status::True || facts.invalid.is_some() => false,
        reason::FOREIGN_OWNER | reason::NEWER_POLICY | reason::REDIS_UNSAFE => false,
        _ => true,
    };
    if retried {
        Says::new(kind::PROGRESSING, true, ready.reason, "trying again")
    } else {
        Says::new(kind::PROGRESSING, false, reason::COMPLETE, "")
    }
}

fn figures(status: &mut JobQueueStatus, stats: &Stats) {
    let lanes: Vec<LaneStatus> = stats.lanes.iter().map(|lane| lane_figures(lane, stats.now_ms)).collect();
    let oldest = stats.lanes.iter().filter_map(oldest_due).min().map(|due| stats.now_ms.saturating_sub(due));
    status.depth = Some(lanes.iter().map(|lane| lane.depth).sum());
    status.running = Some(lanes.iter().map(|lane| lane.running).sum());
    status.dead = Some(stats.dead);
    status.oldest = oldest.map(age);
    status.oldest_seconds = oldest.map(|ms| ms / 1000);
    // Types that no lane claims stand under an empty name, which a status cannot show.
    status.lanes = lanes.into_iter().filter(|lane| !lane.name.is_empty()).collect();
}

fn lane_figures(lane: &LaneStats, now_ms: u64) -> LaneStatus {
    LaneStatus {
        name: lane.name.clone(),
        depth: lane.types.iter().map(|t| t.ready).sum(),
        scheduled: lane.types.iter().map(|t| t.scheduled).sum(),
        oldest: oldest_due(lane).map(|due| age(now_ms.saturating_sub(due))),
        running: lane.types.iter().map(|t| t.running).sum(),
        dead: lane.types.iter().map(|t| t.dead).sum(),
    }
}

fn oldest_due(lane: &LaneStats) -> Option<u64> {
    lane.types.iter().filter_map(|t| t.oldest_due_ms).min()
}

#[cfg(test)]
mod tests {
    use lanekeeper_queue::types::TypeStats;

    use super::*;

    fn reached() -> Reached {
        Reached {
            safety: Safety::Safe,
            allow_unsafe: false,
            failed: None,
            configured: Some(Configured::Applied { version: 4 }),
            stats: Some(Stats::default()),
        }
    }

    fn invalid() -> Invalid {
        Invalid { reason: "UnknownLane", message: "spec.jobTypes[0].lane".to_owned() }
    }

    fn facts(redis: Redis) -> Facts {
        Facts { invalid: None, paused: Some(false), redis }
    }

    fn with(change: impl FnOnce(&mut Reached)) -> Facts {
        let mut reached = reached();
        change(&mut reached);
        facts(Redis::Reached(Box::new(reached)))
    }

    fn said(facts: &Facts, kind: &str) -> (Status, String) {
        let says = says("apps/saas", facts).into_iter().find(|says| says.kind == kind).unwrap();
        (says.status, says.reason)
    }

    #[test]
    fn all_well() {
        let facts = with(|_| {});
        assert_eq!(said(&facts, kind::READY), (Status::True, reason::POLICY_APPLIED.to_owned()));
        assert_eq!(said(&facts, kind::PROGRESSING).0, Status::False);
        assert_eq!(said(&facts, kind::PAUSED).0, Status::False);
        assert_eq!(said(&facts, kind::HELD).0, Status::False);
        assert_eq!(said(&facts, kind::FULL).0, Status::False);
    }

    #[test]
    fn every_obstacle_has_its_reason() {
        let cases = [
            (
                with(|r| r.configured = Some(Configured::Foreign { owner: "cli".to_owned() })),
                reason::FOREIGN_OWNER,
            ),
            (with(|r| r.configured = Some(Configured::Stale { generation: 9 })), reason::NEWER_POLICY),
            (with(|r| r.safety = Safety::Unsafe { why: "w".to_owned() }), reason::REDIS_UNSAFE),
            (with(|r| r.failed = Some((reason::REDIS_REFUSED, "no".to_owned()))), reason::REDIS_REFUSED),
            (facts(Redis::Unreachable("refused".to_owned())), reason::REDIS_UNREACHABLE),
            (facts(Redis::Unknown(reason::SECRET_MISSING, "s".to_owned())), reason::SECRET_MISSING),
            (Facts { invalid: Some(invalid()), ..with(|_| {}) }, "UnknownLane"),
        ];
        for (facts, reason) in cases {
            assert_eq!(said(&facts, kind::READY), (Status::False, reason.to_owned()));
        }
    }

    #[test]
    fn a_foreign_owner_is_named_with_the_way_out() {
        let facts =
            with(|r| r.configured = Some(Configured::Foreign { owner: "kubernetes:other".to_owned() }));
        let ready = says("apps/saas", &facts).remove(0);
        assert!(ready.message.contains("kubernetes:other"));
        assert!(ready.message.contains("lanekeeper adopt apps/saas"));
    }

    #[test]
    fn an_accepted_risk_is_shown_and_does_not_stop_the_queue() {
        let facts = with(|r| {
            r.safety = Safety::Unsafe { why: "appendonly no".to_owned() };
            r.allow_unsafe = true;
        });
        assert_eq!(said(&facts, kind::READY).0, Status::True);
        assert_eq!(said(&facts, kind::REDIS_SAFE), (Status::False, reason::REDIS_UNSAFE_ALLOWED.to_owned()));
    }

    #[test]
    fn pauses_and_holds_that_cannot_be_seen_are_not_known() {
        for facts in [facts(Redis::Unreachable("x".to_owned())), with(|r| r.stats = None)] {
            assert_eq!(said(&facts, kind::PAUSED).0, Status::Unknown);
            assert_eq!(said(&facts, kind::HELD).0, Status::Unknown);
            assert_eq!(said(&facts, kind::FULL).0, Status::Unknown);
        }
        let by_spec = Facts { paused: Some(true), ..facts(Redis::Unreachable("x".to_owned())) };
        assert_eq!(said(&by_spec, kind::PAUSED), (Status::True, reason::PAUSED_BY_SPEC.to_owned()));
        let unreadable = Facts { paused: None, ..with(|_| {}) };
        assert!(says("q", &unreadable).iter().all(|says| says.kind != kind::PAUSED));
    }

    #[test]
    fn figures_that_could_not_be_read_are_absent_not_zero() {
        let status = status("apps/saas", None, &facts(Redis::Unreachable("x".to_owned())), 1, 0);
        assert_eq!((status.depth, status.dead, status.oldest), (None, None, None));
    }

    #[test]
    fn figures_are_summed_by_lane_and_over_all() {
        let types =
            |ready, due| TypeStats { ready, running: 1, oldest_due_ms: Some(due), ..TypeStats::default() };
        let stats = Stats {
            now_ms: 100_000,
            dead: 2,
            lanes: vec![
                LaneStats { name: "a".to_owned(), types: vec![types(3, 95_000), types(4, 88_000)] },
                LaneStats { name: String::new(), types: vec![types(1, 40_000)] },
            ],
            ..Stats::default()
        };
        let status = status("q", None, &with(|r| r.stats = Some(stats)), 1, 0);
        assert_eq!((status.depth, status.running, status.dead), (Some(8), Some(3), Some(2)));
        assert_eq!((status.oldest.as_deref(), status.oldest_seconds), (Some("1m"), Some(60)));
        assert_eq!(status.lanes.len(), 1);
        assert_eq!((status.lanes[0].depth, status.lanes[0].oldest.as_deref()), (7, Some("12s")));
        assert_eq!(status.policy_version, Some(4));
    }

    #[test]
    fn a_queue_that_empties_means_something_else_and_a_figure_more_does_not() {
        let depth = |depth| JobQueueStatus { depth: Some(depth), ..JobQueueStatus::default() };
        assert!(means_something_else(Some(&depth(1)), &depth(0)));
        assert!(!means_something_else(Some(&depth(1)), &depth(2)));
        assert!(means_something_else(None, &depth(0)));
    }
}
