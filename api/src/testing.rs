//! What tests share.

use crate::job_queue::JobQueue;
use crate::manifest::{self, Manifests};
use crate::policy::Source;
use crate::worker_pool::WorkerPool;

/// The workload of the first milestone.
pub(crate) const SAAS: &str = include_str!("../testdata/saas.yaml");

/// A queue as small as can be.
pub(crate) const QUEUE: &str = "
apiVersion: lanekeeper.dev/v1beta1
kind: JobQueue
metadata: {name: q}
spec:
  lanes:
  - {name: fast}
  - {name: slow}
  jobTypes:
  - {name: t, lane: fast, handler: {http: {url: http://h/}}}
";

/// A pool as small as can be.
pub(crate) const POOL: &str = "
apiVersion: lanekeeper.dev/v1beta1
kind: WorkerPool
metadata: {name: p}
spec:
  queue: q
  lanes: [{name: fast}]
";

pub(crate) fn load(text: &str) -> Manifests {
    manifest::parse(&[("test.yaml", text)]).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

pub(crate) fn source() -> Source {
    Source { owner: "test".to_owned(), uid: "u".to_owned(), created_ms: 1, generation: 1 }
}

/// [`QUEUE`] with one text replaced by another.
pub(crate) fn queue_with(from: &str, to: &str) -> JobQueue {
    assert!(QUEUE.contains(from), "{from}");
    load(&QUEUE.replacen(from, to, 1)).queues.remove(0).object
}

/// [`POOL`] with one text replaced by another.
pub(crate) fn pool_with(from: &str, to: &str) -> WorkerPool {
    assert!(POOL.contains(from), "{from}");
    load(&POOL.replacen(from, to, 1)).pools.remove(0).object
}

/// Plain pseudo-random numbers: the same at every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits fit") % sides
    }

    pub(crate) fn text(&mut self, pieces: &[&str], most: usize) -> String {
        let length = self.roll(most + 1);
        (0..length).map(|_| pieces[self.roll(pieces.len())]).collect()
    }
}
