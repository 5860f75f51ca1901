//! Faults under load: workers and Redis are killed at random instants while jobs flow; a ledger over the enqueue
//! replies, the handlers' effects and the final state in Redis tells whether a job was lost or finished twice.

pub mod audit;
pub mod crew;
pub mod effects;
pub mod load;
pub mod plan;
pub mod policy;
pub mod storm;
pub mod zombie;
