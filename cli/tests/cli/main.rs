//! The real binary against real Redis servers.

mod apply;
mod bulk;
mod dead;
mod grammar;
mod jobs;
mod support;
mod up;
mod why;
