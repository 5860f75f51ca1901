//! The end of a worker: takes no more, lets running jobs finish, stops what has not finished in time, hands back the rest.

use std::time::{Duration, Instant};

use super::Shared;
use super::executor::Ended;
use super::health::bounded;
use crate::error::Error;
use crate::handler::Cause;
use crate::shutdown::Shutdown;

/// What handlers need to stop in order, `exec`'s SIGTERM and its five seconds included, and what the last calls need. Of
/// a drain time that is short against it, a quarter is kept instead.
const MARGIN: Duration = Duration::from_secs(8);
/// Between dropping every handler and handing back jobs whose handlers block.
const BLINK: Duration = Duration::from_millis(300);
/// For how long a worker waits to hear that nothing can be handed to it any more.
const WITHDRAW: Duration = Duration::from_secs(3);
/// Forgetting the heartbeat is a courtesy.
const LEAVE: Duration = Duration::from_secs(1);

/// When each stage of a drain begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// Whoever offered room has said that it offers none, and knows what it was handed.
    withdrawn: Instant,
    /// Handlers are told to stop.
    stop: Instant,
    /// Handlers are dropped.
    drop: Instant,
    /// Whatever is left is handed back over their heads.
    hand_back: Instant,
    /// The process ends.
    end: Instant,
}

impl Plan {
    fn new(now: Instant, total: Duration) -> Self {
        let margin = MARGIN.min(total / 4);
        let end = now + total;
        Self {
            withdrawn: now + WITHDRAW.min(total),
            stop: end - margin,
            drop: end - margin / 4,
            hand_back: end - margin / 5,
            end,
        }
    }

    /// The plan of the second signal; never later than the first one's.
    fn at_once(self, now: Instant) -> Self {
        Self {
            withdrawn: self.withdrawn,
            stop: now.min(self.stop),
            drop: now.min(self.drop),
            hand_back: (now + BLINK).min(self.hand_back),
            end: (now + MARGIN / 4).min(self.end),
        }
    }
}

/// Where a worker is on its way out.
pub(super) struct Drain {
    shutdown: Shutdown,
    total: Duration,
    plan: Option<Plan>,
    hurried: bool,
}

impl Drain {
    pub(super) fn new(shutdown: Shutdown, total: Duration) -> Self {
        Self { shutdown, total, plan: None, hurried: false }
    }

    /// Ends when the process must, whatever hangs: a moment after the plan's end.
    pub(super) fn over(&self) -> impl Future<Output = ()> + use<> {
        let (shutdown, total) = (self.shutdown.clone(), self.total);
        async move {
            shutdown.drain.cancelled().await;
            let hurried = async {
                shutdown.now.cancelled().await;
                tokio::time::sleep(MARGIN / 4 + LEAVE).await;
            };
            tokio::select! { () = tokio::time::sleep(total + LEAVE) => {}, () = hurried => {} }
        }
    }

    /// No more jobs are taken.
    pub(super) fn began(&self) -> bool {
        self.plan.is_some() || self.shutdown.drain.is_cancelled()
    }

    /// Ends when a stage is asked for that was not before.
    pub(super) async fn changed(&self) {
        match (self.plan, self.hurried) {
            (None, _) => self.shutdown.drain.cancelled().await,
            (Some(_), false) => self.shutdown.now.cancelled().await,
            (Some(_), true) => std::future::pending().await,
        }
    }

    /// When the next stage begins by the clock.
    pub(super) fn next(&self) -> Option<Instant> {
        let plan = self.plan?;
        let now = Instant::now();
        [plan.withdrawn, plan.stop, plan.drop, plan.hand_back, plan.end]
            .into_iter()
            .filter(|at| *at > now)
            .min()
    }

    /// Does what is due; true when the worker may leave. Calls under way may still bring jobs, and so may messages while it is not
    /// sure that it was handed nothing that it does not know of.
    pub(super) fn step(&mut self, shared: &Shared, calls: usize, unsure: bool) -> bool {
        if !self.began() {
            return false;
        }
        let now = Instant::now();
        let plan = self.plan.get_or_insert_with(|| Plan::new(now, self.total));
        if self.shutdown.now.is_cancelled() && !self.hurried {
            self.hurried = true;
            *plan = plan.at_once(now);
        }
        if now >= plan.hand_back {
            let left = shared.table().write_off_all();
            for (ctx, entry) in left {
                shared.conclude(&ctx, &entry, Ended::Abandoned, ctx.started.elapsed());
            }
        } else if now >= plan.drop {
            shared.table().stop_all(Cause::Drain, true);
        } else if now >= plan.stop {
            shared.table().stop_all(Cause::Drain, false);
        }
        let (live, unsettled) = {
            let table = shared.table();
            (table.live(), table.unsettled())
        };
        let unsure = unsure && now < plan.withdrawn;
        (live + unsettled + calls == 0 && !unsure) || now >= plan.end
    }

    /// How it went: an error when something could not be handed back.
    pub(super) fn result(shared: &Shared) -> Result<(), Error> {
        match shared.table().unsettled() {
            0 => Ok(()),
            left => Err(Error::Unsettled(left)),
        }
    }
}

/// Forgets the heartbeat, once nothing beats any more: one that came after it would show the worker as alive.
pub(super) async fn leave(shared: &Shared) {
    // A courtesy: a worker that cannot say goodbye is forgotten when its heartbeat is old.
    let _ = tokio::time::timeout(LEAVE, bounded(shared.queue.leave(&shared.options.identity))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_stays_within_the_drain_time() {
        let now = Instant::now();
        for secs in [0, 1, 4, 30, 300] {
            let plan = Plan::new(now, Duration::from_secs(secs));
            assert!(now <= plan.stop && plan.stop <= plan.drop && plan.drop <= plan.hand_back);
            assert!(plan.hand_back <= plan.end && plan.end == now + Duration::from_secs(secs));
        }
        let plan = Plan::new(now, Duration::from_secs(60));
        assert_eq!(plan.stop, now + Duration::from_secs(52));
        // exec: SIGTERM, five seconds, SIGKILL, all before its future would be dropped.
        assert_eq!(plan.drop - plan.stop, Duration::from_secs(6));
    }

    #[test]
    fn the_second_signal_never_delays() {
        let now = Instant::now();
        let plan = Plan::new(now, Duration::from_secs(60)).at_once(now);
        assert_eq!((plan.stop, plan.drop), (now, now));
        assert!(plan.end <= now + MARGIN);
        let late = Plan::new(now, Duration::from_secs(60));
        assert_eq!(late.at_once(now + Duration::from_secs(59)).end, late.end);
    }
}
