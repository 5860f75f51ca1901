//! One job's life: the set of phases it may be in, which lost replies widen and accepted acts narrow.

use super::history::{Act, Event, Fate};
use super::phase::{End, Phase, forced, step};
use super::rules::Rules;

/// A lease that a reply told of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease<'a> {
    pub(super) token: u64,
    pub(super) client: &'a str,
    pub(super) since_ms: u64,
    /// Known expiry, ms.
    pub(super) expires_ms: Option<u64>,
}

/// An accepted settlement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settled {
    pub(super) token: u64,
    pub(super) at_ms: u64,
    pub(super) success: bool,
}

/// What is known of one job up to some moment.
#[derive(Debug)]
pub(super) struct Life<'a> {
    pub(super) job: &'a str,
    /// Where it may stand; never empty.
    pub(super) phases: Vec<Phase>,
    /// Lost acts that may still take effect.
    pending: Vec<&'a Event>,
    pub(super) leases: Vec<Lease<'a>>,
    pub(super) settled: Vec<Settled>,
    /// Latest accepted end of the present generation.
    pub(super) end: Option<(End, u64)>,
    pub(super) accepted_ms: Option<u64>,
    /// Somebody was told that the job is there already.
    pub(super) told_of: bool,
    /// Digest of the payload that was handed in.
    pub(super) payload: Option<u64>,
    /// From when on the present generation could be started, ms.
    pub(super) ready_ms: Option<u64>,
    /// When it certainly ended and not before, ms.
    pub(super) sure_end_ms: Option<u64>,
    pub(super) max_token: u64,
}

impl<'a> Life<'a> {
    /// A job of which nothing is known: a lost reply may have handed it in.
    pub(super) fn new(job: &'a str) -> Self {
        Self {
            job,
            phases: vec![Phase::Absent, Phase::Waiting],
            pending: Vec::new(),
            leases: Vec::new(),
            settled: Vec::new(),
            end: None,
            accepted_ms: None,
            told_of: false,
            payload: None,
            ready_ms: None,
            sure_end_ms: None,
            max_token: 0,
        }
    }

    pub(super) fn all(&self, what: impl Fn(Phase) -> bool) -> bool {
        self.phases.iter().all(|phase| what(*phase))
    }

    pub(super) fn any(&self, what: impl Fn(Phase) -> bool) -> bool {
        self.phases.iter().any(|phase| what(*phase))
    }

    /// The newest lease that may be held.
    pub(super) fn held(&self) -> Option<u64> {
        let tokens = self.phases.iter().filter_map(|phase| match phase {
            Phase::Leased { token, .. } => Some(*token),
            _ => None,
        });
        tokens.max()
    }

