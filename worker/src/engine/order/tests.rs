//! Shares over time, against lanes as a claim would find them.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

/// Lanes with so many jobs each, served as the function library serves a claim: critical jobs, then each lane up to its
/// share, then what is left over in the listed order.
struct Served<'a> {
    weights: &'a RoundRobin,
    backlog: &'a mut [u32],
}

impl Served<'_> {
    fn claim(self, slots: u32, critical: u32) -> (Plan, Vec<u32>) {
        let plan = self.weights.plan(slots);
        let mut took = vec![0; self.backlog.len()];
        let mut left = slots - critical;
        for bounded in [true, false] {
            for &(lane, share) in &plan.shares {
                let bound = if bounded { share } else { u32::MAX };
                let taken = self.backlog[lane].min(left).min(bound);
                self.backlog[lane] -= taken;
                took[lane] += taken;
                left -= taken;
            }
        }
        (plan, took)
    }
}

fn claim(lanes: &mut RoundRobin, backlog: &mut [u32], slots: u32, critical: u32) -> Vec<u32> {
    let (plan, took) = Served { weights: lanes, backlog }.claim(slots, critical);
    lanes.settle(&plan, critical, &took);
    took
}

fn some_weights(dice: &mut StdRng, lanes: usize) -> Vec<u32> {
    let most = if dice.random() { 100 } else { 9 };
    (0..lanes).map(|_| dice.random_range(1..=most)).collect()
}

fn sum(took: &[Vec<u32>], lane: usize) -> f64 {
    took.iter().map(|took| f64::from(took[lane])).sum()
}

#[test]
fn backlogged_lanes_are_within_a_quantum_of_their_shares_over_every_window() {
    for seed in 0..60 {
        let mut dice = StdRng::seed_from_u64(seed);
        let count = dice.random_range(1..=8);
        let weights = some_weights(&mut dice, count);
        let mut lanes = RoundRobin::new(&weights);
        let most = if dice.random() { 200 } else { 3 };
        let took: Vec<_> = (0..150)
            .map(|_| claim(&mut lanes, &mut vec![u32::MAX; count], dice.random_range(1..=most), 0))
            .collect();
        let all: u32 = weights.iter().sum();
        for lane in 0..count {
            let part = f64::from(weights[lane]) / f64::from(all);
            let quantum = lanes.lanes[lane].quantum as f64;
            for from in 0..took.len() {
                let (mut mine, mut every) = (0.0, 0.0);
                for took in &took[from..] {
                    mine += f64::from(took[lane]);
                    every += f64::from(took.iter().sum::<u32>());
                    let off = (mine - every * part).abs();
                    assert!(off <= quantum, "seed {seed}: lane {lane} of {weights:?} is {off} off");
                }
            }
        }
    }
}

#[test]
fn one_round_is_given_out_by_weight() {
    let mut lanes = RoundRobin::new(&[60, 30, 10]);
    let mut backlog = [1000; 3];
    assert_eq!(claim(&mut lanes, &mut backlog, 10, 0), [6, 3, 1], "in quanta of 6, 3 and 1");
    // Slot by slot the turns follow one another.
    let slots: Vec<_> = (0..10).map(|_| claim(&mut lanes, &mut backlog, 1, 0)).collect();
    let order: Vec<_> = slots.iter().map(|took| took.iter().position(|&n| n == 1).unwrap()).collect();
    assert_eq!(order, [0, 0, 0, 0, 0, 0, 1, 1, 1, 2]);
}

#[test]
fn an_idle_lanes_share_goes_to_the_others_at_once_and_idle_time_earns_nothing() {
    for seed in 0..40 {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut lanes = RoundRobin::new(&[5, 3, 2]);
        let most = if dice.random() { 200 } else { 7 };
        let mut run = |lanes: &mut RoundRobin, idle: bool, claims: u32| -> Vec<Vec<u32>> {
            let one = |_| {
                let mut backlog = [u32::MAX, u32::MAX, if idle { 0 } else { u32::MAX }];
                let slots = dice.random_range(1..=most);
                let took = claim(lanes, &mut backlog, slots, 0);
                assert_eq!(took.iter().sum::<u32>(), slots, "no slot stays free while a job waits");
                took
            };
            (0..claims).map(one).collect()
        };
        let idle = run(&mut lanes, true, 300);
        let (five, three) = (sum(&idle, 0), sum(&idle, 1));
        assert!(
            (five / 5.0 - three / 3.0).abs() <= 2.0 + f64::from(most) / 3.0,
            "seed {seed}: {five}:{three}"
        );
        // Back again, it has its share from now on and nothing for the past.
        let back = run(&mut lanes, false, 50);
        for claims in 1..=back.len() {
            let every: f64 = (0..3).map(|lane| sum(&back[..claims], lane)).sum();
            let off = sum(&back[..claims], 2) - every * 0.2;
            let known = claims == 1; // What the first claim offers it is one quantum.
            assert!(
                off <= 2.0 + f64::from(u8::from(known)),
                "seed {seed}: {off} too many after {claims} claims"
            );
        }
        assert!((sum(&back, 2) / 2.0 - sum(&back, 1) / 3.0).abs() <= 2.0 + f64::from(most) / 2.0);
    }
}

