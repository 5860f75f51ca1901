//! `saas-app`: see the library.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use saas_app::app::{App, Part, Settings};
use saas_app::args::{Cli, Command, DataArgs, OverlayArgs, ReopenArgs, ServeArgs};
use saas_app::faults::Faults;
use saas_app::files::Files;
use saas_app::signature::Secret;
use saas_app::store::Store;
use saas_app::{customer, demo, report, serve, stop, traffic, verify};

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(Cli::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "saas-app: {error:#}");
            ExitCode::from(error.downcast_ref::<report::Failure>().map_or(1, report::Failure::exit_code))
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => served(args, &Part::ALL).await,
        Command::Mailer(args) => served(args, &[Part::Mailer]).await,
        Command::Customer(args) => served(args, &[Part::Customer]).await,
        Command::Stripe(args) => served(args, &[Part::Stripe]).await,
        Command::Thumbnail(args) => served(args, &[Part::Thumbnail]).await,
        Command::Analytics(args) => served(args, &[Part::Analytics]).await,
        Command::Report(args) => reported(&args),
        Command::ReopenCustomer(args) => reopened(&args),
        Command::Traffic(args) => traffic::command::run(args).await,
        Command::Verify(args) => verify::command::run(args).await,
        Command::Overlay(args) => overlay(&args),
        Command::Demo(args) => demo::run(args).await,
    }
}

async fn served(args: ServeArgs, parts: &[Part]) -> anyhow::Result<ExitCode> {
    anyhow::ensure!((0.0..=1.0).contains(&args.fail_share), "--fail-share must be 0 to 1");
    let secret = args.webhook_secret.as_deref().map(Secret::parse).transpose().map_err(anyhow::Error::msg)?;
    let app = App::open(Settings {
        data: args.data.data,
        faults: Faults { seed: args.seed, share: args.fail_share },
        webhook_secret: secret,
        slowest_ms: args.slowest,
        customer_rate: args.customer_rate,
    })?;
    let stop = stop::on_signal()?;
    serve::serve(app, parts, args.listen, args.port_file.as_deref(), stop).await?;
    Ok(ExitCode::SUCCESS)
}

fn reported(args: &DataArgs) -> anyhow::Result<ExitCode> {
    let files = Files::open(&args.data).map_err(report::Failure::from)?;
    report::run(&files, std::io::stdin().lock(), std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn reopened(args: &ReopenArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(&Files::open(&args.data.data)?.database())?;
    let was_closed = store.write(|tx| customer::reopen(tx, &args.customer))?;
    let what = if was_closed { "is open again" } else { "was not closed" };
    writeln!(std::io::stdout(), "{} {what}", args.customer)?;
    Ok(if was_closed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn overlay(args: &OverlayArgs) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("path of this program")?;
    let data = std::path::absolute(&args.data.data).context("path of the data folder")?;
    let filled = demo::overlay::fill(&args.examples, args.port, &program, &data)?;
    std::io::stdout().write_all(filled.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
