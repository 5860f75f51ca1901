//! lk_configure: who may write which policy.

use super::common::*;
use lanekeeper_queue::Error;
use lanekeeper_queue::types::Configured;

#[tokio::test]
async fn newer_generations_replace_older_ones() {
    let bed = Bed::new().await;
    let (stored, version) = bed.queue.policy().await.unwrap().unwrap();
    assert_eq!(stored, bed.policy);
    let mut policy = bed.policy.clone();
    assert_eq!(bed.queue.configure(&policy, false).await.unwrap(), Configured::Unchanged { version });
    policy.source.generation = 2;
    let Configured::Applied { version: second } = bed.queue.configure(&policy, false).await.unwrap() else {
        panic!()
    };
    assert!(second > version);
    policy.source.generation = 1;
    assert_eq!(bed.queue.configure(&policy, false).await.unwrap(), Configured::Stale { generation: 2 });
    // The same generation with other contents is the same object seen by a newer operator, or closed meanwhile.
    policy.source.generation = 2;
    policy.closed = Some("RedisUnsafe".into());
    assert!(matches!(bed.queue.configure(&policy, false).await.unwrap(), Configured::Applied { .. }));
    assert_eq!(bed.queue.policy().await.unwrap().unwrap().0.closed.as_deref(), Some("RedisUnsafe"));
}

#[tokio::test]
async fn a_recreated_object_starts_over_and_its_forerunner_is_refused() {
    let bed = Bed::new().await;
    let mut newer = bed.policy.clone();
    newer.source.generation = 9;
    bed.queue.configure(&newer, false).await.unwrap();
    let mut recreated = bed.policy.clone();
    recreated.source.uid = "u2".into();
    recreated.source.created_ms += 1;
    assert!(matches!(bed.queue.configure(&recreated, false).await.unwrap(), Configured::Applied { .. }));
    assert_eq!(bed.queue.configure(&newer, false).await.unwrap(), Configured::Stale { generation: 1 });
}

#[tokio::test]
async fn a_foreign_owner_is_named_until_it_adopts() {
    let bed = Bed::new().await;
    let mut foreign = bed.policy.clone();
    foreign.source.owner = "cli".into();
    foreign.source.generation = 0;
    let refused = Configured::Foreign { owner: "kubernetes:a".into() };
    assert_eq!(bed.queue.configure(&foreign, false).await.unwrap(), refused);
    assert!(matches!(bed.queue.configure(&foreign, true).await.unwrap(), Configured::Applied { .. }));
    let refused = Configured::Foreign { owner: "cli".into() };
    assert_eq!(bed.queue.configure(&bed.policy, false).await.unwrap(), refused);
}

#[tokio::test]
async fn versions_rise_even_when_an_older_state_is_restored() {
    let bed = Bed::new().await;
    let version = bed.queue.policy().await.unwrap().unwrap().1;
    bed.queue.destroy().await.unwrap();
    let Configured::Applied { version: again } = bed.queue.configure(&bed.policy, false).await.unwrap()
    else {
        panic!()
    };
    assert!(again >= version);
    // The clock went back: still above.
    bed.poke(&["HSET", &bed.key("m"), "v", "9000000000000"]).await;
    let mut next = bed.policy.clone();
    next.source.generation += 1;
    let applied = bed.queue.configure(&next, false).await.unwrap();
    assert_eq!(applied, Configured::Applied { version: 9_000_000_000_001 });
}

#[tokio::test]
async fn a_policy_that_was_damaged_by_hand_is_an_error_that_says_what_to_do() {
    let bed = Bed::new().await;
    bed.poke(&["SET", &bed.key("p"), "{\"lanes\":"]).await;
    bed.poke(&["HSET", &bed.key("m"), "v", "9000000000000"]).await;
    let refused = bed.queue.enqueue(&[job("mail", "x")]).await;
    let Err(Error::BadPolicy { queue, why }) = refused else { panic!("{refused:?}") };
    assert_eq!((&queue, why.contains(&bed.key("p"))), (bed.queue.name(), true), "{why}");
    let mut next = bed.policy.clone();
    next.source.generation += 1;
    bed.queue.configure(&next, false).await.unwrap();
    bed.accept(job("mail", "x")).await;
}

/// What `v` holds.
async fn version(bed: &Bed) -> String {
    bed.raw(&["HGET", &bed.key("m"), "v"]).await.unwrap()
}

#[tokio::test]
async fn a_version_that_is_none_is_told_and_the_same_policy_repairs_it() {
    let bed = Bed::new().await;
    for wrong in [
        "abc",
        "",
        "-5",
        "1.5",
        "9007199254740992",
        "nan",
        "inf",
        "9223372036854775807",
        "99999999999999999999",
        "9.2e18",
    ] {
        bed.poke(&["HSET", &bed.key("m"), "v", wrong]).await;
        let told = [
            bed.queue.stats().await.err(),
            bed.queue.policy().await.err(),
            bed.queue.enqueue(&[job("mail", "x")]).await.err(),
            bed.queue.extend(&info(&worker("w")), &[]).await.err(),
        ];
        for error in told {
            let Some(Error::BadPolicy { why, .. }) = error else { panic!("{wrong}: {error:?}") };
            assert!(why.contains("version") && why.contains(&bed.key("m")), "{wrong}: {why}");
        }
        let stored = bed.queue.replaceable_policy().await.unwrap();
        assert!(stored.policy.is_none() && stored.damage.is_some(), "{wrong}: {stored:?}");
        // An operator has but the policy that it wrote.
        let applied = bed.queue.configure(&bed.policy, false).await.unwrap();
        let Configured::Applied { version: sound } = applied else { panic!("{wrong}: {applied:?}") };
        assert_eq!(version(&bed).await, sound.to_string());
        assert!((1_600_000_000_000..10_000_000_000_000).contains(&sound), "{wrong}: {sound}");
        assert_eq!(bed.queue.policy().await.unwrap(), Some((bed.policy.clone(), sound)));
        bed.accept(job("mail", "x")).await;
    }
}

