//! Puts the history of a run together for the ledger, from witnesses that do not know of each other: what this process'
//! clients were told (`history.rs`), what handlers wrote down (`effects.rs`), and what the records in Redis say of attempts by
//! workers that were killed too often to keep a log.
//!
//! A client learns of an act when its reply arrives; the record knows when Redis did it. Where both speak of the same act,
//! the record's time counts, never a later one: otherwise a slow reply would look like a broken promise.

use std::collections::{HashMap, HashSet};

use lanekeeper_queue::takeover::LEASE_EXPIRED;
use lanekeeper_queue::testing::dump::Holdings;
use lanekeeper_queue::testing::ledger::history::{Act, Event, Fate};
use lanekeeper_queue::testing::ledger::{Effect, Run};
use lanekeeper_queue::types::{Attempt, Job};

use crate::history::ending_of;

/// Longest time that Redis may hold answered writes back from its file under `everysec`, ms, with a second on top: a kill
/// undoes them.
pub const UNDONE_MS: u64 = 3_000;

/// Who says what.
#[derive(Clone)]
pub struct Witnesses {
    /// Clients of this process.
    pub clients: Vec<Event>,
    /// Handlers; absent where no handler ran.
    pub effects: Option<Vec<Effect>>,
    /// When Redis was killed, ms.
    pub kills_ms: Vec<u64>,
    /// Redis in the end.
    pub holdings: Holdings,
}

/// The run, and how many grants a kill of Redis undid.
pub struct Testimony {
    /// For the ledger.
    pub run: Run,
    /// Handlers that ran under a token which Redis forgot when it was killed.
    pub undone_grants: u64,
}

type Token<'a> = (&'a str, u64);

/// Hears all witnesses.
#[must_use]
pub fn hear(witnesses: &Witnesses) -> Testimony {
    let Witnesses { clients, effects, kills_ms, holdings } = witnesses;
    let jobs: HashMap<&str, &Job> = holdings.jobs.iter().map(|job| (job.id.as_str(), job)).collect();
    let mut events: Vec<Event> = clients.iter().map(|event| fitted(event, &jobs)).collect();
    let told = Told::new(clients);
    for job in &holdings.jobs {
        of_record(job, &told, &mut events);
    }
    let known: HashSet<Token<'_>> = events
        .iter()
        .filter(|event| matches!(event.act, Act::Grant { .. }))
        .filter_map(|event| Some((event.act.job()?, event.act.token()?)))
        .collect();
    let mut undone_grants = 0;
    let mut unseen = Vec::new();
    let mut once = HashSet::new();
    for effect in effects.iter().flatten().filter(|effect| !known.contains(&(&effect.job, effect.token))) {
        let at_ms = effect.token / 1000;
        if !once.insert((&effect.job, effect.token)) {
            continue;
        }
        if kills_ms.iter().any(|kill| (*kill).saturating_sub(UNDONE_MS) <= at_ms && at_ms <= *kill) {
            undone_grants += 1;
        } else {
            unseen.push(ok("unseen", at_ms, grant(&effect.job, effect.token, 0, String::new())));
        }
    }
    events.extend(unseen);
    Testimony { run: Run { events, effects: effects.clone(), dump: holdings.dump.clone() }, undone_grants }
}

/// What clients were told, to be told once.
struct Told<'a> {
    grants: HashSet<Token<'a>>,
    settled: HashSet<Token<'a>>,
    replayed: HashSet<&'a str>,
}

impl<'a> Told<'a> {
    fn new(clients: &'a [Event]) -> Self {
        let mut told = Self { grants: HashSet::new(), settled: HashSet::new(), replayed: HashSet::new() };
        for event in clients.iter().filter(|event| event.fate == Fate::Ok) {
            match &event.act {
                Act::Grant { job, token, .. } => _ = told.grants.insert((job, *token)),
                Act::Settle { job, token, .. } => _ = told.settled.insert((job, *token)),
                Act::Replay { job, .. } => _ = told.replayed.insert(job),
                _ => {}
            }
        }
        told
    }
}

