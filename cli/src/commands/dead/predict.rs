//! What an act on dead letters would answer, without doing it.

use lanekeeper_queue::types::{Acted, DeadAct, Job, JobState, ReviewState};
use serde_json::json;

use crate::commands::damaged;
use crate::failure::{Failure, Result};
use crate::present::acted::NOT_FOUND;
use crate::target::Opened;
use crate::{human, out, present};

/// Shows what would become of these jobs; fails as the act would. Whether a replay finds its key taken only the replay can tell.
pub(super) async fn run(opened: &Opened, ids: &[String], act: DeadAct, json: bool) -> Result<()> {
    let jobs = opened.queue.get(ids, false).await.map_err(|error| opened.failure(&error))?;
    let answers = ids.iter().zip(jobs).map(|(id, job)| predict(act, id, job.as_ref())).collect();
    let answers = damaged::told_apart(opened, answers).await?;
    let (meant, refused): (Vec<Acted>, Vec<Acted>) = answers.into_iter().partition(present::acted::done);
    let meant: Vec<String> = meant.into_iter().map(|one| one.id).collect();
    if json {
        out::json(&json!({ "dryRun": true, "count": meant.len(), "jobs": meant, "refused": refused }))?;
    } else {
        out::print(&meant.join("\n"))?;
        for one in &refused {
            let (outcome, meaning) = (&one.outcome, present::acted::meaning(one, Some(act)));
            out::note(&format!("{} would answer {outcome}: {meaning}", one.id));
        }
        let count = human::count(meant.len() as u64, "job");
        out::note(&format!("nothing was changed; {count} would be {}", act.done()));
    }
    verdict(&refused, ids.len(), act)
}

fn predict(act: DeadAct, id: &str, job: Option<&Job>) -> Acted {
    let acknowledged =
        |job: &Job| job.review.as_ref().is_some_and(|review| review.state == ReviewState::Acknowledged);
    let outcome = match job {
        None => NOT_FOUND,
        Some(job) => match (job.state, act) {
            (JobState::Dead, DeadAct::Acknowledge) if acknowledged(job) => "wrong-state",
            (JobState::Dead, _) | (JobState::Discarded, DeadAct::Replay) => act.done(),
            _ => "wrong-state",
        },
    };
    Acted { id: id.to_owned(), outcome: outcome.to_owned(), state: job.map(|job| job.state) }
}

fn verdict(refused: &[Acted], all: usize, act: DeadAct) -> Result<()> {
    if refused.is_empty() {
        return Ok(());
    }
    let message = format!("{} of {all} would not be {}", refused.len(), act.done());
    let missing = refused.len() == all && refused.iter().all(|one| one.outcome == NOT_FOUND);
    Err(if missing { Failure::not_found(message) } else { Failure::failed(message) })
}

/// Refuses a state of review in which every letter would answer `wrong-state`.
pub(super) fn check(act: DeadAct, state: Option<ReviewState>) -> Result<()> {
    let in_vain = match act {
        DeadAct::Replay => false,
        DeadAct::Discard => state == Some(ReviewState::Discarded),
        DeadAct::Acknowledge => matches!(state, Some(ReviewState::Acknowledged | ReviewState::Discarded)),
    };
    match state.filter(|_| in_vain) {
        Some(state) => {
            let message = format!("no letter that is {} can be {}", state.name(), act.done());
            Err(Failure::invalid(message).advice("leave --review out"))
        }
        None => Ok(()),
    }
}