#[tokio::test]
async fn above_the_largest_version_the_clock_counts() {
    let bed = Bed::new().await;
    let largest = (1_u64 << 53) - 1;
    bed.poke(&["HSET", &bed.key("m"), "v", &largest.to_string()]).await;
    assert_eq!(bed.queue.policy().await.unwrap().unwrap().1, largest);
    let mut next = bed.policy.clone();
    next.source.generation += 1;
    let applied = bed.queue.configure(&next, false).await.unwrap();
    assert!(
        matches!(applied, Configured::Applied { version } if version < 10_000_000_000_000),
        "{applied:?}"
    );
    // One that is no number makes no policy stale either.
    bed.poke(&["HSET", &bed.key("m"), "generation", "99999999999999999999"]).await;
    next.source.generation += 1;
    assert!(matches!(bed.queue.configure(&next, false).await.unwrap(), Configured::Applied { .. }));
}

#[tokio::test]
async fn counters_of_a_type_without_jobs_go_with_it() {
    let mut bed = Bed::new().await;
    bed.accept(job("mail", "x")).await;
    bed.change(|p| {
        p.job_types.remove("report");
        p.job_types.remove("mail");
        p.lanes.retain(|lane| lane.name != "slow");
    })
    .await;
    let known: Vec<String> = bed.raw(&["SMEMBERS", &bed.key("t")]).await.unwrap();
    let mut known: Vec<&str> = known.iter().map(String::as_str).collect();
    known.sort_unstable();
    assert_eq!(known, ["limited", "mail", "reset"], "mail still has a job");
}

#[tokio::test]
async fn a_policy_that_was_deleted_is_missed_and_comes_back() {
    let bed = Bed::new().await;
    bed.accept(job("mail", "x")).await;
    bed.poke(&["DEL", &bed.key("p")]).await;
    assert!(matches!(bed.queue.stats().await, Err(lanekeeper_queue::Error::NoPolicy(_))));
    bed.queue.configure(&policy(), false).await.unwrap();
    assert_eq!(
        bed.queue.stats().await.unwrap().lanes.iter().flat_map(|l| &l.types).map(|t| t.ready).sum::<u64>(),
        1
    );
}

#[tokio::test]
async fn of_two_objects_made_at_the_same_time_the_replaced_one_stays_replaced() {
    let bed = Bed::new().await;
    let mut twin = bed.policy.clone();
    twin.source.uid = "u2".into();
    assert!(matches!(bed.queue.configure(&twin, false).await.unwrap(), Configured::Applied { .. }));
    assert_eq!(bed.queue.configure(&bed.policy, false).await.unwrap(), Configured::Stale { generation: 1 });
    assert!(matches!(bed.queue.configure(&twin, false).await.unwrap(), Configured::Unchanged { .. }));
}

#[tokio::test]
async fn a_damaged_policy_is_replaced_under_the_next_generation() {
    let mut bed = Bed::new().await;
    bed.change(|_| {}).await;
    let stored = bed.queue.replaceable_policy().await.unwrap();
    assert_eq!((stored.policy.map(|(policy, _)| policy), stored.damage), (Some(bed.policy.clone()), None));
    for junk in ["garbage", "{}"] {
        bed.poke(&["SET", &bed.key("p"), junk]).await;
        assert!(bed.queue.policy().await.is_err());
        let stored = bed.queue.replaceable_policy().await.unwrap();
        assert!(
            stored.policy.is_none() && stored.damage.as_ref().unwrap().contains("stored policy"),
            "{junk}"
        );
        let mut next = policy();
        let configured = bed.queue.replace(&stored, &mut next, false).await.unwrap();
        assert!(matches!(configured, Configured::Applied { .. }), "{junk}: {configured:?}");
        assert_eq!(bed.queue.policy().await.unwrap().unwrap().0, next);
        bed.accept(job("mail", "x")).await;
    }
    let mut foreign = policy();
    foreign.source.owner = "cli".into();
    bed.poke(&["SET", &bed.key("p"), "garbage"]).await;
    let stored = bed.queue.replaceable_policy().await.unwrap();
    let refused = bed.queue.replace(&stored, &mut foreign, false).await.unwrap();
    assert_eq!(refused, Configured::Foreign { owner: "kubernetes:a".into() });
}

#[tokio::test]
async fn a_policy_that_a_newer_program_may_have_written_is_no_damage() {
    let bed = Bed::new().await;
    bed.poke(&["SET", &bed.key("p"), "{}"]).await;
    let newer = under_number(99);
    bed.poke(&["FUNCTION", "LOAD", "REPLACE", &newer]).await;
    assert!(refusal(bed.queue.replaceable_policy().await).contains("stored policy"));
}
