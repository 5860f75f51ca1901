//! The WorkerPool reconciler.
