//! `lanekeeper-faults`: see the crate's documentation and `make faults`.

#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use lanekeeper_faults::court::describe;
use lanekeeper_faults::rows::{Cx, Report, Row, all, replay_all};
use serde_json::{Value, json};

/// Faults on real Redis servers under real worker processes, judged by the ledger.
#[derive(Debug, Parser)]
struct Args {
    /// The worker binary under test.
    #[arg(long)]
    worker: PathBuf,
    /// The `lanekeeper` binary under test.
    #[arg(long)]
    cli: PathBuf,
    /// The sizes and rows of `make test` instead of the full ones.
    #[arg(long)]
    short: bool,
    /// Repeats an earlier run's plans and jobs; drawn afresh when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the figures go.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Rows to play; all of them when absent.
    rows: Vec<String>,
    /// Not for people: replays every dead letter of this Redis, to be killed meanwhile.
    #[arg(long, hide = true)]
    replay: Option<String>,
}

/// A row that was played.
struct Played {
    row: Row,
    seconds: f64,
    report: Result<Report>,
}

impl Played {
    fn word(&self) -> &'static str {
        match &self.report {
            Err(_) => "FAILED",
            Ok(report) if !report.broken.is_empty() => "FAILED",
            Ok(report) if !report.missed.is_empty() => "missed",
            Ok(_) => "held",
        }
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(url) = &args.replay {
        replay_all(url).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("faults: seed {seed} (repeat with --seed {seed})");
    let rows = chosen(&args)?;
    let started = Instant::now();
    let cx = Cx { worker: args.worker, cli: args.cli, full: !args.short, seed };
    // The storm is the longest by far and mostly waits: in the short run the others play beside it.
    let (first, rest): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|row| args.short && row.name == "storm");
    let (mut played, others) = tokio::join!(in_turn(first, &cx), in_turn(rest, &cx));
    played.extend(others);
    let seconds = started.elapsed().as_secs();
    println!("\nfaults: {} rows in {seconds} s", played.len());
    for row in &played {
        println!("  {:<7} row {:<6} {:>6.1} s  {}", row.word(), row.row.name, row.seconds, row.row.title);
    }
    if let Some(path) = &args.json {
        let rows: Vec<Value> = played.iter().map(figures).collect();
        let text = serde_json::to_string_pretty(&json!({"seed": seed, "seconds": seconds, "rows": rows}))?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    let failed: Vec<&str> =
        played.iter().filter(|row| row.word() == "FAILED").map(|row| row.row.name).collect();
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("faults: rows that FAILED: {} (seed {seed})", failed.join(" "));
    Ok(ExitCode::FAILURE)
}

fn chosen(args: &Args) -> Result<Vec<Row>> {
    let rows = all();
    if let Some(name) = args.rows.iter().find(|name| !rows.iter().any(|row| row.name == **name)) {
        let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
        anyhow::bail!("there is no row {name:?}; rows: {}", names.join(" "));
    }
    let wanted = |row: &Row| match args.rows.is_empty() {
        true => row.short || !args.short,
        false => args.rows.iter().any(|name| name == row.name),
    };
    Ok(rows.into_iter().filter(wanted).collect())
}

async fn in_turn(rows: Vec<Row>, cx: &Cx) -> Vec<Played> {
    let mut played = Vec::new();
    for row in rows {
        let started = Instant::now();
        let report = match tokio::time::timeout(row.bound, tokio::spawn((row.play)(cx.clone()))).await {
            Ok(Ok(report)) => report,
            Ok(Err(panic)) => Err(anyhow::anyhow!("{panic}")),
            Err(_) => Err(anyhow::anyhow!("not done after {} s", row.bound.as_secs())),
        };
        let row = Played { row, seconds: started.elapsed().as_secs_f64(), report };
        show(&row);
        played.push(row);
    }
    played
}

fn show(played: &Played) {
    println!("\nrow {}: {} ({:.1} s): {}", played.row.name, played.row.title, played.seconds, played.word());
    match &played.report {
        Err(error) => println!("  {error:#}"),
        Ok(report) => {
            for (name, value) in &report.figures {
                println!("  {name}: {value}");
            }
            if let Some(verdict) = report.ledger.as_ref().filter(|verdict| verdict.violations.is_empty()) {
                println!("  ledger: {}", describe(verdict));
            }
            for what in &report.missed {
                println!("  MISSED {what}");
            }
            for what in &report.broken {
                println!("  BROKEN {what}");
            }
        }
    }
}

fn figures(played: &Played) -> Value {
    let report = match &played.report {
        Ok(report) => json!(report),
        Err(error) => json!({"error": format!("{error:#}")}),
    };
    json!({
        "row": played.row.name,
        "title": played.row.title,
        "seconds": played.seconds,
        "outcome": played.word(),
        "report": report,
    })
}
