//! One fault of each kind: put into a run, or `None` when the run has no place for it.

use super::super::history::{Act, Ending, Event};
use super::super::{Budget, Entry, Index, Run, Violation};
use super::simulator::FAR_MS;
use super::sites::{enqueue, grant, leave, ok, place, settle, sites, succeeded, token};
use crate::types::{JobState, Spends};

type Inject = fn(&mut Run) -> Option<()>;
type Caught = fn(&Violation) -> bool;

macro_rules! is {
    ($pattern:pat) => {
        |violation| matches!(violation, $pattern)
    };
}

/// Name, what is done, by what it must be caught.
pub(super) const FAULTS: &[(&str, Inject, Caught)] = &[
    ("a lost job", lost, is!(Violation::Lost { .. })),
    ("a success of nobody", by_nobody, is!(Violation::EndedByNobody { .. })),
    ("a second lease", overlap, is!(Violation::LeasesOverlap { .. })),
    ("a token that falls", fell, is!(Violation::TokensFell { .. })),
    ("an early takeover", early, is!(Violation::TakenTooEarly { .. })),
    ("a stale settlement", stale, is!(Violation::StaleSettlement { .. })),
    ("a stale extension", stale_extension, is!(Violation::StaleExtension { .. })),
    ("a repeated settlement", settled_twice, is!(Violation::SettledTwice { .. })),
    ("a made-up token", made_up, is!(Violation::NeverGranted { .. })),
    ("a stranger's settlement", stranger, is!(Violation::NotTheHolder { .. })),
    ("a success without effect", no_effect, is!(Violation::SuccessWithoutEffect { .. })),
    ("a second success", second_success, is!(Violation::FinishedTwice { .. })),
    ("a grant after the end", after_end, is!(Violation::AfterTerminal { .. })),
    ("a job come back", reopened, is!(Violation::Reopened { .. })),
    ("too many tries", tries, is!(Violation::BudgetExceeded { budget: Budget::Tries, .. })),
    ("too many crashes", crashes, is!(Violation::BudgetExceeded { budget: Budget::Crashes, .. })),
    ("too many starts", starts, is!(Violation::BudgetExceeded { budget: Budget::Starts, .. })),
    ("a lost dead letter", dead_lost, is!(Violation::DeadLetterLost { .. })),
    ("a doubled dead letter", dead_doubled, is!(Violation::DeadLetterDoubled { .. })),
    ("a changed payload", payload, is!(Violation::PayloadChanged { .. })),
    ("a removal without audit", no_audit, is!(Violation::LeftWithoutAudit { .. })),
    ("a replay of a running job", not_dead, is!(Violation::NotDead { .. })),
    ("a job that jumps the line", jump, is!(Violation::OutOfOrder { .. })),
    ("a shared key", key_shared, is!(Violation::KeyShared { .. })),
    ("a key that nobody owns", key_unowned, is!(Violation::KeyUnowned { .. })),
    ("a job in two indexes", two_indexes, is!(Violation::Misindexed { .. })),
    ("a job in no index", no_index, is!(Violation::Misindexed { .. })),
    ("a job in a wrong index", wrong_index, is!(Violation::Misindexed { .. })),
    ("an entry without a record", orphan, is!(Violation::Misindexed { state: None, .. })),
    ("a wrong count", count, is!(Violation::CountsDiffer { .. })),
    ("an id accepted twice", twice, is!(Violation::AcceptedTwice { .. })),
    ("a job that never ends", unfinished, is!(Violation::Unfinished { .. })),
    ("a job that ends late", late, is!(Violation::FinishedLate { .. })),
];

/// Faults of runs with fair lanes.
pub(super) const UNFAIR: &[(&str, Inject, Caught)] = &[
    ("unfair shares", unfair, is!(Violation::UnfairShare { .. })),
    ("a starved lane", unfair, is!(Violation::LaneStarved { .. })),
];

/// Faults of runs with rates and caps.
pub(super) const UNBOUNDED: &[(&str, Inject, Caught)] = &[
    ("too many grants", crowd, is!(Violation::RateExceeded { .. })),
    ("too many leases", crowd, is!(Violation::CapExceeded { .. })),
];

fn end_of(run: &Run) -> u64 {
    run.dump.at_ms - 299
}

fn is_settle(event: &Event) -> bool {
    matches!(event.act, Act::Settle { .. })
}

