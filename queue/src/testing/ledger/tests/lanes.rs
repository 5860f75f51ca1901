//! I7 to I11 by hand: each caught, nearly broken, and read both ways.

use std::collections::BTreeMap;

use super::super::history::{Act, Ending};
use super::super::{Fairness, FifoScope, Index, KeyOwner, KeyRules, Rate, Violation};
use super::story::*;
use crate::types::JobState;

fn fifo(scope: FifoScope) -> Story {
    story().with(|story| story.rules.fifo = Some(scope))
}

/// Both are started, `first` under token 100 at 50, `second` under 200 at 60, and succeed.
fn started(story: Story, first: &str, second: &str) -> Story {
    story
        .ok(50, "w1", grant(first, 100))
        .ok(60, "w1", grant(second, 200))
        .ok(70, "w1", success(first, 100))
        .ok(80, "w1", success(second, 200))
}

#[test]
fn i7_first_come_first_served() {
    let jumped = |ready_ms| Violation::OutOfOrder {
        job: "b".into(),
        token: 100,
        at_ms: 50,
        overtaken: "a".into(),
        ready_ms,
        overtaken_token: 200,
    };
    let both = fifo(FifoScope::Type).ok(10, "app", enqueue("a", 10)).ok(20, "app", enqueue("b", 20));
    started(both.clone(), "a", "b").is_sound();
    started(both, "b", "a").finds([jumped(10)]);
    // Of one millisecond the sequence tells, or nothing does.
    let seq = |story: Story, job: &str, number| {
        let mut act = enqueue(job, 10);
        if let Act::Enqueue { seq, .. } = &mut act {
            *seq = number;
        }
        story.ok(10, "app", act)
    };
    let tie = |a, b| seq(seq(fifo(FifoScope::Type), "a", a), "b", b);
    started(tie(0, 0), "b", "a").is_sound();
    started(tie(1, 2), "b", "a").finds([jumped(10)]);
    // Another priority, another line; and one that came when the other was started already is not overtaken.
    let mut urgent = enqueue("b", 20);
    if let Act::Enqueue { priority, .. } = &mut urgent {
        *priority = 1;
    }
    started(fifo(FifoScope::Type).ok(10, "app", enqueue("a", 10)).ok(20, "app", urgent), "b", "a").is_sound();
    let late = fifo(FifoScope::Type).ok(20, "app", enqueue("b", 20)).ok(50, "app", enqueue("a", 15));
    started(late, "b", "a").is_sound();
    // One claim took both, in whatever order its client wrote them down.
    let claim = |first, second| {
        let both = fifo(FifoScope::Type).ok(10, "app", enqueue("a", 10)).ok(20, "app", enqueue("b", 20));
        let both = both.ok(50, "w1", grant(first, 100)).ok(50, "w1", grant(second, 100));
        both.ok(70, "w1", success("a", 100)).ok(70, "w1", success("b", 100))
    };
    claim("a", "b").is_sound();
    claim("b", "a").is_sound();
}

#[test]
fn i7_scopes() {
    let of_type = |job: &str, name: &str, due_ms| {
        let mut act = enqueue(job, due_ms);
        if let Act::Enqueue { job_type, .. } = &mut act {
            *job_type = name.into();
        }
        act
    };
    let both =
        |scope| fifo(scope).ok(10, "app", of_type("a", "pdf", 10)).ok(20, "app", of_type("b", "mail", 20));
    started(both(FifoScope::Type), "b", "a").is_sound();
    let found =
        super::super::judge(&started(both(FifoScope::Lane), "b", "a").run, &both(FifoScope::Lane).rules);
    assert!(matches!(&found.violations[..], [Violation::OutOfOrder { .. }]), "{found:?}");
}

#[test]
fn i7_lost_replies_and_retries_do_not_count() {
    // Whether `a` was there when `b` was started is not known.
    let unknown = fifo(FifoScope::Type).lost(10, "app", enqueue("a", 10)).ok(20, "app", enqueue("b", 20));
    started(unknown.clone(), "b", "a").is_sound();
    started(unknown, "a", "b").is_sound();
    // A lost claim started `a` first; its lease was swept, and its second attempt came after `b`.
    let both = fifo(FifoScope::Type).ok(10, "app", enqueue("a", 10)).ok(20, "app", enqueue("b", 20));
    let second = Act::Grant {
        job: "a".into(),
        token: 300,
        attempt: 2,
        lane: "fast".into(),
        expires_ms: None,
        payload: None,
    };
    both.lost(30, "w2", Act::Claim)
        .ok(50, "w1", grant("b", 100))
        .ok(55, "w1", takeover("a", 200))
        .ok(56, "w1", settle("a", 200, RETRY))
        .ok(60, "w1", second)
        .ok(70, "w1", success("a", 300))
        .ok(80, "w1", success("b", 100))
        .is_sound();
}

