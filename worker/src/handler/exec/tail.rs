//! Drains a pipe and keeps its end, and of a long one the beginning.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::handler::MAX_TEXT;

/// The last [`MAX_TEXT`] bytes that came out of a pipe, readable at any moment.
#[derive(Clone, Default)]
pub(super) struct Tail(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// The first [`MAX_TEXT`] bytes, once something between them and the end was dropped.
    head: Option<Vec<u8>>,
    end: Vec<u8>,
}

impl Kept {
    fn drop_all_but_the_end(&mut self) {
        if self.end.len() > MAX_TEXT {
            let head = &self.end[..MAX_TEXT];
            self.head.get_or_insert_with(|| head.to_vec());
            let cut = self.end.len() - MAX_TEXT;
            self.end.drain(..cut);
        }
    }
}

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
        kept.end.extend_from_slice(bytes);
        // Moved only once per MAX_TEXT bytes, so that a flood costs its reading and little more.
        if kept.end.len() > 2 * MAX_TEXT {
            kept.drop_all_but_the_end();
        }
    }

    /// The last bytes, and where more came the first ones too.
    pub(super) fn take(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut kept = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        kept.drop_all_but_the_end();
        (kept.end, kept.head)
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
        let (kept, head) = tail.take();
        assert_eq!(kept.len(), MAX_TEXT);
        assert!(kept.ends_with(b"athe end"));
        assert_eq!(head.as_deref(), Some(&input[..MAX_TEXT]));
    }

    #[tokio::test]
    async fn what_fits_has_no_other_beginning() {
        let tail = Tail::default();
        tail.clone().drain(vec![b'a'; MAX_TEXT].as_slice()).await;
        assert_eq!(tail.take(), (vec![b'a'; MAX_TEXT], None));
        tail.clone().drain([vec![b'b'], vec![b'a'; MAX_TEXT]].concat().as_slice()).await;
        let (end, head) = tail.take();
        assert_eq!((end.len(), head.map(|head| head[0])), (MAX_TEXT, Some(b'b')));
    }
}
