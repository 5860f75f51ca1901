//! Calls under way. Mostly there is one. Where the last claim showed that much waits, the next is sent before that one is
//! answered: Redis works on one while this worker runs and reads what the other brought.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use lanekeeper_queue::types::{ClaimReply, Settled};

use super::Loop;
use super::ask::Ask;
use crate::engine::Shared;
use crate::engine::batch::Batch;
use crate::engine::health::{CallError, bounded};
use crate::engine::wake::Tokens;

/// Most calls under way.
const MOST: usize = 2;
/// Jobs that a call must settle or ask for to be worth sending beside another; a claim that brings as many has shown that
/// much waits.
pub(super) const MANY: usize = 50;

/// What was sent, and what came of it.
pub(super) struct Landed {
    pub(super) batch: Batch,
    pub(super) sent: Instant,
    /// The tokens this call follows.
    pub(super) tokens: Tokens,
    /// The request, and the reply to it; none where the call only settled.
    pub(super) result: Result<(Vec<Settled>, Option<ClaimReply>), CallError>,
    pub(super) ask: Option<Arc<Ask>>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Flights {
    replies: FuturesOrdered<BoxFuture<'static, Landed>>,
    asks: VecDeque<Option<Arc<Ask>>>,
}

impl Flights {
    pub(super) fn count(&self) -> usize {
        self.asks.len()
    }

    /// What the newest call asks for.
    pub(super) fn ahead(&self) -> Option<Arc<Ask>> {
        self.asks.back().cloned().flatten()
    }

    /// Sends a call that settles, and claims where something is asked for.
    pub(super) fn send(&mut self, shared: &Arc<Shared>, batch: Batch, ask: Option<Ask>, tokens: Tokens) {
        let (shared, ask, sent) = (Arc::clone(shared), ask.map(Arc::new), Instant::now());
        self.asks.push_back(ask.clone());
        self.replies.push_back(Box::pin(async move {
            let (queue, who) = (&shared.queue, &shared.options.identity);
            let result = match &ask {
                Some(ask) => bounded(queue.settle_and_claim(who, batch.settlements(), &ask.want))
                    .await
                    .map(|(settled, reply)| (settled, Some(reply))),
                None => bounded(queue.settle(who, batch.settlements())).await.map(|settled| (settled, None)),
            };
            Landed { batch, sent, tokens, result, ask }
        }));
    }

    /// The next reply; never, where no call is under way.
    pub(super) async fn landed(&mut self) -> Landed {
        match self.replies.next().await {
            Some(landed) => {
                self.asks.pop_front();
                landed
            }
            None => std::future::pending().await,
        }
    }
}

impl Loop {
    /// Sends a second call beside the one under way, if that is worth it; false otherwise.
    pub(super) fn send_beside(&mut self, now: Instant) -> bool {
        if self.flights.count() >= MOST || !self.deep || self.reply_lost {
            return false;
        }
        let ahead = self.flights.ahead();
        // What limits leave for this one is known only when the other is answered.
        let ask = self
            .ask(now, ahead.as_deref())
            .filter(|ask| ask.want.slots as usize >= MANY && ask.want.type_limits.is_empty());
        if ask.is_none() && self.shared.table().to_settle() < MANY {
            return false;
        }
        let ask = ask.map(|ask| self.offering(ask, false));
        self.flights.send(&self.shared, Batch::take(&self.shared), ask, Tokens::default());
        self.sent();
        true
    }

    /// Acts on a reply.
    pub(super) async fn land(&mut self, landed: Landed) {
        let Landed { batch, sent, tokens, result, ask } = landed;
        match result {
            Ok((results, reply)) => {
                batch.settled(&self.shared, &results);
                self.answered();
                if let (Some(ask), Some(mut reply)) = (ask, reply) {
                    self.shared.metrics.claim_duration.observe(sent.elapsed().as_secs_f64());
                    // Nothing is offered any more: what was handed over before that, and is not heard of, goes back.
                    self.reply_lost |= self.drain.began();
                    self.hand_back_late(sent, &mut reply);
                    self.claimed(&ask, reply, tokens).await;
                }
            }
            Err(error) => {
                self.reply_lost |= ask.is_some();
                self.failed(batch, error).await;
            }
        }
    }

    fn answered(&mut self) {
        self.shared.health.answered();
        self.backoff.reset();
    }

    async fn failed(&mut self, batch: Batch, error: CallError) {
        let shared = Arc::clone(&self.shared);
        if error.no_policy() {
            batch.failed(&shared, &error);
            self.no_policy();
            shared.saw_version(0);
            shared.set_policy(None);
            return self.fail();
        }
        shared.health.failed("claim", &error, &shared.metrics);
        if error.refused() && !batch.is_empty() {
            batch.one_by_one(&shared).await;
        } else {
            batch.failed(&shared, &error);
        }
        self.fail();
    }
}
