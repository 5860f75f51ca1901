//! What stands under the id of a job that cannot be read.

use crate::client::Queue;
use crate::error::{Error, Result};
use crate::record::split;
use crate::types::{Damage, DamagedPart};

impl Queue {
    /// What of a job cannot be read; none where all of it can, and where there is no such job: [`Queue::get`] knows neither a job
    /// that is damaged nor one that is gone.
    ///
    /// # Errors
    /// When Redis cannot be reached or the queue has no policy.
    pub async fn damage(&self, id: &str) -> Result<Option<Damage>> {
        let (jobs, pasts) = (self.name().jobs_hash(), self.name().pasts_hash());
        let mut both = redis::pipe();
        both.cmd("HGET").arg(&jobs).arg(id).cmd("HGET").arg(&pasts).arg(id);
        let read = both.query_async::<(Option<Vec<u8>>, Option<Vec<u8>>)>(&mut self.connection()).await;
        let (Some(record), past) = read.map_err(Error::from_redis)? else { return Ok(None) };
        let damage = |part, key, bytes: &[u8]| Damage { part, key, bytes: bytes.len() as u64 };
        if split(&record, &[]).is_none() {
            return Ok(Some(damage(DamagedPart::Record, jobs, &record)));
        }
        // Bytes may be sound to this program that the library refuses, and a job may have come since it was looked for.
        let readable = past.as_deref().is_none_or(|past| !past.is_empty() && split(&record, past).is_some());
        if readable && self.get(&[id.to_owned()], false).await?.iter().any(Option::is_some) {
            return Ok(None);
        }
        Ok(Some(match past {
            Some(past) => damage(DamagedPart::Past, pasts, &past),
            None => damage(DamagedPart::Record, jobs, &record),
        }))
    }
}
