//! What must never happen. The sentence of each violation is in `sentences.rs`.

use serde::Serialize;

use crate::types::JobState;

/// What a generation of a job may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Budget {
    /// Attempts that failed by the handler's word.
    Tries,
    /// Attempts lost to crashes.
    Crashes,
    /// Starts that were not handed back.
    Starts,
}

/// Something that must never happen. Times are Redis times in ms; the number of the invariant stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "violation", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Violation {
    /// (I1) An accepted job has no record.
    Lost {
        /// Job id.
        job: String,
        /// When it was accepted, if known.
        accepted_ms: Option<u64>,
    },
    /// (I1) The record says that the job ended, but nobody can have ended it so.
    EndedByNobody {
        /// Job id.
        job: String,
        /// State of the record.
        state: JobState,
    },
    /// (I2) Tokens of a job did not rise from lease to lease.
    TokensFell {
        /// Job id.
        job: String,
        /// Earlier token.
        earlier: u64,
        /// Later token, not above it.
        later: u64,
        /// When the later was granted.
        at_ms: u64,
    },
    /// (I2) A lease was granted while another one of the same job was held.
    LeasesOverlap {
        /// Job id.
        job: String,
        /// Token that was held.
        held: u64,
        /// Since when.
        since_ms: u64,
        /// Token that was granted.
        granted: u64,
        /// When.
        at_ms: u64,
    },
    /// (I2) A lease was taken over before it expired.
    TakenTooEarly {
        /// Job id.
        job: String,
        /// Token of the lease.
        token: u64,
        /// When it was to expire.
        expires_ms: u64,
        /// Token of the takeover.
        taken_by: u64,
        /// When.
        at_ms: u64,
    },
    /// (I3) A settlement was accepted although a newer lease had been granted before it.
    StaleSettlement {
        /// Job id.
        job: String,
        /// Token that settled.
        token: u64,
        /// A newer token that had been granted.
        newer: u64,
        /// When.
        at_ms: u64,
    },
    /// (I3) An extension was accepted although the lease had ended.
    StaleExtension {
        /// Job id.
        job: String,
        /// Token that extended.
        token: u64,
        /// Newest token of the job.
        newer: u64,
        /// When.
        at_ms: u64,
    },
    /// (I3) Two settlements of one lease were accepted.
    SettledTwice {
        /// Job id.
        job: String,
        /// Their token.
        token: u64,
        /// When the first was accepted.
        first_ms: u64,
        /// When the second was.
        second_ms: u64,
    },
    /// (I3) A settlement was accepted under a token that nobody was granted.
    NeverGranted {
        /// Job id.
        job: String,
        /// Token that settled.
        token: u64,
        /// Who settled.
        client: String,
        /// When.
        at_ms: u64,
    },
    /// (I3) A settlement or extension was accepted from somebody who did not hold the lease.
    NotTheHolder {
        /// Job id.
        job: String,
        /// Token of the lease.
        token: u64,
        /// Who held it.
        holder: String,
        /// Who settled or extended.
        client: String,
        /// When.
        at_ms: u64,
    },
    /// (I4) A success was accepted, but no handler call under that token answered so.
    SuccessWithoutEffect {
        /// Job id.
        job: String,
        /// Token of the success.
        token: u64,
    },
    /// (I4) More than one attempt was accepted as the success, or something was accepted after it.
    FinishedTwice {
        /// Job id.
        job: String,
        /// Tokens of the attempts from the first success on.
        tokens: Vec<u64>,
        /// When each ended.
        at_ms: Vec<u64>,
    },
    /// (I4) Something was accepted after the job had ended.
    AfterTerminal {
        /// Job id.
        job: String,
        /// How it had ended.
        ended: JobState,
        /// When.
        ended_ms: u64,
        /// What was accepted.
        what: String,
        /// Its token, if it has one.
        token: Option<u64>,
        /// When it was accepted.
        at_ms: u64,
    },
    /// (I4) A job that had ended is live again in the end, though nobody replayed it.
    Reopened {
        /// Job id.
        job: String,
        /// How it had ended.
        ended: JobState,
        /// When.
        ended_ms: u64,
        /// State of the record.
        state: JobState,
    },
    /// (I5) A generation of a job spent more than it may.
    BudgetExceeded {
        /// Job id.
        job: String,
        /// Of what.
        budget: Budget,
        /// How much it spent.
        spent: u32,
        /// How much it may.
        allowed: u32,
        /// Token of the attempt that was too many.
        token: u64,
        /// When.
        at_ms: u64,
    },
    /// (I6) A dead job is not in the dead letters, and nobody took it out.
    DeadLetterLost {
        /// Job id.
        job: String,
        /// When it died, if known.
        died_ms: Option<u64>,
    },
    /// (I6) A dead job stands in the dead letters more than once.
    DeadLetterDoubled {
        /// Job id.
        job: String,
        /// How often.
        entries: usize,
    },
    /// (I6) A payload is not what was handed in.
    PayloadChanged {
        /// Job id.
        job: String,
        /// Where it is not.
        place: String,
        /// Digest of what was handed in.
        accepted: u64,
        /// Digest of what was found.
        found: u64,
    },
    /// (I6) A job left the dead letters without an audit record.
    LeftWithoutAudit {
        /// Job id.
        job: String,
        /// How.
        what: String,
        /// When.
        at_ms: u64,
    },
    /// (I6) A replay or removal was accepted of a job that was not dead.
    NotDead {
        /// Job id.
        job: String,
        /// Which of them.
        what: String,
        /// When.
        at_ms: u64,
    },
    /// (I7) A job was started before another one of its line that was ahead of it.
    OutOfOrder {
        /// Job id.
        job: String,
        /// Its token.
        token: u64,
        /// When it was started.
        at_ms: u64,
        /// The job that was ahead.
        overtaken: String,
        /// Since when that one waited.
        ready_ms: u64,
        /// The later token of that one.
        overtaken_token: u64,
    },
    /// (I8) The share of a lane was not what its weight gives it although all lanes had jobs waiting.
    UnfairShare {
        /// Lane.
        lane: String,
        /// Its grants …
        granted: usize,
        /// … of so many.
        grants: usize,
        /// What its weight gives it, in thousandths.
        weight_permille: u32,
        /// Time of the first of these grants.
        from_ms: u64,
        /// Time of the last.
        to_ms: u64,
    },
    /// (I8) A waiting lane was passed by for too long.
    LaneStarved {
        /// Lane.
        lane: String,
        /// Grants of other lanes in a row …
        grants: usize,
        /// … of which so many are allowed.
        allowed: usize,
        /// Time of the first of these grants.
        from_ms: u64,
        /// Time of the last.
        to_ms: u64,
    },
    /// (I9) More was granted in some time than the rate limit allows.
    RateExceeded {
        /// Lane.
        lane: String,
        /// Grants …
        grants: u64,
        /// … of which limit and burst allow so many.
        allowed: u64,
        /// Time of the first of these grants.
        from_ms: u64,
        /// Time of the last.
        to_ms: u64,
    },
    /// (I10) Two jobs of one key were live at the same time.
    KeyShared {
        /// The key.
        key: String,
        /// The job that came later.
        job: String,
        /// The job that held the key.
        other: String,
        /// When both were live.
        at_ms: u64,
    },
    /// (I10) A live job has a key that is not its own.
    KeyUnowned {
        /// The key.
        key: String,
        /// The job.
        job: String,
        /// Who owns the key, if anybody does.
        owner: Option<String>,
    },
    /// (I11) More leases of a lane were live than its cap allows.
    CapExceeded {
        /// Lane.
        lane: String,
        /// Live leases.
        live: u64,
        /// Its cap.
        cap: u32,
        /// The job whose lease was too many.
        job: String,
        /// When it was granted.
        at_ms: u64,
    },
    /// (I12) A record stands in no index, in several or in a wrong one; or an index names a job without a record.
    Misindexed {
        /// Job id.
        job: String,
        /// State of the record, if there is one.
        state: Option<JobState>,
        /// Where the job stands.
        indexes: Vec<String>,
    },
    /// (I12) The queue counted other successes than there are succeeded jobs.
    CountsDiffer {
        /// Counted by the queue.
        counted: u64,
        /// Succeeded jobs, or the nearest number that lost replies allow.
        records: u64,
    },
    /// (I13) One id was accepted twice while its first job was there.
    AcceptedTwice {
        /// Job id.
        job: String,
        /// When it was accepted first.
        first_ms: u64,
        /// And again.
        second_ms: u64,
    },
    /// (I14) An accepted job neither finished nor died although the queue had time to drain.
    Unfinished {
        /// Job id.
        job: String,
        /// State it is in.
        state: JobState,
        /// When it had to have ended, if that was told.
        deadline_ms: Option<u64>,
    },
    /// (I14) A job ended later than the bound on draining allows.
    FinishedLate {
        /// Job id.
        job: String,
        /// When it ended.
        ended_ms: u64,
        /// When it had to.
        deadline_ms: u64,
    },
}

