//! `lanekeeper events QUEUE`: what happened lately, once or as it comes.

use std::time::Duration;

use clap::Args;
use lanekeeper_queue::types::Event;

use crate::args::{OutputArgs, QueueArgs};
use crate::away::Away;
use crate::failure::Result;
use crate::human::{timestamp, visible};
use crate::target::Opened;
use crate::{out, target};

/// Between two looks for more.
const PAUSE: Duration = Duration::from_millis(500);
/// Events of one call.
const PAGE: u32 = 1000;

/// Arguments of `events`.
#[derive(Debug, Args)]
#[command(
    after_help = "A queue keeps about its last 10,000 events: dead, cancelled, replayed, acknowledged, discarded, lease-expired, paused, \
resumed, held,\ncircuit-opened, probe-failed, circuit-closed, policy, damaged (a job or key that cannot be read), news-lost (news of a death\n\
that did not come: `onDead`), news-unkeyed, follow-up-duplicate (another job stands for what a success enqueued). Successes and retries\nstand in the jobs' own histories.\n\n\
Examples:\n  lanekeeper events apps/saas --limit 50\n  lanekeeper events --follow -o json | jq -c 'select(.kind == \"dead\")'"
)]
pub(crate) struct EventsArgs {
    /// The queue: NAMESPACE/NAME or NAME; the same as -q.
    #[arg(value_name = "QUEUE", conflicts_with = "queue")]
    positional: Option<String>,
    /// Most events of the past.
    #[arg(long, default_value = "20", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on with new ones until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// Shows them.
pub(crate) async fn run(args: &EventsArgs) -> Result<()> {
    let queue = args.queue.or_named(args.positional.as_ref());
    let opened = target::open(&queue).await?;
    let past = more(&opened, None, args.limit).await?;
    show(args, &past)?;
    if past.is_empty() && !args.follow {
        out::note("nothing has happened that is worth an event");
    }
    if !args.follow {
        return Ok(());
    }
    let mut interrupt = out::interrupts()?;
    // Where none was yet, all that come are new.
    let mut last = past.last().map_or_else(|| "0-0".to_owned(), |event| event.id.clone());
    let mut away = Away::default();
    loop {
        let news = tokio::select! {
            news = next(&opened, &last, &mut away) => news?,
            _ = interrupt.recv() => return Ok(()),
        };
        show(args, &news)?;
        last = news.last().map_or(last, |event| event.id.clone());
    }
}

/// What has come since, after a moment; an outage of Redis is waited for.
async fn next(opened: &Opened, last: &str, away: &mut Away) -> Result<Vec<Event>> {
    loop {
        tokio::time::sleep(PAUSE).await;
        match opened.queue.events(Some(last), PAGE).await {
            Err(error) if away.passes(opened, &error) => {}
            Err(error) => return Err(opened.failure(&error)),
            Ok(news) => {
                away.is_back();
                return Ok(news);
            }
        }
    }
}

async fn more(opened: &Opened, after: Option<&str>, limit: u32) -> Result<Vec<Event>> {
    opened.queue.events(after, limit).await.map_err(|error| opened.failure(&error))
}

fn show(args: &EventsArgs, events: &[Event]) -> Result<()> {
    events.iter().try_for_each(|event| {
        if args.output.json() { out::json_line(event) } else { out::print(&line(event)) }
    })
}

fn line(event: &Event) -> String {
    let parts = [&event.name, &event.job, &event.detail].into_iter().flatten().cloned();
    let words: Vec<String> =
        [timestamp(event.at_ms), format!("{:14}", event.kind)].into_iter().chain(parts).collect();
    visible(words.join("  ").trim_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = Event {
            id: "1700000000000-0".into(),
            at_ms: 1_700_000_000_000,
            kind: "dead".into(),
            job: Some("j1".into()),
            name: Some("mail".into()),
            detail: Some("GaveUp".into()),
        };
        let shown = line(&event);
        assert!(
            shown.contains("2023-11-14") && shown.ends_with("dead            mail  j1  GaveUp"),
            "{shown}"
        );
    }
}
