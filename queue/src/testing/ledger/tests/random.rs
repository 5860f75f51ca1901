//! The ledger is silent over valid histories, also when more replies get lost than were.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::history::{Act, Event, Fate};
use super::super::{Rules, judge};
use super::simulator::simulate;

const SEEDS: u64 = 250;

#[test]
fn it_is_silent_over_valid_histories() {
    for seed in 0..SEEDS {
        let (run, rules) = simulate(seed);
        assert_eq!(judge(&run, &rules).violations, [], "seed {seed}");
        let rules = Rules { late_ms: u64::MAX, ..rules };
        assert_eq!(judge(&run, &rules).violations, [], "seed {seed}, calls that may come at any time");
    }
}

/// Whatever happened may have happened: forgetting replies makes no valid history wrong.
#[test]
fn it_is_silent_when_replies_are_forgotten() {
    for seed in 0..SEEDS {
        let (mut run, rules) = simulate(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        let percent = rng.random_range(1..60);
        let lease = |event: &Event| matches!(event.act, Act::Grant { .. } | Act::Takeover { .. });
        let granted_ms: HashMap<_, _> = run
            .events
            .iter()
            .filter(|event| lease(event))
            .map(|event| (event.act.token(), event.at_ms))
            .collect();
        for event in &mut run.events {
            let forgettable = matches!(
                event.act,
                Act::Enqueue { .. }
                    | Act::Settle { .. }
                    | Act::Extend { .. }
                    | Act::Cancel { .. }
                    | Act::Replay { .. }
                    | Act::Remove { .. }
            );
            if forgettable && rng.random_range(0..100) < percent {
                event.fate = Fate::Unknown;
                // The client called before it would have been answered, and may know an older time yet.
                let known_ms = granted_ms.get(&event.act.token()).copied().unwrap_or_default();
                event.at_ms = (event.at_ms - rng.random_range(0..5)).max(known_ms);
                if let Act::Cancel { running, .. } = &mut event.act {
                    *running = None;
                }
            }
        }
        assert_eq!(judge(&run, &rules).violations, [], "seed {seed}, {percent}% forgotten");
    }
}

/// A generator that leaves things out proves nothing: it must show each kind of act and fate.
#[test]
fn the_histories_hold_everything() {
    let mut seen = std::collections::BTreeMap::<(String, &str), u64>::new();
    for seed in 0..50 {
        for event in simulate(seed).0.events {
            *seen.entry((format!("{:?}", event.fate), event.act.name())).or_default() += 1;
        }
    }
    for name in ["enqueue", "settlement", "extension", "cancellation", "replay", "removal"] {
        for fate in ["Ok", "Unknown"] {
            assert!(seen.contains_key(&(fate.into(), name)), "{fate} {name}: {seen:?}");
        }
    }
    for name in ["grant", "takeover", "duplicate"] {
        assert!(seen.contains_key(&("Ok".into(), name)), "{name}: {seen:?}");
    }
    assert!(seen.contains_key(&("Unknown".into(), "claim")), "{seen:?}");
    assert!(seen.contains_key(&("Refused".into(), "settlement")), "{seen:?}");
}
