//! Prints the custom resource definitions.

fn main() {}
