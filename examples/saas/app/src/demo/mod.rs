//! `saas-app demo`: the whole workload on one machine, from an empty queue to a summary.
//!
//! It starts the application and `lanekeeper up`, enqueues traffic, kills a worker on the way, waits until every
//! job is done or dead, replays a dead letter, waits until the pools are gone again, and adds everything up.
//! Whatever happens, it stops what it started.

mod act;
mod child;
mod observe;
pub mod overlay;
mod screen;
mod stage;
mod status;
mod summary;

use std::io::Write;
use std::process::ExitCode;

use crate::args::DemoArgs;
use crate::stop;
use stage::Stage;

/// Runs the demo; exit code 1 when a job is unaccounted for, an effect is wrong, or a part was not shown.
///
/// # Errors
/// When a part cannot be started or stops early; what was started is stopped first.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let interrupted = stop::on_signal()?;
    let mut stage = Stage::prepare(&args)?;
    let played = tokio::select! {
        played = act::play(&mut stage, &args) => Some(played),
        () = interrupted.cancelled() => None,
    };
    stage.close().await;
    let Some(played) = played else {
        writeln!(std::io::stderr(), "demo: interrupted; everything it started is stopped")?;
        return Ok(ExitCode::from(130));
    };
    let summary = match played {
        Ok(summary) => summary,
        Err(error) => return Err(error.context(format!("the logs are in {}", stage.folder().display()))),
    };
    summary.write(&args.summary)?;
    summary.print(&args.summary, &mut std::io::stdout())?;
    Ok(if summary.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
