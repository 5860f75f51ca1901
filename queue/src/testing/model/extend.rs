//! Heartbeats: `extend`, `leave`, `leases_of`.

use super::reply::Reply;
use super::state::Model;
use crate::types::{HeartbeatReply, Held, Note, WorkerIdentity, WorkerInfo};

impl Model {
    pub(super) fn extend(
        &mut self,
        worker: &WorkerInfo,
        held: &[Held],
        notes: &[(usize, Note)],
        now_ms: u64,
    ) -> HeartbeatReply {
        let expires_ms = now_ms + self.lease_ms(now_ms);
        let (mut lost, mut cancelled) = (Vec::new(), Vec::new());
        for (at, item) in held.iter().enumerate() {
            match self.leases.get_mut(&item.id) {
                Some(lease) if lease.token == item.token && lease.holder.boot == worker.identity.boot => {
                    lease.expires_ms = expires_ms;
                    if lease.cancel.is_some() {
                        cancelled.push(item.id.clone());
                    }
                    let job = self.jobs.get_mut(&item.id);
                    let told = notes.iter().find(|(place, _)| *place == at);
                    if let (Some(job), Some((_, note))) = (job, told) {
                        job.hear(note, now_ms);
                    }
                }
                _ => lost.push(item.id.clone()),
            }
        }
        let started_ms = self.workers.get(&worker.identity.boot).map_or(now_ms, |known| known.started_ms);
        let beat = WorkerInfo { seen_ms: now_ms, started_ms, ..worker.clone() };
        self.workers.insert(worker.identity.boot.clone(), beat);
        self.touch(now_ms);
        self.offers.beat(&worker.identity.boot, now_ms);
        let handed = self.offers.handed_to(&worker.identity.boot);
        HeartbeatReply { now_ms, policy_version: self.version(), lost, cancelled, handed }
    }

    pub(super) fn leave(&mut self, worker: &WorkerIdentity) -> Reply {
        self.workers.remove(&worker.boot);
        self.offers.forget(&worker.boot);
        Reply::Done
    }

    pub(super) fn leases_of(&self, worker: &WorkerIdentity) -> Vec<Held> {
        self.leases
            .iter()
            .filter(|(_, lease)| lease.holder.boot == worker.boot)
            .map(|(id, lease)| Held { id: id.clone(), token: lease.token })
            .collect()
    }
}
