//! Lanekeeper's custom resources, their validation, and the resolved policy that lands in Redis.
//!
//! | module | holds |
//! |---|---|
//! | [`policy`] | the resolved policy: no defaults, no Kubernetes types; all that workers need |
//! | [`job_queue`], [`worker_pool`] | the custom resources as people write them |
//! | [`validate`] | pure checks, and the resolution of the former to the latter |
//! | [`manifest`] | the former from YAML files, with exact errors |
//! | [`crds`] | the definitions as they are installed |
//! | [`duration`], [`size`] | the two small grammars, `1h30m` and `256Ki` |
//!
//! Workers build with `default-features = false`, which leaves everything but [`policy`] and [`duration`] out.

pub mod policy;

#[cfg(feature = "crd")]
pub mod crds;
pub mod duration;
#[cfg(feature = "crd")]
#[expect(unreachable_pub, reason = "KubeSchema derives through a copy of the type inside a function")]
pub mod job_queue;
#[cfg(feature = "crd")]
pub mod manifest;
#[cfg(feature = "crd")]
pub mod size;
#[cfg(all(test, feature = "crd"))]
mod testing;
#[cfg(feature = "crd")]
pub mod validate;
#[cfg(feature = "crd")]
#[expect(unreachable_pub, reason = "KubeSchema derives through a copy of the type inside a function")]
pub mod worker_pool;

/// API group of every custom resource.
pub const GROUP: &str = "lanekeeper.dev";
/// Version of every custom resource.
pub const VERSION: &str = "v1beta1";
/// `apiVersion` of every custom resource.
pub const API_VERSION: &str = "lanekeeper.dev/v1beta1";
