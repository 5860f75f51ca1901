//! Faults on real Redis servers under real worker processes: each row of the fault table does its worst, prints its figures,
//! and is judged by the ledger over what clients were told, what handlers did and what Redis holds in the end.

pub mod client;
pub mod clock;
pub mod court;
pub mod crew;
pub mod effects;
pub mod history;
pub mod load;
pub mod plan;
pub mod policy;
pub mod proxy;
pub mod rows;
pub mod stage;
pub mod storm;
pub mod testimony;
pub mod zombie;
