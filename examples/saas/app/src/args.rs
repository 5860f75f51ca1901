//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The application behind examples/saas: real handlers, a traffic generator, and the demo.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve every HTTP handler on one port
    Serve(ServeArgs),
    /// Serve the mailer alone (password-reset, receipt-email)
    Mailer(ServeArgs),
    /// Serve the customers' endpoints alone (webhook-delivery)
    Customer(ServeArgs),
    /// Serve the booking of payments alone (stripe-event)
    Stripe(ServeArgs),
    /// Serve the thumbnailer alone (image-thumbnail)
    Thumbnail(ServeArgs),
    /// Serve the analytics sink alone (analytics-sync)
    Analytics(ServeArgs),
    /// Write one PDF report: payload on stdin, answer on stdout (pdf-report)
    Report(DataArgs),
    /// Open the endpoint of a customer that had closed it
    ReopenCustomer(ReopenArgs),
    /// Enqueue the workload for some seconds
    Traffic(TrafficArgs),
    /// Compare a ledger of `traffic` with what the handlers did
    Verify(VerifyArgs),
    /// Print demo/overlay.yaml with its placeholders filled in
    Overlay(OverlayArgs),
    /// Run the whole workload on this machine, with a summary at the end
    Demo(DemoArgs),
}

/// Where the data lies.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// Folder of the database, the images, the thumbnails and the reports
    #[arg(long, env = "SAAS_DATA", default_value = "saas-data", value_name = "DIR")]
    pub data: PathBuf,
}

/// Options of the HTTP handlers.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where the data lies.
    #[command(flatten)]
    pub data: DataArgs,
    /// Address to listen on; with port 0 the system picks one
    #[arg(long, env = "SAAS_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// File that tells the port once the application listens
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// Secret of the customers' webhooks (whsec_…); without it signatures are not checked
    #[arg(long, env = "SAAS_WEBHOOK_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub webhook_secret: Option<String>,
    /// Decides which events fail and which customers are slow
    #[arg(long, env = "SAAS_SEED", default_value_t = 1)]
    pub seed: u64,
    /// Share of stripe events and webhooks whose first tries fail
    #[arg(long, env = "SAAS_FAIL_SHARE", default_value_t = 0.1)]
    pub fail_share: f64,
    /// Longest that a customer takes to answer, in milliseconds
    #[arg(long, env = "SAAS_SLOWEST", default_value_t = 1_500, value_name = "MS")]
    pub slowest: u64,
    /// Webhooks a second that one customer takes before it throttles; 0 for no bound
    #[arg(long, env = "SAAS_CUSTOMER_RATE", default_value_t = 10)]
    pub customer_rate: u32,
}

/// Options of `reopen-customer`.
#[derive(Debug, Args)]
pub struct ReopenArgs {
    /// Where the data lies.
    #[command(flatten)]
    pub data: DataArgs,
    /// The customer, as in cust-410
    pub customer: String,
}

/// Which queue.
#[derive(Debug, Clone, Args)]
pub struct QueueArgs {
    /// Redis of the queue
    #[arg(long, env = "LANEKEEPER_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis: String,
    /// Queue, as namespace/name
    #[arg(long, short, default_value = "apps/saas")]
    pub queue: String,
}

/// Options of `traffic`.
#[derive(Debug, Args)]
pub struct TrafficArgs {
    /// Which queue.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// How long; even 0 enqueues at least 50 jobs of every type and 5 reports
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Jobs a second, on average
    #[arg(long, default_value_t = 40)]
    pub rate: u64,
    /// Draws the traffic
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Part of every id; two runs with the same one share their idempotency keys. Default: the time
    #[arg(long)]
    pub run: Option<String>,
    /// Write what the queue answered, one JSON line per job
    #[arg(long, value_name = "FILE")]
    pub ledger: PathBuf,
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Where the data lies.
    #[command(flatten)]
    pub data: DataArgs,
    /// A ledger of `traffic`
    #[arg(long, value_name = "FILE")]
    pub ledger: PathBuf,
    /// Redis of the queue; without it every job counts as done but those meant to die
    #[arg(long, env = "LANEKEEPER_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis: Option<String>,
    /// Queue, as namespace/name
    #[arg(long, short, default_value = "apps/saas")]
    pub queue: String,
}

/// Options of `overlay`.
#[derive(Debug, Args)]
pub struct OverlayArgs {
    /// Where the data lies.
    #[command(flatten)]
    pub data: DataArgs,
    /// Folder of the example
    #[arg(long, default_value = "examples/saas", value_name = "DIR")]
    pub examples: PathBuf,
    /// Port on which `saas-app serve` listens
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
}

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// The lanekeeper program
    #[arg(long, default_value = "target/debug/lanekeeper", value_name = "FILE")]
    pub lanekeeper: PathBuf,
    /// Folder of the example
    #[arg(long, default_value = "examples/saas", value_name = "DIR")]
    pub examples: PathBuf,
    /// How long the traffic lasts
    #[arg(long, env = "DEMO_SECONDS", default_value_t = 60)]
    pub seconds: u64,
    /// Longest that the queue may take to empty afterwards, in seconds
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub drain: u64,
    /// Jobs a second, on average
    #[arg(long, default_value_t = 30)]
    pub rate: u64,
    /// Draws traffic and failures
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the summary here, and everything else into the folder `demo` beside it
    #[arg(long, default_value = "target/demo-summary.json", value_name = "FILE")]
    pub summary: PathBuf,
}
