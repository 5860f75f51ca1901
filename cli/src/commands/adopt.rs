//! `lanekeeper adopt QUEUE`: takes over a queue whose policy someone else manages.

use clap::Args;
use lanekeeper_api::policy::Source;
use lanekeeper_operator::local::apply::{OWNER, UID};
use lanekeeper_queue::types::Configured;
use serde_json::json;

use crate::args::{OutputArgs, QueueArgs, WhereArgs};
use crate::failure::{Failure, Result};
use crate::{clock, out, target};

/// Arguments of `adopt`.
#[derive(Debug, Args)]
#[command(
    after_help = "The policy stays as it is; from now on `lanekeeper apply` and `lanekeeper up` may change it, and the \
former owner may not, until it adopts the queue back.\n\nExamples:\n  lanekeeper adopt apps/saas --redis redis://localhost:6379"
)]
pub(crate) struct AdoptArgs {
    /// The queue: NAMESPACE/NAME or NAME.
    queue: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    place: WhereArgs,
}

/// Rewrites the policy's owner.
pub(crate) async fn run(args: &AdoptArgs) -> Result<()> {
    let queue = QueueArgs { queue: Some(args.queue.clone()), place: args.place.clone() };
    let opened = target::open(&queue).await?;
    let name = opened.queue.name().clone();
    let stored = opened.queue.policy().await.map_err(|error| opened.failure(&error))?;
    let Some((mut policy, version)) = stored else {
        return Err(opened.failure(&lanekeeper_queue::client::Error::NoPolicy(name)));
    };
    let former = policy.source.owner.clone();
    if former == OWNER {
        if args.output.json() {
            return out::json(
                &json!({ "queue": name.to_string(), "formerOwner": former, "policyVersion": version }),
            );
        }
        out::note(&format!("queue {name} is managed from the command line already"));
        return Ok(());
    }
    out::confirm(&format!("Take queue {name} in {} over from {former}?", opened.whereabouts), args.yes)?;
    policy.source =
        Source { owner: OWNER.to_owned(), uid: UID.to_owned(), created_ms: clock::now_ms(), generation: 1 };
    let configured = opened.queue.configure(&policy, true).await.map_err(|error| opened.failure(&error))?;
    match configured {
        Configured::Applied { version } | Configured::Unchanged { version } => {
            if args.output.json() {
                return out::json(
                    &json!({ "queue": name.to_string(), "formerOwner": former, "policyVersion": version }),
                );
            }
            out::print(&format!("queue {name} adopted from {former} (policy version {version})"))
        }
        Configured::Stale { .. } | Configured::Foreign { .. } => {
            Err(Failure::failed(format!("queue {name} was changed by someone else meanwhile"))
                .advice("look at it and try again"))
        }
    }
}
