//! The function library: its assembled source, and loading it.

use std::sync::OnceLock;

use redis::aio::ConnectionManager;
use redis::{FromRedisValue, Value};

use crate::error::{Error, Result};

/// Version of the library's contract with this crate. Raise it with every change that an older client or an older
/// library could trip over; a newer library is never replaced by an older one.
pub const LIBRARY_VERSION: i64 = 6;

/// Files whose top-level locals the others use.
const SHARED: [&str; 3] =
    [include_str!("../lua/base.lua"), include_str!("../lua/record.lua"), include_str!("../lua/lease.lua")];

/// One transition or helper per file, each in a scope of its own.
const SCOPED: [&str; 45] = [
    include_str!("../lua/register.lua"),
    include_str!("../lua/context.lua"),
    include_str!("../lua/gates.lua"),
    include_str!("../lua/groups.lua"),
    include_str!("../lua/regroup.lua"),
    include_str!("../lua/turns.lua"),
    include_str!("../lua/rank.lua"),
    include_str!("../lua/events.lua"),
    include_str!("../lua/stage.lua"),
    include_str!("../lua/read.lua"),
    include_str!("../lua/whole.lua"),
    include_str!("../lua/due.lua"),
    include_str!("../lua/notes.lua"),
    include_str!("../lua/dead_letter.lua"),
    include_str!("../lua/key_template.lua"),
    include_str!("../lua/options.lua"),
    include_str!("../lua/capacity.lua"),
    include_str!("../lua/admit.lua"),
    include_str!("../lua/enqueue.lua"),
    include_str!("../lua/follow_up.lua"),
    include_str!("../lua/settle.lua"),
    include_str!("../lua/order.lua"),
    include_str!("../lua/claim.lua"),
    include_str!("../lua/offer.lua"),
    include_str!("../lua/pass_on.lua"),
    include_str!("../lua/extend.lua"),
    include_str!("../lua/leave.lua"),
    include_str!("../lua/leases.lua"),
    include_str!("../lua/leftovers.lua"),
    include_str!("../lua/repair.lua"),
    include_str!("../lua/sweep.lua"),
    include_str!("../lua/configure.lua"),
    include_str!("../lua/stats.lua"),
    include_str!("../lua/get.lua"),
    include_str!("../lua/find.lua"),
    include_str!("../lua/position.lua"),
    include_str!("../lua/group.lua"),
    include_str!("../lua/by_id.lua"),
    include_str!("../lua/cancel.lua"),
    include_str!("../lua/dead_list.lua"),
    include_str!("../lua/dead_replay.lua"),
    include_str!("../lua/dead_review.lua"),
    include_str!("../lua/pause.lua"),
    include_str!("../lua/destroy.lua"),
    include_str!("../lua/version.lua"),
];

/// The library as it is loaded into Redis.
#[must_use]
pub fn library_source() -> &'static str {
    static SOURCE: OnceLock<String> = OnceLock::new();
    SOURCE.get_or_init(|| assemble(LIBRARY_VERSION))
}

/// Puts the library together under a version number.
pub(crate) fn assemble(version: i64) -> String {
    let mut body = String::new();
    for file in SHARED {
        body.push_str(file);
    }
    for file in SCOPED {
        body.push_str("\ndo\n");
        body.push_str(file);
        body.push_str("end\n");
    }
    format!(
        "#!lua name=lanekeeper\nlocal LIBRARY_VERSION, LIBRARY_FINGERPRINT = {version}, '{:016x}'\n{body}",
        fnv1a(body.as_bytes())
    )
}

/// Tells two builds of one version apart: FNV-1a, stable over platforms and compilers.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What `lk_version` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Installed {
    version: i64,
    fingerprint: String,
}

/// Loads the function library, or upgrades an older one; calls in flight are not disturbed, as Redis replaces a library
/// between two commands. True when something was loaded, false when the same or a newer library is there.
///
/// # Errors
/// When Redis cannot be reached, is older than 7.0, or denies `FUNCTION LOAD`.
pub async fn install_library(conn: &mut ConnectionManager) -> Result<bool> {
    let wanted = assemble_current();
    match installed(conn).await? {
        Some(found) if found.version > LIBRARY_VERSION => {
            tracing::warn!(
                found = found.version,
                mine = LIBRARY_VERSION,
                "a newer function library is loaded: kept"
            );
            return Ok(false);
        }
        Some(found) if found == wanted => return Ok(false),
        _ => {}
    }
    let mut load = redis::cmd("FUNCTION");
    load.arg("LOAD").arg("REPLACE").arg(library_source());
    let _: Value = load.query_async(conn).await.map_err(Error::from_redis)?;
    Ok(true)
}

fn assemble_current() -> Installed {
    let source = library_source();
    let fingerprint = source.split('\'').nth(1).unwrap_or_default().to_owned();
    Installed { version: LIBRARY_VERSION, fingerprint }
}

async fn installed(conn: &mut ConnectionManager) -> Result<Option<Installed>> {
    let reply: redis::RedisResult<Value> =
        redis::cmd("FCALL_RO").arg("lk_version").arg(0).query_async(conn).await;
    match reply {
        Ok(value) => {
            let (version, fingerprint) = <(i64, String)>::from_redis_value(value)
                .map_err(|e| Error::Reply { function: "lk_version", what: e.to_string() })?;
            Ok(Some(Installed { version, fingerprint }))
        }
        Err(error) if is_function_missing(&error) => Ok(None),
        Err(error) => Err(Error::from_redis(error)),
    }
}

/// The version of the library in this Redis, where that is from a newer program than this one; it is left as it is.
///
/// # Errors
/// When Redis cannot be reached.
pub async fn newer_library(conn: &mut ConnectionManager) -> Result<Option<i64>> {
    Ok(installed(conn).await?.map(|found| found.version).filter(|version| *version > LIBRARY_VERSION))
}

/// Whether Redis says that the library is not there.
pub(crate) fn is_function_missing(error: &redis::RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("Function not found"))
}
