//! `lanekeeper resume QUEUE`: lifts pauses by hand, and holds of lanes.

use clap::Args;

use crate::args::{OutputArgs, QueueArgs};
use crate::failure::Result;
use crate::present::pauses::{Act, Pauses};
use crate::{out, target, who};

/// Arguments of `resume`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --lane the pause of the queue as a whole is lifted; lanes that were paused by themselves stay so \
and are named. With --lane a hold that a dependency asked for (Retry-After) ends as well. `paused` in the JobQueue is lifted there.\n\nExamples:\n  lanekeeper resume apps/saas --lane \
outbound-webhooks\n  lanekeeper resume apps/saas"
)]
pub(crate) struct ResumeArgs {
    /// The queue: NAMESPACE/NAME or NAME; the same as -q.
    #[arg(value_name = "QUEUE", conflicts_with = "queue")]
    positional: Option<String>,
    /// Only this lane; may be given again.
    #[arg(short, long = "lane", value_name = "LANE")]
    lanes: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// Resumes.
pub(crate) async fn run(args: &ResumeArgs) -> Result<()> {
    let queue = args.queue.or_named(args.positional.as_ref());
    let opened = target::open(&queue).await?;
    let changes = opened.queue.resume(&who::user(), &args.lanes).await;
    let changes = changes.map_err(|error| opened.failure(&error))?;
    let view = Pauses::after(Act::Resume, &opened, changes).await?;
    if args.output.json() { out::json(&view) } else { out::print(&view.render()) }
}
