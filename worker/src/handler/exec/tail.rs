//! Drains a pipe and keeps its end.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::handler::MAX_TEXT;

/// The last [`MAX_TEXT`] bytes that came out of a pipe, readable at any moment.
#[derive(Clone, Default)]
pub(super) struct Tail(Arc<Mutex<Vec<u8>>>);

impl Tail {
    /// Reads until the other side closes, keeping twice the tail at most.
    pub(super) async fn drain(self, mut pipe: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match pipe.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => self.push(&buffer[..n]),
            }
        }
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        // Moved only once per MAX_TEXT bytes, so that a flood costs its reading and little more.
        if kept.len() > 2 * MAX_TEXT {
            let cut = kept.len() - MAX_TEXT;
            kept.drain(..cut);
        }
    }

    /// What was kept.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut kept = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if kept.len() > MAX_TEXT {
            let cut = kept.len() - MAX_TEXT;
            kept.drain(..cut);
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_leaves_its_last_bytes() {
        let mut input = vec![b'a'; 5 * MAX_TEXT];
        input.extend_from_slice(b"the end");
        let tail = Tail::default();
        tail.clone().drain(input.as_slice()).await;
        let kept = tail.take();
        assert_eq!(kept.len(), MAX_TEXT);
        assert!(kept.ends_with(b"athe end"));
    }
}
