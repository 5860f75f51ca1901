//! Waiting: always for a condition, always with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const EVERY: Duration = Duration::from_millis(250);

/// Asks `probe` until it answers `Some`. An error counts as "not yet", and is told when time is up.
///
/// # Errors
/// When `limit` has passed.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let last = match probe().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => String::new(),
            Err(error) => format!("; last: {error:#}"),
        };
        if Instant::now() >= deadline {
            bail!("{what}: not within {} s{last}", limit.as_secs());
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// [`until`] for a condition without a value.
///
/// # Errors
/// When `limit` has passed.
pub async fn until_true(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    until(what, limit, async || Ok(probe().await?.then_some(()))).await
}
