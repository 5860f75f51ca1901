//! The operator's hand: look at jobs, cancel them, destroy a queue.

use std::collections::HashSet;

use redis::Value;

use crate::client::Queue;
use crate::error::Result;
use crate::record::{read_lease, read_progress, split};
use crate::types::{Acted, CheckpointLeft, Find, Job, JobState, KeptKey, Lease, Page, Position, Review};
use crate::wire::Reply;

/// Most ids of one call.
const MAX_IDS: usize = 200;

impl Queue {
    /// The jobs of these ids, in order; none where no readable record stands.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn get(&self, ids: &[String], with_payload: bool) -> Result<Vec<Option<Job>>> {
        let mut jobs = Vec::with_capacity(ids.len());
        while jobs.len() < ids.len() {
            let batch = batch_of(&ids[jobs.len()..]);
            let call = self.read("lk_get").arg(u8::from(with_payload)).arg(batch);
            let function = call.function();
            let mut reply = Reply::new(function, call.run().await?)?;
            let _now = reply.uint()?;
            let mut views = reply.list()?;
            if views.len() == 0 || views.len() > batch.len() {
                return Err(views.wrong("an entry per id was expected"));
            }
            for _ in 0..views.len() {
                jobs.push(match views.maybe_list()? {
                    Some(view) => read_view(view, with_payload)?.ok(),
                    None => None,
                });
            }
        }
        Ok(jobs)
    }

    /// Jobs by key, state or type.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn find(&self, find: &Find) -> Result<Page> {
        let call = self
            .read("lk_find")
            .arg(find.state.map_or("", JobState::name))
            .arg(find.job_type.as_deref().unwrap_or_default())
            .arg(find.key.as_deref().unwrap_or_default())
            .arg(find.limit.max(1))
            .arg(find.cursor.as_deref().unwrap_or_default());
        let function = call.function();
        read_page(Reply::new(function, call.run().await?)?)
    }

    /// Which job keeps the key after its success, where one does: [`Queue::find`] no longer knows it once its record went.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn kept_key(&self, key: &str) -> Result<Option<KeptKey>> {
        let entry = self.field(&self.name().keys_hash(), key).await?;
        Ok(entry.as_deref().and_then(read_kept))
    }

    /// Where a ready job stands in its lane; none when it is not in line.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn position(&self, id: &str) -> Result<Option<Position>> {
        let call = self.read("lk_position").arg(id);
        let function = call.function();
        let mut reply = Reply::new(function, call.run().await?)?;
        if reply.len() == 0 {
            return Ok(None);
        }
        Ok(Some(Position { ahead: reply.uint()?, waiting: reply.uint()? }))
    }

    /// Calls jobs off: waiting ones at once, running ones through their worker; `by` goes into their history.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn cancel(&self, ids: &[String], by: &str) -> Result<Vec<Acted>> {
        self.act("lk_cancel", &[by], ids).await
    }

    /// Delete everything the queue has in Redis (`deletionPolicy: Delete`); answers how many job records there were. The keys
    /// are few and Redis frees their contents in the background, but each concurrency key that waits has one: of those a
    /// call deletes some.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn destroy(&self) -> Result<u64> {
        loop {
            match self.call("lk_destroy").run().await? {
                Value::Int(..=-1) => {}
                Value::Int(jobs) => return Ok(jobs.unsigned_abs()),
                other => return Err(Reply::new("lk_destroy", other)?.wrong("a number was expected")),
            }
        }
    }

    /// Acts on jobs; `word` is who asks and why, where the function wants to know.
    pub(crate) async fn act(
        &self,
        function: &'static str,
        word: &[&str],
        ids: &[String],
    ) -> Result<Vec<Acted>> {
        let mut seen = HashSet::new();
        let ids: Vec<&String> = ids.iter().filter(|id| seen.insert(*id)).collect();
        let mut acted = Vec::with_capacity(ids.len());
        while acted.len() < ids.len() {
            let batch = batch_of(&ids[acted.len()..]);
            let mut call = self.call(function);
            for part in word {
                call = call.arg(part);
            }
            let mut reply = Reply::new(function, call.arg(batch).run().await?)?;
            if reply.len() == 0 || reply.len() > batch.len() {
                return Err(reply.wrong("an entry per id was expected"));
            }
            for _ in 0..reply.len() {
                acted.push(read_acted(reply.list()?)?);
            }
        }
        Ok(acted)
    }
}

