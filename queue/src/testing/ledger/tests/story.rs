//! Histories written by hand.

use super::super::history::{Act, Ending, Event, Fate};
use super::super::{Entry, Index, Record, Rules, Run, TypeRules, Violation, judge};
use crate::types::{JobState, Spends};

pub(super) const RETRY: Ending = Ending::Retry(Spends::Try);
pub(super) const DEAD: Ending = Ending::Dead(Spends::Try);

/// A run in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct Story {
    pub(super) run: Run,
    pub(super) rules: Rules,
}

/// Nothing happened yet; jobs of type `mail` have two tries and a crash budget of two.
pub(super) fn story() -> Story {
    let mut story = Story::default();
    story.rules.types.insert("mail".into(), TypeRules { max_attempts: 2, crash_budget: 2 });
    story.run.dump.at_ms = 10_000;
    story
}

impl Story {
    fn tell(mut self, at_ms: u64, client: &str, fate: Fate, act: Act) -> Self {
        self.run.events.push(Event { client: client.into(), at_ms, fate, act });
        self
    }

    /// The client was told that it happened.
    pub(super) fn ok(self, at_ms: u64, client: &str, act: Act) -> Self {
        self.tell(at_ms, client, Fate::Ok, act)
    }

    /// The reply was lost.
    pub(super) fn lost(self, at_ms: u64, client: &str, act: Act) -> Self {
        self.tell(at_ms, client, Fate::Unknown, act)
    }

    /// The client was told that it did not happen.
    pub(super) fn refused(self, at_ms: u64, client: &str, act: Act) -> Self {
        self.tell(at_ms, client, Fate::Refused, act)
    }

    /// In the end Redis holds the record, in these indexes.
    pub(super) fn left(mut self, job: &str, state: JobState, indexes: &[Index]) -> Self {
        let (job, dump) = (job.to_owned(), &mut self.run.dump);
        for index in indexes {
            dump.entries.push(Entry { index: *index, name: format!("{index:?}"), job: job.clone() });
        }
        dump.records.push(Record { job, state, due_ms: 0, attempts: 0, key: None, payload: None });
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Exactly these violations.
    #[track_caller]
    pub(super) fn finds<const N: usize>(&self, expected: [Violation; N]) {
        assert_eq!(judge(&self.run, &self.rules).violations, expected);
    }

    #[track_caller]
    pub(super) fn is_sound(&self) {
        self.finds([]);
    }
}

/// A `mail` of lane `fast`, priority 5.
pub(super) fn enqueue(job: &str, due_ms: u64) -> Act {
    of_lane("fast", job, due_ms)
}

pub(super) fn of_lane(lane: &str, job: &str, due_ms: u64) -> Act {
    Act::Enqueue {
        job: Some(job.into()),
        job_type: "mail".into(),
        lane: lane.into(),
        priority: 5,
        key: None,
        payload: Some(7),
        due_ms,
        seq: 0,
    }
}

pub(super) fn keyed(job: &str, name: &str) -> Act {
    let mut act = enqueue(job, 0);
    if let Act::Enqueue { key, .. } = &mut act {
        *key = Some(name.into());
    }
    act
}

pub(super) fn grant(job: &str, token: u64) -> Act {
    grant_of("fast", job, token)
}

pub(super) fn grant_of(lane: &str, job: &str, token: u64) -> Act {
    Act::Grant { job: job.into(), token, attempt: 1, lane: lane.into(), expires_ms: None, payload: None }
}

pub(super) fn takeover(job: &str, token: u64) -> Act {
    Act::Takeover { job: job.into(), token, expires_ms: None }
}

pub(super) fn settle(job: &str, token: u64, ending: Ending) -> Act {
    Act::Settle { job: job.into(), token, ending }
}

pub(super) fn success(job: &str, token: u64) -> Act {
    settle(job, token, Ending::Success)
}

pub(super) fn extend(job: &str, token: u64) -> Act {
    Act::Extend { job: job.into(), token, expires_ms: None }
}

pub(super) fn cancel(job: &str, running: Option<bool>) -> Act {
    Act::Cancel { job: job.into(), running }
}

pub(super) fn replay(job: &str) -> Act {
    Act::Replay { job: job.into(), audit: Some("ann: vendor is back".into()) }
}

pub(super) fn remove(job: &str) -> Act {
    Act::Remove { job: job.into(), audit: Some("ann: of no use".into()) }
}

pub(super) fn a() -> String {
    "a".into()
}

/// Accepted at 10 and leased by `w1` under token 100 at 20.
pub(super) fn leased() -> Story {
    story().ok(10, "app", enqueue("a", 10)).ok(20, "w1", grant("a", 100))
}

/// The same, and taken over by `w2` under token 200 at 50.
pub(super) fn taken() -> Story {
    leased().ok(50, "w2", takeover("a", 200))
}

pub(super) fn died() -> Story {
    leased().ok(30, "w1", settle("a", 100, DEAD))
}
