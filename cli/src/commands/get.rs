//! `lanekeeper get JOB`.

use clap::Args;
use lanekeeper_queue::Queue;
use lanekeeper_queue::types::Job;

use crate::args::{OutputArgs, QueueArgs};
use crate::failure::{Failure, Result};
use crate::target::Opened;
use crate::{clock, out, present, target};

/// Arguments of `get`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lanekeeper get 01K…\n  lanekeeper get 01K… -o json | jq .history\n  lanekeeper get 01K… --payload > payload.json"
)]
pub(crate) struct GetArgs {
    /// Id of the job.
    job: String,
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

/// Shows the job.
pub(crate) async fn run(args: &GetArgs) -> Result<()> {
    let opened = target::open(&args.queue).await?;
    let job = fetch(&opened, &args.job, args.payload || args.original).await?;
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
    if args.output.json() {
        return out::json(&job);
    }
    out::print(&present::job::detail(&job, server_now(&opened.queue).await))
}

/// The job, or a failure that says there is none.
pub(crate) async fn fetch(opened: &Opened, id: &str, payload: bool) -> Result<Job> {
    let found = opened.queue.get(&[id.to_owned()], payload).await.map_err(|error| opened.failure(&error))?;
    found.into_iter().next().flatten().ok_or_else(|| missing(opened, id))
}

/// There is no such job.
pub(crate) fn missing(opened: &Opened, id: &str) -> Failure {
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
