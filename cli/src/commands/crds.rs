//! `lanekeeper crds`.

use std::path::PathBuf;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::out;

/// Arguments of `crds`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lanekeeper crds | kubectl apply --server-side -f -\n  lanekeeper crds --out crds")]
pub(crate) struct CrdsArgs {
    /// Write one file per definition into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints or writes the definitions.
pub(crate) fn run(args: &CrdsArgs) -> Result<()> {
    let documents = lanekeeper_api::crds().map_err(|error| Failure::failed(format!("cannot print the definitions: {error}")))?;
    let Some(dir) = &args.out else {
        let texts: Vec<String> = documents.into_iter().map(|(_, text)| text).collect();
        return out::print(&texts.join("---\n"));
    };
    let cannot = |error: std::io::Error| Failure::invalid(format!("cannot write into {}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(cannot)?;
    for (name, text) in documents {
        std::fs::write(dir.join(&name), text).map_err(cannot)?;
        out::note(&dir.join(name).display().to_string());
    }
    Ok(())
}
