//! `lanekeeper dead …`: the dead letters.

use clap::{Args, Subcommand};
use lanekeeper_queue::types::{Acted, Job, Page};
use serde_json::json;

use super::get::{fetch, server_now};
use crate::args::{OutputArgs, QueueArgs};
use crate::failure::{Failure, Result};
use crate::target::{self, Opened};
use crate::{out, present, who};

/// Jobs per call when all or all of a type are meant.
const BATCH: u32 = 200;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List them, newest first.
    Ls(LsArgs),
    /// Show one with its history.
    Show(ShowArgs),
    /// Make them ready again, with fresh tries and the same payload.
    Replay(ReplayArgs),
    /// Remove them for good.
    Rm(RmArgs),
}

/// Arguments of `dead ls`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lanekeeper dead ls\n  lanekeeper dead ls --type stripe-event --limit 100 -o json"
)]
pub(crate) struct LsArgs {
    /// Only this job type.
    #[arg(long = "type", value_name = "TYPE")]
    job_type: Option<String>,
    /// Most jobs to list.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on where an earlier list ended.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
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

/// Which dead letters a command is about.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Ids of the jobs.
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Every dead letter of this job type.
    #[arg(long = "type", value_name = "TYPE")]
    job_type: Option<String>,
    /// Every dead letter of the queue.
    #[arg(long)]
    all: bool,
}