/// 12 jobs for each of lanes `x` (weight 3) and `y` (weight 1) wait at 10; grants follow 10 ms apart as the letters say.
fn granted(letters: &str) -> Story {
    let mut told = story();
    let weights = BTreeMap::from([("x".to_owned(), 3.0), ("y".to_owned(), 1.0)]);
    told.rules.fairness = Some(Fairness { weights, window: 8, epsilon: 0.13, most_wait: 7 });
    for number in 0..12 {
        for lane in ["x", "y"] {
            let job = format!("{lane}{number}");
            told = told.ok(10, "app", of_lane(lane, &job, 10)).left(&job, JobState::Ready, &[Index::Ready]);
        }
    }
    let mut next = BTreeMap::new();
    for (at, lane) in letters.chars().enumerate() {
        let (lane, at) = (lane.to_string(), at as u64);
        let number = next.entry(lane.clone()).or_insert(0);
        let job = format!("{lane}{number}");
        *number += 1;
        told.run.dump.records.retain(|record| record.job != job);
        told.run.dump.entries.retain(|entry| entry.job != job);
        told = told.ok(20 + 10 * at, "w1", grant_of(&lane, &job, 100 + at)).ok(
            20 + 10 * at,
            "w1",
            success(&job, 100 + at),
        );
    }
    told
}

#[test]
fn i8_shares_follow_weights() {
    granted("xxxyxxxyxxxy").is_sound();
    // One off in eight is within the bound, two are not.
    granted("xxyxxyxx").is_sound();
    granted("xyxxyxxx").is_sound();
    granted("xyxyxyxx").is_sound();
    granted("yxyxyxyx").finds([Violation::UnfairShare {
        lane: "x".into(),
        granted: 4,
        grants: 8,
        weight_permille: 750,
        from_ms: 20,
        to_ms: 90,
    }]);
    // Seven grants are no window.
    granted("yxyxyxy").is_sound();
    // A lost claim may have leased what is missing.
    let lost = granted("yxyxyxyx").lost(40, "w2", Act::Claim);
    lost.is_sound();
    lost.with(|story| story.rules.late_ms = 5).is_sound();
    // Not when it was over before.
    let found = granted("yxyxyxyx").lost(1, "w2", Act::Claim).with(|story| story.rules.late_ms = 5);
    assert_eq!(super::super::judge(&found.run, &found.rules).violations.len(), 1);
}

#[test]
fn i8_nobody_starves() {
    let starved = Violation::LaneStarved { lane: "y".into(), grants: 8, allowed: 7, from_ms: 30, to_ms: 100 };
    let wide = |letters: &str| {
        granted(letters).with(|story| story.rules.fairness.as_mut().expect("fairness").window = 100)
    };
    wide("yxxxxxxxy").is_sound();
    wide("yxxxxxxxxy").finds([starved.clone()]);
    // Also when it is never served at all, as the records show.
    wide("yxxxxxxxx").finds([starved]);
    // A lane without waiting jobs waits for nothing.
    let passed = Violation::LaneStarved { lane: "x".into(), grants: 8, allowed: 7, from_ms: 20, to_ms: 90 };
    wide("yyyyyyyyyyyyxxxxxxxxx").finds([passed]);
    wide("yxxxxxxxxy").lost(60, "w2", Act::Claim).is_sound();
}

/// Jobs of lane `fast`, each granted at its time and done 1 ms later.
fn at(times: &[u64]) -> Story {
    let mut told = story();
    told.rules.rates.insert("fast".into(), Rate { limit: 2, per_ms: 100, burst: 1 });
    for (number, at_ms) in times.iter().enumerate() {
        let (job, token) = (format!("j{number}"), 100 + number as u64);
        told = told.ok(5, "app", enqueue(&job, 5)).ok(*at_ms, "w1", grant(&job, token)).ok(
            at_ms + 1,
            "w1",
            success(&job, token),
        );
    }
    told
}

#[test]
fn i9_rates() {
    at(&[10, 20, 30, 110, 120, 130]).is_sound();
    at(&[10, 20, 30, 109]).finds([Violation::RateExceeded {
        lane: "fast".into(),
        grants: 4,
        allowed: 3,
        from_ms: 10,
        to_ms: 109,
    }]);
    // One violation per crowd, the largest.
    at(&[10, 10, 10, 10, 10, 500, 600]).finds([Violation::RateExceeded {
        lane: "fast".into(),
        grants: 5,
        allowed: 3,
        from_ms: 10,
        to_ms: 10,
    }]);
    // Takeovers are no grants, and what a lost claim leased cannot be told.
    let swept =
        at(&[10, 20]).lost(25, "w2", Act::Claim).ok(5, "app", enqueue("s", 5)).ok(10, "w1", grant("s", 50));
    swept.ok(50, "w2", takeover("s", 900)).ok(60, "w2", success("s", 900)).is_sound();
}

