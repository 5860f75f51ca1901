//! The queue against a real Redis. One binary, as linking many costs more than running them.

mod common;
mod lifecycle;
