//! Prints the custom resource definitions.
#![expect(clippy::print_stdout, reason = "printing is what it does")]

use kube::CustomResourceExt;
use lanekeeper_api::{job_queue::JobQueue, worker_pool::WorkerPool};

fn main() {
    for crd in [JobQueue::crd(), WorkerPool::crd()] {
        println!("---\n{}", serde_yaml::to_string(&crd).unwrap_or_default());
    }
}