/// The event at the time at which Redis did it, where the record knows.
fn fitted(event: &Event, jobs: &HashMap<&str, &Job>) -> Event {
    let mut event = event.clone();
    let job = event.act.job().and_then(|id| jobs.get(id));
    let (Some(job), Fate::Ok) = (job, event.fate) else { return event };
    let at_ms = match &mut event.act {
        Act::Enqueue { lane, due_ms, .. } => {
            if let Some(known) = &job.lane {
                lane.clone_from(known);
            }
            if *due_ms <= event.at_ms {
                *due_ms = job.enqueued_ms;
            }
            Some(job.enqueued_ms)
        }
        Act::Settle { token, .. } => {
            let token = *token;
            job.history.iter().find(|attempt| attempt.token == token).map(|attempt| attempt.ended_ms)
        }
        Act::Replay { .. } => {
            let replays = job.history.iter().filter(|attempt| attempt.outcome == "replay");
            replays.map(|attempt| attempt.ended_ms).rfind(|ended_ms| *ended_ms <= event.at_ms)
        }
        _ => None,
    };
    event.at_ms = at_ms.filter(|at_ms| *at_ms <= event.at_ms).unwrap_or(event.at_ms);
    event
}

/// What the record says of attempts that no client of this process made.
fn of_record(job: &Job, told: &Told<'_>, events: &mut Vec<Event>) {
    let lane = || job.lane.clone().unwrap_or_default();
    for attempt in &job.history {
        let (id, token) = (job.id.as_str(), attempt.token);
        if attempt.outcome == "replay" {
            if !told.replayed.contains(id) {
                let audit = Some(attempt.worker.clone()).filter(|by| !by.is_empty());
                events.push(ok(&attempt.worker, attempt.ended_ms, Act::Replay { job: id.into(), audit }));
            }
            continue;
        }
        if !told.grants.contains(&(id, token)) {
            let act = grant(id, token, attempt.number, lane());
            events.push(ok(&attempt.worker, attempt.started_ms, act));
        }
        if !told.settled.contains(&(id, token)) {
            ended(id, attempt, events);
        }
    }
    if let Some(lease) =
        job.lease.as_ref().filter(|lease| !told.grants.contains(&(job.id.as_str(), lease.token)))
    {
        let act = grant(&job.id, lease.token, job.attempts + 1, lane());
        events.push(ok(&lease.worker, lease.since_ms, act));
    }
}

/// The end of an attempt. One that was lost with its worker was ended by a sweeper under a token of its own, which the record
/// does not keep: the next one stands for it, for a later claim has one above that.
fn ended(id: &str, attempt: &Attempt, events: &mut Vec<Event>) {
    let lost = attempt.error.as_ref().is_some_and(|error| error.code == LEASE_EXPIRED);
    let Some(ending) = ending_of(&attempt.outcome, lost) else { return };
    let (by, token) =
        if lost { ("sweeper", attempt.token + 1) } else { (attempt.worker.as_str(), attempt.token) };
    if lost {
        let act = Act::Takeover { job: id.into(), token, expires_ms: None };
        events.push(ok(by, attempt.ended_ms, act));
    }
    if attempt.outcome == "cancel" {
        let act = Act::Cancel { job: id.into(), running: Some(true) };
        events.push(ok("somebody", attempt.started_ms, act));
    }
    events.push(ok(by, attempt.ended_ms, Act::Settle { job: id.into(), token, ending }));
}

fn ok(client: &str, at_ms: u64, act: Act) -> Event {
    Event { client: client.to_owned(), at_ms, fate: Fate::Ok, act }
}

fn grant(job: &str, token: u64, attempt: u32, lane: String) -> Act {
    Act::Grant { job: job.into(), token, attempt, lane, expires_ms: None, payload: None }
}

#[cfg(test)]
mod tests {
    use lanekeeper_queue::testing::ledger::{Dump, Entry, Index, Record, Rules, judge};
    use lanekeeper_queue::types::{AttemptError, ErrorClass};

    use super::*;
    use crate::court::sentence;

