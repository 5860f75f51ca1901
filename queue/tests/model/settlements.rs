//! How attempts end: settlements with valid tokens, and with all others.

use lanekeeper_queue::testing::model::Model;
use lanekeeper_queue::types::{
    AttemptError, DeadReason, ErrorClass, Held, Holds, MAX_CHECKPOINT, Note, Outcome, Progress, Settlement,
    Spends, WorkerIdentity,
};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Leases of a worker, at most `most`, some of them twice, and now and then one that is not its own.
pub fn held(rng: &mut StdRng, model: &Model, worker: &WorkerIdentity, most: usize) -> Vec<Held> {
    let mut own: Vec<Held> = model
        .leases()
        .filter(|(_, _, holder)| holder.boot == worker.boot)
        .map(|(id, token, _)| Held { id: id.to_owned(), token })
        .collect();
    let mut chosen = Vec::new();
    while !own.is_empty() && chosen.len() < most {
        chosen.push(own.swap_remove(rng.random_range(0..own.len())));
    }
    if rng.random_bool(0.15) {
        chosen.extend(wrong(rng, model));
    }
    if rng.random_bool(0.05) {
        chosen.extend(chosen.choose(rng).cloned());
    }
    if rng.random_bool(0.2) && chosen.len() > 1 {
        let last = chosen.len() - 1;
        chosen.swap(0, last);
    }
    chosen
}

/// A job and a token that most likely do not go together: of an earlier attempt, made up, another's, unknown.
fn wrong(rng: &mut StdRng, model: &Model) -> Option<Held> {
    let known: Vec<&String> = model.known_ids().collect();
    let id = (*known.choose(rng)?).clone();
    let tokens = model.tokens_of(&id);
    let last = tokens.first().copied().unwrap_or(1);
    Some(match rng.random_range(0..6) {
        0 => Held { id: "unknown".into(), token: last },
        1 => Held { id, token: last + 1 },
        2 => Held { id, token: last.saturating_sub(1) },
        _ => Held { id, token: *tokens.choose(rng).unwrap_or(&7) },
    })
}

/// How the attempts end; where `again`, mostly so that the jobs come back at once.
pub fn settlements(rng: &mut StdRng, held: Vec<Held>, again: bool) -> Vec<Settlement> {
    held.into_iter()
        .map(|lease| Settlement {
            id: lease.id,
            token: lease.token,
            key: None,
            outcome: if again && rng.random_bool(0.985) { back(rng) } else { outcome(rng) },
            policy_version: *[0, 7, 1 << 53, u64::MAX].choose(rng).expect("not empty"),
            note: rng.random_bool(0.2).then(|| note(rng)),
        })
        .collect()
}

/// Progress, a checkpoint, both or neither; at their bounds and beyond.
pub fn note(rng: &mut StdRng) -> Note {
    let progress = rng.random_bool(0.6).then(|| Progress {
        done: *[0, 3, 1 << 53, u64::MAX].choose(rng).expect("not empty"),
        total: *[None, Some(0), Some(10), Some(u64::MAX)].choose(rng).expect("not empty"),
        unit: if rng.random_bool(0.1) { "é".repeat(17) } else { "rows".to_owned() },
        message: text(rng),
    });
    let checkpoint = rng.random_bool(0.6).then(|| match rng.random_range(0..60) {
        0 => vec![b'x'; MAX_CHECKPOINT],
        1 => vec![b'x'; MAX_CHECKPOINT + 1],
        2..10 => Vec::new(),
        n => vec![b'c', 0, 0xff, n],
    });
    Note { progress, checkpoint }
}

fn back(rng: &mut StdRng) -> Outcome {
    if rng.random_bool(0.5) {
        return Outcome::Release { why: text(rng) };
    }
    Outcome::Retry { delay_ms: 0, spends: spends(rng), error: error(rng) }
}

fn outcome(rng: &mut StdRng) -> Outcome {
    let delay_ms = delay(rng);
    match rng.random_range(0..100) {
        0..42 => Outcome::Success { result: result(rng), follow_ups: vec![] },
        42..62 => Outcome::Retry { delay_ms, spends: spends(rng), error: error(rng) },
        62..76 => {
            let reasons = [
                DeadReason::PermanentError,
                DeadReason::TriesExhausted,
                DeadReason::CrashBudgetExhausted,
                DeadReason::GaveUp,
            ];
            let reason = *reasons.choose(rng).expect("not empty");
            Outcome::Dead { reason, error: error(rng), spends: spends(rng) }
        }
        76..88 => Outcome::Release { why: text(rng) },
        _ => {
            let holds = *[Holds::Job, Holds::Key, Holds::Key, Holds::Lane].choose(rng).expect("not empty");
            Outcome::Snooze { delay_ms, why: text(rng), holds }
        }
    }
}

fn delay(rng: &mut StdRng) -> u64 {
    match rng.random_range(0..10) {
        0..3 => 0,
        3..6 => rng.random_range(1..50),
        6..9 => rng.random_range(50..60_000),
        _ => *[3_600_000, 400_000_000_000, u64::MAX].choose(rng).expect("not empty"),
    }
}

fn spends(rng: &mut StdRng) -> Spends {
    *[Spends::Try, Spends::Crash, Spends::Nothing].choose(rng).expect("not empty")
}

fn result(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..400) {
        0..160 => Vec::new(),
        160..340 => b"{\"ok\":true}".to_vec(),
        340..399 => vec![b'r', 0, 0xff, 0xc3],
        _ => vec![b'x'; 66_000],
    }
}

fn error(rng: &mut StdRng) -> AttemptError {
    let classes = [ErrorClass::Transient, ErrorClass::Permanent, ErrorClass::Ambiguous];
    AttemptError { class: *classes.choose(rng).expect("not empty"), code: code(rng), message: text(rng) }
}

fn code(rng: &mut StdRng) -> String {
    if rng.random_bool(0.1) { "é".repeat(40) } else { "HttpStatus".to_owned() }
}

/// Mostly short; now and then longer than what is kept, with characters of several bytes where it is cut.
fn text(rng: &mut StdRng) -> String {
    match rng.random_range(0..2_000) {
        0..1_000 => "again".to_owned(),
        n @ 1_000..1_400 => format!("no user {n}: '{}'", n % 7),
        1_400..1_900 => String::new(),
        1_900..1_999 => format!("{}{}", "x".repeat(rng.random_range(0..4)), "€".repeat(400)),
        _ => "ü".repeat(33_000) + "x",
    }
}
