//! Jobs that cannot be read: the queue does not know them, and people must not be told that there is no such job.

use lanekeeper_queue::types::Acted;

use crate::failure::Result;
use crate::present::acted::{DAMAGED, NOT_FOUND};
use crate::target::Opened;

/// The answers, with those that found no job told apart from those that found a damaged one.
pub(crate) async fn told_apart(opened: &Opened, mut acted: Vec<Acted>) -> Result<Vec<Acted>> {
    for one in acted.iter_mut().filter(|one| one.outcome == NOT_FOUND) {
        let damage = opened.queue.damage(&one.id).await.map_err(|error| opened.failure(&error))?;
        if damage.is_some() {
            one.outcome = DAMAGED.to_owned();
        }
    }
    Ok(acted)
}
