//! `lanekeeper version`.

use clap::Args;
use serde_json::json;

use crate::args::OutputArgs;
use crate::failure::Result;
use crate::out;

/// Arguments of `version`.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the version.
pub(crate) fn run(args: &VersionArgs) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if args.output.json() {
        return out::json(&json!({ "version": version }));
    }
    out::print(&format!("lanekeeper {version}"))
}
