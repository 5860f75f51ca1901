//! What a worker process does to keep its credentials from the programs it runs.

/// Keeps other processes of the same user, the programs of `exec` handlers above all, from reading this process's
/// environment and memory, where the Redis URL stands. A failure leaves things as they were, and says so.
pub fn harden() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!(%error, "programs run by handlers may read this process's environment");
    }
}
