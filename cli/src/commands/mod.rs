//! One file per command. Decisions live in the libraries; commands gather, call and present.

pub(crate) mod adopt;
pub(crate) mod apply;
pub(crate) mod cancel;
pub(crate) mod completion;
pub(crate) mod crds;
pub(crate) mod damaged;
pub(crate) mod dead;
pub(crate) mod enqueue;
pub(crate) mod events;
pub(crate) mod get;
pub(crate) mod pause;
pub(crate) mod resume;
pub(crate) mod status;
pub(crate) mod up;
pub(crate) mod version;
pub(crate) mod why;
pub(crate) mod worker;
