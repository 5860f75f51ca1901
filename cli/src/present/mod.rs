//! How jobs and figures look to people. Pure: everything takes what it shows and the time.

pub(crate) mod acted;
pub(crate) mod dead;
pub(crate) mod diff;
pub(crate) mod figures;
pub(crate) mod gates;
pub(crate) mod job;
pub(crate) mod pauses;
