//! A client of the queue that writes down every call with what it was told: producer, worker or operator's hand.

use lanekeeper_queue::testing::ledger::digest;
use lanekeeper_queue::testing::ledger::history::{Act, Fate};
use lanekeeper_queue::types::{
    Acted, ClaimRequest, Claimed, Enqueued, Held, NewJob, Outcome, Settled, Settlement, WorkerIdentity,
};
use lanekeeper_queue::{Queue, Result};

use crate::clock::now_ms;
use crate::history::{History, ending};

/// The client. Its name is also its boot nonce.
#[derive(Clone)]
pub struct Client {
    /// How it calls.
    pub queue: Queue,
    /// Who it is.
    pub who: WorkerIdentity,
    history: History,
}

impl Client {
    /// A client that writes into `history`.
    #[must_use]
    pub fn new(name: &str, queue: Queue, history: History) -> Self {
        let who = WorkerIdentity {
            name: name.to_owned(),
            boot: name.to_owned(),
            pool: "faults".to_owned(),
            node: "here".to_owned(),
        };
        Self { queue, who, history }
    }

    /// The same client on another connection.
    #[must_use]
    pub fn on(&self, queue: Queue) -> Self {
        Self { queue, ..self.clone() }
    }

    fn note(&self, at_ms: u64, fate: Fate, act: Act) {
        self.history.note(&self.who.name, at_ms, fate, act);
    }