    const T: u64 = 1_000_000;

    fn attempt(number: u32, token: u64, outcome: &str) -> Attempt {
        Attempt {
            number,
            started_ms: token / 1000,
            ended_ms: token / 1000 + 10,
            worker: "w1".into(),
            node: "here".into(),
            token,
            policy_version: 1,
            outcome: outcome.into(),
            error: None,
        }
    }

    fn lost(number: u32, token: u64) -> Attempt {
        let error =
            AttemptError { class: ErrorClass::Ambiguous, code: LEASE_EXPIRED.into(), message: String::new() };
        Attempt { error: Some(error), ..attempt(number, token, "retry") }
    }

    /// Enqueued at 1,000 ms and told so at 1,400; finished with this history.
    fn witnesses(history: Vec<Attempt>, effects: &[(u64, bool)]) -> Witnesses {
        let json = serde_json::json!({
            "id": "a", "type": "work", "lane": "main", "state": "succeeded", "priority": 5, "enqueuedMs": 1000,
            "dueMs": 1000, "tries": 0, "crashes": 0, "attempts": history.len(), "history": history, "payloadBytes": 2,
        });
        let job: Job = serde_json::from_value(json).unwrap();
        let act = Act::Enqueue {
            job: Some("a".into()),
            job_type: "work".into(),
            lane: String::new(),
            priority: 5,
            key: None,
            payload: None,
            due_ms: 990,
            seq: 0,
        };
        let dump = Dump {
            at_ms: 10_000,
            records: vec![Record::from(&job)],
            entries: vec![Entry { index: Index::Finished, name: "f:work".into(), job: "a".into() }],
            keys: None,
            succeeded_total: None,
        };
        let effect =
            |(token, success): &(u64, bool)| Effect { job: "a".into(), token: *token, success: *success };
        Witnesses {
            clients: vec![ok("app", 1_400, act)],
            effects: Some(effects.iter().map(effect).collect()),
            kills_ms: vec![],
            holdings: Holdings { dump, jobs: vec![job] },
        }
    }

    fn rules() -> Rules {
        Rules { ids_return: false, trims: false, ..Rules::default() }
    }

    #[test]
    fn a_reply_that_came_late_breaks_no_promise() {
        let told = witnesses(vec![attempt(1, T + 100_000, "success")], &[(T + 100_000, true)]);
        let events = hear(&told).run.events;
        assert_eq!((events[0].at_ms, events.len()), (1_000, 3), "{events:?}");
        assert!(matches!(&events[0].act, Act::Enqueue { lane, due_ms: 1_000, .. } if lane == "main"));
        assert!(sentence(&told, &rules()).unwrap().violations.is_empty());
    }

    #[test]
    fn a_lost_attempt_was_ended_by_a_sweeper() {
        let history = vec![lost(1, T + 100_000), attempt(2, T + 200_000, "success")];
        let told = witnesses(history, &[(T + 200_000, true)]);
        let verdict = sentence(&told, &rules()).unwrap();
        assert_eq!((verdict.crashes, verdict.violations.len()), (1, 0), "{verdict:?}");
    }

    #[test]
    fn a_handler_under_a_token_that_no_record_knows_is_a_second_lease() {
        let effects = [(T + 100_000, true), (T + 105_000, true)];
        let mut told = witnesses(vec![attempt(1, T + 100_000, "success")], &effects);
        let verdict = judge(&hear(&told).run, &rules());
        assert!(!verdict.violations.is_empty());
        // Redis was killed right after it had leased the job: it forgot that.
        told.kills_ms = vec![(T + 105_000) / 1000 + 500];
        let heard = hear(&told);
        assert_eq!(heard.undone_grants, 1);
        assert!(judge(&heard.run, &rules()).violations.is_empty());
    }

    #[test]
    fn a_success_that_no_handler_wrote_down_is_told() {
        let told = witnesses(vec![attempt(1, T + 100_000, "success")], &[]);
        assert!(!judge(&hear(&told).run, &rules()).violations.is_empty());
    }
}