/// Lanes that come and go at random beside two that always have jobs: those two keep their proportion, and everything
/// that can be taken is.
#[test]
fn lanes_that_come_and_go_do_not_shift_the_others() {
    for seed in 0..60 {
        let mut dice = StdRng::seed_from_u64(seed);
        let count = dice.random_range(3..=6);
        let weights = some_weights(&mut dice, count);
        let mut lanes = RoundRobin::new(&weights);
        let most = if dice.random() { 200 } else { 5 };
        let (mut ahead, mut took_in_all) = (0.0_f64, vec![0_u64; count]);
        let mut backlog = vec![0; count];
        for _ in 0..3000 {
            let slots = dice.random_range(1..=most);
            backlog[..2].fill(1_000_000);
            for backlog in &mut backlog[2..] {
                *backlog += if dice.random_range(0..4) == 0 { dice.random_range(0..=most) } else { 0 };
            }
            let critical = if dice.random_range(0..3) == 0 { dice.random_range(0..=slots) } else { 0 };
            let took = claim(&mut lanes, &mut backlog, slots, critical);
            assert_eq!(took.iter().sum::<u32>(), slots - critical);
            took_in_all.iter_mut().zip(&took).for_each(|(all, took)| *all += u64::from(*took));
            let served = |lane: usize| took_in_all[lane] as f64 / lanes.lanes[lane].quantum as f64;
            ahead = ahead.max((served(0) - served(1)).abs());
        }
        let smallest = lanes.lanes[..2].iter().map(|lane| lane.quantum).min().unwrap() as f64;
        let bound = 2.0 + 3.0 * f64::from(most) / smallest;
        assert!(ahead <= bound, "seed {seed}: {ahead} rounds apart of at most {bound}, weights {weights:?}");
    }
}

#[test]
fn no_lane_starves() {
    for seed in 0..40 {
        let mut dice = StdRng::seed_from_u64(seed);
        let count = dice.random_range(2..=6);
        let weights = some_weights(&mut dice, count);
        let mut lanes = RoundRobin::new(&weights);
        let round: i64 = lanes.lanes.iter().map(|lane| lane.quantum).sum();
        // One lane gets a job now and then; all others are always full.
        let late = dice.random_range(0..count);
        let mut backlog = vec![u32::MAX; count];
        backlog[late] = 0;
        let mut waited = 0;
        for _ in 0..2000 {
            backlog
                .iter_mut()
                .enumerate()
                .filter(|(at, _)| *at != late)
                .for_each(|(_, jobs)| *jobs = u32::MAX);
            backlog[late] |= u32::from(dice.random_range(0..5) == 0);
            let slots = dice.random_range(1..=4);
            let waits = backlog[late] > 0;
            let took = claim(&mut lanes, &mut backlog, slots, 0);
            waited = if waits && took[late] == 0 { waited + i64::from(slots) } else { 0 };
            assert!(
                waited <= 2 * round + 8,
                "seed {seed}: lane {late} of {weights:?} waits for {waited} jobs"
            );
        }
    }
}

#[test]
fn what_cannot_be_is_survived() {
    let mut none = RoundRobin::new(&[]);
    let plan = none.plan(5);
    assert_eq!(plan.shares, []);
    none.settle(&plan, 0, &[]);
    let mut lanes = RoundRobin::new(&[2, 1]);
    let plan = lanes.plan(3);
    // A library that does not know of shares gives all to the first.
    lanes.settle(&plan, 0, &[3, 0]);
    lanes.settle(&plan, 3, &[0, 0]);
    assert_eq!(lanes.plan(0).shares.len(), 2);
}
