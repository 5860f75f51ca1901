//! What differs between two policies, field by field. Pure.

use lanekeeper_api::policy::QueuePolicy;
use serde::Serialize;
use serde_json::Value;

use crate::human::duration;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Change {
    /// Path, lanes and types by name.
    pub(crate) field: String,
    /// Before; absent: it was not there.
    pub(crate) from: Option<Value>,
    /// After; absent: it is gone.
    pub(crate) to: Option<Value>,
}

/// Changes from the one to the other; who manages a policy is no change of it.
pub(crate) fn changes(from: Option<&QueuePolicy>, to: &QueuePolicy) -> Vec<Change> {
    let mut changes = Vec::new();
    let before = from.map(comparable);
    compare("", before.as_ref(), Some(&comparable(to)), &mut changes);
    changes
}

/// The policy with lanes by name, so that a new lane does not shift the others.
fn comparable(policy: &QueuePolicy) -> Value {
    // A policy without maps of odd keys always serialises.
    let mut value = serde_json::to_value(policy).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("source");
        fields.remove("queue");
        let lanes = policy
            .lanes
            .iter()
            .map(|lane| (lane.name.clone(), serde_json::json!({ "startWithinMs": lane.start_within_ms })));
        fields.insert("lanes".to_owned(), Value::Object(lanes.collect()));
        let order = policy.lanes.iter().map(|lane| lane.name.clone().into()).collect();
        fields.insert("laneOrder".to_owned(), Value::Array(order));
    }
    value
}

fn compare(path: &str, from: Option<&Value>, to: Option<&Value>, changes: &mut Vec<Change>) {
    match (from, to) {
        (Some(Value::Object(from)), Some(Value::Object(to))) => {
            let mut keys: Vec<&String> = from.keys().chain(to.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, from.get(key), to.get(key), changes);
            }
        }
        (from, to) if from == to => {}
        (from, to) => changes.push(Change { field: path.to_owned(), from: from.cloned(), to: to.cloned() }),
    }
}

/// One line per change, durations as people write them.
pub(crate) fn lines(changes: &[Change]) -> Vec<String> {
    let shown = changes.iter().filter(|change| !change.field.is_empty());
    shown
        .map(|change| match (&change.from, &change.to) {
            (None, Some(to)) if to.is_object() => format!("+ {}", change.field),
            (None, Some(to)) => format!("+ {}: {}", change.field, value(&change.field, to)),
            (Some(_), None) => format!("- {}", change.field),
            (from, to) => {
                let of = |v: &Option<Value>| v.as_ref().map_or_else(String::new, |v| value(&change.field, v));
                format!("~ {}: {} → {}", change.field, of(from), of(to))
            }
        })
        .collect()
}

fn value(field: &str, value: &Value) -> String {
    match value.as_u64() {
        Some(ms) if field.ends_with("Ms") => duration(ms),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(lanes: &[(&str, u64)], paused: bool) -> QueuePolicy {
        let lanes: Vec<Value> =
            lanes.iter().map(|(name, ms)| serde_json::json!({"name": name, "startWithinMs": ms})).collect();
        serde_json::from_value(serde_json::json!({
            "queue": "a/b", "source": {"owner": "cli", "uid": "local", "createdMs": 0, "generation": 1},
            "paused": paused, "maxPayload": 1, "leaseMs": 1, "lanes": lanes, "jobTypes": {},
        }))
        .unwrap()
    }

    #[test]
    fn a_lane_that_moved_is_not_one_that_changed() {
        let from = policy(&[("x", 1000)], false);
        let to = policy(&[("w", 5000), ("x", 60_000)], true);
        assert_eq!(
            lines(&changes(Some(&from), &to)),
            [
                "~ laneOrder: [\"x\"] → [\"w\",\"x\"]",
                "+ lanes.w",
                "~ lanes.x.startWithinMs: 1s → 1m",
                "~ paused: false → true"
            ]
        );
        assert!(changes(Some(&to), &to).is_empty());
        assert_eq!(changes(None, &to).len(), 1);
    }
}