    pub(super) fn lease(&self, token: u64) -> Option<&Lease<'a>> {
        self.leases.iter().rev().find(|lease| lease.token == token)
    }

    /// Whether a lost act may still start a new generation.
    pub(super) fn may_begin_again(&self) -> bool {
        self.pending.iter().any(|event| matches!(event.act, Act::Replay { .. } | Act::Enqueue { .. }))
    }

    /// Time has come to `now_ms`: lost acts beyond their time took effect before, or never will.
    pub(super) fn advance(&mut self, now_ms: u64, rules: &Rules) {
        self.pending.retain(|event| event.at_ms.saturating_add(rules.late_ms) >= now_ms);
    }

    /// A reply was lost: from now on the act may have happened.
    pub(super) fn lose(&mut self, event: &'a Event, rules: &Rules) {
        // An extension leads nowhere else.
        if !matches!(event.act, Act::Extend { .. }) {
            self.pending.push(event);
        }
        match &event.act {
            Act::Enqueue { payload, .. } => self.payload = self.payload.or(*payload),
            // It may come late: the record knows since when the job is due.
            Act::Replay { .. } => self.ready_ms = None,
            _ => {}
        }
        self.close(event.at_ms, rules);
    }

    /// Whether the act can have been accepted.
    pub(super) fn can(&self, event: &Event, rules: &Rules) -> bool {
        self.any(|phase| step(phase, &event.act, event.at_ms, rules.ids_return)[0].is_some())
    }

    /// The act was accepted, rightly or not.
    pub(super) fn accept(&mut self, event: &'a Event, rules: &Rules) {
        let could_have_ended = self.any(|phase| phase.ended().is_some());
        let mut next = Vec::with_capacity(2);
        for phase in &self.phases {
            next.extend(step(*phase, &event.act, event.at_ms, rules.ids_return).into_iter().flatten());
        }
        if next.is_empty() {
            let last = self.phases.last().copied().unwrap_or(Phase::Absent);
            // A job that was seen at work before its enqueue was accepted is not thrown back.
            let seen = matches!(event.act, Act::Enqueue { .. }) && self.accepted_ms.is_none();
            next.push(if seen { last } else { forced(&event.act, last) });
        }
        self.phases = next;
        dedup(&mut self.phases);
        self.note(event);
        if self.all(|phase| phase.ended().is_some()) {
            let end = self.phases.first().and_then(|phase| phase.ended()).map(|end| (end, event.at_ms));
            if !could_have_ended {
                self.end = end;
                self.sure_end_ms = Some(event.at_ms);
            }
            self.end = self.end.or(end);
        }
        self.close(event.at_ms, rules);
    }

    fn note(&mut self, event: &'a Event) {
        match &event.act {
            Act::Enqueue { payload, due_ms, .. } => {
                self.accepted_ms = Some(event.at_ms);
                self.payload = *payload;
                self.begin((*due_ms).max(event.at_ms));
            }
            Act::Duplicate { .. } => self.told_of = true,
            Act::Replay { .. } => self.begin(event.at_ms),
            Act::Grant { token, expires_ms, .. } | Act::Takeover { token, expires_ms, .. } => {
                self.max_token = self.max_token.max(*token);
                // Older tokens are fenced: a lost word under one of them can no longer count.
                self.pending.retain(|lost| lost.act.token().is_none_or(|old| old >= *token));
                let (token, expires_ms) = (*token, *expires_ms);
                self.leases.push(Lease { token, client: &event.client, since_ms: event.at_ms, expires_ms });
            }
            Act::Extend { token, expires_ms, .. } => {
                if let Some(lease) = self.leases.iter_mut().rev().find(|lease| lease.token == *token) {
                    lease.expires_ms = lease.expires_ms.max(*expires_ms);
                }
            }
            Act::Settle { token, ending, .. } => {
                let success = *ending == super::history::Ending::Success;
                self.settled.push(Settled { token: *token, at_ms: event.at_ms, success });
            }
            _ => {}
        }
    }

    /// A new generation: earlier ends and successes are past.
    fn begin(&mut self, ready_ms: u64) {
        self.ready_ms = Some(ready_ms);
        self.end = None;
        self.sure_end_ms = None;
        self.settled.clear();
    }

    /// Adds every phase that lost acts may lead to.
    fn close(&mut self, now_ms: u64, rules: &Rules) {
        let mut at = 0;
        while at < self.phases.len() && !self.pending.is_empty() {
            for event in &self.pending {
                // A cancellation marks the lease from when it may have come; anything else happens now.
                let when = if matches!(event.act, Act::Cancel { .. }) { event.at_ms } else { now_ms };
                for phase in step(self.phases[at], &event.act, when, rules.ids_return).into_iter().flatten() {
                    if !self.phases.contains(&phase) {
                        self.phases.push(phase);
                    }
                }
            }
            at += 1;
        }
        debug_assert!(self.pending.iter().all(|event| event.fate == Fate::Unknown));
    }
}

fn dedup(phases: &mut Vec<Phase>) {
    let mut kept: Vec<Phase> = Vec::with_capacity(phases.len());
    for phase in phases.drain(..) {
        if !kept.contains(&phase) {
            kept.push(phase);
        }
    }
    *phases = kept;
}
