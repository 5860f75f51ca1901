//! A reference model of a queue: what the calls of `Queue` answer, without Redis.
//!
//! One file per transition, as in `queue/lua`, but plain: no indexes, no bytes, every question is a walk over all jobs. It
//! speaks of what callers can see and of nothing else. What the library is free to choose (ids, tokens, versions) the
//! model takes from its reply (`Given`) and checks for what it promises of them.

mod act;
mod claim;
mod configure;
mod damage;
mod dead;
mod enqueue;
mod extend;
mod fingerprint;
mod gates;
mod given;
mod groups;
mod key;
mod look;
mod next;
mod offers;
mod on_dead;
mod op;
mod options;
mod order;
mod rate;
mod reply;
mod settle;
mod state;
mod stats;
mod sweep;
mod view;
mod waiting;
mod waits;

pub use given::Given;
pub use op::{Damage, Op, Word};
pub use order::Order;
pub use reply::Reply;
pub use state::Model;

impl Model {
    /// What a call at `now_us` answers; the state is as after it. `given` holds what the library chose in its reply to the
    /// same call. `Reply::Broken` when it chose what it promises never to choose.
    pub fn apply(&mut self, op: &Op, now_us: u64, given: &Given) -> Reply {
        self.broken = None;
        let now_ms = now_us / 1_000;
        self.went_back |= now_ms < self.latest_ms;
        self.groups.begin(now_us, now_us < self.last_us);
        self.last_us = now_us;
        self.latest_ms = now_ms.max(self.latest_ms);
        self.groups.sought |= !self.open_jobs().is_empty();
        // The call itself may have asked for the group of a job, or made it another job.
        self.settle_groups(given);
        let reply = self.dispatch(op, now_us, given);
        let wrong = self.settle_groups(given);
        self.regard_groups(now_us, matches!(op, Op::Configure { .. }));
        self.broken.take().or(wrong).map_or(reply, Reply::Broken)
    }

    fn dispatch(&mut self, op: &Op, now_us: u64, given: &Given) -> Reply {
        let now_ms = now_us / 1_000;
        match op {
            Op::Configure { policy, adopt } => {
                return Reply::Configured(self.configure(policy, *adopt, now_ms, given));
            }
            Op::Destroy => return Reply::Destroyed(self.destroy()),
            Op::Policy => return Reply::Policy(self.stored_policy().map(Box::new)),
            Op::Subscribe(worker) => return self.listen(&worker.boot, true),
            Op::Unsubscribe(worker) => return self.listen(&worker.boot, false),
            _ if self.stored.is_none() => return Reply::NoPolicy,
            _ => {}
        }
        match op {
            Op::Enqueue(jobs) => {
                let outcomes = self.enqueue(jobs, now_ms, given);
                self.hand_over(outcomes, now_us, given)
            }
            Op::Work { worker, done, want } => {
                let settled = self.settle_all(worker, done, now_us);
                Reply::Worked(settled, self.claim(worker, want, now_us, given))
            }
            Op::Settle { worker, done } => {
                let settled = self.settle_all(worker, done, now_us);
                // Without a word to settle the client makes no call.
                if !done.is_empty() {
                    self.touch(now_ms);
                }
                Reply::Settled(settled)
            }
            Op::Extend { worker, held, notes } => Reply::Extended(self.extend(worker, held, notes, now_ms)),
            Op::Leave(worker) => self.leave(worker),
            Op::PassOn(_) => Reply::Done,
            Op::LeasesOf(worker) => Reply::Leases(self.leases_of(worker)),
            Op::Sweep { sweeper, limit } => Reply::Swept(self.sweep(sweeper, *limit, now_us, given)),
            Op::Stats => Reply::Stats(Box::new(self.stats(now_us))),
            Op::Get { ids, with_payload } => Reply::Jobs(self.get(ids, *with_payload, now_ms)),
            Op::Find(find) => Reply::Found(self.find(find, now_ms)),
            Op::DeadList { filter, .. } => Reply::Found(self.dead_list(filter, now_ms)),
            Op::DeadGroups(filter) => Reply::Groups(self.dead_groups(filter, now_ms)),
            Op::Position(id) => Reply::Position(self.position(id)),
            Op::Standing(id) => Reply::Standing(self.key_standing(id, now_us, given)),
            Op::Cancel { ids, by } => Reply::Acted(self.cancel(ids, by, now_ms)),
            Op::Acknowledge { ids, word } => Reply::Acted(self.acknowledge(ids, word, now_ms)),
            Op::Discard { ids, word } => Reply::Acted(self.discard(ids, word, now_ms)),
            Op::Replay { ids, word } => Reply::Acted(self.replay(ids, word, now_ms)),
            Op::Edit { id, word, payload } => Reply::Acted(self.edit(id, word, payload, now_ms)),
            Op::Damage(damage) => {
                self.damage(damage, now_us, given);
                Reply::Mended { damaged: self.damaged }
            }
            Op::Pause { lanes, by, why } => Reply::Toggled(self.pause(by, why, lanes, now_ms)),
            Op::Resume(lanes) => Reply::Toggled(self.resume(lanes, now_us / 1_000)),
            Op::Configure { .. } | Op::Destroy | Op::Policy | Op::Subscribe(_) | Op::Unsubscribe(_) => {
                unreachable!("answered above")
            }
        }
    }
}
