//! Every invariant caught, nearly broken and read both ways; random valid histories; one fault of each kind in each.

mod ends;
mod faults;
mod jobs;
mod lanes;
mod lines;
mod mutants;
mod random;
mod records;
mod server;
mod simulator;
mod sites;
mod story;
