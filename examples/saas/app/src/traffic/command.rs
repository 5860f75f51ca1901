//! `saas-app traffic`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use lanekeeper_queue::client::Queue;
use tokio::sync::watch;

use super::ledger::Writer;
use super::plan::{self, plan};
use super::run::{self, Progress};
use crate::args::TrafficArgs;
use crate::{clock, connect, stop};

/// Enqueues, showing how far it is.
///
/// # Errors
/// When the queue or the ledger fails.
pub async fn run(args: TrafficArgs) -> anyhow::Result<ExitCode> {
    let queue: Queue = connect::queue(&args.queue.redis, &args.queue.queue).await?;
    let run = args.run.unwrap_or_else(|| format!("t{}", clock::now_ms()));
    let plan =
        plan(&plan::Options { seed: args.seed, run: run.clone(), seconds: args.seconds, rate: args.rate });
    let mut ledger = Writer::create(&args.ledger)?;
    let (progress, seen) = watch::channel(Progress::default());
    let cancel = stop::on_signal()?;
    let shown = tokio::spawn(show(seen));
    let done = run::run(&queue, &run, &plan, &mut ledger, &progress, &cancel).await;
    drop(progress);
    shown.await?;
    let Progress { accepted, duplicates, rejected, .. } = done?;
    writeln!(std::io::stdout(), "{accepted} accepted, {duplicates} duplicates, {rejected} rejected")?;
    Ok(ExitCode::SUCCESS)
}

/// One line that is written over on a terminal, a line every five seconds elsewhere.
async fn show(mut seen: watch::Receiver<Progress>) {
    let terminal = std::io::stderr().is_terminal();
    let every = Duration::from_millis(if terminal { 250 } else { 5_000 });
    let mut ticks = tokio::time::interval(every);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let Progress { planned, offered, accepted, .. } = *seen.borrow();
                let (start, end) = if terminal { ("\r", "") } else { ("", "\n") };
                let _ = write!(std::io::stderr(), "{start}{offered} of {planned} offered, {accepted} accepted{end}");
            }
            changed = seen.changed() => if changed.is_err() { break },
        }
    }
    if terminal {
        let _ = writeln!(std::io::stderr());
    }
}
