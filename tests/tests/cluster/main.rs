//! The project on a real cluster: installed by its chart, used as a user uses it.
//!
//! Run one after another (`-- --test-threads 1`): they measure, and they share one small node.

mod chart;
mod crash;
mod manifests;
mod refusals;
mod rollout;
mod saas;
mod scaling;
mod uninstall;
mod why;
