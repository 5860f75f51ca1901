//! Closed gates in a few words.

use lanekeeper_api::policy::LanePolicy;
use lanekeeper_queue::types::{ClosedGate, Gate};

use crate::human::{age, relative};

/// What holds a lane back, such as `rate spent, next in 120ms`.
pub(crate) fn words(gate: &ClosedGate, lane: Option<&LanePolicy>, now_ms: u64) -> String {
    let next = gate.until_ms.map(|until| relative(now_ms, until));
    match gate.gate {
        Gate::Paused => {
            let by = gate.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
            let since = gate.since_ms.map(|since| format!(" {} ago", age(now_ms, since))).unwrap_or_default();
            let why = gate.why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
            format!("paused{by}{since}{why}")
        }
        Gate::Hold => format!("held, opens {}", next.unwrap_or_else(|| "soon".to_owned())),
        Gate::Circuit if gate.next_probes(now_ms) => "circuit open, the next job probes".to_owned(),
        Gate::Circuit => next.map_or_else(
            || "circuit open, a job probes".to_owned(),
            |next| format!("circuit open, next probe {next}"),
        ),
        Gate::Concurrency => lane
            .and_then(|lane| lane.concurrency)
            .map_or_else(|| "at its concurrency".to_owned(), |most| format!("at its concurrency of {most}")),
        Gate::Rate => format!("rate spent, next {}", next.unwrap_or_else(|| "soon".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gate_has_words() {
        let lane = LanePolicy { concurrency: Some(3), ..LanePolicy::new("fast", 1) };
        let said = |gate, until_ms| {
            let gate = ClosedGate {
                lane: Some("fast".into()),
                gate,
                until_ms,
                since_ms: Some(500),
                by: None,
                why: None,
            };
            words(&gate, Some(&lane), 1_000)
        };
        assert_eq!(said(Gate::Paused, None), "paused 500ms ago");
        assert_eq!(said(Gate::Hold, Some(61_000)), "held, opens in 1m");
        assert_eq!(said(Gate::Circuit, Some(11_000)), "circuit open, next probe in 10s");
        assert_eq!(said(Gate::Circuit, None), "circuit open, a job probes");
        assert_eq!(said(Gate::Circuit, Some(1_000)), "circuit open, the next job probes");
        assert_eq!(said(Gate::Concurrency, None), "at its concurrency of 3");
        assert_eq!(said(Gate::Rate, Some(1_120)), "rate spent, next in 120ms");
    }
}
