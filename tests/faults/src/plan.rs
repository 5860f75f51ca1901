//! What is done to whom, when: drawn from the seed, so a run can be repeated.

use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of the worker in this place.
    KillWorker(usize),
    /// `kill -9` of Redis, started again after the pause.
    KillRedis(Duration),
    /// SIGSTOP of the worker in this place until past its lease, then SIGCONT.
    StopWorker(usize),
}

/// How many of each.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// Worker kills.
    pub worker_kills: usize,
    /// Redis kills.
    pub redis_kills: usize,
    /// Workers frozen past their lease.
    pub worker_stops: usize,
    /// Time before a fault, ms: least and most.
    pub pause_ms: (u64, u64),
}

/// The faults in a random order, each with the random time to wait before it.
pub fn draw(random: &mut impl Rng, counts: Counts, places: usize) -> Vec<(Duration, Fault)> {
    let mut faults = Vec::new();
    for _ in 0..counts.worker_kills {
        faults.push(Fault::KillWorker(random.random_range(0..places)));
    }
    for _ in 0..counts.redis_kills {
        faults.push(Fault::KillRedis(Duration::from_millis(random.random_range(0..2000))));
    }
    for _ in 0..counts.worker_stops {
        faults.push(Fault::StopWorker(random.random_range(0..places)));
    }
    faults.shuffle(random);
    let (least, most) = counts.pause_ms;
    faults.into_iter().map(|fault| (Duration::from_millis(random.random_range(least..most)), fault)).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_plan_with_every_fault_in_it() {
        let counts = Counts { worker_kills: 50, redis_kills: 10, worker_stops: 5, pause_ms: (200, 3000) };
        let plan = draw(&mut StdRng::seed_from_u64(7), counts, 4);
        assert_eq!(plan, draw(&mut StdRng::seed_from_u64(7), counts, 4));
        assert_ne!(plan, draw(&mut StdRng::seed_from_u64(8), counts, 4));
        let kills = plan.iter().filter(|(_, fault)| matches!(fault, Fault::KillWorker(_))).count();
        let outages = plan.iter().filter(|(_, fault)| matches!(fault, Fault::KillRedis(_))).count();
        assert_eq!((kills, outages, plan.len()), (50, 10, 65));
    }
}
