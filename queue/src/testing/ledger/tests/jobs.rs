//! I1 to I4 by hand: each caught, nearly broken, and read both ways.

use Index::{Finished, Ready, Running, Scheduled};

use super::super::history::{Act, Ending};
use super::super::{Effect, Index, Violation};
use super::story::*;
use crate::types::JobState;

#[test]
fn i1_no_loss() {
    let accepted = story().ok(10, "app", enqueue("a", 10));
    accepted.finds([Violation::Lost { job: a(), accepted_ms: Some(10) }]);
    accepted.clone().left("a", JobState::Scheduled, &[Scheduled]).is_sound();
    // All within one millisecond.
    let quick =
        story().ok(10, "app", enqueue("a", 10)).ok(10, "w1", grant("a", 100)).ok(10, "w1", success("a", 100));
    quick.left("a", JobState::Succeeded, &[Finished]).is_sound();
    // What succeeded or was cancelled may be forgotten.
    leased().ok(30, "w1", success("a", 100)).is_sound();
    accepted.clone().ok(20, "ops", cancel("a", Some(false))).is_sound();
    // But not where nothing is trimmed.
    let kept = |story: Story| story.with(|story| story.rules.trims = false);
    kept(leased().ok(30, "w1", success("a", 100)))
        .finds([Violation::Lost { job: a(), accepted_ms: Some(10) }]);
    kept(leased().ok(30, "w1", success("a", 100)).left("a", JobState::Succeeded, &[Finished])).is_sound();
    leased().finds([Violation::Lost { job: a(), accepted_ms: Some(10) }]);
    // Lost replies: handed in or not, succeeded or not, cancelled or not.
    let unknown = story().lost(10, "app", enqueue("a", 10));
    unknown.is_sound();
    unknown.left("a", JobState::Ready, &[Ready]).is_sound();
    let unknown = leased().lost(30, "w1", success("a", 100));
    unknown.is_sound();
    unknown.left("a", JobState::Running, &[Running]).is_sound();
    let unknown = accepted.lost(20, "ops", cancel("a", None));
    unknown.is_sound();
    unknown.left("a", JobState::Ready, &[Ready]).is_sound();
    // A lost word on a failure explains no loss.
    leased()
        .lost(30, "w1", settle("a", 100, RETRY))
        .finds([Violation::Lost { job: a(), accepted_ms: Some(10) }]);
    // Who was told `duplicate` relies on the owner.
    story()
        .ok(10, "app", Act::Duplicate { job: a() })
        .finds([Violation::Lost { job: a(), accepted_ms: None }]);
}

#[test]
fn i1_nobody_ended_it() {
    let ended = |story: Story| story.left("a", JobState::Succeeded, &[Finished]);
    ended(leased()).finds([Violation::EndedByNobody { job: a(), state: JobState::Succeeded }]);
    ended(leased().ok(30, "w1", success("a", 100))).is_sound();
    ended(leased().lost(30, "w1", success("a", 100))).is_sound();
    ended(leased().refused(30, "w1", success("a", 100)))
        .finds([Violation::EndedByNobody { job: a(), state: JobState::Succeeded }]);
}

#[test]
fn i2_one_lease() {
    let overlap = Violation::LeasesOverlap { job: a(), held: 100, since_ms: 20, granted: 200, at_ms: 50 };
    let second = |story: Story| story.ok(50, "w2", grant("a", 200)).ok(60, "w2", success("a", 200));
    second(leased()).finds([overlap.clone()]);
    second(leased().ok(50, "w1", settle("a", 100, Ending::Release))).is_sound();
    // A lost release may have made room, or not: then a sweep came, or nobody.
    let lost = leased().lost(40, "w1", settle("a", 100, Ending::Release));
    second(lost.clone()).is_sound();
    lost.clone().ok(50, "w2", takeover("a", 200)).ok(60, "w2", success("a", 200)).is_sound();
    lost.left("a", JobState::Running, &[Running]).is_sound();
    // It may even come after an extension that was called later.
    let late = leased().lost(30, "w1", settle("a", 100, Ending::Release)).ok(40, "w1", extend("a", 100));
    second(late.clone()).is_sound();
    second(late.with(|story| story.rules.late_ms = 5)).finds([overlap.clone()]);
    // A lost success makes no room in either reading.
    second(leased().lost(40, "w1", success("a", 100))).finds([overlap]);
}

