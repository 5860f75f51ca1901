//! Every invariant caught, nearly broken and read both ways; random valid histories; one fault of each kind in each.

mod faults;
mod mutants;
mod random;
mod records;
mod server;
mod simulator;
mod sites;
