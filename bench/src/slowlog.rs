//! How long the server itself was busy with a call, by its slow log.

use anyhow::{Context, Result};
use redis::Value;
use redis::aio::ConnectionManager;

/// Entries that the server keeps: more than one measurement has calls.
const MOST: usize = 100_000;

/// Makes the server note every command.
pub(crate) async fn note_all(conn: &mut ConnectionManager) -> Result<()> {
    for (name, value) in [("slowlog-max-len", MOST), ("slowlog-log-slower-than", 0)] {
        let _: () = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async(conn).await?;
    }
    Ok(())
}

/// Forgets what was noted.
pub(crate) async fn reset(conn: &mut ConnectionManager) -> Result<()> {
    Ok(redis::cmd("SLOWLOG").arg("RESET").query_async(conn).await?)
}

/// Durations of one function's calls since the reset, ms, sorted.
pub(crate) async fn durations(conn: &mut ConnectionManager, function: &str) -> Result<Vec<f64>> {
    let entries: Vec<Value> = redis::cmd("SLOWLOG").arg("GET").arg(MOST).query_async(conn).await?;
    let mut found = Vec::with_capacity(entries.len());
    for entry in entries {
        let Value::Array(fields) = entry else { continue };
        let (Some(Value::Int(us)), Some(Value::Array(args))) = (fields.get(2), fields.get(3)) else {
            continue;
        };
        if matches!(args.get(1), Some(Value::BulkString(name)) if name == function.as_bytes()) {
            found.push(*us as f64 / 1e3);
        }
    }
    found.sort_by(f64::total_cmp);
    found.first().with_context(|| format!("the slow log has no {function}"))?;
    Ok(found)
}
