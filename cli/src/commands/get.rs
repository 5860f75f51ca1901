//! `lanekeeper get JOB`, `lanekeeper get --key KEY`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use lanekeeper_queue::Queue;
use lanekeeper_queue::types::{Damage, DamagedPart, Find, Job, JobState, KeptKey};
use serde::Serialize;

use crate::args::{OutputArgs, QueueArgs};
use crate::failure::{Failure, Result};
use crate::human::{bytes, relative, timestamp, visible};
use crate::target::Opened;
use crate::{clock, out, present, target};

/// Arguments of `get`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lanekeeper get 01K…\n  lanekeeper get --key mail:17 -o json | jq -r .state\n  lanekeeper get 01K… -o json | jq .history\n  lanekeeper get 01K… --payload > payload.json"
)]
pub(crate) struct GetArgs {
    /// Id of the job.
    #[arg(required_unless_present = "key", conflicts_with = "key", value_parser = NonEmptyStringValueParser::new())]
    job: Option<String>,
    #[command(flatten)]
    by_key: KeyArg,
    /// Print the payload's bytes and nothing else.
    #[arg(long, conflicts_with = "output")]
    payload: bool,
    /// Print the payload that it was enqueued with, where a replay replaced that.
    #[arg(long, conflicts_with_all = ["output", "payload"])]
    original: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// A job by its idempotency key.
#[derive(Debug, Args)]
pub(crate) struct KeyArg {
    /// The job that has this idempotency key, in place of its id.
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    pub(crate) key: Option<String>,
}

/// A key that is one: the queue takes an empty one for none and would find any job.
fn parse_key(text: &str) -> std::result::Result<String, String> {
    if text.is_empty() {
        return Err("it is empty: write the key as `lanekeeper get JOB` shows it".to_owned());
    }
    Ok(text.to_owned())
}

/// Who has an idempotency key.
pub(crate) enum Owner {
    /// A job with a record.
    Job(Box<Job>),
    /// A job that succeeded, whose record went before the key did.
    Kept(KeptKey),
}

/// A kept key without a record, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Kept<'a> {
    id: &'a str,
    key: &'a str,
    state: JobState,
    key_until_ms: u64,
    record_kept: bool,
}

/// Shows the job.
pub(crate) async fn run(args: &GetArgs) -> Result<()> {
    let opened = target::open(&args.queue).await?;
    let raw = args.payload || args.original;
    let id = match (&args.by_key.key, &args.job) {
        (Some(key), _) => match owner(&opened, key).await? {
            Owner::Kept(kept) => return show_kept(&opened, key, &kept, args).await,
            Owner::Job(job) if !raw => return show(&opened, &job, args).await,
            Owner::Job(job) => job.id,
        },
        (None, id) => id.clone().unwrap_or_default(),
    };
    let job = fetch(&opened, &id, raw).await?;
    if args.original {
        return match &job.original {
            Some(original) => out::write_raw(original),
            None => {
                Err(Failure::not_found(format!("job {} has the payload that it was enqueued with", job.id))
                    .advice("`--payload` prints it"))
            }
        };
    }
    if args.payload {
        return out::write_raw(job.payload.as_deref().unwrap_or_default());
    }
    show(&opened, &job, args).await
}

async fn show(opened: &Opened, job: &Job, args: &GetArgs) -> Result<()> {
    if args.output.json() {
        return out::json(job);
    }
    out::print(&present::job::detail(job, server_now(&opened.queue).await))
}

/// What the key alone tells is an answer: an enqueue would be told `duplicate`. A payload it does not have.
async fn show_kept(opened: &Opened, key: &str, kept: &KeptKey, args: &GetArgs) -> Result<()> {
    let sentence = kept_sentence(key, kept, server_now(&opened.queue).await);
    if args.payload || args.original {
        return Err(Failure::not_found(sentence));
    }
    if args.output.json() {
        let KeptKey { id, until_ms } = kept;
        let state = JobState::Succeeded;
        return out::json(&Kept { id, key, state, key_until_ms: *until_ms, record_kept: false });
    }
    out::print(&visible(&sentence))
}

