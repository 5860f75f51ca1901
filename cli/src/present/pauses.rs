//! What became of a pause or a resume, and what is paused now.

use lanekeeper_queue::types::{ClosedGate, Gate, Toggled};
use serde::Serialize;

use super::gates;
use crate::failure::Result;
use crate::human::visible;
use crate::target::Opened;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// To pause.
    Pause,
    /// To resume.
    Resume,
}

/// The pauses of a queue after the command.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pauses {
    #[serde(skip)]
    act: Act,
    /// `namespace/name`.
    queue: String,
    /// By lane named, or one without a lane for the queue as a whole.
    changes: Vec<Toggled>,
    /// Pauses by hand that are in force now.
    pauses: Vec<ClosedGate>,
    /// Whether the JobQueue says `paused: true`.
    paused_by_policy: bool,
    #[serde(skip)]
    now_ms: u64,
}

impl Pauses {
    /// Looks at what is paused after `act`.
    pub(crate) async fn after(act: Act, opened: &Opened, changes: Vec<Toggled>) -> Result<Self> {
        let stats = opened.queue.stats().await.map_err(|error| opened.failure(&error))?;
        let policy = opened.queue.policy().await.map_err(|error| opened.failure(&error))?;
        Ok(Self {
            act,
            queue: opened.queue.name().to_string(),
            changes,
            pauses: stats.gates.into_iter().filter(|gate| gate.gate == Gate::Paused).collect(),
            paused_by_policy: policy.is_some_and(|(policy, _)| policy.paused),
            now_ms: stats.now_ms,
        })
    }

    /// For people: a line per lane named, and what else keeps the queue or its lanes.
    pub(crate) fn render(&self) -> String {
        let mut lines: Vec<String> = self.changes.iter().map(|change| self.line(change)).collect();
        if self.paused_by_policy {
            lines.push(format!("queue {} is paused by its JobQueue: set `paused: false` there", self.queue));
        }
        let named = |gate: &ClosedGate| self.changes.iter().any(|change| change.lane == gate.lane);
        let others = self.pauses.iter().filter(|gate| !named(gate));
        lines.extend(
            others.map(|gate| format!("{} is {}", self.subject(gate.lane.as_deref()), self.words(gate))),
        );
        visible(&lines.join("\n")).into_owned()
    }

    fn line(&self, change: &Toggled) -> String {
        let subject = self.subject(change.lane.as_deref());
        let pause = self.pauses.iter().find(|gate| gate.lane == change.lane);
        match (self.act, change.changed, pause) {
            (Act::Pause, true, _) => format!("{subject} is paused: nothing of it is started"),
            (Act::Pause, false, Some(gate)) => format!("{subject} was paused already: {}", self.words(gate)),
            (Act::Pause, false, None) => format!("{subject} was paused already, and has been resumed since"),
            (Act::Resume, true, _) => format!("{subject} is resumed"),
            (Act::Resume, false, _) if change.lane.is_some() => {
                format!("{subject} was not paused by hand, nor is it held by a Retry-After")
            }
            (Act::Resume, false, _) => format!("{subject} was not paused by hand"),
        }
    }

    fn subject(&self, lane: Option<&str>) -> String {
        lane.map_or_else(|| format!("queue {}", self.queue), |lane| format!("lane {lane}"))
    }

    fn words(&self, gate: &ClosedGate) -> String {
        gates::words(gate, None, self.now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(act: Act, lane: Option<&str>, changed: bool, paused: &[Option<&str>]) -> Pauses {
        let pause = |lane: &Option<&str>| ClosedGate {
            lane: lane.map(str::to_owned),
            gate: Gate::Paused,
            until_ms: None,
            since_ms: Some(40_000),
            by: Some("ada".into()),
            why: Some("vendor is down".into()),
        };
        Pauses {
            act,
            queue: "a/b".into(),
            changes: vec![Toggled { lane: lane.map(str::to_owned), changed }],
            pauses: paused.iter().map(pause).collect(),
            paused_by_policy: false,
            now_ms: 100_000,
        }
    }

    #[test]
    fn a_pause_of_what_is_paused_says_by_whom_and_since_when() {
        let text = pauses(Act::Pause, Some("fast"), false, &[Some("fast")]).render();
        assert_eq!(text, "lane fast was paused already: paused by ada 1m ago (vendor is down)");
        let first = pauses(Act::Pause, None, true, &[None]).render();
        assert_eq!(first, "queue a/b is paused: nothing of it is started");
    }

    #[test]
    fn a_resume_names_what_stays_paused() {
        let mut view = pauses(Act::Resume, None, true, &[Some("slow")]);
        view.paused_by_policy = true;
        assert_eq!(
            view.render(),
            "queue a/b is resumed\nqueue a/b is paused by its JobQueue: set `paused: false` there\n\
             lane slow is paused by ada 1m ago (vendor is down)"
        );
    }
}