fn is_lease(event: &Event) -> bool {
    matches!(event.act, Act::Grant { .. } | Act::Takeover { .. })
}

/// A lease that another one followed, and that other one with 2 ms until the next event.
fn replaced(run: &Run) -> Option<(String, usize, usize)> {
    sites(run).into_iter().find_map(|site| {
        let leases: Vec<usize> = site.at.iter().copied().filter(|at| is_lease(&run.events[*at])).collect();
        leases.windows(2).find_map(|pair| {
            let after = site.at.iter().skip_while(|at| **at != pair[1]).nth(1)?;
            let room = run.events[*after].at_ms - run.events[pair[1]].at_ms;
            let apart = run.events[pair[1]].at_ms > run.events[pair[0]].at_ms;
            (room > 2 && apart).then(|| (site.job.clone(), pair[0], pair[1]))
        })
    })
}

fn lost(run: &mut Run) -> Option<()> {
    let act = enqueue("x", "x", None, FAR_MS * 2);
    run.events.push(ok(end_of(run), "app", act));
    Some(())
}

fn by_nobody(run: &mut Run) -> Option<()> {
    let (_, at) = succeeded(run)?;
    run.events.remove(at);
    Some(())
}

fn overlap(run: &mut Run) -> Option<()> {
    let (site, at) = place(run, |event, room| is_lease(event) && room > 2)?;
    let event = run.events[at].clone();
    run.events.push(ok(event.at_ms + 1, "w9", grant(&site.job, "x", token(&event) + 1)));
    Some(())
}

fn fell(run: &mut Run) -> Option<()> {
    let (_, first, second) = replaced(run)?;
    let below = token(&run.events[first]) - 1;
    if let Act::Grant { token, .. } | Act::Takeover { token, .. } = &mut run.events[second].act {
        *token = below;
    }
    Some(())
}

fn early(run: &mut Run) -> Option<()> {
    let (_, at) = place(run, |event, room| is_lease(event) && room > 2)?;
    let held = run.events[at].clone();
    let (job, token, now_ms) = (held.act.job()?.to_owned(), token(&held), held.at_ms);
    if let Act::Grant { expires_ms, .. } | Act::Takeover { expires_ms, .. } = &mut run.events[at].act {
        *expires_ms = Some(now_ms + 300);
    }
    let taken = Act::Takeover { job, token: token + 1, expires_ms: None };
    run.events.push(ok(now_ms + 1, "w9", taken));
    Some(())
}

fn stale(run: &mut Run) -> Option<()> {
    let (job, first, second) = replaced(run)?;
    let (old, at_ms) = (run.events[first].clone(), run.events[second].at_ms + 1);
    run.events.push(ok(at_ms, &old.client, settle(&job, token(&old), Ending::Release)));
    Some(())
}

fn stale_extension(run: &mut Run) -> Option<()> {
    let (job, first, second) = replaced(run)?;
    let (old, at_ms) = (run.events[first].clone(), run.events[second].at_ms + 1);
    run.events.push(ok(at_ms, &old.client, Act::Extend { job, token: token(&old), expires_ms: None }));
    Some(())
}

fn settled_twice(run: &mut Run) -> Option<()> {
    let again = |event: &Event| {
        matches!(event.act, Act::Settle { ending: Ending::Retry(_) | Ending::Release | Ending::Snooze, .. })
    };
    let (_, at) = place(run, |event, room| again(event) && room > 2)?;
    let mut event = run.events[at].clone();
    event.at_ms += 1;
    run.events.push(event);
    Some(())
}

fn made_up(run: &mut Run) -> Option<()> {
    let (site, at) = place(run, |event, room| is_lease(event) && room > 2)?;
    let event = run.events[at].clone();
    run.events.push(ok(event.at_ms + 1, "nobody", settle(&site.job, token(&event) + 7, Ending::Release)));
    Some(())
}

fn stranger(run: &mut Run) -> Option<()> {
    let (_, at) = place(run, |event, _| is_settle(event))?;
    run.events[at].client = "nobody".into();
    Some(())
}

fn no_effect(run: &mut Run) -> Option<()> {
    let (job, _) = succeeded(run)?;
    run.effects.as_mut()?.retain(|effect| effect.job != job);
    Some(())
}

fn second_success(run: &mut Run) -> Option<()> {
    let (job, at) = succeeded(run)?;
    let event = run.events[at].clone();
    run.events.push(ok(event.at_ms + 1, &event.client, settle(&job, token(&event) + 1, Ending::Success)));
    Some(())
}

