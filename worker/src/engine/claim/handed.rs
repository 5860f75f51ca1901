//! Jobs that were handed over without a claim, and when their ends are told.

use std::time::{Duration, Instant};

use super::Loop;
use super::flight::MANY;

/// How long a few settlements wait for company where jobs are handed over in quick succession.
const LINGER: Duration = Duration::from_millis(5);
/// Jobs that are handed over this soon after each other.
const BRISK: Duration = Duration::from_millis(20);

/// How fast jobs are handed over.
#[derive(Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    brisk: bool,
    /// Settlements wait until then.
    until: Option<Instant>,
}

impl Pace {
    fn handed(&mut self, now: Instant) {
        let last = self.last.replace(now);
        self.brisk = last.is_some_and(|last| now.duration_since(last) < BRISK);
    }

    /// Until when the first of the settlements that wait goes on waiting; none where it is time.
    fn linger(&mut self, now: Instant) -> Option<Instant> {
        let quick = self.brisk && self.last.is_some_and(|last| now.duration_since(last) < BRISK);
        let until = *self.until.get_or_insert(now + LINGER);
        (quick && now < until).then_some(until)
    }
}

impl Loop {
    /// Starts what was handed over.
    pub(super) async fn hear(&mut self) {
        let news = self.offers.take(&self.shared.ears);
        self.reply_lost |= news.lost;
        if news.anew {
            // A claim offers room.
            self.look_at = Instant::now();
        }
        for message in news.messages {
            let (queue, who) = (&self.shared.queue, &self.shared.options.identity);
            let handed = match queue.handed_over(who, &message).await {
                Ok(Some(handed)) => handed,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(%error, "a message that hands over jobs cannot be read: they are handed back");
                    self.reply_lost = true;
                    continue;
                }
            };
            self.offers.handed(&self.shared.ears, handed.epoch, handed.count);
            let mut claim = handed.claim;
            claim.jobs.retain(|job| !self.offers.gave_up(&job.id, job.token));
            let why = if self.drain.began() {
                Some("the worker is draining")
            } else if self.offers.overslept(Instant::now()) {
                Some("the worker was frozen, and this may have been handed to it long ago")
            } else {
                None
            };
            if let Some(why) = why {
                for job in claim.jobs {
                    self.release(job.id, job.token, why, claim.policy_version);
                }
                continue;
            }
            self.pace.handed(Instant::now());
            self.shared.saw_version(claim.policy_version);
            if claim.waits {
                // Somebody is woken for it, and whoever has room may as well look.
                self.quiet = false;
            }
            if let Some(due) = claim.next_due_ms {
                let wait = Duration::from_millis(due.saturating_sub(claim.now_ms).max(1));
                self.look_at = self.look_at.min(Instant::now() + wait);
            }
            self.start(claim.jobs).await;
        }
    }

    /// Until when settlements wait for company: only where nothing waits for their slots and more may be handed over.
    pub(super) fn lingers(&mut self, now: Instant) -> Option<Instant> {
        let waits = self.quiet && !self.tokens.any() && !self.drain.began() && now < self.look_at;
        let few = (1..MANY).contains(&self.shared.table().to_settle()) && self.offers.left() > 0;
        if waits && few { self.pace.linger(now) } else { None }
    }

    /// The settlements that waited are on their way.
    pub(super) fn sent(&mut self) {
        self.pace.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settlements_wait_only_where_jobs_come_in_quick_succession() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        pace.handed(now);
        assert_eq!(pace.linger(now), None, "one job alone");
        pace.until = None;
        now += BRISK / 2;
        pace.handed(now);
        assert_eq!(pace.linger(now), Some(now + LINGER));
        assert_eq!(pace.linger(now + LINGER / 2), Some(now + LINGER), "the first of them waits no longer");
        assert_eq!(pace.linger(now + LINGER), None);
        pace.until = None;
        assert_eq!(pace.linger(now + BRISK), None, "no more have come");
    }
}