    /// Enqueues jobs that have ids of their own.
    ///
    /// # Errors
    /// As the call's; each job may have been accepted all the same, and the history says so.
    pub async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
        let called_ms = now_ms();
        let answers = self.queue.enqueue(jobs).await;
        let at_ms = now_ms();
        for (number, job) in jobs.iter().enumerate() {
            let act = |id: Option<String>| Act::Enqueue {
                job: id,
                job_type: job.options.job_type.clone(),
                lane: String::new(),
                priority: job.options.priority.unwrap_or(5),
                key: job.options.key.clone(),
                payload: Some(digest(&job.payload)),
                due_ms: job.options.run_at.unwrap_or(0).max(called_ms + job.options.delay.unwrap_or(0)),
                seq: 0,
            };
            match answers.as_ref().map(|answers| &answers[number]) {
                Err(error) if refused(error) => self.note(at_ms, Fate::Refused, act(job.options.id.clone())),
                Err(_) => self.note(called_ms, Fate::Unknown, act(job.options.id.clone())),
                Ok(Enqueued::Accepted { id, .. } | Enqueued::Replaced { id, .. }) => {
                    self.note(at_ms, Fate::Ok, act(Some(id.clone())));
                }
                Ok(Enqueued::Duplicate { id, .. }) => {
                    self.note(at_ms, Fate::Ok, Act::Duplicate { job: id.clone() });
                }
                Ok(Enqueued::Rejected { .. }) => {
                    self.note(at_ms, Fate::Refused, act(job.options.id.clone()));
                }
            }
        }
        answers
    }

    /// Enqueues any number of jobs, in calls that fit.
    ///
    /// # Errors
    /// As `enqueue`.
    pub async fn enqueue_all(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
        let mut answers = Vec::with_capacity(jobs.len());
        for batch in jobs.chunks(100) {
            answers.extend(self.enqueue(batch).await?);
        }
        Ok(answers)
    }

    /// Takes jobs of the lanes.
    ///
    /// # Errors
    /// As the call's; it may have leased something all the same.
    pub async fn claim(&self, lanes: &[&str], slots: u32) -> Result<Vec<Claimed>> {
        let called_ms = now_ms();
        let lanes = lanes.iter().map(ToString::to_string).collect();
        let want = ClaimRequest { slots, lanes, ..ClaimRequest::default() };
        match self.queue.settle_and_claim(&self.who, &[], &want).await {
            Ok((_, reply)) => {
                for job in &reply.jobs {
                    self.note(reply.now_ms, Fate::Ok, granted(job));
                }
                Ok(reply.jobs)
            }
            Err(error) => {
                self.note(called_ms, Fate::Unknown, Act::Claim);
                Err(error)
            }
        }
    }

    /// The leases that this client holds, whatever it was told; those it had not heard of are grants now.
    ///
    /// # Errors
    /// As the call's.
    pub async fn recover(&self) -> Result<Vec<Held>> {
        let held = self.queue.leases_of(&self.who).await?;
        for lease in &held {
            let act = Act::Grant {
                job: lease.id.clone(),
                token: lease.token,
                attempt: 0,
                lane: String::new(),
                expires_ms: None,
                payload: None,
            };
            // A token is the time of its claim, unless the clock stood still.
            self.note(lease.token / 1000, Fate::Ok, act);
        }
        Ok(held)
    }

    /// Ends the attempts in the same way.
    ///
    /// # Errors
    /// As the call's; the words may have been heard all the same.
    pub async fn settle(&self, leases: &[Held], outcome: &Outcome) -> Result<Vec<Settled>> {
        let mut settled = Vec::with_capacity(leases.len());
        for batch in leases.chunks(lanekeeper_queue::MAX_BATCH) {
            settled.extend(self.settle_batch(batch, outcome).await?);
        }
        Ok(settled)
    }

    async fn settle_batch(&self, leases: &[Held], outcome: &Outcome) -> Result<Vec<Settled>> {
        let words: Vec<Settlement> = leases
            .iter()
            .map(|lease| Settlement {
                id: lease.id.clone(),
                token: lease.token,
                key: None,
                outcome: outcome.clone(),
                policy_version: 0,
                note: None,
            })
            .collect();
        let called_ms = now_ms();
        let answers = self.queue.settle(&self.who, &words).await;
        let at_ms = now_ms();
        for (number, lease) in leases.iter().enumerate() {
            let act = Act::Settle { job: lease.id.clone(), token: lease.token, ending: ending(outcome) };
            match answers.as_ref().map(|answers| &answers[number]) {
                Ok(Settled::Done) => self.note(at_ms, Fate::Ok, act),
                Ok(_) => self.note(at_ms, Fate::Refused, act),
                Err(_) => self.note(called_ms.max(lease.token / 1000), Fate::Unknown, act),
            }
        }
        answers
    }

    /// Replays dead jobs.
    ///
    /// # Errors
    /// As the call's; they may have been replayed all the same.
    pub async fn replay(&self, ids: &[String]) -> Result<Vec<Acted>> {
        let called_ms = now_ms();
        let by = &self.who.name;
        let answers = self.queue.dead_replay(ids, by, "").await;
        let at_ms = now_ms();
        for (number, id) in ids.iter().enumerate() {
            let act = Act::Replay { job: id.clone(), audit: Some(by.clone()) };
            match answers.as_ref().map(|answers| answers[number].outcome.as_str()) {
                Ok("replayed") => self.note(at_ms, Fate::Ok, act),
                Ok(_) => self.note(at_ms, Fate::Refused, act),
                Err(_) => self.note(called_ms, Fate::Unknown, act),
            }
        }
        answers
    }
}

/// Whether an error says that nothing happened.
fn refused(error: &lanekeeper_queue::Error) -> bool {
    use lanekeeper_queue::Error;
    matches!(error, Error::OutOfMemory(_) | Error::Refused(_) | Error::NoPolicy(_))
}

fn granted(job: &Claimed) -> Act {
    Act::Grant {
        job: job.id.clone(),
        token: job.token,
        attempt: job.attempt,
        lane: job.lane.clone(),
        expires_ms: None,
        payload: Some(digest(&job.payload)),
    }
}

/// The leases of claimed jobs.
#[must_use]
pub fn leases(jobs: &[Claimed]) -> Vec<Held> {
    jobs.iter().map(|job| Held { id: job.id.clone(), token: job.token }).collect()
}
