//! How a worker is asked to end: once to drain, twice to hand back at once.

use tokio_util::sync::CancellationToken;

/// The two stages of ending.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Take no more jobs, let the running ones finish within the drain time, hand back the rest.
    pub drain: CancellationToken,
    /// Stop handlers at once and hand everything back.
    pub now: CancellationToken,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the next stage: the first call drains, the second hands back at once.
    pub fn escalate(&self) {
        if self.drain.is_cancelled() {
            self.now.cancel();
        }
        self.drain.cancel();
    }

    /// A shutdown that SIGTERM and SIGINT escalate. Installs signal handlers for the whole process.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = Self::new();
        let escalating = shutdown.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
                let stage = if escalating.drain.is_cancelled() { "handing back at once" } else { "draining" };
                tracing::info!(stage, "asked to end");
                escalating.escalate();
            }
        });
        Ok(shutdown)
    }
}

impl Shutdown {
    /// A guard whose drop asks for the last stage.
    pub(crate) fn now_on_drop(self) -> impl Drop {
        struct Guard(Shutdown);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.drain.cancel();
                self.0.now.cancel();
            }
        }
        Guard(self)
    }
}
