//! What an act on dead letters will do: counted, shown, asked about.

use std::collections::HashSet;

use lanekeeper_queue::types::{DeadAct, DeadFilter, DeadGroup};

use super::run::{Run, Source};
use super::{ActArgs, list, predict};
use crate::commands::get::server_now;
use crate::failure::Result;
use crate::target::{self, Opened};
use crate::{human, out, present, who};

/// Does what was asked, or says what it would do.
pub(super) async fn run(args: &ActArgs, act: DeadAct, why: &str) -> Result<()> {
    args.which.check()?;
    let opened = target::open(&args.queue).await?;
    if args.which.jobs.is_empty() {
        by_filter(args, act, why, &opened).await
    } else {
        by_ids(args, act, why, &opened).await
    }
}

async fn by_filter(args: &ActArgs, act: DeadAct, why: &str, opened: &Opened) -> Result<()> {
    let now_ms = server_now(&opened.queue).await;
    let mut filter = args.which.filter.filter(now_ms)?;
    predict::check(act, filter.state)?;
    // What dies from now on is not meant: also not what is replayed here and dies again.
    filter.until_ms = Some(filter.until_ms.unwrap_or(u64::MAX).min(now_ms));
    filter.oldest_first = true;
    if act == DeadAct::Acknowledge && filter.state.is_none() {
        filter.state = Some(lanekeeper_queue::types::ReviewState::Open);
    }
    let groups = count(opened, &filter).await?;
    let total = groups.iter().map(|group| group.count).sum();
    let json = args.output.json();
    if total == 0 {
        args.which.filter.require_names(opened).await?;
    }
    if args.dry_run && json {
        let mut plan = list::document(opened, &groups).await?;
        plan["dryRun"] = true.into();
        return out::json(&plan);
    } else if args.dry_run {
        list::show(opened, &groups, now_ms, &list::such(&args.which.filter)).await?;
        if total > 0 {
            out::note(&format!(
                "nothing was changed; {} would be {}",
                human::count(total, "job"),
                act.done()
            ));
        }
        return Ok(());
    }
    if total > 0 {
        let letters = human::count(total, "dead letter");
        let question =
            format!("{} {letters} of {} in {}?", verb(act), opened.queue.name(), opened.whereabouts);
        out::confirm(&question, args.yes)?;
    }
    let source = Source::Filter { filter: Box::new(filter), cursor: None };
    let by = who::actor();
    let run = Run { opened, act, by: &by, why, rate: args.rate, total };
    run.all(source, json).await
}

async fn count(opened: &Opened, filter: &DeadFilter) -> Result<Vec<DeadGroup>> {
    let bar = present::dead::spinner();
    let groups = opened.queue.dead_groups(filter, |counted| {
        bar.set_message(format!("{} counted", human::count(counted, "dead letter")));
        bar.tick();
    });
    let groups = groups.await.map_err(|error| opened.failure(&error));
    bar.finish_and_clear();
    groups
}

async fn by_ids(args: &ActArgs, act: DeadAct, why: &str, opened: &Opened) -> Result<()> {
    let json = args.output.json();
    // A job that is named twice is meant once.
    let mut seen = HashSet::new();
    let ids: Vec<String> = args.which.jobs.iter().filter(|id| seen.insert(*id)).cloned().collect();
    if args.dry_run {
        return predict::run(opened, &ids, act, json).await;
    }
    let by = who::actor();
    let run = Run { opened, act, by: &by, why, rate: args.rate, total: ids.len() as u64 };
    run.all(Source::Ids { ids, at: 0 }, json).await
}

fn verb(act: DeadAct) -> &'static str {
    match act {
        DeadAct::Acknowledge => "Acknowledge",
        DeadAct::Discard => "Discard",
        DeadAct::Replay => "Replay",
    }
}