fn after_end(run: &mut Run) -> Option<()> {
    let (job, at) = succeeded(run)?;
    let event = run.events[at].clone();
    run.events.push(ok(event.at_ms + 1, "w9", grant(&job, "x", token(&event) + 1)));
    Some(())
}

fn reopened(run: &mut Run) -> Option<()> {
    let (job, _) = succeeded(run)?;
    leave(run, &job, Some(JobState::Ready), &[Index::Ready]);
    Some(())
}

/// A job goes through these endings in place of its success, and is started once more.
fn spend(run: &mut Run, endings: &[Ending]) -> Option<()> {
    let (job, at) = succeeded(run)?;
    let event = run.events.remove(at);
    let (mut now_ms, mut now) = (event.at_ms, token(&event));
    for ending in endings {
        run.events.push(ok(now_ms, &event.client, settle(&job, now, *ending)));
        (now_ms, now) = (now_ms + 1, now + 1);
        run.events.push(ok(now_ms, &event.client, grant(&job, "x", now)));
    }
    run.events.push(ok(now_ms + 1, &event.client, settle(&job, now, Ending::Success)));
    Some(())
}

fn tries(run: &mut Run) -> Option<()> {
    spend(run, &[Ending::Retry(Spends::Try); 4])
}

fn crashes(run: &mut Run) -> Option<()> {
    spend(run, &[Ending::Retry(Spends::Crash); 3])
}

fn starts(run: &mut Run) -> Option<()> {
    let (one, other) = (Ending::Retry(Spends::Try), Ending::Retry(Spends::Crash));
    // One more than would do: a lost claim may hide a start.
    spend(run, &[one, one, one, other, other, other])
}

fn die(run: &mut Run, state: Option<JobState>, indexes: &[Index]) -> Option<()> {
    let (job, at) = succeeded(run)?;
    let token = token(&run.events[at]);
    run.events[at].act = settle(&job, token, Ending::Dead(Spends::Nothing));
    leave(run, &job, state, indexes);
    Some(())
}

fn dead_lost(run: &mut Run) -> Option<()> {
    die(run, None, &[])
}

fn dead_doubled(run: &mut Run) -> Option<()> {
    die(run, Some(JobState::Dead), &[Index::Dead, Index::Dead])
}

fn payload(run: &mut Run) -> Option<()> {
    let (job, _) = succeeded(run)?;
    let record = run.dump.records.iter_mut().find(|record| record.job == job)?;
    record.payload = record.payload.map(|digest| digest + 1);
    Some(())
}

fn no_audit(run: &mut Run) -> Option<()> {
    let leaves = |event: &&mut Event| {
        let by_hand = matches!(event.act, Act::Replay { .. } | Act::Remove { .. });
        by_hand && event.fate == super::super::history::Fate::Ok
    };
    let event = run.events.iter_mut().find(leaves)?;
    if let Act::Replay { audit, .. } | Act::Remove { audit, .. } = &mut event.act {
        *audit = None;
    }
    Some(())
}

fn not_dead(run: &mut Run) -> Option<()> {
    let (site, at) = place(run, |event, room| is_lease(event) && room > 2)?;
    let at_ms = run.events[at].at_ms + 1;
    run.events.push(ok(at_ms, "ops", Act::Replay { job: site.job, audit: Some("by mistake".into()) }));
    Some(())
}

/// Two jobs of one line change places in everything but their enqueues.
fn jump(run: &mut Run) -> Option<()> {
    let mut line: Vec<(u64, u64, u64, String)> = Vec::new();
    for site in sites(run) {
        let (Act::Enqueue { job_type, priority: 5, due_ms, seq, .. }, Some(second)) =
            (&run.events[site.at[0]].act, site.at.get(1))
        else {
            continue;
        };
        let (accepted_ms, grant) = (run.events[site.at[0]].at_ms, &run.events[*second]);
        let first = matches!(grant.act, Act::Grant { attempt: 1, .. });
        if first && job_type == "a" && *due_ms == accepted_ms && accepted_ms < grant.at_ms {
            line.push((*due_ms, *seq, grant.at_ms, site.job));
        }
    }
    line.sort();
    let (ahead, behind) = line.windows(2).find_map(|pair| {
        let waited = pair[1].0 < pair[0].2 && pair[0].2 < pair[1].2;
        waited.then(|| (pair[0].3.clone(), pair[1].3.clone()))
    })?;
    for event in &mut run.events {
        let (Act::Grant { job, .. }
        | Act::Takeover { job, .. }
        | Act::Settle { job, .. }
        | Act::Extend { job, .. }
        | Act::Replay { job, .. }
        | Act::Remove { job, .. }) = &mut event.act
        else {
            continue;
        };
        if *job == ahead {
            job.clone_from(&behind);
        } else if *job == behind {
            job.clone_from(&ahead);
        }
    }
    Some(())
}

