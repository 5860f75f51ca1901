//! Lanekeeper's command line.
//!
//! | room | holds |
//! |---|---|
//! | `commands` | one file per command |
//! | `target` | which Redis and queue a command speaks to, through the cluster if need be |
//! | `local` | the local mode's state directory, private Redis and live view |
//! | `manifests` | loading, overlays, and how their errors are told |
//! | `bulk` | many jobs from NDJSON |
//! | `present`, `out`, `live`, `human` | how things look |
//! | `who` | who acts |
//! | `failure` | what is said when something cannot be done, and the exit codes |

mod args;
mod away;
mod bulk;
mod clock;
mod commands;
mod failure;
mod human;
mod live;
mod local;
mod manifests;
mod out;
mod pools;
mod present;
mod redact;
mod target;
mod who;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;
use failure::{Failure, Result};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Only a second provider in one process could make this fail, and then one is installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(&cli.command));
            // A thread that still reads standard input must not keep the process.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::failed(format!("cannot start: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out::note(&failure.to_string());
            failure.code()
        }
    }
}

async fn run(command: &Command) -> Result<()> {
    if !matches!(command, Command::Worker(_)) {
        quiet_logs();
    }
    match command {
        Command::Up(args) => commands::up::run(args).await,
        Command::Apply(args) => commands::apply::run(args).await,
        Command::Adopt(args) => commands::adopt::run(args).await,
        Command::Enqueue(args) => commands::enqueue::run(args).await,
        Command::Status(args) => commands::status::run(args).await,
        Command::Why(args) => commands::why::run(args).await,
        Command::Get(args) => commands::get::run(args).await,
        Command::Events(args) => commands::events::run(args).await,
        Command::Pause(args) => commands::pause::run(args).await,
        Command::Resume(args) => commands::resume::run(args).await,
        Command::Cancel(args) => commands::cancel::run(args).await,
        Command::Dead(command) => commands::dead::run(command).await,
        Command::Crds(args) => commands::crds::run(args),
        Command::Completion(args) => commands::completion::run(args),
        Command::Version(args) => commands::version::run(args),
        Command::Worker(args) => commands::worker::run(args).await,
    }
}

/// Libraries log what commands already say; `LANEKEEPER_LOG=debug` shows it.
fn quiet_logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LANEKEEPER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
