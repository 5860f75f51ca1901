//! The demo from beginning to end.

use std::time::Duration;

use anyhow::Context;
use lanekeeper_queue::client::Queue;
use lanekeeper_queue::types::{Job, JobState};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::child::kill_now;
use super::observe::{Observer, Victim};
use super::stage::Stage;
use super::summary::{Shown, Summary};
use crate::account::{account, look_up};
use crate::args::DemoArgs;
use crate::customer::{self, CLOSED};
use crate::files::Files;
use crate::store::Store;
use crate::traffic::ledger::{self, Entry, Writer};
use crate::traffic::plan::{Options, plan};
use crate::traffic::run::{self, Progress};
use crate::verify::{Fate, verify};
use crate::{clock, connect};

const QUEUE: &str = "apps/saas";
/// How long `lanekeeper up` may take to start.
const START: Duration = Duration::from_secs(60);
/// How long a replayed job may take.
const REPLAY: Duration = Duration::from_secs(60);
/// How long the pools may take to be gone once nothing is left to do.
const GONE: Duration = Duration::from_secs(90);

/// Plays everything; a program that ends early ends the demo.
pub(super) async fn play(stage: &mut Stage, args: &DemoArgs) -> anyhow::Result<Summary> {
    let port = stage.start_application(args.seed).await?;
    stage.start_up(port)?;
    let (traffic, shown) = watch::channel(Progress::default());
    let observer = Observer::start(stage.status(), QUEUE, shown);
    observer
        .say(&format!("the application listens on port {port}; logs are in {}", stage.folder().display()));
    let scene = Scene {
        files: Files::open(&stage.data())?,
        ledger: stage.ledger(),
        replay: stage.lanekeeper(),
        observer,
        traffic,
    };
    tokio::select! {
        summary = scene.play(args) => summary,
        error = stage.broken() => Err(error),
    }
}

struct Scene {
    files: Files,
    ledger: std::path::PathBuf,
    replay: tokio::process::Command,
    observer: Observer,
    traffic: watch::Sender<Progress>,
}

impl Scene {
    async fn play(mut self, args: &DemoArgs) -> anyhow::Result<Summary> {
        let began = Instant::now();
        anyhow::ensure!(
            self.observer.until(START, |seen| seen.ready).await,
            "lanekeeper up is not ready after {START:?}"
        );
        let redis = self.observer.now().redis.context("lanekeeper up does not say where its Redis is")?;
        self.observer.say(&format!("lanekeeper up is ready, Redis is {redis}; no worker runs yet"));
        let queue = connect::queue(&redis, QUEUE).await?;
        let killed = self.enqueue(args, &queue).await?;
        let entries = ledger::read(&self.ledger)?;
        let ids: Vec<String> =
            entries.iter().filter_map(|entry| entry.accepted().map(str::to_owned)).collect();
        self.observer
            .say(&format!("all is enqueued: {} accepted; waiting until each is done or dead", ids.len()));
        settled(&queue, ids.clone(), Duration::from_secs(args.drain)).await?;
        let replayed = self.replay_one(&queue, &redis, &entries).await?;
        let gone = self.observer.until(GONE, super::observe::Seen::all_gone).await;
        self.observer.say(if gone { "the pools are gone again" } else { "there are still workers" });
        let jobs = look_up(&queue, &ids).await?;
        let store = Store::open(&self.files.database())?;
        let findings = verify(&entries, &Fate::Known(&jobs), &store, &self.files)?;
        let shown = Shown {
            seed: args.seed,
            seconds: args.seconds,
            took: began.elapsed(),
            killed: killed.into_iter().collect(),
            replayed: replayed.into_iter().collect(),
        };
        Ok(Summary::of(account(&entries, &jobs), findings, &jobs, &self.observer.now(), shown))
    }

