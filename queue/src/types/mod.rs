//! What goes in and out of a queue.

mod admin;
mod dead;
mod enqueue;
mod job;
mod outcome;
mod stats;
mod work;

pub use admin::{Acted, Configured, Find, Page, Toggled};
pub use dead::{DeadFilter, DeadGroup, IdPage, Review, ReviewState};
pub use enqueue::{EnqueueOptions, Enqueued, NewJob};
pub use job::{Attempt, Job, JobState, KeyStanding, Lease, Position};
pub use outcome::{AttemptError, DeadReason, ErrorClass, Holds, Outcome, Settled, Settlement, Spends};
pub use stats::{ClosedGate, Gate, LaneStats, Stats, TypeStats};
pub use work::{
    ClaimOrder, ClaimReply, ClaimRequest, Claimed, Expired, HeartbeatReply, Held, SweepReply, WorkerIdentity,
    WorkerInfo,
};
