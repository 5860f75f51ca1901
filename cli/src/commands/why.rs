//! `lanekeeper why`.

use clap::Args;

use crate::failure::Result;

/// Arguments of `why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    what: String,
}

pub(crate) async fn run(_args: &WhyArgs) -> Result<()> {
    Ok(())
}
