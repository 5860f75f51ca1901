//! Looking at jobs: `get`, `find`, `position`.

use super::fingerprint::fingerprint;
use super::state::{Job, Model, Place};
use crate::types::{CheckpointLeft, Find, Job as Shown, JobState, Lease as ShownLease, Position, Review};

impl Model {
    pub(super) fn state_of(&self, id: &str, job: &Job, now_ms: u64) -> JobState {
        match job.place {
            Place::Succeeded => JobState::Succeeded,
            Place::Dead => JobState::Dead,
            Place::Cancelled => JobState::Cancelled,
            Place::Discarded => JobState::Discarded,
            _ if self.leases.contains_key(id) => JobState::Running,
            Place::Schedule if job.due_ms > now_ms => JobState::Scheduled,
            _ => JobState::Ready,
        }
    }

    pub(super) fn get(&self, ids: &[String], with_payload: bool, now_ms: u64) -> Vec<Option<Shown>> {
        ids.iter().map(|id| self.shown(id, with_payload, now_ms)).collect()
    }

    pub(super) fn find(&self, find: &Find, now_ms: u64) -> Vec<Shown> {
        let ids: Vec<&String> = match &find.key {
            Some(key) => self.keys.get(key).map(|owner| &owner.id).into_iter().collect(),
            None => self.jobs.keys().collect(),
        };
        ids.into_iter()
            .filter_map(|id| self.shown(id, false, now_ms))
            .filter(|job| find.state.is_none_or(|state| job.state == state))
            .filter(|job| find.job_type.as_ref().is_none_or(|kind| job.job_type == *kind))
            .collect()
    }

    pub(super) fn position(&self, id: &str) -> Option<Position> {
        let job = self.jobs.get(id).filter(|job| job.place == Place::Line)?;
        let line: Vec<&String> = match self.rules(&job.job_type).lane {
            Some(lane) => self.lane_line(&lane.name).into_iter().map(|(id, _)| id).collect(),
            // Where no lane claims the type, it stands in a line of its own.
            None => {
                let mut line: Vec<_> = self
                    .jobs
                    .iter()
                    .filter(|(_, other)| other.place == Place::Line && other.job_type == job.job_type)
                    .map(|(id, other)| (self.order.rank(other, None), id))
                    .collect();
                line.sort();
                line.into_iter().map(|(_, id)| id).collect()
            }
        };
        let ahead = line.iter().position(|other| *other == id)? as u64;
        Some(Position { ahead, waiting: line.len() as u64 })
    }

    pub(super) fn shown(&self, id: &str, with_payload: bool, now_ms: u64) -> Option<Shown> {
        let job = self.jobs.get(id)?;
        let lease = self.leases.get(id).map(|lease| ShownLease {
            worker: lease.holder.name.clone(),
            pool: lease.holder.pool.clone(),
            node: lease.holder.node.clone(),
            token: lease.token,
            since_ms: lease.since_ms,
            expires_ms: lease.expires_ms,
            cancelled_by: lease.cancel.clone(),
        });
        Some(Shown {
            id: id.to_owned(),
            job_type: job.job_type.clone(),
            lane: self.rules(&job.job_type).lane.map(|lane| lane.name.clone()),
            state: self.state_of(id, job, now_ms),
            priority: job.priority,
            enqueued_ms: job.enqueued_ms,
            due_ms: job.due_ms,
            finished_ms: job.finished_ms,
            tries: job.tries,
            crashes: job.crashes,
            attempts: job.attempts,
            key: job.key.clone(),
            meta: job.meta.clone(),
            progress: job.progress.clone(),
            checkpoint: job
                .checkpoint
                .as_ref()
                .map(|(left, at)| CheckpointLeft { bytes: left.len() as u64, left_ms: *at }),
            lease,
            dead_reason: job.reason,
            fingerprint: matches!(job.place, Place::Dead | Place::Discarded)
                .then(|| fingerprint(&job.history)),
            review: Review::of(self.state_of(id, job, now_ms), &job.history),
            history: job.history.clone(),
            history_dropped: job.dropped,
            payload_bytes: job.payload.len() as u64,
            result: (!job.result.is_empty()).then(|| String::from_utf8_lossy(&job.result).into_owned()),
            payload: with_payload.then(|| job.payload.clone()),
            original_bytes: job.original.as_ref().map(|original| original.len() as u64),
            original: job.original.clone().filter(|_| with_payload),
        })
    }
}