/// The ids of one call. The library answers for as many of them as it reads at once, which payloads decide.
fn batch_of<T>(ids: &[T]) -> &[T] {
    &ids[..ids.len().min(MAX_IDS)]
}

/// `<id> <until>`; an entry without a time is that of a job that has not succeeded.
fn read_kept(entry: &str) -> Option<KeptKey> {
    let (id, until) = entry.split_once(' ')?;
    Some(KeptKey { id: id.to_owned(), until_ms: until.parse().ok()? })
}

pub(crate) fn read_acted(mut entry: Reply) -> Result<Acted> {
    Ok(Acted { id: entry.text()?, outcome: entry.text()?, state: JobState::from_name(&entry.text()?) })
}

pub(crate) fn read_page(mut reply: Reply) -> Result<Page> {
    let _now = reply.uint()?;
    let mut views = reply.list()?;
    let mut page = Page::default();
    for _ in 0..views.len() {
        // One that cannot be read must not hide the others.
        match read_view(views.list()?, false)? {
            Ok(job) => page.jobs.push(job),
            Err(id) => page.unreadable.push(id),
        }
    }
    page.cursor = reply.maybe_text()?;
    // Only the list of dead letters has it, and not that of an older library.
    if reply.len() > 0 {
        page.unreadable.extend(reply.texts()?);
    }
    Ok(page)
}

/// The job, or the id of one whose record cannot be read.
fn read_view(mut view: Reply, with_payload: bool) -> Result<std::result::Result<Job, String>> {
    let (id, state) = (view.text()?, view.text()?);
    let state = JobState::from_name(&state).ok_or_else(|| view.wrong("unknown state"))?;
    let (lane, payload_bytes) = (view.maybe_text()?, view.uint()?);
    let (raw, past) = (view.bytes()?, view.bytes()?);
    let Some((record, payload)) = split(&raw, &past) else {
        tracing::warn!(id, "the record of a job cannot be read: left out");
        return Ok(Err(id));
    };
    let (lease, expires_ms) = (view.bytes()?, view.maybe_uint()?);
    let lease = read_lease(&lease).map(|(lease, holder)| Lease {
        worker: holder.name,
        pool: holder.pool,
        node: holder.node,
        token: lease.token,
        since_ms: lease.since_ms,
        expires_ms: expires_ms.unwrap_or_default(),
        cancelled_by: lease.cancel.0,
    });
    let fingerprint = view.maybe_text()?;
    let progress = read_progress(&view.bytes()?);
    let (left_ms, bytes) = (view.maybe_uint()?, view.uint()?);
    let checkpoint = left_ms.map(|left_ms| CheckpointLeft { bytes, left_ms });
    let history = record.history();
    Ok(Ok(Job {
        id,
        lane,
        state,
        priority: record.priority(),
        enqueued_ms: record.enqueued_ms(),
        due_ms: record.due_ms(),
        finished_ms: record.finished_ms(),
        tries: record.tries(),
        crashes: record.crashes(),
        attempts: record.attempts(),
        key: record.key(),
        meta: record.meta(),
        progress,
        checkpoint,
        lease,
        dead_reason: record.dead_reason(),
        fingerprint,
        review: Review::of(state, &history),
        history,
        history_dropped: record.history_dropped(),
        payload_bytes,
        result: record.result(),
        original_bytes: record.original().map(|original| original.len() as u64),
        original: record.original().filter(|_| with_payload).map(<[u8]>::to_vec),
        payload: with_payload.then(|| payload.to_vec()),
        job_type: record.job_type().to_owned(),
    }))
}
