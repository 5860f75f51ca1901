//! `lanekeeper status`: lanes, types, pools and workers, once or again and again.

use std::time::Duration;

use clap::Args;
use lanekeeper_api::duration;

use crate::args::{OutputArgs, QueueArgs};
use crate::failure::{Failure, Result};
use crate::live::Live;
use crate::present::figures::QueueView;
use crate::target::{self, Opened, Target};
use crate::{out, pools};

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "KEPT: whether the oldest due job still waits within the lane's startWithin.\n\n\
Examples:\n  lanekeeper status\n  lanekeeper status apps/saas --watch\n  lanekeeper status -o json | jq '.lanes[] | select(.kept == false)'")]
pub(crate) struct StatusArgs {
    /// The queue: NAMESPACE/NAME or NAME; the same as -q.
    #[arg(value_name = "QUEUE", conflicts_with = "queue")]
    positional: Option<String>,
    /// Show it again and again until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// Time between two looks.
    #[arg(long, requires = "watch", default_value = "1s", value_name = "DURATION")]
    interval: duration::Duration,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// Shows it.
pub(crate) async fn run(args: &StatusArgs) -> Result<()> {
    let queue = args.queue.or_named(args.positional.as_ref());
    let mut opened = target::open(&queue).await?;
    if args.watch {
        return watch(args, &queue, &mut opened).await;
    }
    let view = look(&opened).await?;
    if args.output.json() { out::json(&view) } else { out::print(&view.render()) }
}

async fn look(opened: &Opened) -> Result<QueueView> {
    let stats = opened.queue.stats().await.map_err(|error| opened.failure(&error))?;
    let policy = opened.queue.policy().await.map_err(|error| opened.failure(&error))?;
    let pools = match pools::gather(opened).await {
        Ok(pools) => pools.unwrap_or_default(),
        Err(failure) => {
            // What Redis says is worth showing without the cluster's part.
            out::note(&failure.to_string());
            Default::default()
        }
    };
    Ok(QueueView::new(
        opened.queue.name().to_string(),
        stats,
        policy.as_ref().map(|(policy, _)| policy),
        pools,
    ))
}

async fn watch(args: &StatusArgs, queue: &QueueArgs, opened: &mut Opened) -> Result<()> {
    let live = Live::new();
    let mut interrupt = out::interrupts()?;
    let mut interval = tokio::time::interval(args.interval.to_std().max(Duration::from_millis(100)));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = interrupt.recv() => {
                live.finish();
                return Ok(());
            }
        }
        // Pools of the local mode come from its file, which has changed since.
        if matches!(opened.target, Target::Local(_))
            && let Ok(target) = target::choose(&queue.place).await
        {
            opened.target = target;
        }
        show(args, &live, look(opened).await)?;
    }
}

fn show(args: &StatusArgs, live: &Live, looked: Result<QueueView>) -> Result<()> {
    match looked {
        Ok(view) if args.output.json() => out::json_line(&view),
        Ok(view) if live.redraws() => {
            live.show(&view.render());
            Ok(())
        }
        Ok(view) => out::print(&format!("{}\n", view.render())),
        // A queue that is gone stays gone; a Redis may come back.
        Err(failure) if failure.exit() == crate::failure::Exit::Unreachable => {
            note(live, &failure);
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

fn note(live: &Live, failure: &Failure) {
    if live.redraws() { live.show(&failure.to_string()) } else { out::note(&failure.to_string()) }
}
