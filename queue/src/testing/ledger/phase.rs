//! The phases of a job and what leads from one to another: the whole model of the queue.

use super::history::{Act, Ending};
use crate::types::JobState;

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Done.
    Succeeded,
    /// In the dead letters.
    Dead,
    /// Called off.
    Cancelled,
}

impl End {
    pub(super) fn state(self) -> JobState {
        match self {
            Self::Succeeded => JobState::Succeeded,
            Self::Dead => JobState::Dead,
            Self::Cancelled => JobState::Cancelled,
        }
    }

    pub(super) fn of(state: JobState) -> Option<Self> {
        match state {
            JobState::Succeeded => Some(Self::Succeeded),
            JobState::Dead | JobState::Discarded => Some(Self::Dead),
            JobState::Cancelled => Some(Self::Cancelled),
            _ => None,
        }
    }
}

/// Where a job may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not there: not yet enqueued, or removed.
    Absent,
    /// Ready or scheduled.
    Waiting,
    /// Leased under a token; 0 when the reply that told it was lost.
    Leased {
        /// Token.
        token: u64,
        /// When its cancellation was asked for, ms.
        cancel: Option<u64>,
    },
    /// Ended.
    Ended(End),
}

impl Phase {
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Waiting | Self::Leased { .. })
    }

    pub(super) fn ended(self) -> Option<End> {
        if let Self::Ended(end) = self { Some(end) } else { None }
    }
}

/// Up to two phases: acts of the same millisecond may have come in either order.
pub(super) type Next = [Option<Phase>; 2];

const NOWHERE: Next = [None, None];

fn to(phase: Phase) -> Next {
    [Some(phase), None]
}

/// The phases that an accepted act leads to; none when it cannot be accepted in this phase.
///
/// Grants, takeovers and cancellations of a lease may speak of a lease that a lost reply granted, so a takeover is
/// possible in [`Phase::Waiting`] too.
pub(super) fn step(phase: Phase, act: &Act, now_ms: u64, ids_return: bool) -> Next {
    match (act, phase) {
        (Act::Enqueue { .. }, Phase::Absent) => to(Phase::Waiting),
        (Act::Enqueue { .. }, Phase::Ended(End::Succeeded | End::Cancelled)) if ids_return => {
            to(Phase::Waiting)
        }
        (Act::Duplicate { .. }, Phase::Absent) => NOWHERE,
        (Act::Duplicate { .. }, phase) => to(phase),
        (Act::Grant { token, .. } | Act::Takeover { token, .. }, Phase::Waiting) => {
            to(Phase::Leased { token: *token, cancel: None })
        }
        (Act::Takeover { token, .. }, Phase::Leased { token: old, cancel }) if old < *token => {
            to(Phase::Leased { token: *token, cancel })
        }
        (Act::Settle { token, ending, .. }, Phase::Leased { token: held, cancel }) if held == *token => {
            settle(*ending, cancel, now_ms)
        }
        (Act::Extend { token, .. }, Phase::Leased { token: held, .. }) if held == *token => to(phase),
        (Act::Cancel { running, .. }, Phase::Waiting) => match running {
            Some(false) => to(Phase::Ended(End::Cancelled)),
            Some(true) => to(Phase::Leased { token: 0, cancel: Some(now_ms) }),
            None => {
                [Some(Phase::Ended(End::Cancelled)), Some(Phase::Leased { token: 0, cancel: Some(now_ms) })]
            }
        },
        (Act::Cancel { running: Some(true) | None, .. }, Phase::Leased { token, cancel }) => {
            to(Phase::Leased { token, cancel: cancel.or(Some(now_ms)) })
        }
        (Act::Replay { .. }, Phase::Ended(End::Dead)) => to(Phase::Waiting),
        (Act::Remove { .. }, Phase::Ended(End::Dead)) => to(Phase::Absent),
        _ => NOWHERE,
    }
}

/// Where a cancellation was asked for, everything but a success ends the job.
fn settle(ending: Ending, cancel: Option<u64>, now_ms: u64) -> Next {
    let own = match ending {
        Ending::Success => return to(Phase::Ended(End::Succeeded)),
        Ending::Dead(_) => Phase::Ended(End::Dead),
        Ending::Retry(_) | Ending::Release | Ending::Snooze => Phase::Waiting,
    };
    match cancel {
        None => to(own),
        Some(asked_ms) if asked_ms < now_ms => to(Phase::Ended(End::Cancelled)),
        Some(_) => [Some(own), Some(Phase::Ended(End::Cancelled))],
    }
}

/// The phase to go on from after an act that should not have been accepted.
pub(super) fn forced(act: &Act, phase: Phase) -> Phase {
    match act {
        Act::Grant { token, .. } | Act::Takeover { token, .. } => {
            Phase::Leased { token: *token, cancel: None }
        }
        Act::Settle { ending: Ending::Success, .. } => Phase::Ended(End::Succeeded),
        Act::Settle { ending: Ending::Dead(_), .. } => Phase::Ended(End::Dead),
        Act::Enqueue { .. } | Act::Settle { .. } | Act::Replay { .. } => Phase::Waiting,
        Act::Duplicate { .. } if phase == Phase::Absent => Phase::Waiting,
        Act::Cancel { .. } => Phase::Ended(End::Cancelled),
        Act::Remove { .. } => Phase::Absent,
        Act::Duplicate { .. } | Act::Extend { .. } | Act::Claim => phase,
    }
}
