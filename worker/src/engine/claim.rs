//! The claim loop: one task that settles finished jobs and takes new ones, both in one call where it has both.
//!
//! It calls Redis when there is something to settle, or when there is room and a reason to look: a wake-up token, a
//! scheduled job falling due, or two seconds without a look while something waits that may not go yet. Where nothing waits it
//! settles without claiming, and looks only to be on the safe side: new jobs bring a token.

mod ask;
mod flight;
mod hand_back;
mod handed;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lanekeeper_queue::retry;
use lanekeeper_queue::types::{ClaimReply, Claimed};

use super::Shared;
use super::batch::Batch;
use super::drain::Drain;
use super::executor::Ticket;
use super::health::{Backoff, bounded};
use super::lanes::{Kind, Room};
use super::offers::Offers;
use super::policy::PolicyView;
use super::wake::{self, BLOCK, Onward, Tokens};
use crate::error::Error;
use crate::handler::JobContext;
use crate::metrics::Ending;
use ask::{Ask, Asker};
use flight::{Flights, MANY};
use handed::Pace;

/// Tokens may outnumber what this worker may take (`perWorker`, other workers were faster): after looks in vain it
/// pauses before it follows the next token, up to this long.
const MAX_CALM: Duration = Duration::from_millis(100);
/// Until the next look where nothing waits and no scheduled job is known.
const QUIET_LOOK: Duration = Duration::from_secs(60);
/// Until the first look for critical jobs when only their slot is free and a claim has just shown that none waits. New ones
/// bring a token; this is for scheduled ones, whose due times such a claim does not tell.
const KEPT_LOOK: Duration = Duration::from_millis(100);

/// Far beyond any sensible timeout, and far within what clocks can add up.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// See the module.
pub(super) struct Loop {
    pub(super) shared: Arc<Shared>,
    asker: Asker,
    flights: Flights,
    /// The last claim brought many jobs, and all that it asked for.
    deep: bool,
    /// When to look for jobs if nothing happens before.
    look_at: Instant,
    /// The last claim found all lanes empty.
    quiet: bool,
    /// No calls before this, after one that failed.
    not_before: Instant,
    backoff: Backoff,
    calm: Duration,
    calm_until: Instant,
    /// Tokens taken that no claim has followed yet.
    tokens: Tokens,
    onward: Onward,
    /// No further token is taken before this.
    arm_at: Instant,
    /// Types met without a policy: left alone until then, for longer each time.
    unknown: HashMap<String, (Instant, Backoff)>,
    waiting_for_policy: bool,
    /// A claim failed: Redis may have leased jobs to this worker that it knows nothing of.
    reply_lost: bool,
    /// Redis refused to say what is leased here, and the log knows.
    leases_refused: bool,
    drain: Drain,
    offers: Offers,
    pace: Pace,
}

