//! Lanekeeper's custom resources, their validation, and the resolved policy that lands in Redis.
//!
//! Workers need only [`policy`]; build with `default-features = false` to leave Kubernetes types out.

pub mod policy;
