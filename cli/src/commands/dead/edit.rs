//! `dead replay JOB --payload FILE`.

use std::io::Read;
use std::path::Path;

use lanekeeper_queue::types::DeadAct;

use super::ActArgs;
use crate::commands::damaged;
use crate::failure::{Failure, Result};
use crate::{human, present, target, who};

/// Replays one job with another payload.
pub(super) async fn run(args: &ActArgs, file: &Path, why: &str) -> Result<()> {
    args.which.check()?;
    let [job] = args.which.jobs.as_slice() else {
        return Err(Failure::invalid("--payload is for one job, named by its id")
            .advice("leave --payload out to replay many jobs with the payloads they have"));
    };
    let payload = read(file)?;
    let opened = target::open(&args.queue).await?;
    let acted = opened.queue.dead_edit(job, &who::actor(), why, &payload).await;
    let acted = acted.map_err(|error| opened.failure(&error))?;
    let too_large = acted.outcome == "payload-too-large";
    let acted = damaged::told_apart(&opened, vec![acted]).await?;
    match present::acted::report(&acted, Some(DeadAct::Replay), args.output.json()) {
        Err(failure) if too_large => Err(failure.advice(limit(&opened, payload.len() as u64).await?)),
        reported => reported,
    }
}

/// How much too large a payload is.
async fn limit(opened: &target::Opened, bytes: u64) -> Result<String> {
    let policy = opened.queue.policy().await.map_err(|error| opened.failure(&error))?;
    let most =
        policy.map_or_else(String::new, |(policy, _)| format!(" {}", human::bytes(policy.max_payload)));
    let bytes = human::bytes(bytes);
    Ok(format!("the payload has {bytes}, `spec.maxPayload` lets through{most}: shorten it, or raise that"))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut payload).map(|_| payload)
    } else {
        std::fs::read(file)
    };
    let payload =
        read.map_err(|error| Failure::invalid(format!("cannot read --payload {}: {error}", file.display())))?;
    // More likely a pipe whose first program failed than a payload.
    if payload.is_empty() {
        return Err(Failure::invalid(format!("--payload {} is empty; nothing was replayed", file.display()))
            .advice("`lanekeeper get JOB --payload` prints the payload that the job has"));
    }
    Ok(payload)
}
