//! `lanekeeper up`: the local mode. This room starts and ends it in order; what runs is the operator's crate.

mod account;
mod session;
mod signals;
mod watch;

use std::path::PathBuf;

use clap::Args;
use lanekeeper_queue::RedisOptions;

use crate::args::WhereArgs;
use crate::failure::{Failure, Result};
use crate::local::redis::PrivateRedis;
use crate::local::state::StateDir;
use crate::manifests::{self, ManifestArgs};
use crate::redact::redact;
use crate::{out, target};
use session::Session;
use signals::{Signals, Stage};

const EXAMPLES: &str = "\
The private Redis listens on the loopback interface only and keeps its data in the state directory; the next `up` \
there goes on where this one ended. Other commands in the same directory find it without flags. Changed manifests \
are taken over while it runs. Ctrl-C drains the workers; a second one ends everything at once.

Examples:
  lanekeeper up -f queue.yaml
  lanekeeper up -f examples/saas --overlay fast-retries.yaml --state /tmp/saas
  lanekeeper up -f queue.yaml --redis redis://localhost:6379";

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Port of the private Redis [default: the one used before, else any free one].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Keep what other commands find in the state directory in this file too, rewritten at every change.
    #[arg(long, alias = "json-status", value_name = "FILE")]
    status_json: Option<PathBuf>,
    #[command(flatten)]
    place: WhereArgs,
}

/// Runs the local mode until it is asked to end.
pub(crate) async fn run(args: &UpArgs) -> Result<()> {
    if args.place.context.is_some() {
        return Err(Failure::invalid("--context means a cluster, and `up` runs on this machine"));
    }
    let manifests::Checked { manifests, warnings } = manifests::load(&args.manifests, true)?;
    warnings.iter().for_each(|warning| out::note(warning));
    for ignored in &manifests.ignored {
        out::note(&format!(
            "{}: {} {} left alone: the local mode runs JobQueues and WorkerPools",
            ignored.origin, ignored.kind, ignored.name
        ));
    }
    let mut signals = Signals::listen()?;
    let state = StateDir::lock(&args.place.state)?;
    let (options, mut private) = tokio::select! {
        redis = redis(args, &state) => redis?,
        () = signals.reached(Stage::Drain) => return Ok(()),
    };
    let ran = Session { args, state: &state, options: &options }
        .run(manifests, private.as_mut(), &mut signals)
        .await;
    state.retire();
    let stopped = match private {
        Some(private) => stop_redis(private, &mut signals).await,
        None => Ok(()),
    };
    ran.and(stopped)
}

/// The Redis of the arguments, or a private one.
async fn redis(args: &UpArgs, state: &StateDir) -> Result<(RedisOptions, Option<PrivateRedis>)> {
    if let Some(url) = &args.place.redis {
        let options = target::redis_options(url, &args.place)?;
        let conn = options.connect().await.map_err(|error| Failure::queue(&error, &redact(url)))?;
        target::require_redis(conn, &redact(url)).await?;
        out::note(&format!("using {}", redact(url)));
        return Ok((options, None));
    }
    let dir = state.root().join("redis");
    let private = PrivateRedis::start(&dir, args.port).await?;
    let how = if private.picked_up() { "picked up, left behind by an earlier run" } else { "started" };
    out::note(&format!("private Redis {} {how}, data in {}", private.url(), dir.display()));
    Ok((RedisOptions::new(private.url()), Some(private)))
}

async fn stop_redis(private: PrivateRedis, signals: &mut Signals) -> Result<()> {
    tokio::select! {
        stopped = private.stop() => stopped?,
        // Dropping it kills it.
        () = signals.reached(Stage::Leave) => return Err(Failure::failed("the private Redis was killed before it had stopped")),
    }
    out::note("private Redis stopped; its data stays in the state directory");
    Ok(())
}
