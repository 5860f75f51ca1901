//! A Redis that is away for a while, as while it restarts: who waits or follows goes on when it is back.

use lanekeeper_queue::client::Error;

use crate::out;
use crate::target::Opened;

/// Whether Redis is away, so that people are told once.
#[derive(Debug, Default)]
pub(crate) struct Away {
    told: bool,
}

impl Away {
    /// Whether the same call may do better in a moment; says so at the first of a row.
    pub(crate) fn passes(&mut self, opened: &Opened, error: &Error) -> bool {
        let passes = passes(error);
        if passes && !std::mem::replace(&mut self.told, true) {
            out::note(&format!("{} is away; going on when it is back", opened.whereabouts));
        }
        passes
    }

    /// It answered.
    pub(crate) fn is_back(&mut self) {
        self.told = false;
    }
}

fn passes(error: &Error) -> bool {
    let Error::Redis(cause) = error else { return false };
    let busy = matches!(cause.code(), Some("LOADING" | "BUSY" | "MASTERDOWN"));
    busy || cause.is_io_error() || cause.is_connection_dropped() || cause.is_timeout()
}

#[cfg(test)]
mod tests {
    use redis::{RedisError, ServerErrorKind};

    use super::*;

    #[test]
    fn an_outage_passes_and_a_refusal_does_not() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(passes(&Error::Redis(RedisError::from(broken))));
        let loading: RedisError = (ServerErrorKind::BusyLoading.into(), "it loads").into();
        assert!(passes(&Error::Redis(loading)));
        let refused: RedisError = (ServerErrorKind::NoPerm.into(), "no").into();
        assert!(!passes(&Error::Redis(refused)));
        assert!(!passes(&Error::NoLibrary));
    }
}
