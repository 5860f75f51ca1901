//! What holds a queue or its lanes back, as conditions and Events. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::EventType;
use lanekeeper_api::job_queue::JobQueueStatus;
use lanekeeper_queue::types::{ClosedGate, Gate, Stats};

use crate::kubernetes::conditions::{Says, Status, kind, reason};
use crate::kubernetes::events;
use crate::kubernetes::time::meta_time;

/// A lane that has been held for longer is worth a look of a person, ms.
const HELD_AFTER_MS: u64 = 600_000;

/// Condition `Paused`: by the spec, or by hand, of the queue or of lanes. `stats` is none where Redis could not be asked.
pub(super) fn paused(name: &str, by_spec: bool, stats: Option<&Stats>) -> Says {
    if by_spec {
        let message = "spec.paused is true: jobs are accepted and none is started";
        return Says::new(kind::PAUSED, true, reason::PAUSED_BY_SPEC, message);
    }
    let Some(stats) = stats else {
        let message = "Redis could not be asked whether someone paused the queue or a lane by hand";
        return Says::new(kind::PAUSED, Status::Unknown, reason::UNKNOWN, message);
    };
    let pauses = stats.gates.iter().filter(|gate| gate.gate == Gate::Paused);
    if let Some(all) = pauses.clone().find(|gate| gate.lane.is_none()) {
        let message = format!("{}; `lanekeeper resume {name}` lifts that", pause("the queue", all));
        return Says::new(kind::PAUSED, true, reason::PAUSED_BY_HAND, message);
    }
    let lanes: Vec<String> = pauses
        .map(|gate| {
            let lane = gate.lane.as_deref().unwrap_or_default();
            let pause = pause(&format!("lane {lane}"), gate);
            format!("{pause}; `lanekeeper resume {name} --lane {lane}` lifts that")
        })
        .collect();
    if lanes.is_empty() {
        Says::new(kind::PAUSED, false, reason::NOT_PAUSED, "")
    } else {
        Says::new(kind::PAUSED, true, reason::LANES_PAUSED, lanes.join(". "))
    }
}

/// `lane fast was paused by ada at 2026-01-31T08:00:00Z (vendor is down)`
fn pause(subject: &str, gate: &ClosedGate) -> String {
    let by = gate.by.as_deref().unwrap_or("someone");
    let at = gate.since_ms.map(|at| format!(" at {}", moment(at))).unwrap_or_default();
    let why = gate.why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{subject} was paused by {by}{at}{why}")
}

/// Condition `Held`: a lane has been held back by its dependency for long.
pub(super) fn held(stats: Option<&Stats>) -> Says {
    let Some(stats) = stats else {
        let message = "Redis could not be asked whether lanes are held back";
        return Says::new(kind::HELD, Status::Unknown, reason::UNKNOWN, message);
    };
    let mut long: Vec<(u64, &str, &ClosedGate)> = stats
        .gates
        .iter()
        .filter(|gate| matches!(gate.gate, Gate::Hold | Gate::Circuit))
        .filter_map(|gate| Some((gate.since_ms?, gate.lane.as_deref()?, gate)))
        .filter(|(since, ..)| stats.now_ms.saturating_sub(*since) > HELD_AFTER_MS)
        .collect();
    long.sort_by_key(|(since, lane, _)| (*since, *lane));
    let Some((.., first)) = long.first() else {
        return Says::new(kind::HELD, false, reason::NOT_HELD, "");
    };
    let reason = if first.gate == Gate::Circuit { reason::CIRCUIT_OPEN } else { reason::RETRY_AFTER };
    // When it began, not how long it has lasted: the message stays the same while nothing changes.
    let sentences = long.iter().map(|(since, lane, gate)| {
        let why = match gate.gate {
            Gate::Circuit => "its attempts fail one after another (circuit open)",
            _ => "what its jobs depend on asks for patience (Retry-After)",
        };
        format!("lane {lane} has been held since {}: {why}", moment(*since))
    });
    Says::new(kind::HELD, true, reason, sentences.collect::<Vec<_>>().join(". "))
}

