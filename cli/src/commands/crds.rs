//! `lanekeeper crds`.

use std::path::PathBuf;

use clap::Args;
use lanekeeper_api::crds;

use crate::failure::{Failure, Result};
use crate::out;

/// Arguments of `crds`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lanekeeper crds | kubectl apply --server-side -f -\n  lanekeeper crds --out crds"
)]
pub(crate) struct CrdsArgs {
    /// Write one file per definition into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints or writes the definitions.
pub(crate) fn run(args: &CrdsArgs) -> Result<()> {
    for document in crds::documents() {
        let text = serde_yaml::to_string(&document)
            .map_err(|error| Failure::failed(format!("cannot print a definition: {error}")))?;
        let Some(dir) = &args.out else {
            out::print(&format!("---\n{text}"))?;
            continue;
        };
        let path = dir.join(crds::file_name(&document));
        std::fs::create_dir_all(dir)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| Failure::invalid(format!("cannot write {}: {error}", path.display())))?;
        out::note(&path.display().to_string());
    }
    Ok(())
}
