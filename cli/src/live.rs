//! Text that is redrawn in place on a terminal, with lines for history above it.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Result;
use crate::out;

/// A redrawn text; without a terminal, nothing is redrawn and only lines are printed.
pub(crate) struct Live {
    bar: Option<ProgressBar>,
}

impl Live {
    /// On standard output if it is a terminal.
    pub(crate) fn new() -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let bar = (terminal && !dumb).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout_with_hz(10));
            let style = ProgressStyle::with_template("{msg}");
            style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
        });
        Self { bar }
    }

    /// Whether text is redrawn.
    pub(crate) fn redraws(&self) -> bool {
        self.bar.is_some()
    }

    /// Replaces the text.
    pub(crate) fn show(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
            bar.tick();
        }
    }

    /// Adds a line above the text.
    pub(crate) fn line(&self, text: &str) -> Result<()> {
        match &self.bar {
            Some(bar) => {
                bar.println(text);
                Ok(())
            }
            None => out::print(text),
        }
    }

    /// Leaves the last text standing.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}