impl Violation {
    /// The number of the invariant that it breaks: 1 for I1.
    #[must_use]
    pub fn invariant(&self) -> u8 {
        match self {
            Self::Lost { .. } | Self::EndedByNobody { .. } => 1,
            Self::TokensFell { .. } | Self::LeasesOverlap { .. } | Self::TakenTooEarly { .. } => 2,
            Self::StaleSettlement { .. }
            | Self::StaleExtension { .. }
            | Self::SettledTwice { .. }
            | Self::NeverGranted { .. }
            | Self::NotTheHolder { .. } => 3,
            Self::SuccessWithoutEffect { .. }
            | Self::FinishedTwice { .. }
            | Self::AfterTerminal { .. }
            | Self::Reopened { .. } => 4,
            Self::BudgetExceeded { .. } => 5,
            Self::DeadLetterLost { .. }
            | Self::DeadLetterDoubled { .. }
            | Self::PayloadChanged { .. }
            | Self::LeftWithoutAudit { .. }
            | Self::NotDead { .. } => 6,
            Self::OutOfOrder { .. } => 7,
            Self::UnfairShare { .. } | Self::LaneStarved { .. } => 8,
            Self::RateExceeded { .. } => 9,
            Self::KeyShared { .. } | Self::KeyUnowned { .. } => 10,
            Self::CapExceeded { .. } => 11,
            Self::Misindexed { .. } | Self::CountsDiffer { .. } => 12,
            Self::AcceptedTwice { .. } => 13,
            Self::Unfinished { .. } | Self::FinishedLate { .. } => 14,
        }
    }
}
