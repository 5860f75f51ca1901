//! The worker against real servers: Redis, HTTP receivers, programs, and its own binary. One binary, because linking
//! one per file costs more than running them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attempts;
mod common;
mod drain;
mod engine;
mod exec;
mod give_up;
mod http;
mod lanes;
mod lost_replies;
mod offers;
mod outage;
mod process;
mod refused;
mod throttle;
