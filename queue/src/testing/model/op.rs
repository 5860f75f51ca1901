//! The calls.

use lanekeeper_api::policy::QueuePolicy;

use crate::types::{
    ClaimRequest, DeadFilter, Find, Held, Meant, NewJob, Note, Settlement, WorkerIdentity, WorkerInfo,
};

/// One call of `Queue`, by the name of its method where nothing else is said.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// `enqueue`.
    Enqueue(Vec<NewJob>),
    /// `settle_and_claim`.
    Work {
        /// Who.
        worker: WorkerIdentity,
        /// What is done.
        done: Vec<Settlement>,
        /// What is wanted.
        want: ClaimRequest,
    },
    /// `settle`.
    Settle {
        /// Who.
        worker: WorkerIdentity,
        /// What is done.
        done: Vec<Settlement>,
    },
    /// `extend`.
    Extend {
        /// Who.
        worker: Box<WorkerInfo>,
        /// What it holds.
        held: Vec<Held>,
        /// What its handlers tell, by the place in `held`.
        notes: Vec<(usize, Note)>,
    },
    /// `leave`.
    Leave(WorkerIdentity),
    /// `pass_on`.
    PassOn(Vec<String>),
    /// `leases_of`.
    LeasesOf(WorkerIdentity),
    /// `sweep`.
    Sweep {
        /// Who.
        sweeper: WorkerIdentity,
        /// Most of each kind.
        limit: u32,
    },
    /// `configure`.
    Configure {
        /// The policy.
        policy: Box<QueuePolicy>,
        /// Take the queue over from another owner.
        adopt: bool,
    },
    /// `policy`.
    Policy,
    /// `stats`.
    Stats,
    /// `get`.
    Get {
        /// Which.
        ids: Vec<String>,
        /// Payloads too.
        with_payload: bool,
    },
    /// `find`, over all its pages.
    Find(Find),
    /// `dead_list`, over all its pages.
    DeadList {
        /// Which.
        filter: DeadFilter,
        /// Jobs of a page.
        limit: u32,
    },
    /// `dead_groups`.
    DeadGroups(DeadFilter),
    /// `position`.
    Position(String),
    /// `key_standing`.
    Standing(String),
    /// `cancel`.
    Cancel {
        /// Which.
        ids: Vec<String>,
        /// Who asks.
        by: String,
    },
    /// `dead_ack`.
    Acknowledge {
        /// Which.
        ids: Vec<String>,
        /// Who and why.
        word: Word,
    },
    /// `dead_discard`.
    Discard {
        /// Which.
        ids: Vec<String>,
        /// Who and why.
        word: Word,
    },
    /// `dead_replay`.
    Replay {
        /// Which.
        ids: Vec<String>,
        /// Who and why.
        word: Word,
    },
    /// `dead_edit`.
    Edit {
        /// Which.
        id: String,
        /// Who and why.
        word: Word,
        /// The new payload.
        payload: Vec<u8>,
    },
    /// `pause`.
    Pause {
        /// Lanes; none: the whole queue.
        lanes: Vec<String>,
        /// Who asks.
        by: String,
        /// Why.
        why: String,
    },
    /// `resume`.
    Resume(Vec<String>),
    /// `destroy`.
    Destroy,
    /// No call of the queue: the worker subscribes to its channel, if it is not subscribed.
    Subscribe(WorkerIdentity),
    /// The other way round.
    Unsubscribe(WorkerIdentity),
    /// No call, but what may happen to Redis; and sweeps until nothing of it is left to see. Only where `Model::is_calm`.
    Damage(Damage),
}

/// Something of a queue is lost or garbled. Keys are named by what follows the queue's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// A key.
    Key(String),
    /// A member or field of a key.
    Entry(String, String),
    /// The lease of a job, and when it ends.
    Lease(String),
    /// The card of a dead letter is no card any more.
    Card(String),
}

/// Who asks, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Who.
    pub by: String,
    /// Why; may be empty.
    pub why: String,
    /// Of jobs that a filter found: what it asked for. Nothing of `dead_edit`.
    pub meant: Option<Meant>,
}
