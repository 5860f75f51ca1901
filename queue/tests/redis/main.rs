//! The queue against a real Redis. One binary, as linking many costs more than running them.
#![allow(clippy::unwrap_used, clippy::cloned_ref_to_slice_refs, reason = "tests")]

mod admin;
mod bounds;
mod broken;
mod cancel;
mod capacity;
mod clock;
mod common;
mod damage;
mod dead;
mod endings;
mod enqueue;
mod events;
mod exact;
mod fairness;
mod gates;
mod gates_change;
mod grouping;
mod keys;
mod laneless;
mod lease;
mod letters;
mod lifecycle;
mod news;
mod notes;
mod order;
mod policies;
mod reconnect;
mod refusals;
mod repair;
mod restart;
mod review;
mod robust;
mod settle;
mod waking;
mod words;