#[test]
fn i2_a_lease_lives_until_it_is_swept() {
    let expiring = |expires_ms| {
        let mut granted = grant("a", 100);
        if let Act::Grant { expires_ms: at, .. } = &mut granted {
            *at = Some(expires_ms);
        }
        story().ok(10, "app", enqueue("a", 10)).ok(20, "w1", granted)
    };
    // Expired at 30, not swept: still its holder's at 40.
    expiring(30).ok(40, "w1", success("a", 100)).is_sound();
    let swept = |story: Story| story.ok(50, "w2", takeover("a", 200)).ok(60, "w2", success("a", 200));
    let early =
        |expires_ms| Violation::TakenTooEarly { job: a(), token: 100, expires_ms, taken_by: 200, at_ms: 50 };
    swept(expiring(50)).is_sound();
    swept(expiring(51)).finds([early(51)]);
    let extend_to = |expires_ms| Act::Extend { job: a(), token: 100, expires_ms: Some(expires_ms) };
    swept(expiring(30).ok(25, "w1", extend_to(80))).finds([early(80)]);
    swept(expiring(30).lost(25, "w1", extend_to(80))).is_sound();
    // A lease that a lost claim may hold is not the one whose expiry is known.
    swept(expiring(80).lost(25, "w1", settle("a", 100, Ending::Release)).lost(26, "w3", Act::Claim))
        .is_sound();
}

#[test]
fn i2_tokens_rise() {
    let again = |token| {
        leased().ok(30, "w1", settle("a", 100, Ending::Release)).ok(40, "w2", grant("a", token)).ok(
            50,
            "w2",
            success("a", token),
        )
    };
    again(101).is_sound();
    for token in [99, 100] {
        again(token).finds([Violation::TokensFell { job: a(), earlier: 100, later: token, at_ms: 40 }]);
    }
    // A claim and a sweep whose replies were lost leave gaps, which are no fault.
    leased()
        .lost(30, "w1", settle("a", 100, Ending::Release))
        .lost(40, "w2", Act::Claim)
        .ok(900, "w3", takeover("a", 300))
        .ok(910, "w3", success("a", 300))
        .is_sound();
}

#[test]
fn i3_fencing() {
    let end = |story: Story| story.ok(90, "w2", success("a", 200));
    let release = |token| settle("a", token, Ending::Release);
    taken().ok(60, "w1", success("a", 100)).finds([Violation::StaleSettlement {
        job: a(),
        token: 100,
        newer: 200,
        at_ms: 60,
    }]);
    end(taken().refused(60, "w1", success("a", 100))).is_sound();
    // In the very millisecond of the next grant it came first.
    end(leased().ok(50, "w2", grant("a", 200)).ok(50, "w1", release(100))).is_sound();
    // A lost word: it came before the sweep, which then found nothing, or after it, and was stale.
    end(taken().lost(60, "w1", success("a", 100))).is_sound();
    leased().lost(45, "w1", success("a", 100)).is_sound();
    // An extension, too.
    end(taken().ok(60, "w1", extend("a", 100))).finds([Violation::StaleExtension {
        job: a(),
        token: 100,
        newer: 200,
        at_ms: 60,
    }]);
    end(taken().lost(60, "w1", extend("a", 100))).is_sound();
    // Twice under one token.
    let twice = leased().ok(30, "w1", release(100)).ok(40, "w1", release(100));
    twice.left("a", JobState::Ready, &[Ready]).finds([Violation::SettledTwice {
        job: a(),
        token: 100,
        first_ms: 30,
        second_ms: 40,
    }]);
    // A first word that was lost and its repetition: one of them counted.
    leased()
        .lost(30, "w1", release(100))
        .ok(40, "w1", release(100))
        .left("a", JobState::Ready, &[Ready])
        .is_sound();
}

