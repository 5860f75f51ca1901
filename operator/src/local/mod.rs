//! The local mode: the same manifests, autoscaler and policies on one machine, workers as processes.
