//! Figures of a queue.

use crate::client::Queue;
use crate::error::Result;
use crate::types::{ClosedGate, Gate, LaneStats, Stats, TypeStats};
use crate::wire::Reply;
use crate::work::read_info;

impl Queue {
    /// Figures of this moment.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy: figures never read as zero because a source failed.
    pub async fn stats(&self) -> Result<Stats> {
        let call = self.read("lk_stats");
        let function = call.function();
        let mut reply = Reply::new(function, call.run().await?)?;
        let mut stats = Stats {
            now_ms: reply.uint()?,
            policy_version: reply.uint()?,
            paused: reply.int()? != 0,
            closed: reply.maybe_text()?,
            dead: reply.uint()?,
            next_due_ms: reply.maybe_uint()?,
            damaged: reply.uint()?,
            lanes: reply.texts()?.into_iter().map(|name| LaneStats { name, types: Vec::new() }).collect(),
            workers: Vec::new(),
            gates: Vec::new(),
            records: 0,
            bytes: None,
            full: false,
        };
        let mut types = reply.list()?;
        for _ in 0..types.len() {
            let (lane, figures) = read_type(&mut types.list()?)?;
            match stats.lanes.iter_mut().find(|known| known.name == lane) {
                Some(known) => known.types.push(figures),
                None => stats.lanes.push(LaneStats { name: lane, types: vec![figures] }),
            }
        }
        let mut workers = reply.list()?;
        for _ in 0..workers.len() {
            let mut worker = workers.list()?;
            let (seen_ms, started_ms, info) = (worker.uint()?, worker.uint()?, worker.bytes()?);
            stats.workers.extend(read_info(&info, seen_ms, started_ms));
        }
        stats.workers.sort_by(|a, b| a.identity.name.cmp(&b.identity.name));
        let mut gates = reply.list()?;
        for _ in 0..gates.len() {
            stats.gates.extend(read_gate(&mut gates.list()?)?);
        }
        stats.records = reply.uint()?;
        stats.bytes = reply.maybe_uint()?;
        stats.full = reply.int()? != 0;
        Ok(stats)
    }
}

/// A closed gate; none for a kind that a later library knows.
fn read_gate(entry: &mut Reply) -> Result<Option<ClosedGate>> {
    let (lane, gate) = (entry.maybe_text()?, entry.text()?);
    let (until_ms, since_ms) = (entry.maybe_uint()?, entry.maybe_uint()?);
    let (by, why) = (entry.maybe_text()?, entry.maybe_text()?);
    Ok(Gate::from_name(&gate).map(|gate| ClosedGate { lane, gate, until_ms, since_ms, by, why }))
}

fn read_type(entry: &mut Reply) -> Result<(String, TypeStats)> {
    let (name, lane) = (entry.text()?, entry.text()?);
    let figures = TypeStats {
        name,
        ready: entry.uint()?,
        scheduled: entry.uint()?,
        running: entry.uint()?,
        dead: entry.uint()?,
        oldest_due_ms: entry.maybe_uint()?,
        next_due_ms: entry.maybe_uint()?,
        enqueued_total: entry.uint()?,
        succeeded_total: entry.uint()?,
        failed_total: entry.uint()?,
        died_total: entry.uint()?,
        cancelled_total: entry.uint()?,
        attempts_total: entry.uint()?,
        busy_ms_total: entry.uint()?,
    };
    Ok((lane, figures))
}
