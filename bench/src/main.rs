//! Benchmarks of Lanekeeper's engine, each beside the raw Redis limit of the same run.

fn main() {}