impl Loop {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            asker: Asker::new(&shared.options.order),
            flights: Flights::default(),
            deep: false,
            drain: Drain::new(shared.options.shutdown.clone(), shared.options.drain_timeout),
            shared,
            look_at: now,
            quiet: false,
            not_before: now,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
            calm: Duration::ZERO,
            calm_until: now,
            tokens: Tokens::default(),
            onward: Onward::default(),
            arm_at: now,
            unknown: HashMap::new(),
            waiting_for_policy: false,
            reply_lost: false,
            leases_refused: false,
            offers: Offers::default(),
            pace: Pace::default(),
        }
    }

    /// Goes round until the worker has drained, or its time for that is over in the middle of a call that hangs.
    pub(super) async fn run(&mut self) -> Result<(), Error> {
        let over = self.drain.over();
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            result = self.go_round() => result,
            () = over => Err(Error::Unsettled(shared.table().held().len())),
        }
    }

    async fn go_round(&mut self) -> Result<(), Error> {
        loop {
            self.shared.health.round();
            self.offers.woke(Instant::now(), self.shared.policy().map(|policy| policy.lease));
            self.hear().await;
            self.collect();
            let unsure = self.offers.stands() || self.reply_lost;
            if self.drain.step(&self.shared, self.flights.count(), unsure) {
                return Drain::result(&self.shared);
            }
            let now = Instant::now();
            if now < self.not_before {
                self.pause(self.not_before).await;
            } else if !self.load_policy().await || !self.release_lost().await {
                self.fail();
            } else if self.flights.count() > 0 {
                if !self.send_beside(now) {
                    self.pause(now + BLOCK).await;
                }
            } else if let Some(until) = self.lingers(now) {
                self.pause(until).await;
            } else if !self.call(now).await {
                let arms = Some(self.arm_at).filter(|at| *at > now);
                self.pause(arms.map_or(self.look_at, |at| at.min(self.look_at))).await;
            }
        }
    }

    /// Turns finished attempts into settlements.
    fn collect(&mut self) {
        for finished in self.shared.executor.take_finished() {
            let running = self.shared.table().finish(finished.slot);
            if let Some(running) = running {
                self.shared.conclude(&running.ctx, &running.entry, finished.ended, finished.took);
            }
        }
    }

    /// Waits for a reason to go round, at the latest at `until`.
    async fn pause(&mut self, until: Instant) {
        let until = until.min(Instant::now() + BLOCK);
        let until = self.drain.next().map_or(until, |next| until.min(next));
        let landed = tokio::select! {
            landed = self.flights.landed() => Some(landed),
            () = self.shared.engine.notified() => None,
            () = tokio::time::sleep_until(until.into()) => None,
            () = self.drain.changed() => {
                self.shared.heartbeat.notify_one();
                None
            }
        };
        if let Some(landed) = landed {
            self.land(landed).await;
        }
        let tokens = self.shared.arms.take();
        if tokens.any() {
            self.tokens = self.tokens.and(tokens);
            self.look_at = self.look_at.min(self.calm_until.max(Instant::now()));
        }
    }

    /// Makes sure that there is a policy and that it is the one Redis has; false when a call failed.
    async fn load_policy(&mut self) -> bool {
        let shared = &self.shared;
        let have = shared.policy();
        let seen = shared.version.load(Ordering::Acquire);
        if have.as_ref().is_some_and(|policy| policy.version == seen || seen == 0) {
            return true;
        }
        match bounded(shared.queue.policy()).await {
            Ok(Some((policy, version))) => {
                shared.health.answered();
                let view = PolicyView::new(
                    policy,
                    version,
                    &shared.options,
                    shared.handlers.as_ref(),
                    &shared.metrics,
                );
                tracing::info!(version, types = view.types.len(), "policy loaded");
                shared.set_policy(Some(Arc::new(view)));
                shared.saw_version(version);
                shared.heartbeat.notify_one();
                self.unknown.clear();
                self.waiting_for_policy = false;
                // Its lanes may be other ones.
                self.quiet = false;
                self.look_at = Instant::now();
                true
            }
            Ok(None) => {
                shared.health.answered();
                self.no_policy();
                false
            }
            Err(error) if error.no_policy() => {
                self.no_policy();
                false
            }
            Err(error) => {
                shared.health.failed("policy", &error, &shared.metrics);
                // An older policy still runs jobs, and every settlement says which version decided.
                have.is_some()
            }
        }
    }

    /// The queue was never configured, or it was deleted with its leases, so that there is nothing left to settle.
    fn no_policy(&mut self) {
        let queue = &self.shared.options.queue;
        if !self.waiting_for_policy {
            tracing::warn!(%queue, "the queue has no policy in this Redis: waiting for a JobQueue to be applied");
        }
        self.waiting_for_policy = true;
        let dropped = self.shared.table().forget_unsettled();
        if dropped > 0 {
            tracing::warn!(%queue, dropped, "the queue was deleted: the outcomes of its last jobs have no place to go");
        }
    }

    /// Sends a call that settles and claims; false when there was nothing to do.
    async fn call(&mut self, now: Instant) -> bool {
        let ask = self.ask(now, None);
        let settles = self.shared.table().to_settle() > 0;
        if !settles && ask.is_none() {
            self.look_at = now + BLOCK;
            self.shared.arms.disarm();
            if std::mem::take(&mut self.tokens).any() {
                // It came while the last slot was being filled.
                wake::pass_on(&self.shared).await;
            }
            return false;
        }
        if !settles && now < self.look_at && !self.drain.began() {
            // The loop was woken for something else; what it waits for has not come yet.
            self.arm(now, ask.map_or_else(Room::default, |ask| ask.room));
            return false;
        }
        let ask = ask.filter(|ask| {
            let low = self.offers.left() < ask.want.slots / 2;
            !self.quiet || now >= self.look_at || self.tokens.any() || low || self.drain.began()
        });
        let ask = ask.map(|ask| self.offering(ask, true));
        let tokens = if ask.is_some() { std::mem::take(&mut self.tokens) } else { Tokens::default() };
        self.flights.send(&self.shared, Batch::take(&self.shared), ask, tokens);
        self.sent();
        true
    }

    async fn claimed(&mut self, ask: &Ask, reply: ClaimReply, tokens: Tokens) {
        self.shared.saw_version(reply.policy_version);
        let rest = self.rest(ask, &reply, tokens);
        self.arm_at = rest.map_or(self.arm_at, |rest| Instant::now() + rest);
        self.deep = ask.filled_by(&reply) && reply.jobs.len() >= MANY;
        let room = if reply.held.is_some() { 0 } else { ask.want.slots };
        self.offers.replied(room.saturating_sub(u32::try_from(reply.jobs.len()).unwrap_or(u32::MAX)));
        self.plan_next_look(ask, &reply);
        self.asker.replied(ask, &reply);
        self.start(reply.jobs).await;
        if let Some(rest) = rest {
            wake::pass_on(&self.shared).await;
            self.arm_at = Instant::now() + rest;
        }
    }

    fn fail(&mut self) {
        (self.quiet, self.deep) = (false, false);
        self.not_before = Instant::now() + self.backoff.pause();
        self.look_at = self.not_before;
    }

    /// Whether the token that led to this claim goes on to another worker, and how long this one then rests.
    fn rest(&mut self, ask: &Ask, reply: &ClaimReply, tokens: Tokens) -> Option<Duration> {
        if !tokens.any() || reply.held.is_some() {
            return None;
        }
        if ask.filled_by(reply) {
            // No room for more. Redis has seen to the lanes it took from, but the token may have been another lane's.
            return (self.shared.options.lanes.len() > 1).then_some(Duration::ZERO);
        }
        if tokens.others && ask.room.others == 0 {
            // It came while the last slot but the one that is kept was being filled.
            return Some(Duration::ZERO);
        }
        // Only limits leave a job in its line that there is a slot for.
        let goes = !ask.want.type_limits.is_empty() && self.onward.goes(Instant::now());
        goes.then_some(wake::REST)
    }

    /// Asks for a token of each kind there is room for: not before the last one was followed, nor while others have their
    /// turn.
    fn arm(&self, now: Instant, room: Room) {
        for kind in [Kind::Critical, Kind::Other] {
            let arm = self.shared.arms.of(kind);
            if room.of(kind) == 0 {
                arm.disarm();
            } else if now >= self.arm_at && !self.tokens.of(kind) {
                arm.arm();
            }
        }
    }

    fn plan_next_look(&mut self, ask: &Ask, reply: &ClaimReply) {
        let now = Instant::now();
        self.quiet = false;
        if ask.filled_by(reply) {
            // There may be more: look again as soon as there is room.
            self.calm = Duration::ZERO;
            let seen = ask.leaves_only_the_kept_slot(reply);
            self.look_at = if seen { now + KEPT_LOOK } else { now };
            return;
        }
        self.quiet = ask.found_all_empty(reply);
        self.look_at = now + if self.quiet { QUIET_LOOK } else { BLOCK };
        if reply.held.is_some() {
            // Paused or closed: tokens of new jobs mean nothing now.
            self.shared.arms.disarm();
            return;
        }
        if let Some(due) = reply.next_due_ms {
            let wait = Duration::from_millis(due.saturating_sub(reply.now_ms).max(1));
            self.look_at = self.look_at.min(now + wait);
        }
        self.calm = if reply.jobs.is_empty() {
            (self.calm * 2).clamp(Duration::from_millis(1), MAX_CALM)
        } else {
            Duration::ZERO
        };
        self.calm_until = now + self.calm;
        if self.tokens.any() {
            // They came after this was asked for.
            self.look_at = self.look_at.min(self.calm_until);
        }
        if self.flights.count() == 0 {
            self.arm(now, ask.room);
        }
    }

    /// Hands claimed jobs to the executor, under the policy they were claimed under where it can be had.
    async fn start(&mut self, jobs: Vec<Claimed>) {
        if jobs.is_empty() {
            return;
        }
        self.load_policy().await;
        self.shared.metrics.claimed.inc_by(jobs.len() as u64);
        let Some(policy) = self.shared.policy() else {
            jobs.into_iter().for_each(|job| self.release_unknown(job, 0));
            return;
        };
        let mut tickets = Vec::with_capacity(jobs.len());
        for job in jobs {
            let Some(entry) = policy.types.get(&job.job_type) else {
                self.release_unknown(job, policy.version);
                continue;
            };
            entry.metrics.pickup.observe(job.claimed_ms.saturating_sub(job.due_ms) as f64 / 1000.0);
            let too_late = retry::too_late(&entry.policy, &job, job.claimed_ms);
            let timeout = Duration::from_millis(entry.policy.timeout_ms).min(MAX_TIMEOUT);
            let ctx = Arc::new(JobContext::new(job, Arc::clone(&self.shared.queue_label), timeout));
            if let Some(outcome) = too_late {
                self.shared.say(&ctx, entry, outcome, Ending::Dead, Duration::ZERO, policy.version);
                continue;
            }
            ctx.notes.notify(Arc::clone(&self.shared.told));
            let Some(slot) = self.shared.table().start(Arc::clone(&ctx), Arc::clone(entry)) else {
                // More than was asked for: an older library. What has no slot goes back.
                self.release(ctx.job.id.clone(), ctx.job.token, "no free slot", policy.version);
                continue;
            };
            tickets.push(Ticket { slot, ctx, handler: Arc::clone(&entry.handler) });
        }
        self.shared.executor.start(tickets);
    }
}
