//! What a Redis server says of itself.

use anyhow::{Context, Result};
use redis::aio::ConnectionManager;

/// Bytes in use by data, as `INFO memory` has it (allocator overhead included).
pub(crate) async fn used_memory(conn: &mut ConnectionManager) -> Result<u64> {
    field(conn, "memory", "used_memory").await
}

/// Commands that clients sent since start; those that functions call inside are not counted.
pub(crate) async fn commands(conn: &mut ConnectionManager) -> Result<u64> {
    const SENT: [&str; 6] = ["fcall", "fcall_ro", "blpop", "ping", "hello", "subscribe"];
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(conn).await?;
    Ok(SENT
        .iter()
        .filter_map(|name| {
            value(&info, &format!("cmdstat_{name}"))?
                .strip_prefix("calls=")?
                .split(',')
                .next()?
                .parse::<u64>()
                .ok()
        })
        .sum())
}

/// Clients that wait in a blocking call.
pub(crate) async fn blocked_clients(conn: &mut ConnectionManager) -> Result<u64> {
    field(conn, "clients", "blocked_clients").await
}

/// CPU seconds, user and system, since start.
pub(crate) async fn cpu_seconds(conn: &mut ConnectionManager) -> Result<f64> {
    let info: String = redis::cmd("INFO").arg("cpu").query_async(conn).await?;
    let of = |name: &str| value(&info, name).and_then(|v| v.parse::<f64>().ok()).context("INFO cpu");
    Ok(of("used_cpu_user")? + of("used_cpu_sys")?)
}

async fn field(conn: &mut ConnectionManager, section: &str, name: &str) -> Result<u64> {
    let info: String = redis::cmd("INFO").arg(section).query_async(conn).await?;
    value(&info, name).and_then(|v| v.parse().ok()).with_context(|| format!("INFO {section}: {name}"))
}

fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
