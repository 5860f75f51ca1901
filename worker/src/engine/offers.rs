//! What is handed to this worker without a claim. A claim offers the room it leaves; jobs that come later are handed over by the call
//! that enqueues them, in a message (see `queue/lua/offer.lua`). Messages can be lost with their connection: whoever subscribes
//! anew counts anew, and looks up what was leased here unheard.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lanekeeper_queue::types::Offer;
use tokio::sync::Notify;

/// A message takes no longer than this.
pub(super) const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// The claim loop goes round at least as often, if only to see that nothing has happened.
const ROUND: Duration = super::wake::BLOCK;
/// How long a lease that was given up is remembered: the message that hands it over may be on its way.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What the listener has heard and the claim loop has not taken yet.
#[derive(Default)]
pub(super) struct Ears {
    state: Mutex<State>,
    /// Asks the listener to subscribe anew.
    deaf: Notify,
}

#[derive(Default)]
struct State {
    /// Subscriptions so far.
    epoch: u64,
    listens: bool,
    messages: Vec<Vec<u8>>,
    /// Jobs heard of in this epoch.
    heard: u64,
    /// What Redis said had been handed out, and when, if that was more than was heard of.
    missing: Option<(u64, Instant)>,
}

impl Ears {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker is subscribed.
    pub(super) fn opened(&self) {
        let mut state = self.state();
        state.epoch += 1;
        (state.listens, state.heard, state.missing) = (true, 0, None);
    }

    /// The subscription is over.
    pub(super) fn closed(&self) {
        self.state().listens = false;
    }

    pub(super) fn hear(&self, message: Vec<u8>) {
        self.state().messages.push(message);
    }

    /// Redis has handed out so many jobs in this epoch. What is still missing a while later was lost, and so are later messages most
    /// likely.
    pub(super) fn told(&self, epoch: u64, handed: u64, now: Instant) {
        let mut state = self.state();
        if epoch != state.epoch || handed <= state.heard {
            state.missing = None;
            return;
        }
        match state.missing {
            Some((before, at)) if before > state.heard => {
                if now.duration_since(at) >= ON_ITS_WAY {
                    state.missing = None;
                    self.deaf.notify_one();
                }
            }
            _ => state.missing = Some((handed, now)),
        }
    }

    /// Whether something was handed out that nobody here has heard of: another look in [`ON_ITS_WAY`] tells.
    pub(super) fn misses(&self) -> bool {
        self.state().missing.is_some()
    }

    /// Ends when the subscription is to be made anew.
    pub(super) async fn deaf(&self) {
        self.deaf.notified().await;
    }
}

/// The claim loop's side.
#[derive(Default)]
pub(super) struct Offers {
    epoch: u64,
    /// Some claim of this epoch made an offer, and none has ended it since.
    stands: bool,
    /// About how many more jobs may be handed over.
    left: u32,
    /// When the claim loop went round last, and until when what is heard may be old, for it did not go round for long.
    round: Option<Instant>,
    stale_until: Option<Instant>,
    /// Leases that were handed back because nobody here had heard of them.
    given_up: HashMap<String, (u64, Instant)>,
}

/// What has come since the last look.
pub(super) struct News {
    pub(super) messages: Vec<Vec<u8>>,
    /// The worker has subscribed, so that it can be handed something.
    pub(super) anew: bool,
    /// Jobs may have been handed over by messages that were lost.
    pub(super) lost: bool,
}

impl Offers {
    /// Takes what was heard.
    pub(super) fn take(&mut self, ears: &Ears) -> News {
        let mut state = ears.state();
        let anew = state.epoch != self.epoch;
        // Before the first subscription nothing was offered.
        let lost = anew && self.epoch > 0;
        if anew {
            (self.epoch, self.left) = (state.epoch, 0);
        }
        News { messages: std::mem::take(&mut state.messages), anew, lost }
    }

    /// The claim loop goes round. Where it did not for so long that a lease may be half over, the process was frozen: the messages that
    /// come first now are from before, and others may have their jobs.
    pub(super) fn woke(&mut self, now: Instant, lease: Option<Duration>) {
        let most = lease.map(|lease| ROUND + lease / 4);
        let slept = self.round.replace(now).map(|round| now.duration_since(round));
        if slept.zip(most).is_some_and(|(slept, most)| slept >= most) {
            self.stale_until = Some(now + ON_ITS_WAY);
        }
    }

