//! The worker's binary: `run` (the default) and `copy`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use lanekeeper_worker::args::RunArgs;
use lanekeeper_worker::{Shutdown, copy, harden, run};
use tracing_subscriber::EnvFilter;

/// Works off the jobs of a Lanekeeper queue.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<RunArgs>,
    /// Log lines for machines or for people; LANEKEEPER_LOG sets the filter
    #[arg(long, env = "LANEKEEPER_LOG_FORMAT", value_enum, default_value = "json", global = true)]
    log_format: LogFormat,
}

#[derive(Subcommand)]
enum Command {
    /// Claim and run jobs until SIGTERM or SIGINT; a second signal hands everything back at once
    Run(Box<RunArgs>),
    /// Copy this binary to DEST, for an init container
    Copy {
        /// A file, or a directory
        dest: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    log(cli.log_format);
    let args = match (cli.command, cli.run) {
        (Some(Command::Copy { dest }), _) => {
            return copy(&dest).with_context(|| format!("cannot copy the worker to {}", dest.display()));
        }
        (Some(Command::Run(args)), _) => *args,
        (None, Some(args)) => args,
        (None, None) => anyhow::bail!("settings are missing: see --help"),
    };
    harden();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("runtime")?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
        run(args, shutdown).await.map_err(anyhow::Error::from)
    });
    // A handler that blocks its thread must not keep a drained worker alive.
    runtime.shutdown_background();
    result
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("LANEKEEPER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A log collector that died must not take the worker with it: what cannot be written is left unsaid.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_target(false).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        // The message may quote a payload; where it happened is enough to find it.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
}
