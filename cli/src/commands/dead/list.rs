//! `dead ls` and `dead groups`.

use std::collections::HashMap;

use clap::Args;
use lanekeeper_queue::types::{AttemptError, DeadFilter, DeadGroup, Job, Page};
use serde::Serialize;
use serde_json::json;

use super::which::FilterArgs;
use crate::args::{OutputArgs, QueueArgs};
use crate::commands::get::server_now;
use crate::failure::{Failure, Result};
use crate::target::{self, Opened};
use crate::{human, out, present};

/// Jobs per call.
const BATCH: u32 = 200;
/// Groups whose example is looked at for its error.
const EXAMPLES: usize = 50;

/// Arguments of `dead ls`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lanekeeper dead ls --since 2h\n  lanekeeper dead ls --type stripe-event --review open --limit 100 -o json\n  lanekeeper dead ls --lane user-fast --match 'email:*:welcome'"
)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Oldest first.
    #[arg(long)]
    oldest_first: bool,
    /// Most jobs to list.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on where an earlier list with the same filters ended.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// Arguments of `dead groups`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lanekeeper dead groups --since 24h\n  lanekeeper dead groups --lane user-fast -o json | jq '.groups[0]'"
)]
pub(crate) struct GroupsArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// Lists.
pub(super) async fn run(args: &LsArgs) -> Result<()> {
    if let Some(cursor) = args.cursor.as_deref().filter(|cursor| !is_cursor(cursor)) {
        return Err(Failure::invalid(format!("`{cursor}` is not a cursor of `dead ls`"))
            .advice("copy it from the end of the list before, or leave --cursor out to start anew"));
    }
    let opened = target::open(&args.queue).await?;
    let now_ms = server_now(&opened.queue).await;
    let page = page(&opened, args, now_ms).await?;
    let nothing = page.jobs.is_empty() && page.unreadable.is_empty();
    if nothing {
        args.filter.require_names(&opened).await?;
    }
    if args.output.json() {
        return out::json(&page);
    }
    if nothing {
        out::note(&format!("no dead letters in {}{}", opened.queue.name(), such(&args.filter)));
        return Ok(());
    }
    if !page.jobs.is_empty() {
        out::print(&present::job::dead_list(&page.jobs, now_ms))?;
    }
    if !page.unreadable.is_empty() {
        out::note(&cannot_be_read(&page.unreadable));
    }
    if let Some(cursor) = page.cursor {
        out::note(&format!("more: --cursor {cursor}"));
    }
    Ok(())
}

fn cannot_be_read(ids: &[String]) -> String {
    let (letters, one) = (human::count(ids.len() as u64, "dead letter"), ids.len() == 1);
    format!(
        "{letters} cannot be read, as what Redis keeps of {} is damaged or gone: {}\n  → `lanekeeper get JOB` says what to do about {}",
        if one { "it" } else { "them" },
        ids.join(" "),
        if one { "it" } else { "each" }
    )
}

/// As many as asked for, in as many calls as that takes.
async fn page(opened: &Opened, args: &LsArgs, now_ms: u64) -> Result<Page> {
    let mut all = Page { cursor: args.cursor.clone(), ..Page::default() };
    let filter = DeadFilter { oldest_first: args.oldest_first, ..args.filter.filter(now_ms)? };
    loop {
        let missing = args.limit.saturating_sub(u32::try_from(all.jobs.len()).unwrap_or(u32::MAX));
        let page = opened.queue.dead_list(&filter, missing.min(BATCH), all.cursor.as_deref()).await;
        let page = page.map_err(|error| opened.failure(&error))?;
        all.jobs.extend(page.jobs);
        all.unreadable.extend(page.unreadable);
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

/// Counts.
pub(super) async fn groups(args: &GroupsArgs) -> Result<()> {
    let opened = target::open(&args.queue).await?;
    let now_ms = server_now(&opened.queue).await;
    let found = opened.queue.dead_groups(&args.filter.filter(now_ms)?, |_| {}).await;
    let found = found.map_err(|error| opened.failure(&error))?;
    if found.is_empty() {
        args.filter.require_names(&opened).await?;
    }
    if args.output.json() {
        return out::json(&document(&opened, &found).await?);
    }
    show(&opened, &found, now_ms, &such(&args.filter)).await
}

/// Groups for programs, with what their examples died of.
pub(super) async fn document(opened: &Opened, groups: &[DeadGroup]) -> Result<serde_json::Value> {
    let count: u64 = groups.iter().map(|group| group.count).sum();
    let examples = examples(opened, groups).await?;
    let groups: Vec<Group<'_>> = groups
        .iter()
        .map(|group| Group {
            group,
            error: examples.get(&group.example).and_then(present::job::last_attempt_error),
        })
        .collect();
    Ok(json!({ "count": count, "groups": groups }))
}

/// A group, with the error of its example.
#[derive(Serialize)]
struct Group<'a> {
    #[serde(flatten)]
    group: &'a DeadGroup,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a AttemptError>,
}

/// The examples of the largest groups, by their ids.
async fn examples(opened: &Opened, groups: &[DeadGroup]) -> Result<HashMap<String, Job>> {
    let ids: Vec<String> = groups.iter().take(EXAMPLES).map(|group| group.example.clone()).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let jobs = opened.queue.get(&ids, false).await.map_err(|error| opened.failure(&error))?;
    Ok(jobs.into_iter().flatten().map(|job| (job.id.clone(), job)).collect())
}

/// Shows groups, with what their examples died of.
pub(super) async fn show(opened: &Opened, groups: &[DeadGroup], now_ms: u64, such: &str) -> Result<()> {
    let count: u64 = groups.iter().map(|group| group.count).sum();
    if groups.is_empty() {
        out::note(&format!("no dead letters in {}{such}", opened.queue.name()));
        return Ok(());
    }
    out::print(&present::dead::groups(groups, &examples(opened, groups).await?, now_ms))?;
    let (letters, kinds) = (human::count(count, "dead letter"), human::count(groups.len() as u64, "group"));
    out::note(&format!("{letters} in {kinds}"));
    Ok(())
}

/// What "none" is said of.
pub(super) fn such(filter: &FilterArgs) -> String {
    if filter.is_empty() { String::new() } else { " pass these filters".to_owned() }
}