    /// Whether what is heard now may be older than it looks.
    pub(super) fn overslept(&self, now: Instant) -> bool {
        self.stale_until.is_some_and(|until| now < until)
    }

    /// So many jobs were handed over.
    pub(super) fn handed(&mut self, ears: &Ears, epoch: u64, jobs: usize) {
        let mut state = ears.state();
        if epoch == state.epoch {
            state.heard += jobs as u64;
        }
        self.left = self.left.saturating_sub(u32::try_from(jobs).unwrap_or(u32::MAX));
    }

    /// What the next claim says; nothing for a worker that never listened.
    pub(super) fn word(&mut self, ears: &Ears, wanted: bool) -> Option<Offer> {
        let state = ears.state();
        self.stands = wanted && state.listens;
        self.left = 0;
        (state.epoch > 0).then_some(Offer { stands: self.stands, epoch: state.epoch, heard: state.heard })
    }

    /// A claim left so much room.
    pub(super) fn replied(&mut self, room: u32) {
        self.left = if self.stands { room } else { 0 };
    }

    /// Whether something may be handed over at any moment.
    pub(super) fn stands(&self) -> bool {
        self.stands
    }

    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// This lease goes back.
    pub(super) fn give_up(&mut self, id: &str, token: u64, now: Instant) {
        self.given_up.retain(|_, (_, at)| now.duration_since(*at) < REMEMBERED);
        self.given_up.insert(id.to_owned(), (token, now));
    }

    /// Whether this lease went back before its message came.
    pub(super) fn gave_up(&self, id: &str, token: u64) -> bool {
        self.given_up.get(id).is_some_and(|(given, _)| *given == token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_that_stay_away_were_lost() {
        let (ears, mut offers) = (Ears::default(), Offers::default());
        assert_eq!(offers.word(&ears, true), None, "nobody listens");
        ears.opened();
        assert!(!offers.take(&ears).lost);
        assert_eq!(offers.word(&ears, true), Some(Offer { stands: true, epoch: 1, heard: 0 }));
        let mut now = Instant::now();
        ears.told(1, 2, now);
        offers.handed(&ears, 1, 2);
        now += ON_ITS_WAY;
        ears.told(1, 2, now);
        let deaf = async || {
            let mut deaf = std::pin::pin!(ears.deaf());
            futures::poll!(deaf.as_mut()).is_ready()
        };
        now += ON_ITS_WAY;
        ears.told(1, 3, now);
        now += ON_ITS_WAY / 2;
        ears.told(1, 3, now);
        assert!(!deaf().await, "it may be on its way");
        now += ON_ITS_WAY / 2;
        ears.told(1, 4, now);
        assert!(deaf().await);
        ears.closed();
        assert_eq!(offers.word(&ears, true), Some(Offer { stands: false, epoch: 1, heard: 2 }));
        ears.opened();
        assert!(offers.take(&ears).lost && !offers.take(&ears).lost);
        assert_eq!(offers.word(&ears, false), Some(Offer { stands: false, epoch: 2, heard: 0 }));
        ears.told(1, 9, now);
        ears.told(1, 9, now + ON_ITS_WAY);
        assert!(!deaf().await, "of an earlier epoch");
    }

    #[test]
    fn what_is_heard_right_after_a_freeze_may_be_old() {
        let (mut offers, mut now) = (Offers::default(), Instant::now());
        let lease = Some(Duration::from_secs(4));
        offers.woke(now, lease);
        now += ROUND;
        offers.woke(now, lease);
        assert!(!offers.overslept(now));
        now += ROUND + Duration::from_secs(1);
        offers.woke(now, lease);
        assert!(offers.overslept(now) && offers.overslept(now + ON_ITS_WAY / 2));
        assert!(!offers.overslept(now + ON_ITS_WAY));
    }

    #[test]
    fn a_lease_that_went_back_is_not_run_when_its_message_comes() {
        let (mut offers, now) = (Offers::default(), Instant::now());
        offers.give_up("a", 7, now);
        assert!(offers.gave_up("a", 7) && !offers.gave_up("a", 8) && !offers.gave_up("b", 7));
        offers.give_up("b", 1, now + REMEMBERED);
        assert!(!offers.gave_up("a", 7));
    }
}
