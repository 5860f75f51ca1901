//! The process's Prometheus registry and the figures the autoscaler keeps in it.
