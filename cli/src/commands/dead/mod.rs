//! `lanekeeper dead …`: the dead letters.

mod edit;
mod list;
mod plan;
mod predict;
mod rate;
mod run;
mod which;

use clap::{Args, Subcommand};
use lanekeeper_queue::types::DeadAct;

use super::get::{fetch, server_now};
use crate::args::{OutputArgs, QueueArgs};
use crate::failure::{Failure, Result};
use crate::{out, present, target};

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List them, newest first.
    Ls(list::LsArgs),
    /// Count them by job type and error.
    Groups(list::GroupsArgs),
    /// Show one with its history.
    Show(ShowArgs),
    /// Note that somebody saw them: they stay dead letters until they are replayed or discarded.
    Ack(AckArgs),
    /// Make them ready again, with fresh tries.
    Replay(ReplayArgs),
    /// Take them out of the dead letters for good; their records and histories stay, their keys are free.
    Discard(DiscardArgs),
}

/// Arguments of `dead show`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lanekeeper dead show 01K…\n  lanekeeper dead show 01K… -o json | jq .history"
)]
pub(crate) struct ShowArgs {
    /// Id of the job.
    job: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// What acts on dead letters have in common.
#[derive(Debug, Args)]
struct ActArgs {
    #[command(flatten)]
    which: which::Which,
    /// Only count what is meant, by job type and error; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// At most so many in a time, such as 50/s or 600/m.
    #[arg(long, value_name = "N/UNIT")]
    rate: Option<rate::Rate>,
    /// Do not ask (asked unless jobs are named by their ids).
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// Arguments of `dead ack`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lanekeeper dead ack 01K… --why 'waits for the vendor'\n  lanekeeper dead ack --fingerprint 3f9c2a71e0b4 --why 'known: bug 812'"
)]
pub(crate) struct AckArgs {
    /// Why, for the job's history.
    #[arg(long, value_name = "TEXT", value_parser = parse_why)]
    why: String,
    #[command(flatten)]
    act: ActArgs,
}

/// Arguments of `dead discard`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lanekeeper dead discard 01K… --why 'a test account'\n  lanekeeper dead discard --type old-type --until 2030-01-31T08:00:00Z --why 'retired' --yes"
)]
pub(crate) struct DiscardArgs {
    /// Why, for the job's history.
    #[arg(long, value_name = "TEXT", value_parser = parse_why)]
    why: String,
    #[command(flatten)]
    act: ActArgs,
}

/// Arguments of `dead replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "A replay may be interrupted at any time. It then says what is left: the ids, or the --until with which the same command does the\nrest, so that nothing that was replayed and died again is replayed twice. That --until is told at the start, too: one that was killed\ncannot tell it any more.\n\nExamples:\n  lanekeeper dead replay 01K… --why 'vendor is back'\n  lanekeeper dead replay 01K… --payload mended.json --why 'wrong template'\n  lanekeeper dead replay --type webhook-delivery --since 2h --dry-run\n  lanekeeper dead replay --fingerprint 3f9c2a71e0b4 --match 'email:*' --rate 50/s --yes"
)]
pub(crate) struct ReplayArgs {
    /// Why, for the job's history.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    why: String,
    /// Replay one job with another payload: a file, or - for standard input. Its id and keys stay; the first payload stays
    /// readable by `lanekeeper get JOB --original`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "rate"])]
    payload: Option<std::path::PathBuf>,
    #[command(flatten)]
    act: ActArgs,
}

/// A reason that says something.
fn parse_why(text: &str) -> std::result::Result<String, String> {
    if text.trim().is_empty() {
        return Err("it is empty: say why, for those who find the job later".to_owned());
    }
    Ok(text.to_owned())
}

/// Does it.
pub(crate) async fn run(command: &DeadCommand) -> Result<()> {
    match command {
        DeadCommand::Ls(args) => list::run(args).await,
        DeadCommand::Groups(args) => list::groups(args).await,
        DeadCommand::Show(args) => show(args).await,
        DeadCommand::Ack(args) => plan::run(&args.act, DeadAct::Acknowledge, &args.why).await,
        DeadCommand::Discard(args) => plan::run(&args.act, DeadAct::Discard, &args.why).await,
        DeadCommand::Replay(args) => match &args.payload {
            Some(file) => edit::run(&args.act, file, &args.why).await,
            None => plan::run(&args.act, DeadAct::Replay, &args.why).await,
        },
    }
}

async fn show(args: &ShowArgs) -> Result<()> {
    let opened = target::open(&args.queue).await?;
    let job = fetch(&opened, &args.job, false).await?;
    if job.dead_reason.is_none() {
        let state = job.state.name();
        return Err(Failure::not_found(format!("job {} is not a dead letter: it is {state}", job.id))
            .advice(format!("`lanekeeper get {}` shows it", job.id)));
    }
    if args.output.json() {
        return out::json(&job);
    }
    out::print(&present::job::detail(&job, server_now(&opened.queue).await))
}
