//! Joins enqueues that are made at the same time: while [`IN_FLIGHT`] calls are under way, further jobs wait and go together in
//! the next one. Nobody waits for company: whoever finds the way free goes alone and at once. What a job's outcome is does not
//! depend on the others of its call (see `lk_enqueue`).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::client::Queue;
use crate::enqueue::{MAX_BYTES_PER_CALL, MAX_JOBS_PER_CALL, Pair};
use crate::error::{Error, Result};
use crate::types::Enqueued;

/// Calls under way at a time: Redis works on one while the next is being put together.
const IN_FLIGHT: usize = 2;

/// What the clones of a queue share.
#[derive(Default)]
pub(crate) struct Gather(Mutex<State>);

#[derive(Default)]
struct State {
    in_flight: usize,
    waiting: VecDeque<Waiting>,
}

/// The jobs of one caller, who waits for their outcomes.
struct Waiting {
    pairs: Vec<Pair>,
    caller: oneshot::Sender<Result<Vec<Enqueued>>>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.pairs.iter().map(|pair| pair.payload.len()).sum()
    }
}

impl Gather {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Those who go together in the next call; whoever has given up meanwhile is left out, and nothing of theirs is stored.
    fn next(&mut self) -> Vec<Waiting> {
        let (mut together, mut jobs, mut bytes) = (Vec::new(), 0, 0);
        while let Some(first) = self.waiting.front() {
            if !first.caller.is_closed() {
                jobs += first.pairs.len();
                bytes += first.bytes();
                if !together.is_empty() && (jobs > MAX_JOBS_PER_CALL || bytes > MAX_BYTES_PER_CALL) {
                    break;
                }
            }
            together.extend(self.waiting.pop_front().filter(|waiting| !waiting.caller.is_closed()));
        }
        together
    }
}

/// How jobs get to Redis: at once and alone, or with others, and then where their outcomes will be told.
enum Way {
    Free(Vec<Pair>, Turn),
    Taken(oneshot::Receiver<Result<Vec<Enqueued>>>),
}

impl Queue {
    /// Enqueues these, which fit into one call, with others that come at the same time.
    pub(crate) async fn enqueue_together(&self, pairs: Vec<Pair>) -> Result<Vec<Enqueued>> {
        match self.way(pairs) {
            Way::Free(pairs, _turn) => self.enqueue_pairs(pairs.iter().map(Pair::parts)).await,
            Way::Taken(outcomes) => outcomes.await.unwrap_or_else(|_| Err(abandoned())),
        }
    }

    fn way(&self, pairs: Vec<Pair>) -> Way {
        let mut state = self.gather().state();
        if state.in_flight < IN_FLIGHT {
            state.in_flight += 1;
            return Way::Free(pairs, Turn(self.clone()));
        }
        let (caller, outcomes) = oneshot::channel();
        state.waiting.push_back(Waiting { pairs, caller });
        Way::Taken(outcomes)
    }

    /// One call for several callers.
    async fn enqueue_for(&self, together: Vec<Waiting>) {
        let (mut pairs, mut callers) = (Vec::new(), Vec::with_capacity(together.len()));
        for Waiting { pairs: own, caller } in together {
            callers.push((own.len(), caller));
            pairs.extend(own);
        }
        // Whoever has given up meanwhile is not told.
        match self.enqueue_pairs(pairs.iter().map(Pair::parts)).await {
            Ok(mut outcomes) => {
                for (count, caller) in callers {
                    let rest = outcomes.split_off(count.min(outcomes.len()));
                    let _ = caller.send(Ok(std::mem::replace(&mut outcomes, rest)));
                }
            }
            Err(error) => callers.into_iter().for_each(|(_, caller)| {
                let _ = caller.send(Err(error.clone()));
            }),
        }
    }
}

fn abandoned() -> Error {
    Error::Redis((redis::ErrorKind::Io, "the runtime ended before Redis answered").into())
}

/// One of the calls under way. Its end, however it comes, is the turn of those who wait.
struct Turn(Queue);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.gather().state();
        let together = state.next();
        let runtime = Handle::try_current().ok().filter(|_| !together.is_empty());
        let Some(runtime) = runtime else {
            // Without a runtime nobody is left to wait either.
            state.in_flight -= 1;
            return;
        };
        drop(state);
        let turn = Self(self.0.clone());
        runtime.spawn(async move { turn.0.enqueue_for(together).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(jobs: usize, bytes: usize) -> (Waiting, oneshot::Receiver<Result<Vec<Enqueued>>>) {
        let (caller, outcomes) = oneshot::channel();
        let pair = || Pair { options: String::new(), payload: vec![0; bytes] };
        (Waiting { pairs: (0..jobs).map(|_| pair()).collect(), caller }, outcomes)
    }

    #[test]
    fn calls_are_cut_by_number_and_by_bytes_and_leave_out_who_gave_up() {
        let mut state = State::default();
        let (all, mut outcomes): (Vec<_>, Vec<_>) =
            [(90, 1), (90, 1), (90, 1), (1, MAX_BYTES_PER_CALL), (1, 1)]
                .map(|(n, b)| waiting(n, b))
                .into_iter()
                .unzip();
        state.waiting.extend(all);
        outcomes.remove(1);
        let mut calls = Vec::new();
        while !state.waiting.is_empty() {
            calls.push(state.next().iter().map(|one| one.pairs.len()).collect::<Vec<_>>());
        }
        assert_eq!(calls, [vec![90, 90], vec![1], vec![1]]);
    }
}