#[test]
fn i3_only_the_holder() {
    leased().ok(30, "w2", success("a", 100)).finds([Violation::NotTheHolder {
        job: a(),
        token: 100,
        holder: "w1".into(),
        client: "w2".into(),
        at_ms: 30,
    }]);
    let made_up = leased().ok(30, "w2", success("a", 150));
    made_up.finds([Violation::NeverGranted { job: a(), token: 150, client: "w2".into(), at_ms: 30 }]);
    // A lost claim may have told the client.
    made_up.lost(15, "w2", Act::Claim).is_sound();
    leased().refused(30, "w2", success("a", 150)).ok(40, "w1", success("a", 100)).is_sound();
}

#[test]
fn i4_one_success() {
    let done = leased().ok(30, "w1", success("a", 100));
    let twice = |at_ms| Violation::FinishedTwice { job: a(), tokens: vec![100, 100], at_ms: vec![30, at_ms] };
    done.clone().ok(40, "w1", success("a", 100)).finds([twice(40)]);
    done.clone().refused(40, "w1", success("a", 100)).is_sound();
    done.clone().lost(40, "w1", success("a", 100)).is_sound();
    leased().lost(30, "w1", success("a", 100)).ok(40, "w1", success("a", 100)).is_sound();
    // Effects may happen twice, accepted successes not.
    let effect = |token| Effect { job: a(), token, success: true };
    let repeated = taken().ok(60, "w2", success("a", 200));
    repeated.clone().with(|story| story.run.effects = Some(vec![effect(100), effect(200)])).is_sound();
    repeated
        .with(|story| story.run.effects = Some(vec![effect(100)]))
        .finds([Violation::SuccessWithoutEffect { job: a(), token: 200 }]);
    // One per generation.
    died()
        .ok(40, "ops", replay("a"))
        .ok(50, "w1", grant("a", 200))
        .ok(60, "w1", success("a", 200))
        .is_sound();
}

#[test]
fn i4_nothing_after_the_end() {
    let after = |what: &str, token, at_ms| Violation::AfterTerminal {
        job: a(),
        ended: JobState::Succeeded,
        ended_ms: 30,
        what: what.into(),
        token,
        at_ms,
    };
    let done = leased().ok(30, "w1", success("a", 100));
    let lost = leased().lost(30, "w1", success("a", 100));
    done.clone().ok(40, "w2", takeover("a", 200)).ok(50, "w2", success("a", 200)).finds([after(
        "takeover",
        Some(200),
        40,
    )]);
    lost.clone().ok(40, "w2", takeover("a", 200)).ok(50, "w2", success("a", 200)).is_sound();
    done.clone().ok(40, "w1", extend("a", 100)).finds([after("extension", Some(100), 40)]);
    lost.clone().ok(40, "w1", extend("a", 100)).is_sound();
    done.clone().ok(40, "ops", cancel("a", Some(true))).finds([after("cancellation", None, 40)]);
    // A cancelled run that is handed back has ended; one whose cancellation was lost may have.
    let again = |story: Story| story.ok(50, "w2", grant("a", 200)).ok(60, "w2", success("a", 200));
    let release = settle("a", 100, Ending::Release);
    again(leased().ok(25, "ops", cancel("a", Some(true))).ok(30, "w1", release.clone())).finds([
        Violation::AfterTerminal {
            job: a(),
            ended: JobState::Cancelled,
            ended_ms: 30,
            what: "grant".into(),
            token: Some(200),
            at_ms: 50,
        },
    ]);
    let unknown = leased().lost(25, "ops", cancel("a", None)).ok(30, "w1", release);
    again(unknown.clone()).is_sound();
    unknown.is_sound();
    // The record must say so too.
    done.left("a", JobState::Ready, &[Ready]).finds([Violation::Reopened {
        job: a(),
        ended: JobState::Succeeded,
        ended_ms: 30,
        state: JobState::Ready,
    }]);
    lost.left("a", JobState::Running, &[Running]).is_sound();
}
