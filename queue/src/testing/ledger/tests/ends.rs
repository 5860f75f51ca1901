//! I5, I6 and I12 to I14 by hand: each caught, nearly broken, and read both ways.

use Index::{Dead, Finished, Ready, Running, Scheduled};

use super::super::history::{Act, Ending, Fate};
use super::super::{Budget, Index, Liveness, Violation};
use super::story::*;
use crate::types::{JobState, Spends};

/// Attempts in a row, 10 ms and 100 tokens apart, the last one a success.
fn attempts(endings: &[Ending]) -> Story {
    let mut told = story().ok(10, "app", enqueue("a", 10));
    let (mut at_ms, mut token) = (20, 100);
    for ending in endings.iter().chain([&Ending::Success]) {
        told = told.ok(at_ms, "w1", grant("a", token)).ok(at_ms + 5, "w1", settle("a", token, *ending));
        (at_ms, token) = (at_ms + 10, token + 100);
    }
    told
}

#[test]
fn i5_tries_and_crashes() {
    let exceeded = |budget, spent, allowed, token, at_ms| Violation::BudgetExceeded {
        job: a(),
        budget,
        spent,
        allowed,
        token,
        at_ms,
    };
    let crash = Ending::Retry(Spends::Crash);
    attempts(&[RETRY, RETRY]).is_sound();
    attempts(&[RETRY, RETRY, RETRY]).finds([exceeded(Budget::Tries, 3, 2, 300, 45)]);
    attempts(&[crash, crash]).is_sound();
    attempts(&[crash, crash, crash]).finds([exceeded(Budget::Crashes, 3, 2, 300, 45)]);
    attempts(&[RETRY, crash, RETRY]).is_sound();
    attempts(&[RETRY, crash, RETRY, crash]).finds([exceeded(Budget::Starts, 5, 4, 500, 60)]);
    // What is handed back or held costs nothing.
    let free = [Ending::Release, Ending::Snooze, Ending::Retry(Spends::Nothing)];
    attempts(&[free[0], RETRY, free[1], crash, free[2], RETRY, free[0]]).is_sound();
    // A replay gives all tries anew.
    died()
        .ok(40, "ops", replay("a"))
        .ok(50, "w1", grant("a", 200))
        .ok(60, "w1", settle("a", 200, RETRY))
        .ok(70, "w1", grant("a", 300))
        .ok(80, "w1", settle("a", 300, DEAD))
        .left("a", JobState::Dead, &[Dead])
        .is_sound();
    // A lost failure spent a try or did not; a lost release may have cost nothing.
    let mut lost = attempts(&[RETRY, RETRY, RETRY]);
    lost.run.events[2].fate = Fate::Unknown;
    lost.is_sound();
    let mut lost = attempts(&[RETRY, crash, RETRY, Ending::Release]);
    lost.run.events[8].fate = Fate::Unknown;
    lost.is_sound();
    // Also when it was called in the millisecond of the grant.
    let mut lost = story().ok(10, "app", enqueue("a", 10));
    for at_ms in 20..30 {
        let token = at_ms * 10;
        lost = lost.ok(at_ms, "w1", grant("a", token)).lost(at_ms, "w1", settle("a", token, Ending::Release));
    }
    lost.ok(40, "w1", grant("a", 400)).ok(50, "w1", success("a", 400)).is_sound();
}

#[test]
fn i6_dead_letters() {
    let missing = Violation::DeadLetterLost { job: a(), died_ms: Some(30) };
    died().finds([missing.clone()]);
    died().left("a", JobState::Dead, &[]).finds([missing.clone()]);
    died().left("a", JobState::Dead, &[Dead]).is_sound();
    died()
        .left("a", JobState::Dead, &[Dead, Dead])
        .finds([Violation::DeadLetterDoubled { job: a(), entries: 2 }]);
    // It leaves by hand, with an audit record.
    died().ok(40, "ops", remove("a")).is_sound();
    died().ok(40, "ops", Act::Remove { job: a(), audit: None }).finds([Violation::LeftWithoutAudit {
        job: a(),
        what: "removal".into(),
        at_ms: 40,
    }]);
    leased().ok(30, "ops", replay("a")).left("a", JobState::Ready, &[Ready]).finds([Violation::NotDead {
        job: a(),
        what: "replay".into(),
        at_ms: 30,
    }]);
    // Lost replies: removed or not, replayed or not, dead or not.
    died().lost(40, "ops", remove("a")).is_sound();
    died().lost(40, "ops", remove("a")).left("a", JobState::Dead, &[Dead]).is_sound();
    died().lost(40, "ops", replay("a")).left("a", JobState::Dead, &[Dead]).is_sound();
    died().lost(40, "ops", replay("a")).left("a", JobState::Ready, &[Ready]).is_sound();
    died().lost(40, "ops", replay("a")).finds([Violation::Lost { job: a(), accepted_ms: Some(10) }]);
    let unknown = leased().lost(30, "w1", settle("a", 100, DEAD));
    unknown.clone().left("a", JobState::Dead, &[Dead]).is_sound();
    unknown.left("a", JobState::Running, &[Running]).is_sound();
}