/// Arguments of `dead replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lanekeeper dead replay 01K…\n  lanekeeper dead replay --type webhook-delivery --dry-run\n  lanekeeper dead replay --all --yes"
)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    which: Which,
    /// Only say what would be replayed.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask (asked with --type and --all).
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// Arguments of `dead rm`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lanekeeper dead rm 01K…\n  lanekeeper dead rm --type old-type --yes")]
pub(crate) struct RmArgs {
    #[command(flatten)]
    which: Which,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// Does it.
pub(crate) async fn run(command: &DeadCommand) -> Result<()> {
    match command {
        DeadCommand::Ls(args) => list(args).await,
        DeadCommand::Show(args) => show(args).await,
        DeadCommand::Replay(args) => replay(args).await,
        DeadCommand::Rm(args) => remove(args).await,
    }
}

async fn list(args: &LsArgs) -> Result<()> {
    if let Some(cursor) = args.cursor.as_deref().filter(|cursor| !is_cursor(cursor)) {
        return Err(Failure::invalid(format!("`{cursor}` is not a cursor of `dead ls`"))
            .advice("copy it from the end of the list before, or leave --cursor out to start anew"));
    }
    let opened = target::open(&args.queue).await?;
    let page = page(&opened, args).await?;
    if page.jobs.is_empty() {
        require_type(&opened, args.job_type.as_deref()).await?;
    }
    if args.output.json() {
        return out::json(&page);
    }
    if page.jobs.is_empty() {
        out::note(&format!("no dead letters in {}", opened.queue.name()));
        return Ok(());
    }
    out::print(&present::job::dead_list(&page.jobs, server_now(&opened.queue).await))?;
    if let Some(cursor) = page.cursor {
        out::note(&format!("more: --cursor {cursor}"));
    }
    Ok(())
}

/// As many as asked for, in as many calls as that takes.
async fn page(opened: &Opened, args: &LsArgs) -> Result<Page> {
    let mut all = Page { jobs: Vec::new(), cursor: args.cursor.clone() };
    loop {
        let missing = args.limit.saturating_sub(u32::try_from(all.jobs.len()).unwrap_or(u32::MAX));
        let page =
            opened.queue.dead_list(args.job_type.as_deref(), missing.min(BATCH), all.cursor.as_deref()).await;
        let page = page.map_err(|error| opened.failure(&error))?;
        all.jobs.extend(page.jobs);
        all.cursor = page.cursor;
        if all.cursor.is_none() || all.jobs.len() >= args.limit as usize {
            return Ok(all);
        }
    }
}

/// A place in the list, `<time>:<id>`: the queue would take anything else for its beginning.
fn is_cursor(text: &str) -> bool {
    text.split_once(':').is_some_and(|(time, id)| {
        !time.is_empty() && time.bytes().all(|b| b.is_ascii_digit()) && !id.is_empty()
    })
}

/// Nothing was found: with a type that the queue does not have, that is a slip rather than good news.
async fn require_type(opened: &Opened, job_type: Option<&str>) -> Result<()> {
    let Some(job_type) = job_type else { return Ok(()) };
    let policy = opened.queue.policy().await.map_err(|error| opened.failure(&error))?;
    let Some((policy, _)) = policy.filter(|(policy, _)| !policy.job_types.contains_key(job_type)) else {
        return Ok(());
    };
    let names: Vec<&str> = policy.job_types.keys().map(String::as_str).collect();
    Err(Failure::not_found(format!(
        "{} has no job type `{job_type}`, and no dead letter of it",
        opened.queue.name()
    ))
    .advice(format!("its types are: {}", names.join(", "))))
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

async fn replay(args: &ReplayArgs) -> Result<()> {
    let opened = target::open(&args.queue).await?;
    let ids = select(&opened, &args.which).await?;
    if args.dry_run {
        return dry_run(&ids, args.output.json());
    }
    if args.which.jobs.is_empty() && !ids.is_empty() {
        out::confirm(&question("Replay", &ids, &opened), args.yes)?;
    }
    let by = who::actor();
    let mut acted: Vec<Acted> = Vec::new();
    for batch in ids.chunks(BATCH as usize) {
        let done = opened.queue.dead_replay(batch, &by).await;
        acted.extend(done.map_err(|error| partly(&opened, &error, acted.len()))?);
    }
    report(&acted, args.output.json(), &opened)
}

async fn remove(args: &RmArgs) -> Result<()> {
    let opened = target::open(&args.queue).await?;
    let ids = select(&opened, &args.which).await?;
    if !ids.is_empty() {
        out::confirm(&question("Remove for good", &ids, &opened), args.yes)?;
    }
    let by = who::actor();
    let mut acted: Vec<Acted> = Vec::new();
    for batch in ids.chunks(BATCH as usize) {
        let done = opened.queue.dead_delete(batch, &by).await;
        acted.extend(done.map_err(|error| partly(&opened, &error, acted.len()))?);
    }
    report(&acted, args.output.json(), &opened)
}

/// The ids meant; all of them are read first, so that letters that die meanwhile are not touched.
async fn select(opened: &Opened, which: &Which) -> Result<Vec<String>> {
    if !which.jobs.is_empty() {
        return Ok(which.jobs.clone());
    }
    let mut ids: Vec<String> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = opened.queue.dead_list(which.job_type.as_deref(), BATCH, cursor.as_deref()).await;
        let page = page.map_err(|error| opened.failure(&error))?;
        ids.extend(page.jobs.into_iter().map(|job: Job| job.id));
        cursor = page.cursor;
        if cursor.is_none() {
            if ids.is_empty() {
                require_type(opened, which.job_type.as_deref()).await?;
            }
            return Ok(ids);
        }
    }
}

fn question(verb: &str, ids: &[String], opened: &Opened) -> String {
    format!(
        "{verb} {} of {} in {}?",
        crate::human::count(ids.len() as u64, "dead letter"),
        opened.queue.name(),
        opened.whereabouts
    )
}

fn dry_run(ids: &[String], json: bool) -> Result<()> {
    if json {
        return out::json(&json!({ "dryRun": true, "jobs": ids }));
    }
    out::note(&format!("{} would be replayed", crate::human::count(ids.len() as u64, "job")));
    out::print(&ids.join("\n"))
}

fn report(acted: &[Acted], json: bool, opened: &Opened) -> Result<()> {
    if acted.is_empty() && !json {
        out::note(&format!("no dead letters in {} to act on", opened.queue.name()));
        return Ok(());
    }
    present::acted::report(acted, json)
}

fn partly(opened: &Opened, error: &lanekeeper_queue::client::Error, done: usize) -> Failure {
    let failure = opened.failure(error);
    if done == 0 {
        failure
    } else {
        failure.details([format!("{done} were acted on before; running the command again does the rest")])
    }
}
