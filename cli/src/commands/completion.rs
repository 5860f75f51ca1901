//! `lanekeeper completion SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Result;
use crate::out;

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lanekeeper completion bash > /etc/bash_completion.d/lanekeeper\n  lanekeeper completion zsh > \"${fpath[1]}/_lanekeeper\""
)]
pub(crate) struct CompletionArgs {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::args::Cli::command(), "lanekeeper", &mut script);
    out::write_raw(&script)
}
