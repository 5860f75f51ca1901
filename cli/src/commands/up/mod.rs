//! `lanekeeper up`: the local mode. This room starts and ends it in order; what runs is the operator's crate.

mod account;
mod signals;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lanekeeper_api::manifest::Manifests;
use lanekeeper_api::policy::{QueuePolicy, Source};
use lanekeeper_api::validate;
use lanekeeper_operator::local::{self, LocalError, LocalEvent, LocalHandle, LocalOptions, WorkerCommand};
use lanekeeper_queue::client::RedisOptions;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::args::WhereArgs;
use crate::failure::{Failure, Result};
use crate::human::timestamp;
use crate::live::Live;
use crate::local::redis::PrivateRedis;
use crate::local::state::{StateDir, UpState, write_atomically};
use crate::local::view;
use crate::manifests::{self, ManifestArgs};
use crate::redact::redact;
use crate::{out, target};
use signals::{Signals, Stage};

const EXAMPLES: &str = "\
The private Redis listens on the loopback interface only and keeps its data in the state directory; the next `up`
there goes on where this one ended. Other commands in the same directory find it without flags. Changed manifests
are taken over while it runs. Ctrl-C drains the workers; a second one ends everything at once.

Examples:
  lanekeeper up -f queue.yaml
  lanekeeper up -f examples/saas --overlay fast-retries.yaml --state /tmp/saas
  lanekeeper up -f queue.yaml --redis redis://localhost:6379";

/// Time between two looks at manifests and figures when nothing else happens.
const TICK: Duration = Duration::from_millis(500);

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Port of the private Redis [default: the one used before, else any free one].
    #[arg(long, conflicts_with = "redis", value_parser = clap::value_parser!(u16).range(1..))]
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
    let manifests = manifests::load(&args.manifests, true)?;
    for ignored in &manifests.ignored {
        out::note(&format!(
            "{}: {} {} left alone: the local mode runs JobQueues and WorkerPools",
            ignored.origin, ignored.kind, ignored.name
        ));
    }
    let mut signals = Signals::listen()?;
    let state = StateDir::lock(&args.place.state)?;
    let (options, private) = tokio::select! {
        redis = redis(args, &state) => redis?,
        () = signals.first() => return Ok(()),
    };
    let ran = Up { args, state: &state, options: &options }.run(manifests, &mut signals).await;
    state.retire();
    if let Some(private) = private {
        stop_redis(private, &mut signals).await?;
    }
    ran
}

/// The Redis of the arguments, or a private one.
async fn redis(args: &UpArgs, state: &StateDir) -> Result<(RedisOptions, Option<PrivateRedis>)> {
    if let Some(url) = &args.place.redis {
        let options = target::redis_options(url, &args.place)?;
        options.connect().await.map_err(|error| Failure::queue(&error, &redact(url)))?;
        return Ok((options, None));
    }
    let private = PrivateRedis::start(&state.root().join("redis"), args.port).await?;
    let how = if private.picked_up() { "picked up, left behind by an earlier run" } else { "started" };
    out::note(&format!(
        "private Redis {} {how}, data in {}",
        private.url(),
        state.root().join("redis").display()
    ));
    Ok((RedisOptions::new(private.url()), Some(private)))
}

async fn stop_redis(private: PrivateRedis, signals: &mut Signals) -> Result<()> {
    let url = private.url();
    tokio::select! {
        stopped = private.stop() => stopped?,
        () = signals.third() => return Err(Failure::failed(format!("left the private Redis {url} running; the next `up` picks it up"))),
    }
    out::note("private Redis stopped; its data stays in the state directory");
    Ok(())
}

/// A local mode whose Redis runs.
struct Up<'a> {
    args: &'a UpArgs,
    state: &'a StateDir,
    options: &'a RedisOptions,
}

