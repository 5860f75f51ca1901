//! What Redis holds of a queue, read as a stranger would: by the commands of Redis, not by the library under test, but for the
//! records, whose bytes only `get` takes apart.

use redis::aio::ConnectionManager;

use super::ledger::{Dump, Entry, Index, KeyOwner, Record};
use crate::client::Queue;
use crate::error::{Error, Result};
use crate::types::Job;

/// Members or fields of one step.
const STEP: usize = 2000;

/// A dump of a queue at rest, and the jobs in it.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    /// For the ledger.
    pub dump: Dump,
    /// Every job with its history; with its payload where that was asked for.
    pub jobs: Vec<Job>,
}

/// Dumps the queue. Nobody may write meanwhile.
///
/// # Errors
/// When Redis cannot be reached or the queue has no policy.
pub async fn dump(queue: &Queue, with_payload: bool) -> Result<Holdings> {
    let mut conn = queue.connection();
    let root = queue.name().root();
    let ids: Vec<String> = redis::cmd("HKEYS")
        .arg(format!("{root}:j"))
        .query_async(&mut conn)
        .await
        .map_err(Error::from_redis)?;
    let jobs: Vec<Job> = queue.get(&ids, with_payload).await?.into_iter().flatten().collect();
    let stats = queue.stats().await?;
    let mut entries = entries(&mut conn, &root).await?;
    // A due time that has passed since makes a job ready before somebody promotes it: one index all the same.
    entries.sort_unstable_by(|a, b| (&a.job, &a.name).cmp(&(&b.job, &b.name)));
    let types = stats.lanes.iter().flat_map(|lane| &lane.types);
    let dump = Dump {
        at_ms: stats.now_ms,
        records: jobs.iter().map(Record::from).collect(),
        entries,
        keys: Some(keys(&mut conn, &root).await?),
        succeeded_total: Some(types.map(|figures| figures.succeeded_total).sum()),
    };
    Ok(Holdings { dump, jobs })
}

/// Which index lives under a key, by what follows the queue's root; none for what is no index or only mirrors one.
fn index_of(suffix: &str) -> Option<Index> {
    match suffix {
        "r" => Some(Index::Running),
        "d" => Some(Index::Dead),
        _ => match suffix.split_once(':')?.0 {
            "q" => Some(Index::Ready),
            "s" => Some(Index::Scheduled),
            "f" => Some(Index::Finished),
            _ => None,
        },
    }
}

async fn entries(conn: &mut ConnectionManager, root: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for key in keys_under(conn, root).await? {
        let suffix = key[root.len() + 1..].to_owned();
        let Some(index) = index_of(&suffix) else { continue };
        let mut from = 0;
        loop {
            let mut range = redis::cmd("ZRANGE");
            range.arg(&key).arg(from).arg(from + STEP - 1);
            let members: Vec<String> = range.query_async(conn).await.map_err(Error::from_redis)?;
            from += members.len();
            let last = members.len() < STEP;
            entries.extend(members.into_iter().map(|job| Entry { index, name: suffix.clone(), job }));
            if last {
                break;
            }
        }
    }
    Ok(entries)
}

/// Every key of the queue.
///
/// # Errors
/// When Redis cannot be reached.
pub async fn keys_under(conn: &mut ConnectionManager, root: &str) -> Result<Vec<String>> {
    let mut found = std::collections::BTreeSet::new();
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{root}:*")).arg("COUNT").arg(STEP);
        let (next, keys): (u64, Vec<String>) = scan.query_async(conn).await.map_err(Error::from_redis)?;
        found.extend(keys);
        cursor = next;
        if cursor == 0 {
            return Ok(found.into_iter().collect());
        }
    }
}

/// The owner's id is the first word of a key's entry; an expiry may follow.
async fn keys(conn: &mut ConnectionManager, root: &str) -> Result<Vec<KeyOwner>> {
    let pairs: Vec<(String, String)> =
        redis::cmd("HGETALL").arg(format!("{root}:k")).query_async(conn).await.map_err(Error::from_redis)?;
    let owner = |entry: &str| entry.split(' ').next().unwrap_or_default().to_owned();
    Ok(pairs.into_iter().map(|(key, entry)| KeyOwner { key, job: owner(&entry) }).collect())
}
