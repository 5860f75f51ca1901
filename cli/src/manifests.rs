//! Manifests from files, and how what is wrong with them is told.

use std::path::PathBuf;

use clap::Args;
use lanekeeper_api::manifest::{self, ManifestError, Manifests};

use crate::failure::{Failure, Result};
use crate::human::count;

/// Which manifests.
#[derive(Debug, Clone, Args)]
pub(crate) struct ManifestArgs {
    /// File or directory (its *.yaml, not deeper) with JobQueues, WorkerPools and Secrets; - for standard input.
    #[arg(short = 'f', long = "filename", required = true, value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
    /// Documents that change some fields of the others: matched by kind, namespace and name, merged by field.
    #[arg(long, value_name = "FILE")]
    pub(crate) overlay: Vec<PathBuf>,
}

/// Manifests that can work, and what is unwise about them.
pub(crate) struct Checked {
    /// The manifests.
    pub(crate) manifests: Manifests,
    /// One line each.
    pub(crate) warnings: Vec<String>,
}

/// Loads and checks everything. `self_contained`: what is named must be there too, as the local mode needs it.
pub(crate) fn load(args: &ManifestArgs, self_contained: bool) -> Result<Checked> {
    let manifests = manifest::load_with(&args.files, &args.overlay).map_err(|errors| refused(&errors))?;
    let checked = manifest::check(&manifests, self_contained);
    if !checked.errors.is_empty() {
        return Err(refused(&checked.errors));
    }
    if manifests.queues.is_empty() {
        let files: Vec<String> = args.files.iter().map(|file| file.display().to_string()).collect();
        return Err(Failure::invalid(format!("no JobQueue in {}", files.join(", ")))
            .advice("a manifest has `apiVersion: lanekeeper.dev/v1beta1` and `kind: JobQueue`"));
    }
    let warnings = checked.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    Ok(Checked { manifests, warnings })
}

fn refused(errors: &[ManifestError]) -> Failure {
    Failure::invalid(format!(
        "{} in the manifests; nothing was changed",
        count(errors.len() as u64, "problem")
    ))
    .details(errors.iter().map(ToString::to_string))
}
