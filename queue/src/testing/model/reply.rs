//! The replies.

use lanekeeper_api::policy::QueuePolicy;

use crate::types::{
    Acted, ClaimReply, Configured, DeadGroup, Enqueued, HandedOver, HeartbeatReply, Held, Job, KeyStanding,
    Position, Settled, Stats, SweepReply, Toggled,
};

/// What a call answered, in a form that can be compared: sentences for people are left empty, and what has no promised
/// order is sorted by id.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Of `enqueue`, messages empty.
    Enqueued(Vec<Enqueued>),
    /// Of a call that handed jobs to workers, of which only `enqueue` is one: by boot, what their messages said, in order.
    Telling(Box<Reply>, Vec<(String, HandedOver)>),
    /// Of `settle_and_claim`.
    Worked(Vec<Settled>, ClaimReply),
    /// Of `settle`.
    Settled(Vec<Settled>),
    /// Of `extend`.
    Extended(HeartbeatReply),
    /// Of calls that answer nothing.
    Done,
    /// Of `leases_of`.
    Leases(Vec<Held>),
    /// Of `sweep`.
    Swept(SweepReply),
    /// Of `configure`.
    Configured(Configured),
    /// Of `policy`.
    Policy(Option<Box<(QueuePolicy, u64)>>),
    /// Of `stats`, workers by name and boot.
    Stats(Box<Stats>),
    /// Of `get`.
    Jobs(Vec<Option<Job>>),
    /// Of `find`, by id, and of `dead_list`, newest first: the jobs of all pages.
    Found(Vec<Job>),
    /// Of `position`.
    Position(Option<Position>),
    /// Of `key_standing`.
    Standing(Option<KeyStanding>),
    /// Of `dead_groups`, examples left out.
    Groups(Vec<DeadGroup>),
    /// Of `cancel`, `dead_ack`, `dead_discard`, `dead_replay`, `dead_edit`.
    Acted(Vec<Acted>),
    /// Of `pause` and `resume`.
    Toggled(Vec<Toggled>),
    /// Of `destroy`.
    Destroyed(u64),
    /// Of damage and sweeps; so many entries have been found damaged in all.
    Mended {
        /// As `stats` says.
        damaged: u64,
    },
    /// The queue has no policy.
    NoPolicy,
    /// The call failed otherwise; the model never says so.
    Failed(String),
    /// The library chose an id, a token or a version that it promises never to choose; only the model says so.
    Broken(String),
}

impl Reply {
    /// The reply of a call that told workers so much.
    #[must_use]
    pub fn telling(self, told: Vec<(String, HandedOver)>) -> Self {
        if told.is_empty() { self } else { Self::Telling(Box::new(self), told) }
    }
}
