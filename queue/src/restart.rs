//! What a restarted Redis needs: an append-only file without a torn end.
//!
//! Redis that was killed in the middle of a transaction's write cuts the torn command off at the next start, but Redis 7.0 leaves the
//! transaction's beginning in the file. It does no harm until the start after that, when it is played together with the next
//! transaction: counters and lines would then stand as if both had happened. A rewrite of the file makes an end of it. While that is
//! under way the file is not the last one any more, and Redis refuses to start from one that is not the last and ends within a
//! transaction; so a transaction of our own ends it before.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use redis::aio::ConnectionManager;

use crate::error::{Error, Result};

/// A server that has run for longer was up before we were, and nothing is known of how it started.
const RECENT_S: u64 = 3600;

/// Written and deleted at once, for the transaction that this makes in the file.
const CLOSING: &str = "lanekeeper:closing";

/// Which runs of Redis servers have been seen to.
#[derive(Debug, Default)]
pub struct Restarts(Mutex<BTreeSet<String>>);

impl Restarts {
    /// Has the server rewrite its append-only file, once after each start that was not long ago; whether this call did. A server
    /// without such a file, or that is rewriting it, needs nothing.
    ///
    /// # Errors
    /// When Redis cannot be asked: the next call tries again. When it refuses the rewrite (`BGREWRITEAOF`): once.
    pub async fn tidy(&self, conn: &mut ConnectionManager) -> Result<bool> {
        let server: String = info(conn, "server").await?;
        let (Some(run), Some(uptime)) = (field(&server, "run_id"), field(&server, "uptime_in_seconds"))
        else {
            return Ok(false);
        };
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(run) {
            return Ok(false);
        }
        let persistence: String = info(conn, "persistence").await?;
        if field(&persistence, "aof_rewrite_in_progress") == Some("1") {
            return Ok(false);
        }
        let recent = uptime.parse().is_ok_and(|seconds: u64| seconds < RECENT_S);
        let needed = recent && field(&persistence, "aof_enabled") == Some("1");
        let done = if needed { rewrite(conn).await } else { Ok(()) };
        // A server that refuses would refuse again.
        if !done.as_ref().is_err_and(redis::RedisError::is_io_error) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(run.to_owned());
        }
        done.map_err(Error::from_redis)?;
        Ok(needed)
    }
}

async fn rewrite(conn: &mut ConnectionManager) -> redis::RedisResult<()> {
    let mut close = redis::pipe();
    // Two writes: Redis does not wrap one into a transaction.
    close.atomic().cmd("SET").arg(CLOSING).arg(1).ignore().cmd("DEL").arg(CLOSING).ignore();
    let _: () = close.query_async(conn).await?;
    let _: redis::Value = redis::cmd("BGREWRITEAOF").query_async(conn).await?;
    Ok(())
}

async fn info(conn: &mut ConnectionManager, section: &str) -> Result<String> {
    redis::cmd("INFO").arg(section).query_async(conn).await.map_err(Error::from_redis)
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