/// Says who keeps a key without a record.
pub(crate) fn kept_sentence(key: &str, kept: &KeptKey, now_ms: u64) -> String {
    let (until, left) = (timestamp(kept.until_ms), relative(now_ms, kept.until_ms));
    let id = &kept.id;
    format!(
        "The key {key} is taken until {until} ({left}) by job {id}, which succeeded; its record is no longer kept."
    )
}

/// Who has the key, or a failure that says that nobody has.
pub(crate) async fn owner(opened: &Opened, key: &str) -> Result<Owner> {
    let find = Find { key: Some(key.to_owned()), limit: 1, ..Find::default() };
    let found = opened.queue.find(&find).await.map_err(|error| opened.failure(&error))?;
    if let Some(job) = found.jobs.into_iter().next() {
        return Ok(Owner::Job(Box::new(job)));
    }
    let kept = opened.queue.kept_key(key).await.map_err(|error| opened.failure(&error))?;
    let now_ms = server_now(&opened.queue).await;
    kept.filter(|kept| kept.until_ms > now_ms).map(Owner::Kept).ok_or_else(|| {
        let (queue, place) = (opened.queue.name(), &opened.whereabouts);
        Failure::not_found(format!("queue {queue} in {place} has no job with the key `{key}`")).advice(
            "a key is free again once its job was called off or discarded, and `keyFor` after it succeeded; check the key and -q",
        )
    })
}

/// The job, or a failure that says there is none.
pub(crate) async fn fetch(opened: &Opened, id: &str, payload: bool) -> Result<Job> {
    let found = opened.queue.get(&[id.to_owned()], payload).await.map_err(|error| opened.failure(&error))?;
    match found.into_iter().next().flatten() {
        Some(job) => Ok(job),
        None => Err(missing(opened, id).await),
    }
}

/// There is no such job, or none that can be read.
async fn missing(opened: &Opened, id: &str) -> Failure {
    match require_readable(opened, id).await {
        Err(failure) => failure,
        Ok(()) => absent(opened, id),
    }
}

/// Fails where something stands under the id that nobody can read: that job is neither gone nor over.
pub(crate) async fn require_readable(opened: &Opened, id: &str) -> Result<()> {
    match opened.queue.damage(id).await.map_err(|error| opened.failure(&error))? {
        Some(damage) => Err(damaged(opened, id, &damage)),
        None => Ok(()),
    }
}

fn damaged(opened: &Opened, id: &str, damage: &Damage) -> Failure {
    let (queue, place, key) = (opened.queue.name(), &opened.whereabouts, &damage.key);
    let (what, or_else) = match damage.part {
        DamagedPart::Record => {
            ("record", "and the job goes on, or delete it with HDEL and enqueue the job again")
        }
        // Whether the job had ended stood there and nowhere else that counts.
        DamagedPart::Past => (
            "past",
            "and the job is what it was, or delete it with HDEL: its record is whole, and the job runs anew without its tries and \
             history, also if it had ended",
        ),
    };
    Failure::failed(format!(
        "the {what} of job `{id}` in queue {queue} in {place} is damaged: {} that cannot be read; nothing runs the job",
        bytes(damage.bytes)
    ))
    .advice(format!(
        "look at it with `redis-cli HGET '{key}' {id}`: put the {what} of a backup back with HSET, {or_else}"
    ))
}

fn absent(opened: &Opened, id: &str) -> Failure {
    Failure::not_found(format!("queue {} in {} has no job `{id}`", opened.queue.name(), opened.whereabouts))
        .advice(
            "finished jobs are kept only as long as `completed` in the policy says, discarded ones as long as \
             `dead.keepReviewedFor` does; check the id and -q",
        )
}

/// The time by which the queue lives: Redis' own, else this machine's.
pub(crate) async fn server_now(queue: &Queue) -> u64 {
    let time: redis::RedisResult<(u64, u64)> = redis::cmd("TIME").query_async(&mut queue.connection()).await;
    time.map_or_else(|_| clock::now_ms(), |(s, us)| s * 1000 + us / 1000)
}
