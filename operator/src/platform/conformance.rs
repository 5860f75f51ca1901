//! What every platform must do, as one suite that runs against any of them.
//!
//! The caller sets a pool up without workers; the suite scales it up and down and leaves it at zero.

use std::time::{Duration, Instant};

use super::{Observed, Platform, PlatformError, PoolRef, Scale, Scaled};

/// A broken guarantee.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// The platform answered with an error where none was due.
    #[error("{step}: {source}")]
    Failed {
        /// What the suite was doing.
        step: &'static str,
        /// The error.
        source: PlatformError,
    },
    /// It did something else than promised.
    #[error("{step}: expected {expected}, found {found:?}")]
    Broken {
        /// What the suite was doing.
        step: &'static str,
        /// What was promised.
        expected: &'static str,
        /// What was there.
        found: Box<dyn std::fmt::Debug + Send>,
    },
}

/// How the suite runs.
#[derive(Debug, Clone)]
pub struct Subject {
    /// A pool that is set up, without workers.
    pub pool: PoolRef,
    /// A pool that does not exist.
    pub missing: PoolRef,
    /// Whether workers really start here; an API server alone starts none.
    pub starts_workers: bool,
    /// How long a worker may take to start or to go.
    pub deadline: Duration,
}

/// Runs every check in order.
///
/// # Errors
/// The first guarantee that is broken.
pub async fn run<P: Platform>(platform: &P, subject: &Subject) -> Result<(), Violation> {
    a_pool_that_does_not_exist_is_told_apart(platform, subject).await?;
    scaling_shows_at_once(platform, subject).await?;
    an_outdated_decision_changes_nothing(platform, subject).await?;
    workers_become_ready_and_go(platform, subject).await
}

async fn a_pool_that_does_not_exist_is_told_apart<P: Platform>(
    platform: &P,
    subject: &Subject,
) -> Result<(), Violation> {
    let step = "observe a pool that does not exist";
    match platform.observe(&subject.missing).await {
        Err(PlatformError::NoSuchPool(_)) => {}
        other => return Err(broken(step, "NoSuchPool", other)),
    }
    let step = "scale a pool that does not exist";
    let scale = Scale { from: 0, to: 1, version: None, idle: Vec::new() };
    match platform.scale(&subject.missing, &scale).await {
        Err(PlatformError::NoSuchPool(_)) => Ok(()),
        other => Err(broken(step, "NoSuchPool", other)),
    }
}

async fn scaling_shows_at_once<P: Platform>(platform: &P, subject: &Subject) -> Result<(), Violation> {
    for to in [1, 3, 2] {
        let before = observe(platform, subject, "observe before scaling").await?;
        set(platform, subject, &before, to).await?;
        let after = observe(platform, subject, "observe after scaling").await?;
        if after.replicas != to {
            return Err(broken("observe after scaling", "the new replicas", after));
        }
    }
    Ok(())
}

async fn an_outdated_decision_changes_nothing<P: Platform>(
    platform: &P,
    subject: &Subject,
) -> Result<(), Violation> {
    let step = "scale by an outdated observation";
    let seen = observe(platform, subject, step).await?;
    set(platform, subject, &seen, seen.replicas + 1).await?;
    let late = Scale { from: seen.replicas, to: 0, version: seen.version.clone(), idle: Vec::new() };
    match platform.scale(&subject.pool, &late).await {
        Ok(Scaled::Conflict) => {}
        Ok(other) => return Err(broken(step, "Conflict", other)),
        Err(source) => return Err(Violation::Failed { step, source }),
    }
    let after = observe(platform, subject, step).await?;
    if after.replicas == seen.replicas + 1 { Ok(()) } else { Err(broken(step, "unchanged replicas", after)) }
}

async fn workers_become_ready_and_go<P: Platform>(platform: &P, subject: &Subject) -> Result<(), Violation> {
    if subject.starts_workers {
        settled(platform, subject, "wait for workers to be ready", |o| o.ready == o.replicas).await?;
    }
    loop {
        let seen = observe(platform, subject, "observe before going to zero").await?;
        // Readiness may change between the two calls, which makes a careful platform answer Conflict.
        let scale = Scale { from: seen.replicas, to: 0, version: seen.version, idle: Vec::new() };
        match platform.scale(&subject.pool, &scale).await {
            Ok(Scaled::Done) => break,
            Ok(Scaled::Conflict) => {}
            Err(source) => return Err(Violation::Failed { step: "scale to zero", source }),
        }
    }
    let gone = |o: &Observed| o.replicas == 0 && o.ready == 0 && o.terminating == 0;
    if subject.starts_workers {
        settled(platform, subject, "wait for workers to be gone", gone).await?;
    }
    Ok(())
}

async fn observe<P: Platform>(
    platform: &P,
    subject: &Subject,
    step: &'static str,
) -> Result<Observed, Violation> {
    platform.observe(&subject.pool).await.map_err(|source| Violation::Failed { step, source })
}

/// Scales from what was seen, or from what is there if something moved in between.
async fn set<P: Platform>(
    platform: &P,
    subject: &Subject,
    seen: &Observed,
    to: u32,
) -> Result<(), Violation> {
    let step = "scale";
    let deadline = Instant::now() + subject.deadline;
    let mut seen = seen.clone();
    loop {
        let scale = Scale { from: seen.replicas, to, version: seen.version.clone(), idle: Vec::new() };
        match platform.scale(&subject.pool, &scale).await {
            Ok(Scaled::Done) => return Ok(()),
            Ok(Scaled::Conflict) if Instant::now() < deadline => {
                seen = observe(platform, subject, step).await?;
            }
            Ok(other) => return Err(broken(step, "Done", other)),
            Err(source) => return Err(Violation::Failed { step, source }),
        }
    }
}

async fn settled<P: Platform>(
    platform: &P,
    subject: &Subject,
    step: &'static str,
    there: impl Fn(&Observed) -> bool,
) -> Result<(), Violation> {
    let deadline = Instant::now() + subject.deadline;
    loop {
        let seen = observe(platform, subject, step).await?;
        if there(&seen) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(broken(step, "within the deadline", seen));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn broken(
    step: &'static str,
    expected: &'static str,
    found: impl std::fmt::Debug + Send + 'static,
) -> Violation {
    Violation::Broken { step, expected, found: Box::new(found) }
}