/// What was granted to the light lanes in the first stretch, while all lanes wait, goes to the heavy one.
fn unfair(run: &mut Run) -> Option<()> {
    let grants = run.events.iter_mut().filter(|event| matches!(event.act, Act::Grant { .. }));
    for event in grants.take(40) {
        if let Act::Grant { lane, .. } = &mut event.act {
            *lane = "a".into();
        }
    }
    Some(())
}

fn crowd(run: &mut Run) -> Option<()> {
    let at_ms = end_of(run);
    for number in 0..8 {
        for lane in ["a", "b"] {
            let (job, token) = (format!("{lane}x{number}"), at_ms * 1_000 + number);
            run.events.push(ok(at_ms, "app", enqueue(&job, lane, None, at_ms)));
            run.events.push(ok(at_ms + 1, "w9", grant(&job, lane, token)));
            run.events.push(ok(at_ms + 9, "w9", settle(&job, token, Ending::Success)));
        }
    }
    Some(())
}

fn key_shared(run: &mut Run) -> Option<()> {
    let keyed = |event: &Event| matches!(event.act, Act::Enqueue { key: Some(_), .. });
    let (_, at) = place(run, |event, room| keyed(event) && room > 2)?;
    let Event { at_ms, act: Act::Enqueue { key, .. }, .. } = run.events[at].clone() else { return None };
    run.events.push(ok(at_ms + 1, "app", enqueue("x", "x", key.as_deref(), at_ms)));
    run.events.push(ok(at_ms + 2, "ops", Act::Cancel { job: "x".into(), running: Some(false) }));
    Some(())
}

fn key_unowned(run: &mut Run) -> Option<()> {
    run.events.push(ok(end_of(run), "app", enqueue("x", "x", Some("kx"), FAR_MS * 2)));
    leave(run, "x", Some(JobState::Scheduled), &[Index::Scheduled]);
    run.dump.records.iter_mut().find(|record| record.job == "x")?.key = Some("kx".into());
    Some(())
}

fn two_indexes(run: &mut Run) -> Option<()> {
    let job = run.dump.records.first()?.job.clone();
    run.dump.entries.push(Entry { index: Index::Ready, name: "ready".into(), job });
    Some(())
}

fn no_index(run: &mut Run) -> Option<()> {
    let (job, _) = succeeded(run)?;
    leave(run, &job, Some(JobState::Succeeded), &[]);
    Some(())
}

fn wrong_index(run: &mut Run) -> Option<()> {
    let (job, _) = succeeded(run)?;
    leave(run, &job, Some(JobState::Succeeded), &[Index::Scheduled]);
    Some(())
}

fn orphan(run: &mut Run) -> Option<()> {
    let (job, _) = succeeded(run)?;
    leave(run, &job, None, &[Index::Finished]);
    Some(())
}

fn count(run: &mut Run) -> Option<()> {
    run.dump.succeeded_total = run.dump.succeeded_total.map(|total| total + 1_000);
    Some(())
}

fn twice(run: &mut Run) -> Option<()> {
    let (_, at) = place(run, |event, room| matches!(event.act, Act::Enqueue { .. }) && room > 2)?;
    let mut event = run.events[at].clone();
    event.at_ms += 1;
    run.events.push(event);
    Some(())
}

fn unfinished(run: &mut Run) -> Option<()> {
    let (job, at) = succeeded(run)?;
    run.events.remove(at);
    leave(run, &job, Some(JobState::Running), &[Index::Running]);
    run.dump.at_ms += 1_000;
    Some(())
}

fn late(run: &mut Run) -> Option<()> {
    let (_, at) = succeeded(run)?;
    run.dump.at_ms += 1_000;
    run.events[at].at_ms = run.dump.at_ms;
    Some(())
}
