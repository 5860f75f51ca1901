//! The queue against a real Redis. One binary, as linking many costs more than running them.
#![allow(clippy::unwrap_used, clippy::cloned_ref_to_slice_refs, reason = "tests")]

mod admin;
mod cancel;
mod capacity;
mod common;
mod damage;
mod dead;
mod endings;
mod enqueue;
mod events;
mod fairness;
mod gates;
mod gates_change;
mod groups;
mod keys;
mod lease;
mod lifecycle;
mod notes;
mod order;
mod policies;
mod reconnect;
mod repair;
mod restart;
mod review;
mod robust;
mod settle;
