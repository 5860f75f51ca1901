//! Whether a Redis keeps what it is given.

use redis::Value;
use redis::aio::ConnectionManager;

use crate::error::{Error, Result};

/// Whether a Redis keeps what it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Safety {
    /// It persists and does not evict.
    Safe,
    /// It may lose jobs.
    Unsafe {
        /// What is set wrong, in one sentence per finding.
        why: String,
    },
    /// Its settings cannot be read.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// Reads persistence and eviction settings: safe is append-only or snapshots, and `maxmemory-policy noeviction` (which is
/// moot without a `maxmemory`, but may get one).
///
/// # Errors
/// When Redis cannot be reached or does not serve yet. A denied `CONFIG` is `Unknown`.
pub async fn safety(conn: &mut ConnectionManager) -> Result<Safety> {
    let mut ask = redis::cmd("CONFIG");
    ask.arg("GET").arg("appendonly").arg("save").arg("maxmemory-policy");
    let reply: redis::RedisResult<Value> = ask.query_async(conn).await;
    match reply {
        Ok(value) => {
            let pairs: std::collections::BTreeMap<String, String> =
                redis::FromRedisValue::from_redis_value(value)
                    .map_err(|e| Error::Reply { function: "CONFIG GET", what: e.to_string() })?;
            Ok(judge(
                pairs.get("appendonly").map(String::as_str),
                pairs.get("save").map(String::as_str),
                pairs.get("maxmemory-policy").map(String::as_str),
            ))
        }
        Err(error) if withheld(&error) => {
            Ok(Safety::Unknown { why: format!("Redis does not show its settings: {error}") })
        }
        Err(error) => Err(Error::from_redis(error)),
    }
}

/// Whether the server is there and denies the command: by its ACL, or as services do that hide it. Anything else, such as a
/// server that is still loading, says nothing about its settings.
fn withheld(error: &redis::RedisError) -> bool {
    matches!(error.code(), Some("NOPERM" | "ERR"))
}

/// The verdict on the three settings; none where Redis did not show one.
fn judge(appendonly: Option<&str>, save: Option<&str>, eviction: Option<&str>) -> Safety {
    let (Some(appendonly), Some(save), Some(eviction)) = (appendonly, save, eviction) else {
        return Safety::Unknown {
            why: "Redis does not show appendonly, save or maxmemory-policy".to_owned(),
        };
    };
    let mut why = Vec::new();
    if appendonly != "yes" && save.trim().is_empty() {
        why.push("nothing is persisted: set appendonly yes".to_owned());
    }
    if eviction != "noeviction" {
        why.push(format!("maxmemory-policy is {eviction}, which may delete jobs: set noeviction"));
    }
    if why.is_empty() { Safety::Safe } else { Safety::Unsafe { why: why.join("; ") } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_persistent_servers_that_do_not_evict_are_safe() {
        assert_eq!(judge(Some("yes"), Some(""), Some("noeviction")), Safety::Safe);
        assert_eq!(judge(Some("no"), Some("3600 1"), Some("noeviction")), Safety::Safe);
        let Safety::Unsafe { why } = judge(Some("no"), Some(""), Some("allkeys-lru")) else { panic!() };
        assert!(why.contains("appendonly yes") && why.contains("allkeys-lru"), "{why}");
        assert!(matches!(judge(None, Some(""), Some("noeviction")), Safety::Unknown { .. }));
    }
}
