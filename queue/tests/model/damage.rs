//! Damage to a queue in Redis, and the sweeps that mend it.

use lanekeeper_queue::Result;
use lanekeeper_queue::testing::model::{Damage, Model, Op, Reply};
use lanekeeper_queue::types::WorkerIdentity;
use rand::seq::IndexedRandom;

use crate::bench::Bench;
use crate::ops::Generator;

/// Sweeps by job. Each looks at eight jobs at random: that one of so many is never looked at does not happen.
const SWEEPS_PER_JOB: u64 = 2;
const LEAST_SWEEPS: u64 = 4;

impl Generator {
    pub fn damage(&mut self, model: &Model) -> Op {
        // Every index as often as any other, however many entries it has.
        let all = model.damages();
        let name = |damage: &Damage| match damage {
            Damage::Key(key) => format!("key {}", key.split(':').next().unwrap_or_default()),
            Damage::Entry(key, _) => key.split(':').next().unwrap_or_default().to_owned(),
            Damage::Lease(_) => "lease".to_owned(),
            Damage::Card(_) => "card".to_owned(),
        };
        let mut names: Vec<String> = all.iter().map(name).collect();
        names.sort();
        names.dedup();
        let chosen = names.choose(&mut self.rng).expect("some keys can always be lost");
        let of_it: Vec<&Damage> = all.iter().filter(|damage| name(damage) == *chosen).collect();
        Op::Damage((*of_it.choose(&mut self.rng).expect("the name comes from one")).clone())
    }
}

impl Bench {
    /// Does the damage and sweeps until every job was looked at. Sweeps that find anything else to do are no part of it.
    pub async fn damage(&self, damage: &Damage) -> Result<Reply> {
        match damage {
            // What is left of a lease but its end lapses with that.
            Damage::Key(key) if key == "l" => self.raw(&["DEL", &self.key("l"), &self.key("r")]).await,
            Damage::Key(key) => self.raw(&["DEL", &self.key(key)]).await,
            Damage::Entry(key, member) => self.remove(key, member).await,
            Damage::Lease(id) => {
                self.remove("l", id).await;
                self.remove("r", id).await;
            }
            Damage::Card(id) => self.raw(&["HSET", &self.key("dc"), id, "junk"]).await,
        }
        let sweeper = WorkerIdentity {
            name: "mender".into(),
            boot: "boot-mender".into(),
            pool: String::new(),
            node: String::new(),
        };
        let sweeps = LEAST_SWEEPS + SWEEPS_PER_JOB * self.queue().stats().await?.records;
        for n in 1..=sweeps {
            let swept = self.queue().sweep(&sweeper, 200).await?;
            if !swept.expired.is_empty() || swept.rearmed + swept.promoted + swept.trimmed > 0 {
                return Ok(Reply::Failed(format!("sweep {n} did more than mend: {swept:?}")));
            }
            if n == sweeps && swept.more {
                return Ok(Reply::Failed(format!("{n} sweeps find no end")));
            }
        }
        Ok(Reply::Mended { damaged: self.queue().stats().await?.damaged })
    }

    async fn remove(&self, key: &str, member: &str) {
        let command = match key.split(':').next() {
            Some("l" | "k" | "dc" | "yg" | "yr") => "HDEL",
            _ => "ZREM",
        };
        self.raw(&[command, &self.key(key), member]).await;
    }

    async fn raw(&self, command: &[&str]) {
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        let _: redis::Value = cmd.query_async(&mut self.queue().connection()).await.unwrap();
    }
}
