//! The local mode from its start to the end of its last worker.

use std::collections::BTreeMap;
use std::time::Duration;

use lanekeeper_api::manifest::Manifests;
use lanekeeper_api::policy::{QueuePolicy, Source};
use lanekeeper_api::validate;
use lanekeeper_operator::local::{self, LocalError, LocalEvent, LocalHandle, LocalOptions, WorkerCommand};
use lanekeeper_queue::RedisOptions;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::signals::{Signals, Stage};
use super::{UpArgs, account, watch};
use crate::failure::{Failure, Result};
use crate::human::timestamp;
use crate::live::Live;
use crate::local::redis::PrivateRedis;
use crate::local::state::{StateDir, UpState, write_atomically};
use crate::local::view;
use crate::manifests;
use crate::out;
use crate::redact::redact;

/// Time between two looks at manifests and figures when nothing else happens.
const TICK: Duration = Duration::from_millis(500);

/// A local mode whose Redis runs.
pub(super) struct Session<'a> {
    /// What was asked for.
    pub(super) args: &'a UpArgs,
    /// Where it is published.
    pub(super) state: &'a StateDir,
    /// The Redis of queues without their own.
    pub(super) options: &'a RedisOptions,
}

/// What runs, and how it is shown.
struct Running {
    handle: LocalHandle,
    live: Live,
    policies: BTreeMap<String, QueuePolicy>,
}

impl Session<'_> {
    /// Starts, looks after everything until a signal, and drains whatever happened.
    pub(super) async fn run(
        &self,
        manifests: Manifests,
        private: Option<&mut PrivateRedis>,
        signals: &mut Signals,
    ) -> Result<()> {
        let policies = policies(&manifests);
        let started = local::start(self.local_options(manifests)?, CancellationToken::new()).await;
        let handle = started.map_err(|error| refused(&error))?;
        let mut running = Running { handle, live: Live::new(), policies };
        let watched = self.look_after(&mut running, private, signals).await;
        let drained = self.drain(&running, signals).await;
        watched.and(drained)
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

    async fn look_after(
        &self,
        running: &mut Running,
        mut private: Option<&mut PrivateRedis>,
        signals: &mut Signals,
    ) -> Result<()> {
        let (mut snapshots, mut events) = (running.handle.snapshot(), running.handle.events());
        let mut watch = watch::Watch::new(&self.args.manifests);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = signals.reached(Stage::Drain) => return Ok(()),
                changed = snapshots.changed() => {
                    changed.map_err(|_| Failure::failed("the local mode ended unexpectedly"))?;
                }
                event = events.recv() => show_event(&running.live, event)?,
                _ = tick.tick() => {
                    if watch.changed() {
                        self.reload(running).await?;
                    }
                    if let Some(private) = private.as_deref_mut()
                        && private.revive().await?
                    {
                        running.live.line("the private Redis had ended: started again")?;
                    }
                }
            }
            self.publish(running, &self.account(running))?;
        }
    }

    /// Takes changed manifests over; broken ones change nothing.
    async fn reload(&self, running: &mut Running) -> Result<()> {
        let live = &running.live;
        let manifests = match manifests::load(&self.args.manifests, true) {
            Err(failure) => return live.line(&format!("manifests changed, but {failure}")),
            Ok(manifests::Checked { manifests, warnings }) => {
                warnings.iter().try_for_each(|warning| live.line(warning))?;
                manifests
            }
        };
        let policies = policies(&manifests);
        if let Err(error) = running.handle.reload(manifests).await {
            return live.line(&format!("manifests changed, but {}", redact(&error.to_string())));
        }
        running.policies = policies;
        running.live.line("manifests changed: taken over")
    }

    fn account(&self, running: &Running) -> UpState {
        account::state(&running.handle.snapshot().borrow(), &self.options.url)
    }

    fn publish(&self, running: &Running, state: &UpState) -> Result<()> {
        self.state.publish(state)?;
        if let Some(file) = &self.args.status_json {
            write_atomically(file, state)?;
        }
        if running.live.redraws() {
            let errors = account::errors(&running.handle.snapshot().borrow());
            running.live.show(&view::render(state, &running.policies, &errors));
        }
        Ok(())
    }

    /// Workers take no more and finish what they run; a second signal ends them at once.
    async fn drain(&self, running: &Running, signals: &mut Signals) -> Result<()> {
        running.live.line("draining: workers finish what they run (once more to end at once)")?;
        let mut events = running.handle.events();
        let mut tick = tokio::time::interval(TICK);
        let mut told = String::new();
        let mut awaited = Stage::Now;
        let drained = running.handle.drain();
        tokio::pin!(drained);
        loop {
            tokio::select! {
                () = &mut drained => break,
                () = signals.reached(awaited) => {
                    if awaited == Stage::Leave {
                        break;
                    }
                    awaited = Stage::Leave;
                    running.handle.kill();
                    running.live.line("ending at once: what ran is handed back, or taken over when its lease lapses")?;
                }
                event = events.recv() => show_event(&running.live, event)?,
                _ = tick.tick() => {}
            }
            let state = self.account(running);
            self.publish(running, &state)?;
            let left = account::left(&state);
            if left != told && !running.live.redraws() {
                out::print(&left)?;
            }
            told = left;
        }
        let mut last = self.account(running);
        account::refresh(&mut last, self.options).await;
        self.publish(running, &last)?;
        running.live.finish();
        out::note(if signals.stage() >= Stage::Now { "stopped at once" } else { "all workers have drained" });
        Ok(())
    }
}

/// The policies that the view tells promises from.
fn policies(manifests: &Manifests) -> BTreeMap<String, QueuePolicy> {
    let nobody = Source { owner: String::new(), uid: String::new(), created_ms: 0, generation: 0 };
    let resolved =
        manifests.queues.iter().filter_map(|queue| validate::job_queue(queue, nobody.clone()).ok());
    resolved.map(|policy| (policy.queue.clone(), policy)).collect()
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
