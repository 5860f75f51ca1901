//! Dead letters: listed, counted, reviewed, replayed.

use std::collections::BTreeMap;

use crate::admin::read_page;
use crate::client::Queue;
use crate::error::Result;
use crate::types::{Acted, DeadAct, DeadFilter, DeadGroup, IdPage, Meant, Page};
use crate::wire::Reply;

impl Queue {
    /// A page of dead letters. It may be short, even empty, though there is a cursor: a call looks at a bounded number of
    /// them.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn dead_list(&self, filter: &DeadFilter, limit: u32, cursor: Option<&str>) -> Result<Page> {
        read_page(self.dead_call(filter, "jobs", limit, cursor).await?)
    }

    /// The same, ids only.
    ///
    /// # Errors
    /// As `dead_list`.
    pub async fn dead_ids(&self, filter: &DeadFilter, limit: u32, cursor: Option<&str>) -> Result<IdPage> {
        let mut reply = self.dead_call(filter, "ids", limit, cursor).await?;
        let _now = reply.uint()?;
        Ok(IdPage { ids: reply.texts()?, cursor: reply.maybe_text()? })
    }

    /// All dead letters that pass, by type and error, largest group first. Takes as many bounded calls as there are letters;
    /// `seen` hears after each how many have been counted.
    ///
    /// # Errors
    /// As `dead_list`.
    pub async fn dead_groups(
        &self,
        filter: &DeadFilter,
        mut seen: impl FnMut(u64),
    ) -> Result<Vec<DeadGroup>> {
        let mut groups: BTreeMap<(String, String), DeadGroup> = BTreeMap::new();
        let (mut cursor, mut counted) = (None::<String>, 0);
        loop {
            let mut reply = self.dead_call(filter, "groups", 1, cursor.as_deref()).await?;
            let _now = reply.uint()?;
            let mut list = reply.list()?;
            for _ in 0..list.len() {
                let group = read_group(list.list()?)?;
                counted += group.count;
                merge(&mut groups, group);
            }
            seen(counted);
            cursor = reply.maybe_text()?;
            if cursor.is_none() {
                break;
            }
        }
        let mut all: Vec<DeadGroup> = groups.into_values().collect();
        // Stable: groups of one size stay by type and fingerprint.
        all.sort_by_key(|group| std::cmp::Reverse(group.count));
        Ok(all)
    }

    async fn dead_call(
        &self,
        filter: &DeadFilter,
        shape: &str,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Reply> {
        let filter = serde_json::to_string(filter).expect("texts and numbers can always be written");
        let call = self
            .read("lk_dead_list")
            .arg(filter)
            .arg(shape)
            .arg(limit.max(1))
            .arg(cursor.unwrap_or_default());
        let function = call.function();
        Reply::new(function, call.run().await?)
    }

    /// Notes that somebody saw these dead letters; `by` and `why` go into their history.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn dead_ack(&self, ids: &[String], by: &str, why: &str) -> Result<Vec<Acted>> {
        self.dead_act(DeadAct::Acknowledge, ids, by, why, None).await
    }

    /// Takes dead jobs out of the dead letters without a replay, and frees their keys. Their records stay.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn dead_discard(&self, ids: &[String], by: &str, why: &str) -> Result<Vec<Acted>> {
        self.dead_act(DeadAct::Discard, ids, by, why, None).await
    }

    /// Gives dead or discarded jobs all their tries again; `by` and `why` go into their history.
    ///
    /// # Errors
    /// When Redis cannot be reached or is full, or the queue has no policy.
    pub async fn dead_replay(&self, ids: &[String], by: &str, why: &str) -> Result<Vec<Acted>> {
        self.dead_act(DeadAct::Replay, ids, by, why, None).await
    }

    /// Any of the three. Of jobs that a filter found, `meant` says what it asked for: what was decided about since, or ran and died
    /// again, is left alone and answers `wrong-state`.
    ///
    /// # Errors
    /// As of the three.
    pub async fn dead_act(
        &self,
        act: DeadAct,
        ids: &[String],
        by: &str,
        why: &str,
        meant: Option<&Meant>,
    ) -> Result<Vec<Acted>> {
        let function = match act {
            DeadAct::Acknowledge => "lk_dead_ack",
            DeadAct::Discard => "lk_dead_discard",
            DeadAct::Replay => "lk_dead_replay",
        };
        self.act(function, &[by, why, &meant.map(Meant::word).unwrap_or_default()], ids).await
    }

    /// Replays one job with another payload; the first one stays readable.
    ///
    /// # Errors
    /// As `dead_replay`.
    pub async fn dead_edit(&self, id: &str, by: &str, why: &str, payload: &[u8]) -> Result<Acted> {
        let call = self.call("lk_dead_edit").arg(by).arg(why).arg(id).arg(payload);
        let function = call.function();
        let mut reply = Reply::new(function, call.run().await?)?;
        crate::admin::read_acted(reply.list()?)
    }
}

fn read_group(mut entry: Reply) -> Result<DeadGroup> {
    Ok(DeadGroup {
        job_type: entry.text()?,
        fingerprint: entry.text()?,
        count: entry.uint()?,
        first_ms: entry.uint()?,
        last_ms: entry.uint()?,
        example: entry.text()?,
    })
}

fn merge(groups: &mut BTreeMap<(String, String), DeadGroup>, more: DeadGroup) {
    let known = groups.entry((more.job_type.clone(), more.fingerprint.clone()));
    known
        .and_modify(|group| {
            group.count += more.count;
            group.first_ms = group.first_ms.min(more.first_ms);
            if more.last_ms > group.last_ms {
                (group.last_ms, group.example) = (more.last_ms, more.example.clone());
            }
        })
        .or_insert(more);
}
