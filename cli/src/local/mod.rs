//! What the local mode keeps on disk and the Redis it runs.

pub(crate) mod redis;
pub(crate) mod state;
pub(crate) mod view;
