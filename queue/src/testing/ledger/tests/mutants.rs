//! Each kind of fault, put into hundreds of valid histories, is caught each time and in the right terms.

use super::super::{Rules, Run, Violation, judge};
use super::faults::{FAULTS, UNBOUNDED, UNFAIR};
use super::simulator::simulate;

/// Histories per kind of fault.
const EACH: usize = 200;

type Fault = (&'static str, fn(&mut Run) -> Option<()>, fn(&Violation) -> bool);

fn hunt(faults: &[Fault], seeds: impl Iterator<Item = u64>) {
    let mut caught = vec![0; faults.len()];
    for seed in seeds {
        if caught.iter().all(|count| *count >= EACH) {
            return;
        }
        let (run, rules) = simulate(seed);
        for (fault, count) in faults.iter().zip(&mut caught) {
            *count += usize::from(*count < EACH && is_caught(fault, &run, &rules, seed));
        }
    }
    let names: Vec<_> = faults.iter().map(|(name, ..)| name).zip(&caught).collect();
    assert!(
        caught.iter().all(|count| *count >= EACH),
        "too few histories have a place for a fault: {names:?}"
    );
}

/// Whether the history had a place for the fault.
fn is_caught((name, inject, is): &Fault, run: &Run, rules: &Rules, seed: u64) -> bool {
    let mut run = run.clone();
    if inject(&mut run).is_none() {
        return false;
    }
    let violations = judge(&run, rules).violations;
    assert!(violations.iter().any(is), "seed {seed}: {name} was not caught: {violations:?}");
    for violation in violations {
        let sentence = violation.to_string();
        assert!(sentence.starts_with(&format!("I{}: ", violation.invariant())), "{sentence}");
        assert!(!sentence.contains('{'), "no sentence for {violation:?}");
    }
    true
}

#[test]
fn every_fault_is_caught() {
    hunt(FAULTS, 0..600);
}

#[test]
fn unfairness_is_caught() {
    hunt(UNFAIR, (0..1_200).filter(|seed| seed % 2 == 0));
}

#[test]
fn broken_limits_are_caught() {
    hunt(UNBOUNDED, (0..1_200).filter(|seed| seed % 2 == 1));
}
