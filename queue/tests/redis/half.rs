//! Whatever key something else overwrote: a call that answers with an error has changed nothing.

use std::collections::BTreeMap;

use super::common::*;
use lanekeeper_api::policy::{
    Capacity, Circuit, ConcurrencyKey, KeyPart, LimitBy, OnConflict, OnDead, QueuePolicy, RateLimit,
};
use lanekeeper_queue::Result;
use lanekeeper_queue::types::*;

pub(super) type Keys = BTreeMap<Vec<u8>, Vec<u8>>;

/// A queue in which something stands at every kind of key.
pub(super) struct Scene {
    pub(super) bed: Bed,
    pub(super) worker: WorkerIdentity,
    /// Waiting, scheduled, running and dead, of the types `mail` and `limited`; discarded.
    pub(super) waiting: [String; 2],
    scheduled: [String; 2],
    running: [Claimed; 2],
    pub(super) dead: [String; 2],
    discarded: String,
}

fn everything(policy: &mut QueuePolicy) {
    let lane = &mut policy.lanes[0];
    lane.concurrency = Some(50);
    lane.rate_limit = Some(RateLimit { limit: 1_000, per_ms: 1_000, burst: None, by: None });
    lane.circuit = Some(Circuit { failures: 3, probe_after_ms: 1_000 });
    let path = |field: &str| vec![KeyPart::Path(vec![field.into()])];
    let by = LimitBy { path: vec!["t".into()], limits: [("x".to_owned(), 3)].into() };
    let types = &mut policy.job_types;
    let mail = types.get_mut("mail").unwrap();
    mail.key = Some(path("k"));
    mail.on_dead = Some(OnDead { r#type: "report".into() });
    let reset = types.get_mut("reset").unwrap();
    (reset.key, reset.on_conflict, reset.key_for_ms) = (Some(path("k")), OnConflict::Replace, 0);
    types.get_mut("limited").unwrap().concurrency_key = Some(ConcurrencyKey {
        key: path("k"),
        limit: Some(2),
        rate_limit: Some(RateLimit { limit: 100, per_ms: 1_000, burst: None, by: Some(by) }),
    });
}

fn of(kind: &str, key: &str) -> NewJob {
    job(kind, format!(r#"{{"k":"{kind}-{key}","t":"x"}}"#))
}

impl Scene {
    pub(super) async fn set() -> Self {
        let bed = Bed::still(everything).await;
        let worker = worker("w");
        let mut running = Vec::new();
        let (mut dead, mut ended) = (Vec::new(), Vec::new());
        for kind in ["mail", "limited"] {
            let done = bed.running(&worker, of(kind, "done")).await;
            bed.settle(&worker, &done, success()).await;
            for end in ["dead", "ended"] {
                let id = bed.dead(of(kind, end)).await;
                if end == "dead" {
                    dead.push(id)
                } else {
                    ended.push(id)
                }
                for news in bed.claim(&worker, &["slow"], 5).await {
                    bed.settle(&worker, &news, success()).await;
                }
            }
            running.push(bed.running(&worker, of(kind, "runs")).await);
        }
        bed.queue.dead_discard(&ended[..1], "me", "why").await.unwrap();
        let later = |kind| with(of(kind, "later"), |options| options.delay = Some(100_000));
        let waiting = [bed.accept(of("mail", "waits")).await, bed.accept(of("limited", "waits")).await];
        let scheduled = [bed.accept(later("mail")).await, bed.accept(later("limited")).await];
        bed.accept(of("reset", "waits")).await;
        bed.accept(later("reset")).await;
        bed.tell(&worker, &running[0], Note { checkpoint: Some(b"ck".to_vec()), ..Note::default() }).await;
        Self {
            bed,
            worker,
            waiting,
            scheduled,
            running: running.try_into().unwrap(),
            dead: dead.try_into().unwrap(),
            discarded: ended.remove(0),
        }
    }

    pub(super) async fn keys(&self) -> Keys {
        let names: Vec<Vec<u8>> = self.bed.raw(&["KEYS", "*"]).await.unwrap();
        let mut dumps = redis::pipe();
        for name in &names {
            dumps.cmd("DUMP").arg(name);
        }
        let found: Vec<Vec<u8>> = dumps.query_async(&mut self.bed.queue.connection()).await.unwrap();
        names.into_iter().zip(found).collect()
    }

    pub(super) async fn restore(&self, keys: &Keys) {
        let mut all = redis::pipe();
        all.cmd("FLUSHDB").ignore();
        for (name, dump) in keys {
            all.cmd("RESTORE").arg(name).arg(0).arg(dump).ignore();
        }
        let () = all.query_async(&mut self.bed.queue.connection()).await.unwrap();
    }

    /// Puts a value of another type in the place of a key.
    async fn overwrite(&self, key: &[u8]) {
        let conn = &mut self.bed.queue.connection();
        let kind: String = redis::cmd("TYPE").arg(key).query_async(conn).await.unwrap();
        let () = redis::cmd("DEL").arg(key).query_async(conn).await.unwrap();
        let command = if kind == "string" { "LPUSH" } else { "SET" };
        let () = redis::cmd(command).arg(key).arg("foreign").query_async(conn).await.unwrap();
    }

    async fn end(&self, job: &Claimed, outcome: Outcome) -> Result<()> {
        self.bed.queue.settle(&self.worker, &[settlement(job, outcome)]).await.map(drop)
    }

    async fn claim(&self, order: ClaimOrder) -> Result<()> {
        let want = ClaimRequest { order, ..want(&["fast", "slow"], 3) };
        self.bed.queue.settle_and_claim(&self.worker, &[], &want).await.map(drop)
    }

    pub(super) async fn call(&self, call: &str) -> Result<()> {
        let (queue, [mail, limited]) = (&self.bed.queue, &self.running);
        let held = |holds| Outcome::Snooze { delay_ms: 5_000, why: "why".into(), holds };
        let follow_ups = vec![of("mail", "new"), of("limited", "new"), of("reset", "later")];
        let id = |id: &String| [id.clone()];
        match call {
            "enqueue" => queue.enqueue(&[of("mail", "new"), of("limited", "waits")]).await.map(drop),
            "replace what waits" => queue.enqueue(&[of("reset", "waits")]).await.map(drop),
            "replace what is scheduled" => queue.enqueue(&[of("reset", "later")]).await.map(drop),
            "claim as listed" => self.claim(ClaimOrder::Listed).await,
            "claim by deadline" => self.claim(ClaimOrder::Deadline).await,
            "succeed" => self.end(mail, success()).await,
            "succeed, with a concurrency key" => self.end(limited, success()).await,
            "succeed and bring jobs" => self.end(mail, Outcome::Success { result: vec![], follow_ups }).await,
            "retry" => self.end(mail, retry(1_000)).await,
            "retry at once" => self.end(limited, retry(0)).await,
            "die and tell" => self.end(mail, dead("broken")).await,
            "hold the key" => self.end(limited, held(Holds::Key)).await,
            "hold the lane" => self.end(limited, held(Holds::Lane)).await,
            "hand back" => self.end(limited, Outcome::Release { why: "why".into() }).await,
            "cancel what waits" => queue.cancel(&self.waiting, "me").await.map(drop),
            "cancel what is scheduled" => queue.cancel(&self.scheduled, "me").await.map(drop),
            "cancel what runs" => queue.cancel(&id(&mail.id), "me").await.map(drop),
            "replay" => queue.dead_replay(&self.dead, "me", "why").await.map(drop),
            "replay what was discarded" => {
                queue.dead_replay(&id(&self.discarded), "me", "why").await.map(drop)
            }
            "edit" => queue.dead_edit(&self.dead[0], "me", "why", b"{}").await.map(drop),
            "acknowledge" => queue.dead_ack(&self.dead, "me", "why").await.map(drop),
            "discard" => queue.dead_discard(&self.dead, "me", "why").await.map(drop),
            "pause" => queue.pause("me", "why", &["fast".into()]).await.map(drop),
            "sweep" => queue.sweep(&worker("s"), 100).await.map(drop),
            "heartbeat" => {
                let held = [Held { id: mail.id.clone(), token: mail.token }];
                let note = Note { checkpoint: Some(b"further".to_vec()), ..Note::default() };
                queue.extend_telling(&info(&self.worker), &held, &[(0, note)]).await.map(drop)
            }
            other => panic!("no call {other}"),
        }
    }
}

pub(super) const CALLS: [&str; 25] = [
    "enqueue",
    "replace what waits",
    "replace what is scheduled",
    "claim as listed",
    "claim by deadline",
    "succeed",
    "succeed, with a concurrency key",
    "succeed and bring jobs",
    "retry",
    "retry at once",
    "die and tell",
    "hold the key",
    "hold the lane",
    "hand back",
    "cancel what waits",
    "cancel what is scheduled",
    "cancel what runs",
    "replay",
    "replay what was discarded",
    "edit",
    "acknowledge",
    "discard",
    "pause",
    "sweep",
    "heartbeat",
];

/// Plays every call with every key overwritten: how many failed, and those that had changed something when they did.
async fn half_done(scene: &Scene, calls: &[&str]) -> (usize, Vec<String>) {
    let whole = scene.keys().await;
    let root = scene.bed.queue.name().root();
    let mut names: Vec<Vec<u8>> =
        whole.keys().filter(|name| name.starts_with(root.as_bytes())).cloned().collect();
    names.extend(["yh:limited", "yp:limited", "w:slow", "o"].map(|key| scene.bed.key(key).into_bytes()));
    let (mut failed, mut half) = (0, Vec::new());
    for call in calls {
        scene.restore(&whole).await;
        scene.call(call).await.expect(call);
        for name in &names {
            scene.restore(&whole).await;
            scene.overwrite(name).await;
            let before = scene.keys().await;
            if scene.call(call).await.is_err() {
                failed += 1;
                let after = scene.keys().await;
                let changed = after.iter().any(|(name, dump)| before.get(name) != Some(dump));
                if changed || after.len() != before.len() {
                    half.push(format!("{call} at {}", String::from_utf8_lossy(name)));
                }
            }
        }
    }
    (failed, half)
}

#[tokio::test]
async fn a_call_that_fails_at_a_key_has_changed_nothing() {
    let (failed, half) = half_done(&Scene::set().await, &CALLS).await;
    assert!(half.is_empty(), "{half:#?}");
    assert!(failed > 200, "{failed} calls failed");
}

#[tokio::test]
async fn nor_where_leases_are_over_jobs_are_due_and_the_queue_is_full() {
    let mut scene = Scene::set().await;
    let jobs = scene.bed.raw(&["HLEN", &scene.bed.key("j")]).await.unwrap();
    scene.bed.change(|policy| policy.capacity = Some(Capacity { jobs: Some(jobs), bytes: None })).await;
    scene.bed.at(200_000).await;
    // Served a moment ago, so that no lease lives longer for an outage.
    let lately = (NOON_MS + 199_999).to_string();
    scene.bed.poke(&["HSET", &scene.bed.key("m"), "a", &lately, "o", "0"]).await;
    let calls = ["enqueue", "claim as listed", "claim by deadline", "sweep", "succeed"];
    let (failed, half) = half_done(&scene, &calls).await;
    assert!(half.is_empty(), "{half:#?}");
    assert!(failed > 20, "{failed} calls failed");
}
