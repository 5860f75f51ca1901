//! Producers, by the shipped library.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt;
use lanekeeper_queue::types::NewJob;
use lanekeeper_queue::{MAX_JOBS_PER_CALL, Queue};
use tokio::task::JoinSet;

use crate::jobs::{accepted, job};

/// Bulk calls in flight.
const BULK_DEPTH: usize = 4;

/// Enqueues `n` jobs, one per call, `depth` calls in flight; returns the time taken.
///
/// # Errors
/// When a call fails or a job is not accepted.
pub async fn one_by_one(queue: &Queue, n: usize, depth: usize, pad: usize) -> Result<Duration> {
    let started = Instant::now();
    let mut calls = futures::stream::iter(0..n)
        .map(|i| async move { accepted(&queue.enqueue(&[job(i, 0.0, pad)]).await?) })
        .buffer_unordered(depth.max(1));
    while let Some(done) = calls.next().await {
        done?;
    }
    Ok(started.elapsed())
}

/// Enqueues `n` jobs, as many per call as the library takes, 4 calls in flight; returns the time taken.
///
/// # Errors
/// When a call fails or a job is not accepted.
pub async fn bulk(queue: &Queue, n: usize, pad: usize) -> Result<Duration> {
    bulk_of(queue, n, |i| job(i, 0.0, pad)).await
}

/// As `bulk`, of jobs that are made so.
///
/// # Errors
/// As `bulk`.
pub async fn bulk_of(queue: &Queue, n: usize, make: impl Fn(usize) -> NewJob) -> Result<Duration> {
    let make = &make;
    let started = Instant::now();
    let mut calls = futures::stream::iter((0..n).step_by(MAX_JOBS_PER_CALL))
        .map(|from| async move {
            let to = (from + MAX_JOBS_PER_CALL).min(n);
            let jobs: Vec<NewJob> = (from..to).map(make).collect();
            accepted(&queue.enqueue_all(&jobs).await?)
        })
        .buffer_unordered(BULK_DEPTH);
    while let Some(done) = calls.next().await {
        done?;
    }
    Ok(started.elapsed())
}

/// Sends job `i` of `jobs` at `start + i/rate` with the `clock` of that moment in its payload. A slow reply does not hold
/// up the next job; all replies have come when this returns.
///
/// # Errors
/// When a call fails or a job is not accepted.
pub async fn paced(
    queue: &Queue,
    jobs: Range<usize>,
    start: Instant,
    rate: usize,
    clock: fn() -> f64,
    pad: usize,
) -> Result<()> {
    let mut calls = JoinSet::new();
    for i in jobs {
        let due = start + Duration::from_secs_f64(i as f64 / rate as f64);
        tokio::time::sleep_until(due.into()).await;
        let queue = queue.clone();
        let new = job(i, clock(), pad);
        calls.spawn(async move { accepted(&queue.enqueue(&[new]).await?) });
        while let Some(done) = calls.try_join_next() {
            done??;
        }
    }
    while let Some(done) = calls.join_next().await {
        done??;
    }
    Ok(())
}
