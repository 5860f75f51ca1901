//! The real binary against real Redis servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod apply;
mod bulk;
mod cluster;
mod damaged;
mod dead;
mod dead_interrupted;
mod events;
mod gone;
mod grammar;
mod jobs;
mod local_mode;
mod pause;
mod support;
mod up;
mod why;
