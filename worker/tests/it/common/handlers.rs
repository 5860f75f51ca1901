//! Handlers of the tests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lanekeeper_worker::handler::{Cause, Failure, Handler, JobContext, Running, code};
use tokio::sync::Semaphore;

use super::done;

/// Waits until told to stop and says why; a success when nobody stops it within `limit`.
pub(crate) struct Obeys {
    pub(crate) seen: Arc<Mutex<Vec<Cause>>>,
}

impl Handler for Obeys {
    fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a> {
        Box::pin(async move {
            let cause = job.stop.requested().await;
            self.seen.lock().unwrap().push(cause);
            Err(Failure::ambiguous(
                if cause == Cause::Timeout { code::TIMEOUT } else { code::STOPPED },
                cause.as_str(),
            ))
        })
    }
}

/// Counts how many run at once, by type.
pub(crate) struct Counts {
    pub(crate) running: AtomicUsize,
    pub(crate) most: AtomicUsize,
    pub(crate) gate: Semaphore,
}

impl Counts {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { running: AtomicUsize::new(0), most: AtomicUsize::new(0), gate: Semaphore::new(0) })
    }
}

impl Handler for Counts {
    fn run<'a>(&'a self, _: &'a JobContext) -> Running<'a> {
        Box::pin(async move {
            let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            self.running.fetch_sub(1, Ordering::SeqCst);
            done()
        })
    }
}

/// Blocks its thread until the test lets go.
pub(crate) struct Blocks {
    pub(crate) gate: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Handler for Blocks {
    fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a> {
        if job.job.payload == b"block" {
            let _ = self.gate.lock().unwrap().recv_timeout(Duration::from_secs(30));
        }
        Box::pin(async { done() })
    }
}
