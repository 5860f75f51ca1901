//! `lanekeeper cancel JOB…`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::damaged;
use crate::args::{OutputArgs, QueueArgs};
use crate::failure::Result;
use crate::{present, target, who};

/// Arguments of `cancel`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lanekeeper cancel 01K…\n  lanekeeper cancel -q apps/saas 01K… 01M… -o json"
)]
pub(crate) struct CancelArgs {
    /// Ids of the jobs.
    #[arg(required = true, value_name = "JOB", value_parser = NonEmptyStringValueParser::new())]
    jobs: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// Calls the jobs off.
pub(crate) async fn run(args: &CancelArgs) -> Result<()> {
    let opened = target::open(&args.queue).await?;
    let (mut acted, by) = (Vec::new(), who::actor());
    for batch in args.jobs.chunks(lanekeeper_queue::MAX_BATCH) {
        acted.extend(opened.queue.cancel(batch, &by).await.map_err(|error| opened.failure(&error))?);
    }
    present::acted::report(&damaged::told_apart(&opened, acted).await?, None, args.output.json())
}