impl Up<'_> {
    async fn run(&self, manifests: Manifests, signals: &mut Signals) -> Result<()> {
        let mut policies = policies(&manifests);
        let cancel = CancellationToken::new();
        let started = local::start(self.local_options(manifests)?, cancel.clone()).await;
        let handle = started.map_err(|error| refused(&error))?;
        let live = Live::new();
        let (mut snapshots, mut events) = (handle.snapshot(), handle.events());
        let mut watch = watch::Watch::new(&self.args.manifests);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = signals.first() => break,
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return Err(Failure::failed("the local mode ended unexpectedly"));
                    }
                }
                event = events.recv() => show_event(&live, event)?,
                _ = tick.tick() => {
                    if watch.changed() {
                        self.reload(&handle, &mut policies, &live).await?;
                    }
                }
            }
            self.publish(&handle, &policies, &live)?;
        }
        self.drain(&handle, &policies, &live, signals).await
    }

    fn local_options(&self, manifests: Manifests) -> Result<LocalOptions> {
        let exe = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("cannot find this program: {error}")))?;
        let root = self.state.root();
        Ok(LocalOptions {
            manifests,
            redis: self.options.clone(),
            worker: WorkerCommand { exe, args: vec!["worker".to_owned()] },
            worker_env: Vec::new(),
            worker_log_dir: root.join("logs"),
            secrets_dir: root.join("secrets"),
            node: "local".to_owned(),
            allow_unsafe: false,
            tick: TICK,
        })
    }

    /// Takes changed manifests over; broken ones change nothing.
    async fn reload(
        &self,
        handle: &LocalHandle,
        policies: &mut BTreeMap<String, QueuePolicy>,
        live: &Live,
    ) -> Result<()> {
        match manifests::load(&self.args.manifests, true) {
            Err(failure) => live.line(&format!("manifests changed, but {failure}")),
            Ok(manifests) => {
                *policies = self::policies(&manifests);
                match handle.reload(manifests).await {
                    Ok(_) => live.line("manifests changed: taken over"),
                    Err(error) => {
                        live.line(&format!("manifests changed, but {}", redact(&error.to_string())))
                    }
                }
            }
        }
    }

    fn publish(
        &self,
        handle: &LocalHandle,
        policies: &BTreeMap<String, QueuePolicy>,
        live: &Live,
    ) -> Result<UpState> {
        let snapshot = handle.snapshot().borrow().clone();
        let state = account::state(&snapshot, &self.options.url);
        self.state.publish(&state)?;
        if let Some(file) = &self.args.status_json {
            write_atomically(file, &state)?;
        }
        if live.redraws() {
            live.show(&view::render(&state, policies, &account::errors(&snapshot)));
        }
        Ok(state)
    }

    /// Workers take no more and finish what they run; a second signal ends them at once.
    async fn drain(
        &self,
        handle: &LocalHandle,
        policies: &BTreeMap<String, QueuePolicy>,
        live: &Live,
        signals: &mut Signals,
    ) -> Result<()> {
        live.line("draining: workers finish what they run (once more to end at once)")?;
        let mut events = handle.events();
        let mut tick = tokio::time::interval(TICK);
        let mut left = None;
        let drained = handle.drain();
        tokio::pin!(drained);
        loop {
            tokio::select! {
                () = &mut drained => break,
                () = signals.second() => {
                    handle.kill();
                    live.line("workers killed; what they ran is taken over when its leases lapse")?;
                    break;
                }
                event = events.recv() => show_event(live, event)?,
                _ = tick.tick() => {}
            }
            let state = self.publish(handle, policies, live)?;
            let now_left = account::left(&state);
            if left.as_ref() != Some(&now_left) && !live.redraws() {
                out::print(&now_left)?;
            }
            left = Some(now_left);
        }
        self.publish(handle, policies, live)?;
        live.finish();
        let stage = signals.stage();
        out::note(if stage == Stage::Now { "stopped at once" } else { "all workers have drained" });
        Ok(())
    }
}

fn refused(error: &LocalError) -> Failure {
    match error {
        LocalError::Redis { queue, redis, source } => {
            Failure::queue(source, &format!("{redis} (queue {queue})"))
        }
        LocalError::Foreign { queue, .. } => Failure::failed(error.to_string())
            .advice(format!("`lanekeeper adopt {queue} --redis URL` does, or give `up` a Redis of its own")),
        LocalError::Manifests(_) | LocalError::SecretName(_) => Failure::invalid(error.to_string()),
        LocalError::File { .. } => Failure::failed(error.to_string()),
    }
}

/// The policies that the view tells promises from.
fn policies(manifests: &Manifests) -> BTreeMap<String, QueuePolicy> {
    let nobody = Source { owner: String::new(), uid: String::new(), created_ms: 0, generation: 0 };
    let resolved =
        manifests.queues.iter().filter_map(|queue| validate::job_queue(queue, nobody.clone()).ok());
    resolved.map(|policy| (policy.queue.clone(), policy)).collect()
}

fn show_event(
    live: &Live,
    event: std::result::Result<LocalEvent, broadcast::error::RecvError>,
) -> Result<()> {
    match event {
        Ok(event) => {
            live.line(&format!("{}  {}  {}", clock_time(event.at_ms), event.subject, redact(&event.message)))
        }
        Err(broadcast::error::RecvError::Lagged(missed)) => {
            live.line(&format!("({missed} events not shown)"))
        }
        // The snapshot tells that it ended.
        Err(broadcast::error::RecvError::Closed) => Ok(()),
    }
}

/// Hours to milliseconds, UTC: the day is known to whoever watches.
fn clock_time(ms: u64) -> String {
    let full = timestamp(ms);
    full.split_once('T').map_or(full.clone(), |(_, time)| time.trim_end_matches('Z').to_owned())
}
