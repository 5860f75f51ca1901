//! `lanekeeper enqueue`: one job, or many from NDJSON.

mod gone;
mod wait;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lanekeeper_api::duration;
use lanekeeper_queue::types::{EnqueueOptions, Enqueued, JobState, NewJob};
use serde_json::json;
use tokio::time::Instant;

use crate::args::{OutputArgs, QueueArgs};
use crate::failure::{Exit, Failure, Result};
use crate::human::parse_instant;
use crate::target::{self, Opened};
use crate::{bulk, out};

const EXAMPLES: &str = "\
Examples:
  lanekeeper enqueue password-reset '{\"userId\":7}'
  lanekeeper enqueue pdf-report @request.json --delay 10m --meta tenant=acme
  lanekeeper enqueue thumbnail - --wait --timeout 1m < job.json
  lanekeeper enqueue --ndjson jobs.ndjson --rejects rejected.ndjson

A line of NDJSON: {\"type\":\"mail\",\"payload\":{…}} and optionally id, key, priority, delay (ms), runAt (ms since the \
epoch), meta; payloadText in place of payload for bytes that are not JSON. Payloads are sent as they are written.

A file that is sent again: an id answers `duplicate` only as long as the record of its job is kept (`completed` of its type: \
1000 jobs unless said), a key for `keyFor` after the success (24h unless said). What is older is taken as a new job.";

/// The queue holds as much as its `spec.capacity` says.
pub(crate) const QUEUE_FULL: &str = "queue-full";

/// Arguments of `enqueue`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EnqueueArgs {
    /// Job type.
    #[arg(value_name = "TYPE", required_unless_present = "ndjson")]
    job_type: Option<String>,
    /// The payload: text, @FILE, or - for standard input; absent: {}.
    #[arg(value_name = "PAYLOAD", conflicts_with = "ndjson")]
    positional: Option<String>,
    /// The payload, as the second argument.
    #[arg(long, conflicts_with_all = ["positional", "ndjson"], value_name = "PAYLOAD")]
    payload: Option<String>,
    /// Id of your own: used again it answers `duplicate` as long as the job's record is kept (its type's `completed`), so a lost
    /// reply can be retried soon.
    #[arg(long, conflicts_with = "ndjson")]
    id: Option<String>,
    /// Idempotency key, in place of the one rendered from the payload: used again it answers `duplicate` while its job waits,
    /// runs or is a dead letter, and after a success as long as its type's `keyFor` says.
    #[arg(long, conflicts_with = "ndjson")]
    key: Option<String>,
    /// 0 to 9, lower first.
    #[arg(long, conflicts_with = "ndjson", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// Start no earlier than this from now, such as 30s or 2h.
    #[arg(long, conflicts_with_all = ["run_at", "ndjson"], value_name = "DURATION")]
    delay: Option<duration::Duration>,
    /// Start no earlier than this: RFC 3339, or ms since the epoch.
    #[arg(long, conflicts_with = "ndjson", value_parser = parse_instant, value_name = "TIME")]
    run_at: Option<u64>,
    /// A string carried to the handler; may be given several times, each name once.
    #[arg(long, conflicts_with = "ndjson", value_parser = parse_meta, value_name = "NAME=VALUE")]
    meta: Vec<(String, String)>,
    /// Wait until the job ends; succeeds only if the job does.
    #[arg(long, conflicts_with = "ndjson")]
    wait: bool,
    /// Longest wait.
    #[arg(long, requires = "wait", default_value = "5m", value_name = "DURATION")]
    timeout: duration::Duration,
    /// Enqueue every line of this file, or of standard input when it is -.
    #[arg(long, value_name = "FILE", conflicts_with = "job_type")]
    ndjson: Option<PathBuf>,
    /// Write rejected lines here as they were, to be corrected and sent again (those of a full queue: only sent again).
    #[arg(long, requires = "ndjson", value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Skip this many lines: those an interrupted run had acknowledged.
    #[arg(long, requires = "ndjson", default_value_t = 0, value_name = "LINES")]
    skip: u64,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

fn parse_meta(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`: write NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Enqueues.
pub(crate) async fn run(args: &EnqueueArgs) -> Result<()> {
    match &args.ndjson {
        Some(file) => {
            let job = bulk::Bulk {
                file,
                rejects: args.rejects.as_deref(),
                skip: args.skip,
                json: args.output.json(),
            };
            bulk::run(&job, &args.queue).await
        }
        None => one(args).await,
    }
}

async fn one(args: &EnqueueArgs) -> Result<()> {
    let job = new_job(args)?;
    let deadline = Instant::now() + args.timeout.to_std();
    let opened = open(args, deadline).await?;
    let mark = if args.wait { gone::mark(&opened).await } else { String::new() };
    let enqueued = send(&opened, &job, args.wait.then_some(deadline)).await?;
    let id = match &enqueued {
        Enqueued::Rejected { reason, message } => {
            return Err(rejected(&opened, &job, reason, message, args.output.json()).await);
        }
        Enqueued::Accepted { id, .. } | Enqueued::Replaced { id, .. } | Enqueued::Duplicate { id, .. } => {
            id.clone()
        }
    };
    if !args.wait {
        return if args.output.json() { out::json(&enqueued) } else { out::print(&sentence(&enqueued)) };
    }
    let (key, json) = (args.key.as_deref(), args.output.json());
    wait::Wait { opened: &opened, enqueued: &enqueued, id: &id, key, mark: &mark, deadline, json }
        .ended()
        .await
}

/// Opens the queue; who waits also waits for a queue that is just being made.
async fn open(args: &EnqueueArgs, deadline: Instant) -> Result<Opened> {
    let mut told = false;
    loop {
        match target::open(&args.queue).await {
            Err(failure) if args.wait && failure.exit() == Exit::NotFound && Instant::now() < deadline => {
                if !told {
                    out::note(&format!("waiting for the queue: {failure}"));
                }
                told = true;
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            opened => return opened,
        }
    }
}

fn new_job(args: &EnqueueArgs) -> Result<NewJob> {
    let given = args.positional.as_deref().or(args.payload.as_deref()).unwrap_or("{}");
    let options = EnqueueOptions {
        job_type: args.job_type.clone().unwrap_or_default(),
        id: args.id.clone(),
        key: args.key.clone(),
        priority: args.priority,
        delay: args.delay.map(duration::Duration::as_millis),
        run_at: args.run_at,
        meta: meta(&args.meta)?,
    };
    Ok(NewJob { payload: payload(given)?, options })
}

/// By name. Of two values of one name neither can be the right one to drop.
fn meta(given: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    let mut meta = BTreeMap::new();
    for (name, value) in given {
        if let Some(first) = meta.insert(name.clone(), value.clone()) {
            let message = format!("--meta `{name}` is given twice, as `{first}` and as `{value}`");
            return Err(Failure::invalid(message).advice("give each name once"));
        }
    }
    Ok(meta)
}

fn payload(given: &str) -> Result<Vec<u8>> {
    if given == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|error| {
            Failure::invalid(format!("cannot read the payload from standard input: {error}"))
        })?;
        return Ok(bytes);
    }
    match given.strip_prefix('@') {
        Some(path) => std::fs::read(path)
            .map_err(|error| Failure::invalid(format!("cannot read the payload from {path}: {error}"))),
        None => Ok(given.as_bytes().to_vec()),
    }
}

/// Enqueues; with a deadline, a queue whose policy is not written yet is waited for.
async fn send(opened: &Opened, job: &NewJob, deadline: Option<Instant>) -> Result<Enqueued> {
    loop {
        match opened.queue.enqueue(std::slice::from_ref(job)).await {
            Err(lanekeeper_queue::client::Error::NoPolicy(_))
                if deadline.is_some_and(|at| Instant::now() < at) =>
            {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Err(error) => return Err(opened.failure(&error)),
            Ok(answers) => {
                return answers
                    .into_iter()
                    .next()
                    .ok_or_else(|| Failure::failed("the queue answered nothing"));
            }
        }
    }
}

fn sentence(enqueued: &Enqueued) -> String {
    match enqueued {
        Enqueued::Accepted { id, state: JobState::Scheduled } => format!("{id} scheduled"),
        Enqueued::Accepted { id, .. } => format!("{id} queued"),
        Enqueued::Replaced { id, .. } => format!("{id} replaced"),
        Enqueued::Duplicate { id, state } => {
            format!("{id} duplicate: the job that has this id or key is {}", state.name())
        }
        Enqueued::Rejected { reason, message } => format!("rejected:{reason}: {message}"),
    }
}

async fn rejected(opened: &Opened, job: &NewJob, reason: &str, message: &str, json: bool) -> Failure {
    if json {
        // The failure below is what counts; a reader that went away does not change it.
        let _ = out::json(&json!({ "outcome": "rejected", "reason": reason, "message": message }));
    }
    let failure = Failure::failed(format!("rejected:{reason}: {message}"));
    if reason == QUEUE_FULL {
        return failure.advice(
            "enqueue it again once jobs have ended, make room (`lanekeeper dead replay` or `discard`; \
             `dead.keepReviewedFor` bounds how long discarded ones stay), or raise spec.capacity of the JobQueue",
        );
    }
    if reason != "unknown-type" {
        return failure;
    }
    match opened.queue.policy().await {
        Ok(Some((policy, _))) => {
            let names: Vec<&str> = policy.job_types.keys().map(String::as_str).collect();
            failure.advice(format!(
                "`{}` is not one of the types of {}: {}",
                job.options.job_type,
                opened.queue.name(),
                names.join(", ")
            ))
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_needs_a_name_and_a_value() {
        assert_eq!(parse_meta("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(parse_meta("a").is_err());
    }

    #[test]
    fn a_name_of_meta_has_one_value() {
        let given = |pairs: &[(&str, &str)]| {
            meta(
                &pairs
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(given(&[("a", "1"), ("b", "1")]).unwrap().len(), 2);
        let refused = given(&[("x", "1"), ("a", "1"), ("x", "2")]).unwrap_err();
        assert!(refused.to_string().contains("`x` is given twice, as `1` and as `2`"), "{refused}");
        assert_eq!(refused.exit(), Exit::Invalid);
    }

    #[test]
    fn a_payload_is_text_or_a_file() {
        assert_eq!(payload("{}").unwrap(), b"{}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p");
        std::fs::write(&file, [0, 255]).unwrap();
        assert_eq!(payload(&format!("@{}", file.display())).unwrap(), [0, 255]);
        assert!(payload("@/no/such/file").unwrap_err().to_string().contains("/no/such/file"));
    }
}