#[test]
fn i10_one_live_job_per_key() {
    let end = |story: Story, job: &str, at_ms, token| {
        story.ok(at_ms, "w1", grant(job, token)).ok(at_ms + 5, "w1", success(job, token))
    };
    let shared = |at_ms| Violation::KeyShared { key: "k".into(), job: "b".into(), other: "a".into(), at_ms };
    let a = story().ok(10, "app", keyed("a", "k"));
    let b = |story: Story, at_ms| end(story.ok(at_ms, "app", keyed("b", "k")), "b", 80, 800);
    b(end(a.clone(), "a", 20, 100), 25).is_sound();
    b(end(a.clone(), "a", 20, 100), 24).finds([shared(24)]);
    b(a.clone().ok(15, "ops", cancel("a", Some(false))), 20).is_sound();
    end(b(a.clone(), 20), "a", 90, 900).finds([shared(20)]);
    // Lost replies: the owner had ended, or not; then `b` must have been refused.
    let lost = a.clone().ok(20, "w1", grant("a", 100)).lost(25, "w1", success("a", 100));
    b(lost.clone(), 30).is_sound();
    lost.clone().lost(30, "app", keyed("b", "k")).is_sound();
    b(a.clone().lost(15, "ops", cancel("a", None)), 20).is_sound();
    // But it lived when it was seen alive again.
    let seen = a.lost(15, "ops", cancel("a", None)).ok(20, "w1", grant("a", 100));
    b(seen, 30).ok(90, "w1", success("a", 100)).finds([shared(30)]);
}

#[test]
fn i10_keys_outlive_jobs() {
    let held = |after_success_ms, dead_hold| {
        story()
            .with(|story| story.rules.keys = KeyRules { after_success_ms, dead_hold })
            .ok(10, "app", keyed("a", "k"))
            .ok(20, "w1", grant("a", 100))
    };
    let b = |story: Story| {
        story.ok(40, "app", keyed("b", "k")).ok(50, "w1", grant("b", 200)).ok(60, "w1", success("b", 200))
    };
    let shared = Violation::KeyShared { key: "k".into(), job: "b".into(), other: "a".into(), at_ms: 40 };
    b(held(10, false).ok(30, "w1", success("a", 100))).is_sound();
    b(held(11, false).ok(30, "w1", success("a", 100))).finds([shared.clone()]);
    let dead = |hold| held(0, hold).ok(30, "w1", settle("a", 100, DEAD));
    b(dead(false)).left("a", JobState::Dead, &[Index::Dead]).is_sound();
    b(dead(true)).left("a", JobState::Dead, &[Index::Dead]).finds([shared]);
    b(dead(true).lost(35, "ops", remove("a"))).is_sound();
}

#[test]
fn i10_live_jobs_own_their_keys() {
    let owned = |owner: Option<&str>| {
        story().ok(10, "app", keyed("a", "k")).left("a", JobState::Ready, &[Index::Ready]).with(|story| {
            story.run.dump.records[0].key = Some("k".into());
            let owner = owner.map(|job| KeyOwner { key: "k".into(), job: job.into() });
            story.run.dump.keys = Some(owner.into_iter().collect());
        })
    };
    owned(Some("a")).is_sound();
    for owner in [None, Some("b")] {
        let wrong = owner.map(str::to_owned);
        owned(owner).finds([Violation::KeyUnowned { key: "k".into(), job: "a".into(), owner: wrong }]);
    }
    owned(None).with(|story| story.run.dump.keys = None).is_sound();
}

#[test]
fn i11_caps() {
    let capped = |cap| {
        story()
            .with(|story| story.rules.caps = BTreeMap::from([("fast".into(), cap)]))
            .ok(5, "app", enqueue("a", 5))
            .ok(5, "app", enqueue("b", 5))
            .ok(10, "w1", grant("a", 100))
    };
    let b = |story: Story| story.ok(30, "w2", grant("b", 200)).ok(40, "w2", success("b", 200));
    let above = Violation::CapExceeded { lane: "fast".into(), live: 2, cap: 1, job: "b".into(), at_ms: 30 };
    b(capped(2)).ok(50, "w1", success("a", 100)).is_sound();
    b(capped(1)).ok(50, "w1", success("a", 100)).finds([above.clone()]);
    b(capped(1).ok(30, "w1", success("a", 100))).is_sound();
    // A lease that was taken over is still one.
    b(capped(1).ok(20, "w2", takeover("a", 150))).ok(50, "w2", success("a", 150)).finds([above.clone()]);
    // A lost word may have ended it, until it is seen alive.
    let lost = capped(1).lost(20, "w1", settle("a", 100, Ending::Release));
    b(lost.clone()).ok(50, "w1", success("a", 100)).is_sound();
    b(lost).left("a", JobState::Ready, &[Index::Ready]).is_sound();
    b(capped(1).lost(20, "w1", extend("a", 100))).ok(50, "w1", success("a", 100)).finds([above]);
}
