//! A real Redis with the library under test, and calls of it in the model's words.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lanekeeper_queue::testing::model::{Op, Reply, Word};
use lanekeeper_queue::testing::{TestRedis, clock};
use lanekeeper_queue::types::{DeadAct, DeadFilter, Enqueued, Find, Job, Settled};
use lanekeeper_queue::{Error, Queue, Result, Waker, library_source};
use redis::aio::ConnectionManagerConfig;
use tokio::sync::Mutex;

use crate::channels::Channels;

/// Where the clock starts, µs since the epoch.
pub const BIRTH_US: u64 = 1_700_000_000_123_456;
/// It never goes back further than here.
pub const EARLIEST_US: u64 = BIRTH_US - 100_000_000_000;

pub struct Bench {
    _redis: TestRedis,
    queue: Queue,
    waker: Mutex<Waker>,
    channels: Mutex<Channels>,
    source: String,
}

impl Bench {
    pub async fn start() -> Self {
        let source = match std::env::var("LANEKEEPER_LIBRARY_FILE") {
            Ok(file) => std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}")),
            Err(_) => library_source().to_owned(),
        };
        if let Ok(file) = std::env::var("LANEKEEPER_LIBRARY_DUMP") {
            std::fs::write(&file, &source).unwrap_or_else(|e| panic!("{file}: {e}"));
        }
        let source = clock::with_test_clock(&source).unwrap_or_else(|e| panic!("{e}"));
        let redis = TestRedis::start_with(&["--appendonly", "no"]).await.unwrap();
        // A long run may be stopped for a while, the server with it: that is no reason to give up a call.
        let patient = ConnectionManagerConfig::new().set_response_timeout(None);
        let client = redis.options().client().unwrap();
        let conn = client.get_connection_manager_with_config(patient).await.unwrap();
        let queue = Queue::on(conn, "apps/saas".parse().unwrap());
        let waker = Waker::connect(&redis.options(), queue.name().clone()).await.unwrap();
        let channels = Channels::open(&redis.options()).await;
        Self { _redis: redis, queue, waker: Mutex::new(waker), channels, source }
    }

    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    pub fn channels(&self) -> &Mutex<Channels> {
        &self.channels
    }

    /// A key of the queue by what follows its root.
    pub fn key(&self, suffix: &str) -> String {
        format!("{}:{suffix}", self.queue.name().root())
    }

    /// Nothing in Redis, a library that remembers nothing, and nobody who listens.
    pub async fn reset(&self) {
        self.hush().await;
        let mut conn = self.queue.connection();
        let _: redis::Value = redis::cmd("FLUSHALL").query_async(&mut conn).await.unwrap();
        clock::load(&mut conn, &self.source).await.unwrap();
    }

    pub async fn set_clock(&self, us: u64) {
        clock::set(&mut self.queue.connection(), us).await.unwrap();
    }

    /// Which concurrency keys the library gave to these jobs, those among them to which it gave one or refused it.
    pub async fn groups_of(&self, ids: &[String]) -> BTreeMap<String, String> {
        if ids.is_empty() {
            return BTreeMap::new();
        }
        let key = self.key("yg");
        let mut conn = self.queue.connection();
        let groups: Vec<Option<String>> =
            redis::cmd("HMGET").arg(key).arg(ids).query_async(&mut conn).await.unwrap();
        ids.iter().cloned().zip(groups).filter_map(|(id, group)| Some((id, group?))).collect()
    }

    /// What Redis has of concurrency keys, for people.
    pub async fn groups_in_words(&self) -> String {
        let mut conn = self.queue.connection();
        let mut lines = Vec::new();
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(self.key("y*").replace(['{', '}'], "?"))
            .query_async(&mut conn)
            .await
            .unwrap();
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut conn).await.unwrap();
            let members: Vec<String> = match kind.as_str() {
                "hash" => redis::cmd("HGETALL").arg(&key).query_async(&mut conn).await.unwrap(),
                _ => redis::cmd("ZRANGE")
                    .arg(&key)
                    .arg(0)
                    .arg(-1)
                    .arg("WITHSCORES")
                    .query_async(&mut conn)
                    .await
                    .unwrap(),
            };
            lines.push(format!("{key}: {}", members.join(" ")));
        }
        lines.sort();
        lines.join("\n")
    }

    /// Those of the keys, by type and key, of whose class the library knows nothing.
    pub async fn classless(&self, names: &[(String, String)]) -> BTreeSet<(String, String)> {
        let mut gone = BTreeSet::new();
        for (kind, group) in names {
            let key = self.key(&format!("yc:{kind}"));
            let mut conn = self.queue.connection();
            let there: bool = redis::cmd("HEXISTS").arg(key).arg(group).query_async(&mut conn).await.unwrap();
            if !there {
                gone.insert((kind.clone(), group.clone()));
            }
        }
        gone
    }

    /// What is wrong where jobs wait in a lane and no worker would be woken. A token that is there is taken and put back.
    pub async fn sleepers(&self, lane: &str) -> Option<Reply> {
        let lanes = [lane.to_owned()];
        let woken = self.waker.lock().await.wait(&lanes, Duration::from_millis(10)).await;
        match (woken, self.queue.pass_on(&lanes).await) {
            (Ok(true), Ok(())) => None,
            (Ok(false), Ok(())) => {
                Some(Reply::Failed(format!("jobs wait in line in lane {lane}, but it has no wake token")))
            }
            (Err(error), _) | (_, Err(error)) => Some(Reply::Failed(error.to_string())),
        }
    }

    /// The reply, errors included, and what workers were told meanwhile.
    pub async fn call(&self, op: &Op) -> Reply {
        let reply = self.try_call(op).await.unwrap_or_else(|error| match error {
            Error::NoPolicy(_) => Reply::NoPolicy,
            other => Reply::Failed(other.to_string()),
        });
        match self.told().await {
            Ok(told) => reply.telling(told),
            Err(error) => Reply::Failed(format!("a message cannot be read: {error}")),
        }
    }

    async fn try_call(&self, op: &Op) -> Result<Reply> {
        let queue = &self.queue;
        Ok(match op {
            Op::Enqueue(jobs) => Reply::Enqueued(without_messages(queue.enqueue(jobs).await?)),
            Op::Work { worker, done, want } => {
                let (settled, claim) = queue.settle_and_claim(worker, done, want).await?;
                Reply::Worked(without_reasons(settled), claim)
            }
            Op::Settle { worker, done } => Reply::Settled(without_reasons(queue.settle(worker, done).await?)),
            Op::Extend { worker, held, notes } => {
                Reply::Extended(queue.extend_telling(worker, held, notes).await?)
            }
            Op::Leave(worker) => queue.leave(worker).await.map(|()| Reply::Done)?,
            Op::PassOn(lanes) => queue.pass_on(lanes).await.map(|()| Reply::Done)?,
            Op::LeasesOf(worker) => Reply::Leases(queue.leases_of(worker).await?),
            Op::Sweep { sweeper, limit } => Reply::Swept(queue.sweep(sweeper, *limit).await?),
            Op::Configure { policy, adopt } => Reply::Configured(queue.configure(policy, *adopt).await?),
            Op::Policy => Reply::Policy(queue.policy().await?.map(Box::new)),
            Op::Stats => {
                let mut stats = queue.stats().await?;
                stats.workers.sort_by_key(|w| (w.identity.name.clone(), w.identity.boot.clone()));
                Reply::Stats(Box::new(stats))
            }
            Op::Get { ids, with_payload } => Reply::Jobs(queue.get(ids, *with_payload).await?),
            Op::Find(find) => Reply::Found(self.find_all(find).await?),
            Op::DeadList { filter, limit } => Reply::Found(self.all_dead(filter, *limit).await?),
            Op::DeadGroups(filter) => {
                let mut groups = queue.dead_groups(filter, |_| {}).await?;
                for group in &mut groups {
                    group.example.clear();
                }
                Reply::Groups(groups)
            }
            Op::Standing(id) => Reply::Standing(queue.key_standing(id).await?),
            Op::Position(id) => Reply::Position(queue.position(id).await?),
            Op::Cancel { ids, by } => Reply::Acted(queue.cancel(ids, by).await?),
            Op::Acknowledge { ids, word } => act(queue, DeadAct::Acknowledge, ids, word).await?,
            Op::Discard { ids, word } => act(queue, DeadAct::Discard, ids, word).await?,
            Op::Replay { ids, word } => act(queue, DeadAct::Replay, ids, word).await?,
            Op::Edit { id, word, payload } => {
                Reply::Acted(vec![queue.dead_edit(id, &word.by, &word.why, payload).await?])
            }
            Op::Pause { lanes, by, why } => Reply::Toggled(queue.pause(by, why, lanes).await?),
            Op::Resume(lanes) => Reply::Toggled(queue.resume("anna", lanes).await?),
            Op::Destroy => Reply::Destroyed(queue.destroy().await?),
            Op::Subscribe(worker) => {
                self.listen(&worker.boot, true).await;
                Reply::Done
            }
            Op::Unsubscribe(worker) => {
                self.listen(&worker.boot, false).await;
                Reply::Done
            }
            Op::Damage(damage) => self.damage(damage).await?,
        })
    }

    /// All pages, by id. A job that comes twice stays twice, so that it is noticed.
    async fn find_all(&self, find: &Find) -> Result<Vec<Job>> {
        let (mut all, mut find) = (Vec::new(), find.clone());
        loop {
            let page = self.queue.find(&find).await?;
            check_size(page.jobs.len(), find.limit);
            all.extend(page.jobs);
            find.cursor = page.cursor;
            if find.cursor.is_none() {
                break;
            }
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    async fn all_dead(&self, filter: &DeadFilter, limit: u32) -> Result<Vec<Job>> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.queue.dead_list(filter, limit, cursor.as_deref()).await?;
            check_size(page.jobs.len(), limit);
            all.extend(page.jobs);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }
}

fn check_size(jobs: usize, limit: u32) {
    assert!(jobs <= limit.clamp(1, 200) as usize, "a page of {jobs} jobs, {limit} were asked for");
}

fn without_messages(mut outcomes: Vec<Enqueued>) -> Vec<Enqueued> {
    for outcome in &mut outcomes {
        if let Enqueued::Rejected { message, .. } = outcome {
            message.clear();
        }
    }
    outcomes
}

fn without_reasons(mut settled: Vec<Settled>) -> Vec<Settled> {
    for one in &mut settled {
        if let Settled::Refused { why } = one {
            why.clear();
        }
    }
    settled
}

async fn act(queue: &Queue, act: DeadAct, ids: &[String], word: &Word) -> Result<Reply> {
    Ok(Reply::Acted(queue.dead_act(act, ids, &word.by, &word.why, word.meant.as_ref()).await?))
}
