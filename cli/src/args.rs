//! The command line's grammar. What commands have in common is here; each command's own arguments are in its file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, builder::styling};

use crate::commands::{
    adopt, apply, cancel, completion, crds, dead, enqueue, events, get, pause, resume, status, up, version,
    why,
};
use crate::out::Format;

const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::AnsiColor::Green.on_default().bold())
    .usage(styling::AnsiColor::Green.on_default().bold())
    .literal(styling::AnsiColor::Cyan.on_default().bold())
    .placeholder(styling::AnsiColor::Cyan.on_default());

const AFTER_HELP: &str = "\
Which Redis: --context, else --redis or LANEKEEPER_REDIS_URL, else the local mode running in this directory \
(`lanekeeper up`), else the kubeconfig's present context.

Exit codes: 0 done, 1 the thing asked about failed, 2 usage or invalid input, 3 Redis or the cluster cannot be \
reached, 4 not found.";

/// Background jobs with a promise: every accepted job is completed or stands in the dead letters with the reason.
#[derive(Debug, Parser)]
#[command(name = "lanekeeper", version, after_help = AFTER_HELP, styles = STYLES, max_term_width = 100)]
#[command(propagate_version = false, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run queues and pools on this machine: a private Redis, the autoscaler and worker processes.
    Up(up::UpArgs),
    /// Load the function library and write the policies of JobQueues into a Redis.
    Apply(apply::ApplyArgs),
    /// Take over a queue whose policy someone else manages.
    Adopt(adopt::AdoptArgs),
    /// Enqueue one job, or many from NDJSON.
    Enqueue(enqueue::EnqueueArgs),
    /// Show lanes, types, pools and workers.
    Status(status::StatusArgs),
    /// Say why a job, a lane or a pool stands where it stands, and what to do.
    Why(why::WhyArgs),
    /// Show one job with its history.
    Get(get::GetArgs),
    /// Show what happened in a queue: deaths, replays, expired leases, pauses, circuits.
    Events(events::EventsArgs),
    /// Start nothing of a queue, or of some of its lanes, until someone resumes.
    Pause(pause::PauseArgs),
    /// Lift pauses by hand.
    Resume(resume::ResumeArgs),
    /// Call jobs off: waiting ones at once, running ones by stopping their handlers.
    Cancel(cancel::CancelArgs),
    /// List, count, show, acknowledge, replay and discard dead letters.
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Print the custom resource definitions.
    Crds(crds::CrdsArgs),
    /// Print a completion script for a shell.
    Completion(completion::CompletionArgs),
    /// Print the version.
    Version(version::VersionArgs),
    /// Run a worker; the local mode starts these.
    #[command(hide = true)]
    Worker(Box<lanekeeper_worker::args::RunArgs>),
}

/// Which Redis and namespace.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where")]
pub(crate) struct WhereArgs {
    /// URL of the Redis: redis://, rediss:// or redis+unix://. Prefer the variable, which `ps` does not show.
    #[arg(long, value_name = "URL", env = "LANEKEEPER_REDIS_URL", hide_env_values = true)]
    pub(crate) redis: Option<String>,
    /// PEM file that signs the Redis server; absent: the web's roots.
    #[arg(long, value_name = "FILE", env = "LANEKEEPER_REDIS_CA_FILE")]
    pub(crate) redis_ca: Option<PathBuf>,
    /// State directory of the local mode.
    #[arg(long, value_name = "DIR", env = "LANEKEEPER_STATE", default_value = ".lanekeeper")]
    pub(crate) state: PathBuf,
    /// Context of the kubeconfig; goes before everything else, LANEKEEPER_REDIS_URL too.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Namespace of the queue.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

/// Which queue.
#[derive(Debug, Clone, Args)]
pub(crate) struct QueueArgs {
    /// The queue: NAMESPACE/NAME or NAME; absent: the only one there is.
    #[arg(short, long, value_name = "QUEUE", env = "LANEKEEPER_QUEUE")]
    pub(crate) queue: Option<String>,
    /// Which Redis.
    #[command(flatten)]
    pub(crate) place: WhereArgs,
}

impl QueueArgs {
    /// The same, with the queue that stands as a plain argument, if one does.
    pub(crate) fn or_named(&self, positional: Option<&String>) -> Self {
        Self { queue: positional.or(self.queue.as_ref()).cloned(), ..self.clone() }
    }
}

/// How to print.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// How to print.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: Format,
}

impl OutputArgs {
    /// Whether a program reads.
    pub(crate) fn json(self) -> bool {
        self.output == Format::Json
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
