//! The job ledger: from what clients asked for and were told, what handlers did and what Redis holds in the end, tells
//! whether a queue kept its promises.
//!
//! Two checkers, both pure. [`check`] needs no more than the final records, the accepted ids and the handlers' log.
//! [`judge`] takes a whole [`Run`]: the history of every client ([`history`]), the handlers' log and the final dump, and
//! answers for all invariants that the research of this project set down for its reliability ("job-ledger checker"):
//!
//! | | invariant | checked in |
//! |---|---|---|
//! | I1 | no loss: each accepted job has ended, is a dead letter or is in an index | `conservation.rs` |
//! | I2 | one lease: leases of a job never overlap, and its tokens strictly rise | `leases.rs` |
//! | I3 | fencing: nothing is accepted under a stale token | `leases.rs` |
//! | I4 | at most one accepted success per generation, and nothing after the end | `leases.rs`, `conservation.rs` |
//! | I5 | starts stay within the tries and, counted apart, the crash budget | `tries.rs` |
//! | I6 | an exhausted job has one dead letter with its own payload, which leaves with an audit record only | `dead_letters.rs` |
//! | I7 | first come, first served within a priority; later attempts are left out | `order.rs` |
//! | I8 | fairness: while all lanes wait, shares follow weights, and none waits for too many grants | `fairness.rs` |
//! | I9 | rate: grants in any window stay within limit and burst | `limits.rs` |
//! | I10 | at most one live job per key | `keys.rs` |
//! | I11 | live leases of a lane stay within its cap | `limits.rs` |
//! | I12 | conservation: each record stands in exactly one index | `conservation.rs` |
//! | I13 | the same id twice is one job | `leases.rs` |
//! | I14 | liveness: drained within a bound after the faults healed | `liveness.rs` |
//!
//! **A lost reply may have happened or not.** The checker keeps the set of all phases a job may be in (`phase.rs`,
//! `life.rs`); an accepted act keeps those it could come from, a lost one adds those it could lead to, for as long as
//! it may still arrive ([`Rules::late_ms`]). It objects only when no phase is left, that is, in no reading.
//!
//! **Delivery is at least once.** Effects may repeat; accepted successes may not. A lease ends when a settlement of it
//! is accepted or when a sweep takes it over: one that expired and was not swept is still its holder's.
//!
//! Times are Redis times in ms. A run that turns the clock of Redis must take the jumps out of its history first.

mod conservation;
mod dead_letters;
mod evidence;
mod fairness;
pub mod history;
mod judge;
mod keys;
mod leases;
mod life;
mod limits;
mod lines;
mod liveness;
mod order;
mod phase;
mod records;
mod report;
mod rules;
mod sentences;
mod tries;
mod verdict;
mod walk;

#[cfg(test)]
mod tests;

pub use evidence::{Dump, Effect, Entry, Evidence, Index, KeyOwner, Record, Run, digest};
pub use judge::judge;
pub use lines::{Line, ReadError, read};
pub use records::check;
pub use report::{Budget, Violation};
pub use rules::{Fairness, FifoScope, KeyRules, Liveness, Rate, Rules, TypeRules};
pub use verdict::Verdict;
