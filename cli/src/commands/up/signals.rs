//! What SIGINT and SIGTERM ask for: the first to drain, the second to end at once, the third to leave as it is.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::failure::{Failure, Result};

/// How urgently the end was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Not at all.
    Running,
    /// In order.
    Drain,
    /// At once.
    Now,
    /// Without waiting for anything.
    Leave,
}

impl Stage {
    fn next(self) -> Self {
        match self {
            Self::Running => Self::Drain,
            Self::Drain => Self::Now,
            Self::Now | Self::Leave => Self::Leave,
        }
    }
}

/// The stage asked for so far.
#[derive(Debug)]
pub(super) struct Signals(watch::Receiver<Stage>);

impl Signals {
    /// Starts to listen, for the whole process.
    pub(super) fn listen() -> Result<Self> {
        let cannot = |error: std::io::Error| Failure::failed(format!("cannot listen for signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let (sender, receiver) = watch::channel(Stage::Running);
        tokio::spawn(async move {
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                sender.send_modify(|stage| *stage = stage.next());
            }
        });
        Ok(Self(receiver))
    }

    /// The stage now.
    pub(super) fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Waits until at least this was asked for.
    pub(super) async fn reached(&mut self, wanted: Stage) {
        if self.0.wait_for(|stage| *stage >= wanted).await.is_err() {
            // Nobody can send any more: nobody will ever ask.
            std::future::pending::<()>().await;
        }
    }
}
