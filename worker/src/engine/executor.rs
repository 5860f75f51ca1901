//! Runs handlers on the caller's runtime, away from the engine's thread.
//!
//! Claimed jobs go into one queue that at most as many runners serve as the runtime has threads. A runner polls each
//! attempt once: most no-op or immediately failing handlers are done with that and cost no task; an attempt that waits
//! for something becomes a task of its own. A handler that blocks its thread holds up its runner only; the others go on.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::handler::{Answer, Cause, Failure, Handler, JobContext, STOP_GRACE};

/// The engine hears of finished attempts when a runner has nothing left, and at least this often: one call to Redis
/// then settles many.
const NOTICE: Duration = Duration::from_millis(1);
/// A runner lets other tasks of its thread run after this many jobs.
const YIELD_AFTER: usize = 64;

/// A job to run.
pub(super) struct Ticket {
    pub(super) slot: usize,
    pub(super) ctx: Arc<JobContext>,
    pub(super) handler: Arc<dyn Handler>,
}

/// How a handler ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It gave its word.
    Returned(Result<Answer, Failure>),
    /// It panicked with this message.
    Panicked(String),
    /// It did not stop when told to and was dropped, or it was told to before it began.
    Abandoned,
}

/// A finished attempt.
pub(super) struct Finished {
    pub(super) slot: usize,
    pub(super) ended: Ended,
    pub(super) took: Duration,
}

type Attempt = Pin<Box<dyn Future<Output = Finished> + Send>>;

/// See the module.
pub(super) struct Executor {
    runtime: Handle,
    waiting: Mutex<VecDeque<Ticket>>,
    runners: AtomicUsize,
    finished: Mutex<Vec<Finished>>,
    engine: Arc<Notify>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executor {
    /// An executor on `runtime` that notifies `engine` of finished attempts.
    pub(super) fn new(runtime: Handle, engine: Arc<Notify>) -> Self {
        Self {
            runtime,
            waiting: Mutex::default(),
            runners: AtomicUsize::new(0),
            finished: Mutex::default(),
            engine,
        }
    }

    /// Starts these jobs in their order.
    pub(super) fn start(self: &Arc<Self>, tickets: Vec<Ticket>) {
        let count = tickets.len();
        lock(&self.waiting).extend(tickets);
        let most = self.runtime.metrics().num_workers().max(1);
        for _ in 0..count.min(most) {
            if self.runners.fetch_add(1, Ordering::AcqRel) >= most {
                self.runners.fetch_sub(1, Ordering::AcqRel);
                return;
            }
            self.runtime.spawn(Arc::clone(self).serve());
        }
    }

    /// Everything that ended since the last call.
    pub(super) fn take_finished(&self) -> Vec<Finished> {
        std::mem::take(&mut *lock(&self.finished))
    }

    async fn serve(self: Arc<Self>) {
        let mut noticed = Instant::now();
        loop {
            for _ in 0..YIELD_AFTER {
                let next = lock(&self.waiting).pop_front();
                let Some(ticket) = next else {
                    self.engine.notify_one();
                    self.runners.fetch_sub(1, Ordering::AcqRel);
                    // A job that came between the look and the count would otherwise wait for the next batch.
                    if lock(&self.waiting).is_empty() {
                        return;
                    }
                    self.runners.fetch_add(1, Ordering::AcqRel);
                    continue;
                };
                let mut attempt: Attempt = Box::pin(reported(ticket));
                match poll_fn(|cx| Poll::Ready(attempt.as_mut().poll(cx))).await {
                    Poll::Ready(finished) => lock(&self.finished).push(finished),
                    Poll::Pending => drop(self.runtime.spawn(Arc::clone(&self).finish(attempt))),
                }
                if noticed.elapsed() > NOTICE {
                    self.engine.notify_one();
                    noticed = Instant::now();
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn finish(self: Arc<Self>, attempt: Attempt) {
        let finished = attempt.await;
        lock(&self.finished).push(finished);
        self.engine.notify_one();
    }
}

/// One attempt whose end is reported whatever happens in it: a panic of the handler, even while it is being dropped,
/// costs its job and nothing else.
async fn reported(ticket: Ticket) -> Finished {
    let (slot, started) = (ticket.slot, ticket.ctx.started);
    let ended = AssertUnwindSafe(attempt(ticket)).catch_unwind().await;
    let ended = ended.unwrap_or_else(|panic| Ended::Panicked(panic_text(panic.as_ref())));
    Finished { slot, ended, took: started.elapsed() }
}

async fn attempt(ticket: Ticket) -> Ended {
    let Ticket { ctx, handler, .. } = ticket;
    if ctx.stop.cause().is_some() {
        // It waited behind handlers that block, and by now its lease may be another's: better not begun at all.
        return Ended::Abandoned;
    }
    tokio::select! {
        biased;
        result = async { handler.run(&ctx).await } => Ended::Returned(result),
        () = limit(&ctx) => Ended::Abandoned,
    }
}

/// Ends when the attempt must be dropped: it was told to stop, by its timeout or from outside, and did not.
async fn limit(ctx: &JobContext) {
    let in_order = async {
        tokio::select! {
            () = tokio::time::sleep_until(ctx.deadline().into()) => ctx.stop.request(Cause::Timeout),
            _ = ctx.stop.requested() => {}
        }
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! { () = in_order => {}, () = ctx.stop.requested_at_once() => {} }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::{Running, testing::context};

    /// Counts how often it was begun.
    struct Begun(AtomicUsize);

    impl Handler for Begun {
        fn run<'a>(&'a self, _: &'a JobContext) -> Running<'a> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(Answer::default()) })
        }
    }

    #[tokio::test]
    async fn an_attempt_that_was_stopped_before_it_began_never_begins() {
        let handler = Arc::new(Begun(AtomicUsize::new(0)));
        for cause in [Cause::Timeout, Cause::LeaseLost, Cause::Cancelled, Cause::Drain] {
            let ctx = Arc::new(context(b"", Duration::from_secs(60)));
            ctx.stop.request(cause);
            let ticket = Ticket { slot: 3, ctx, handler: Arc::clone(&handler) as Arc<dyn Handler> };
            let finished = reported(ticket).await;
            assert!(finished.slot == 3 && matches!(finished.ended, Ended::Abandoned), "{:?}", finished.ended);
        }
        assert_eq!(handler.0.load(Ordering::SeqCst), 0);
        let ctx = Arc::new(context(b"", Duration::from_secs(60)));
        let ended = attempt(Ticket { slot: 0, ctx, handler: Arc::clone(&handler) as Arc<dyn Handler> }).await;
        assert!(matches!(ended, Ended::Returned(Ok(_))));
    }
}
