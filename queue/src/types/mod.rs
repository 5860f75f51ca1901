//! What goes in and out of a queue.

mod admin;
mod dead;
mod enqueue;
mod job;
mod note;
mod outcome;
mod stats;
mod work;

pub use admin::{Acted, Configured, Damage, DamagedPart, Event, Find, KeptKey, Page, Toggled};
pub use dead::{DeadAct, DeadFilter, DeadGroup, IdPage, Meant, Review, ReviewState};
pub use enqueue::{EnqueueOptions, Enqueued, NewJob};
pub use job::{Attempt, Job, JobState, KeyStanding, Lease, Position};
pub use note::{CheckpointLeft, MAX_CHECKPOINT, Note, Progress, ProgressTold};
pub use outcome::{AttemptError, DeadReason, ErrorClass, Holds, Outcome, Settled, Settlement, Spends};
pub use stats::{ClosedGate, Gate, LaneStats, Stats, TypeStats};
pub use work::{
    ClaimOrder, ClaimReply, ClaimRequest, Claimed, Expired, HandedOver, HeartbeatReply, Held, Offer,
    SweepReply, WorkerIdentity, WorkerInfo,
};