/// Condition `Full`: new jobs are refused. The message stays the same while that lasts.
pub(super) fn full(stats: Option<&Stats>) -> Says {
    match stats {
        None => {
            let message = "Redis could not be asked how much the queue holds";
            Says::new(kind::FULL, Status::Unknown, reason::UNKNOWN, message)
        }
        Some(stats) if stats.full => {
            let message = "spec.capacity is used up: enqueues are refused with queue-full, what was accepted goes on. Waiting jobs, \
                dead letters and discarded ones count: add workers, review dead letters (`lanekeeper dead ls`), set dead.keepReviewedFor or \
                raise spec.capacity";
            Says::new(kind::FULL, true, reason::CAPACITY_REACHED, message)
        }
        Some(_) => Says::new(kind::FULL, false, reason::HAS_ROOM, ""),
    }
}

fn moment(wall_ms: u64) -> String {
    meta_time(wall_ms).0.to_string()
}

/// An Event to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) type_: EventType,
    pub(super) reason: String,
    pub(super) note: String,
}

/// What has changed of pauses and holds. Where it was not known, nothing is said of an end.
pub(super) fn news(old: Option<&JobQueueStatus>, new: &JobQueueStatus) -> Vec<News> {
    [kind::PAUSED, kind::HELD, kind::FULL].into_iter().filter_map(|kind| change(kind, old, new)).collect()
}