#[test]
fn i6_payloads_stay() {
    let with_payload = |payload| {
        died().left("a", JobState::Dead, &[Dead]).with(|story| story.run.dump.records[0].payload = payload)
    };
    with_payload(Some(7)).is_sound();
    with_payload(None).is_sound();
    let changed =
        |place: &str| Violation::PayloadChanged { job: a(), place: place.into(), accepted: 7, found: 8 };
    with_payload(Some(8)).finds([changed("its dead letter")]);
    let granted = Act::Grant {
        job: a(),
        token: 100,
        attempt: 1,
        lane: "fast".into(),
        expires_ms: None,
        payload: Some(8),
    };
    let told = |story: Story| story.ok(20, "w1", granted.clone()).ok(30, "w1", success("a", 100));
    told(story().ok(10, "app", enqueue("a", 10))).finds([changed("the lease 100")]);
    // Whether or not the reply was lost: what was handed in is known.
    told(story().lost(10, "app", enqueue("a", 10))).finds([changed("the lease 100")]);
    told(story()).is_sound();
}

#[test]
fn i12_one_index() {
    let wrong = |state, indexes: &[&str]| Violation::Misindexed {
        job: a(),
        state,
        indexes: indexes.iter().map(ToString::to_string).collect(),
    };
    for indexes in [[Ready], [Scheduled], [Running]] {
        leased().left("a", JobState::Running, &indexes).is_sound();
    }
    let live = Some(JobState::Running);
    leased().left("a", JobState::Running, &[]).finds([wrong(live, &[])]);
    leased().left("a", JobState::Running, &[Ready, Running]).finds([wrong(live, &["Ready", "Running"])]);
    leased().left("a", JobState::Running, &[Finished]).finds([wrong(live, &["Finished"])]);
    died().left("a", JobState::Dead, &[Dead, Ready]).finds([wrong(Some(JobState::Dead), &["Dead", "Ready"])]);
    let mut orphan = story().left("a", JobState::Ready, &[Ready]);
    orphan.is_sound();
    orphan.run.dump.records.clear();
    orphan.finds([wrong(None, &["Ready"])]);
    // Whatever a lost reply did, it left one entry.
    let unknown = leased().lost(30, "w1", success("a", 100));
    unknown.clone().left("a", JobState::Succeeded, &[Finished]).is_sound();
    unknown.left("a", JobState::Running, &[Running]).is_sound();
}

#[test]
fn i12_successes_are_counted() {
    let counted = |story: Story, total| story.with(|story| story.run.dump.succeeded_total = Some(total));
    let done = leased().ok(30, "w1", success("a", 100));
    counted(done.clone(), 1).is_sound();
    counted(done, 2).finds([Violation::CountsDiffer { counted: 2, records: 1 }]);
    let lost = leased().lost(30, "w1", success("a", 100));
    counted(lost.clone(), 0).is_sound();
    counted(lost.clone(), 1).is_sound();
    counted(lost, 2).finds([Violation::CountsDiffer { counted: 2, records: 1 }]);
}

#[test]
fn i13_one_job_per_id() {
    let twice = Violation::AcceptedTwice { job: a(), first_ms: 10, second_ms: 15 };
    let waiting = |story: Story| story.left("a", JobState::Ready, &[Ready]);
    let first = story().ok(10, "app", enqueue("a", 10));
    waiting(first.clone().ok(15, "app", enqueue("a", 15))).finds([twice]);
    waiting(first.clone().ok(15, "app", Act::Duplicate { job: a() })).is_sound();
    // The first call was lost, then repeated: either may have been the one.
    let lost = story().lost(10, "app", enqueue("a", 10));
    waiting(lost.clone().ok(15, "app", enqueue("a", 15))).is_sound();
    waiting(lost.ok(15, "app", Act::Duplicate { job: a() })).is_sound();
    // Retention forgets ids, where the queue says so; a dead letter stands.
    let again = |story: Story| waiting(story.ok(40, "app", enqueue("a", 40)));
    let done = leased().ok(30, "w1", success("a", 100));
    let twice = Violation::AcceptedTwice { job: a(), first_ms: 10, second_ms: 40 };
    again(done.clone()).is_sound();
    again(done.with(|story| story.rules.ids_return = false)).finds([twice.clone()]);
    again(died()).finds([twice]);
    again(died().ok(35, "ops", remove("a"))).is_sound();
    again(died().lost(35, "ops", remove("a"))).is_sound();
}

#[test]
fn i14_liveness() {
    let healed = |story: Story, healed_ms, bound_ms| {
        story.with(|story| story.rules.liveness = Some(Liveness { healed_ms, bound_ms }))
    };
    let stuck = leased().left("a", JobState::Running, &[Running]);
    healed(stuck.clone(), 5_000, 5_001).is_sound();
    healed(stuck, 5_000, 5_000).finds([Violation::Unfinished {
        job: a(),
        state: JobState::Running,
        deadline_ms: Some(10_000),
    }]);
    let done = leased().ok(900, "w1", success("a", 100));
    healed(done.clone(), 500, 400).is_sound();
    healed(done, 500, 399).finds([Violation::FinishedLate { job: a(), ended_ms: 900, deadline_ms: 899 }]);
    // Not due before the heal: the bound counts from when it is.
    let later = story().ok(10, "app", enqueue("a", 9_990)).left("a", JobState::Scheduled, &[Scheduled]);
    healed(later, 100, 50).is_sound();
    // A lost success may have been in time; a lost replay may have come late.
    let unknown = leased().lost(300, "w1", success("a", 100)).ok(900, "w1", success("a", 100));
    healed(unknown, 500, 100).is_sound();
    let replayed = died().lost(9_995, "ops", replay("a")).left("a", JobState::Ready, &[Ready]);
    let replayed = replayed.with(|story| story.run.dump.records[0].due_ms = 9_995);
    healed(replayed, 100, 50).is_sound();
}
