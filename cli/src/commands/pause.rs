//! `lanekeeper pause QUEUE`: starts nothing of a queue or of some of its lanes until someone resumes.

use clap::Args;

use crate::args::{OutputArgs, QueueArgs};
use crate::failure::Result;
use crate::present::pauses::{Act, Pauses};
use crate::{out, target, who};

/// Arguments of `pause`.
#[derive(Debug, Args)]
#[command(
    after_help = "Jobs are still accepted, and what runs goes on. A pause by hand stays until `lanekeeper resume`; it is \
beside `paused` in the JobQueue.\n\nExamples:\n  lanekeeper pause apps/saas --lane outbound-webhooks --why 'vendor is down'\n  \
lanekeeper pause apps/saas"
)]
pub(crate) struct PauseArgs {
    /// The queue: NAMESPACE/NAME or NAME; the same as -q.
    #[arg(value_name = "QUEUE", conflicts_with = "queue")]
    positional: Option<String>,
    /// Only this lane; may be given again.
    #[arg(short, long = "lane", value_name = "LANE")]
    lanes: Vec<String>,
    /// Why, for those who find it paused.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    why: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// Pauses.
pub(crate) async fn run(args: &PauseArgs) -> Result<()> {
    let queue = args.queue.or_named(args.positional.as_ref());
    let opened = target::open(&queue).await?;
    let changes = opened.queue.pause(&who::user(), &args.why, &args.lanes).await;
    let changes = changes.map_err(|error| opened.failure(&error))?;
    let view = Pauses::after(Act::Pause, &opened, changes).await?;
    if args.output.json() { out::json(&view) } else { out::print(&view.render()) }
}
