use proptest::prelude::*;

use super::*;
use crate::autoscale::decide::{State, decide};
use crate::autoscale::sample::Held;

prop_compose! {
    fn a_policy()(
        min in 0_u32..5, spread in 0_u32..30, slots in 1_u32..60, age in 1_u64..600_000,
        depth in proptest::option::of(1_u32..500), idle in 1_000_u64..600_000,
    ) -> ScalePolicy {
        ScalePolicy {
            mode: Mode::Auto, min, max: min + spread, slots, oldest_age_ms: age, depth_per_replica: depth,
            idle_after_ms: idle,
        }
    }
}

prop_compose! {
    fn a_type()(
        name in "[a-c]", due in 0_u64..100_000, age in 0_u64..10_000_000, soon in 0_u64..2,
        running in 0_u64..500, per_worker in proptest::option::of(1_u32..20),
        ended in 0_u64..1_000_000, mean in 1_u64..1_000_000, held in proptest::bool::weighted(0.2),
    ) -> TypeLoad {
        TypeLoad {
            name, due, oldest_age_ms: if due == 0 { 0 } else { age }, soon, running, held, per_worker,
            arrived_total: due + running + ended, ended_total: ended, busy_ms_total: ended * mean,
        }
    }
}

prop_compose! {
    fn a_sample()(
        types in proptest::collection::vec(a_type(), 0..4), readable in proptest::bool::weighted(0.8),
        held in proptest::option::weighted(0.2, Just(Held::Paused)), replicas in 0_u32..40,
        ready in 0_u32..40, busy in 0_u32..40, startup_ms in 100_u64..300_000,
    ) -> Sample {
        let mut types: Vec<TypeLoad> = types;
        types.dedup_by(|a, b| a.name == b.name);
        Sample {
            load: readable.then_some(Load { held, types }), replicas, ready: ready.min(replicas),
            busy: busy.min(replicas), startup_ms,
        }
    }
}

/// Runs through samples, following each decision or not, and calls `check` at each step.
fn through(
    policy: &ScalePolicy,
    samples: &[(Sample, u64)],
    mut check: impl FnMut(&Sample, u32) -> Result<(), TestCaseError>,
) -> Result<State, TestCaseError> {
    let (mut state, mut now) = (State::default(), 86_400_000);
    for (sample, elapsed) in samples {
        now += elapsed;
        let (decision, next) = decide(policy, sample, &state, now);
        check(sample, decision.replicas)?;
        state = next;
    }
    Ok(state)
}

fn history() -> impl Strategy<Value = Vec<(Sample, u64)>> {
    proptest::collection::vec((a_sample(), 1_u64..60_000), 1..25)
}

proptest! {
    #[test]
    fn within_bounds_but_for_busy_workers_and_frozen_pools(policy in a_policy(), samples in history()) {
        through(&policy, &samples, |sample, replicas| {
            prop_assert!(replicas >= policy.min.min(sample.replicas.max(policy.min)));
            if sample.load.is_some() {
                let most = policy.max.max(sample.busy);
                prop_assert!(replicas <= most.max(policy.max) || replicas <= sample.replicas);
                prop_assert!(replicas <= policy.max || replicas <= sample.replicas);
            }
            Ok(())
        })?;
    }

    #[test]
    fn never_below_the_busy_workers(policy in a_policy(), samples in history()) {
        through(&policy, &samples, |sample, replicas| {
            prop_assert!(replicas >= sample.busy.min(sample.replicas));
            Ok(())
        })?;
    }

    #[test]
    fn never_down_when_the_figures_cannot_be_read(policy in a_policy(), samples in history()) {
        through(&policy, &samples, |sample, replicas| {
            if sample.load.is_none() {
                prop_assert_eq!(replicas, sample.replicas.max(policy.min));
            }
            Ok(())
        })?;
    }

    #[test]
    fn never_to_zero_while_anything_may_start_or_runs(policy in a_policy(), samples in history()) {
        through(&policy, &samples, |sample, replicas| {
            let work = sample.load.as_ref().is_some_and(|l| l.types.iter().any(|t| {
                t.running > 0 || (t.due > 0 && l.held.is_none())
            }));
            prop_assert!(!work || replicas > 0 || policy.max == 0);
            Ok(())
        })?;
    }

    #[test]
    fn the_same_history_gives_the_same_decisions(policy in a_policy(), samples in history()) {
        let mut seen = Vec::new();
        let one = through(&policy, &samples, |_, n| { seen.push(n); Ok(()) })?;
        let mut again = seen.into_iter();
        let two = through(&policy, &samples, |_, n| { prop_assert_eq!(again.next(), Some(n)); Ok(()) })?;
        prop_assert_eq!(one, two);
    }

    #[test]
    fn more_waiting_never_asks_for_less(
        policy in a_policy(), sample in a_sample(), more in 1_u64..10_000, which in 0_usize..4,
    ) {
        let mut deeper = sample.clone();
        if let Some(load) = &mut deeper.load
            && let Some(t) = load.types.get_mut(which)
        {
            t.due += more;
            t.arrived_total += more;
        }
        let less = decide(&policy, &sample, &State::default(), 86_400_000).0.replicas;
        let most = decide(&policy, &deeper, &State::default(), 86_400_000).0.replicas;
        prop_assert!(most >= less, "{} < {}", most, less);
    }

    #[test]
    fn figures_stay_finite(policy in a_policy(), samples in history()) {
        let (mut state, mut now) = (State::default(), 86_400_000);
        for (sample, elapsed) in &samples {
            now += elapsed;
            let (decision, next) = decide(&policy, sample, &state, now);
            if let Some(terms) = decision.terms {
                for term in [terms.backlog, terms.throughput, terms.depth, terms.scheduled] {
                    prop_assert!(term.is_finite() && term >= 0.0);
                }
            }
            state = next;
        }
    }
}