    /// Enqueues everything, and kills a worker while that goes on. Answers the worker's name.
    async fn enqueue(&self, args: &DemoArgs, queue: &Queue) -> anyhow::Result<Option<String>> {
        let run = format!("d{}", clock::now_ms());
        let options = Options { seed: args.seed, run: run.clone(), seconds: args.seconds, rate: args.rate };
        let plan = plan(&options);
        let mut writer = Writer::create(&self.ledger)?;
        let never = CancellationToken::new();
        let enqueued = run::run(queue, &run, &plan, &mut writer, &self.traffic, &never);
        // The bound covers a run so short that the workers only start when all is enqueued.
        let limit = Duration::from_secs(args.seconds) + Duration::from_secs(30);
        let (enqueued, killed) = tokio::join!(enqueued, self.kill_one(plan.len(), limit));
        enqueued?;
        killed
    }

    /// Kills a worker of the busiest pool with -9 once 40 % are enqueued.
    async fn kill_one(&self, planned: usize, limit: Duration) -> anyhow::Result<Option<String>> {
        let mut progress = self.traffic.subscribe();
        let on_the_way = progress.wait_for(|progress| progress.offered * 10 >= planned * 4);
        if tokio::time::timeout(limit, on_the_way).await.is_err() {
            return Ok(None);
        }
        // Several jobs at once show more; where it does not come to that, one will do.
        let mut victim = None;
        for least in [3, 1] {
            let found = self.observer.until(limit / 4, |seen| {
                victim = seen.busiest().filter(|victim| victim.running >= least);
                victim.is_some()
            });
            if found.await {
                break;
            }
        }
        let Some(Victim { worker, pool, pid, running }) = victim else { return Ok(None) };
        kill_now(pid)?;
        self.observer.say(&format!(
            "killed worker {worker} (pid {pid}) with -9, while pool {pool} ran {running} jobs"
        ));
        Ok(Some(worker))
    }

    /// Replays one dead letter after its cause is mended: a customer opens its endpoint again.
    async fn replay_one(
        &mut self,
        queue: &Queue,
        redis: &str,
        entries: &[Entry],
    ) -> anyhow::Result<Option<String>> {
        let gone =
            |entry: &&Entry| entry.payload["customerId"].as_str().is_some_and(|id| CLOSED.contains(&id));
        let ids: Vec<String> =
            entries.iter().filter(gone).filter_map(|entry| entry.accepted().map(str::to_owned)).collect();
        let jobs = look_up(queue, &ids).await?;
        let dead = |entry: &&Entry| {
            entry.accepted().and_then(|id| jobs.get(id)).is_some_and(|job| job.state == JobState::Dead)
        };
        let Some(entry) = entries.iter().filter(gone).find(dead) else { return Ok(None) };
        let id = entry.accepted().unwrap_or_default().to_owned();
        let customer = entry.payload["customerId"].as_str().unwrap_or_default().to_owned();
        let store = Store::open(&self.files.database())?;
        store.write(|tx| customer::reopen(tx, &customer))?;
        self.observer.say(&format!("{customer} has opened its endpoint again: replaying dead letter {id}"));
        let done = self.replay.args(["dead", "replay", "--redis", redis, "-q", QUEUE, &id]).output().await?;
        let words = String::from_utf8_lossy(&done.stderr).into_owned();
        anyhow::ensure!(done.status.success(), "lanekeeper dead replay {id}: {}: {words}", done.status);
        settled(queue, vec![id.clone()], REPLAY).await?;
        let job = look_up(queue, std::slice::from_ref(&id)).await?.remove(&id);
        let mended = job.is_some_and(|job| job.state == JobState::Succeeded);
        self.observer.say(if mended { "the replayed job is done" } else { "the replayed job is not done" });
        Ok(mended.then_some(id))
    }
}

/// Waits until every job is at an end, or unknown to the queue; what is still open at the limit shows in the
/// account.
async fn settled(queue: &Queue, mut open: Vec<String>, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    while !open.is_empty() && Instant::now() < deadline {
        ticks.tick().await;
        let jobs = look_up(queue, &open).await?;
        open.retain(|id| jobs.get(id).is_some_and(is_open));
    }
    Ok(())
}

fn is_open(job: &Job) -> bool {
    matches!(job.state, JobState::Scheduled | JobState::Ready | JobState::Running)
}