fn change(kind: &str, old: Option<&JobQueueStatus>, new: &JobQueueStatus) -> Option<News> {
    let find = |status: &JobQueueStatus| status.conditions.iter().find(|c| c.type_ == kind).cloned();
    let says = find(new)?;
    let before = old.and_then(find);
    let was = before.as_ref().is_some_and(|before| before.status == "True");
    let told = |before: &Condition| before.reason == says.reason && before.message == says.message;
    let (type_, reason, note) = match (kind, says.status.as_str()) {
        (_, "True") if was && before.as_ref().is_some_and(told) => return None,
        (kind::PAUSED, "True") => (EventType::Normal, events::reason::PAUSED.to_owned(), says.message),
        (_, "True") => (EventType::Warning, says.reason, says.message),
        (_, "False") if !was => return None,
        (kind::PAUSED, "False") => {
            (EventType::Normal, events::reason::RESUMED.to_owned(), "jobs are started again".to_owned())
        }
        (kind::FULL, "False") => {
            (EventType::Normal, says.reason, "the queue has room again: enqueues are accepted".to_owned())
        }
        (_, "False") => {
            let note = "no lane has been held back for long any more".to_owned();
            (EventType::Normal, events::reason::HOLD_ENDED.to_owned(), note)
        }
        _ => return None,
    };
    Some(News { type_, reason, note })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::conditions::merge;

    const NOW: u64 = 1_700_000_000_000;

    fn gate(lane: Option<&str>, gate: Gate, since_ms: u64) -> ClosedGate {
        ClosedGate {
            lane: lane.map(str::to_owned),
            gate,
            until_ms: None,
            since_ms: Some(since_ms),
            by: Some("ada".to_owned()).filter(|_| gate == Gate::Paused),
            why: Some("vendor is down".to_owned()).filter(|_| gate == Gate::Paused),
        }
    }

    fn stats(gates: Vec<ClosedGate>) -> Stats {
        Stats { now_ms: NOW, gates, ..Stats::default() }
    }

    fn is_paused(by_spec: bool, gates: Vec<ClosedGate>) -> Says {
        paused("apps/saas", by_spec, Some(&stats(gates)))
    }

    #[test]
    fn pauses_name_who_when_and_why_and_the_spec_goes_first() {
        let all =
            is_paused(false, vec![gate(Some("fast"), Gate::Paused, NOW), gate(None, Gate::Paused, NOW)]);
        assert_eq!((all.status, all.reason.as_str()), (Status::True, reason::PAUSED_BY_HAND));
        assert_eq!(
            all.message,
            "the queue was paused by ada at 2023-11-14T22:13:20Z (vendor is down); `lanekeeper resume apps/saas` lifts that"
        );
        let lanes = is_paused(
            false,
            vec![gate(Some("fast"), Gate::Paused, NOW), gate(Some("slow"), Gate::Paused, NOW)],
        );
        assert_eq!((lanes.status, lanes.reason.as_str()), (Status::True, reason::LANES_PAUSED));
        assert!(lanes.message.contains("lane fast was paused by ada"), "{}", lanes.message);
        assert!(lanes.message.contains("resume apps/saas --lane slow`"), "{}", lanes.message);
        let spec = is_paused(true, vec![gate(None, Gate::Paused, NOW)]);
        assert_eq!((spec.status, spec.reason.as_str()), (Status::True, reason::PAUSED_BY_SPEC));
        let held = is_paused(false, vec![gate(Some("fast"), Gate::Hold, 0)]);
        assert_eq!((held.status, held.reason.as_str()), (Status::False, reason::NOT_PAUSED));
    }

    #[test]
    fn what_could_not_be_asked_is_not_known() {
        assert_eq!(paused("q", false, None).status, Status::Unknown);
        assert_eq!(paused("q", true, None).reason, reason::PAUSED_BY_SPEC);
        assert_eq!(held(None).status, Status::Unknown);
    }

    #[test]
    fn a_lane_is_held_once_it_has_been_so_for_more_than_ten_minutes() {
        let of = |gate_: Gate, for_ms| held(Some(&stats(vec![gate(Some("fast"), gate_, NOW - for_ms)])));
        assert_eq!(of(Gate::Hold, 600_000).status, Status::False);
        let says = of(Gate::Hold, 600_001);
        assert_eq!((says.status, says.reason.as_str()), (Status::True, reason::RETRY_AFTER));
        assert!(
            says.message.starts_with("lane fast has been held since 2023-11-14T22:03:19Z"),
            "{}",
            says.message
        );
        assert_eq!(of(Gate::Circuit, 600_001).reason, reason::CIRCUIT_OPEN);
        for gate in [Gate::Rate, Gate::Concurrency, Gate::Paused] {
            assert_eq!(of(gate, 9_000_000).reason, reason::NOT_HELD, "{gate:?}");
        }
    }

    #[test]
    fn of_several_held_lanes_the_longest_gives_the_reason_and_all_are_named() {
        let gates = vec![
            gate(Some("a"), Gate::Hold, NOW - 700_000),
            gate(Some("b"), Gate::Circuit, NOW - 800_000),
            gate(Some("c"), Gate::Hold, NOW - 1_000),
        ];
        let says = held(Some(&stats(gates)));
        assert_eq!(says.reason, reason::CIRCUIT_OPEN);
        let (a, b) = (says.message.find("lane a "), says.message.find("lane b "));
        assert!(b < a && a.is_some() && !says.message.contains("lane c "), "{}", says.message);
    }

    fn status(says: Says) -> JobQueueStatus {
        JobQueueStatus { conditions: merge(&[], &[says], 1, 0), ..JobQueueStatus::default() }
    }

    fn told(old: Option<Says>, new: Says) -> Vec<(EventType, String)> {
        let old = old.map(status);
        news(old.as_ref(), &status(new)).into_iter().map(|news| (news.type_, news.reason)).collect()
    }

    #[test]
    fn pauses_and_resumes_are_told_once() {
        let no = || is_paused(false, vec![]);
        let yes = || is_paused(false, vec![gate(None, Gate::Paused, NOW)]);
        let unknown = || paused("apps/saas", false, None);
        let event = |reason: &str| vec![(EventType::Normal, reason.to_owned())];
        assert_eq!(told(None, no()), []);
        assert_eq!(told(None, yes()), event("Paused"));
        assert_eq!(told(Some(no()), yes()), event("Paused"));
        assert_eq!(told(Some(yes()), yes()), []);
        assert_eq!(told(Some(yes()), no()), event("Resumed"));
        assert_eq!(told(Some(yes()), unknown()), []);
        assert_eq!(told(Some(unknown()), no()), []);
        let other = is_paused(false, vec![gate(Some("fast"), Gate::Paused, NOW)]);
        assert_eq!(told(Some(yes()), other), event("Paused"), "another pause is news");
    }

    #[test]
    fn long_holds_are_warned_of_and_their_end_is_told() {
        let circuit = || held(Some(&stats(vec![gate(Some("fast"), Gate::Circuit, NOW - 700_000)])));
        let retry_after = held(Some(&stats(vec![gate(Some("fast"), Gate::Hold, NOW - 700_000)])));
        let no = || held(Some(&stats(vec![])));
        assert_eq!(told(Some(no()), circuit()), [(EventType::Warning, "CircuitOpen".to_owned())]);
        assert_eq!(told(Some(circuit()), circuit()), []);
        assert_eq!(told(Some(circuit()), no()), [(EventType::Normal, "HoldEnded".to_owned())]);
        assert_eq!(told(None, retry_after), [(EventType::Warning, "RetryAfter".to_owned())]);
    }
}
