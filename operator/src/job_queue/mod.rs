//! The JobQueue reconciler.
