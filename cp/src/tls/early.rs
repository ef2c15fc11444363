//! A worker that was asked already whether it takes the session: with the startup packet, whose bytes it need not be told
//! again, and with the beginning of its answer, which is still to be read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::Wire;
use lastcall_world::Stream;

/// A longer error than this is passed on as it is.
const LONGEST: usize = 16_384;

/// What a worker says that is shutting down, or starting up: it takes no sessions now.
const CANNOT_CONNECT_NOW: &[u8] = b"\0C57P03\0";

/// See the module's text.
pub(crate) struct Early<S> {
    pub(super) wire: Wire<S>,
    /// Bytes of the startup packet that are there already.
    told: usize,
    /// The beginning of the answer.
    heard: Vec<u8>,
}

impl<S: Stream> Early<S> {
    /// Asks with the startup packet.
    ///
    /// # Errors
    /// The network's; and [`io::ErrorKind::ConnectionRefused`] for one that takes no sessions now.
    pub(super) async fn ask(mut wire: Wire<S>, packet: &[u8]) -> io::Result<Early<S>> {
        wire.write_all(packet).await?;
        wire.flush().await?;
        let mut heard = Vec::new();
        while is_unclear(&heard) {
            let mut space = [0; 512];
            let read = wire.read(&mut space).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            heard.extend_from_slice(&space[..read]);
        }
        if heard[0] == b'E' && heard.windows(CANNOT_CONNECT_NOW.len()).any(|bytes| bytes == CANNOT_CONNECT_NOW) {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "it takes no sessions now (57P03)"));
        }
        Ok(Early { wire, told: packet.len(), heard })
    }

    /// Whether it is like any other now.
    pub(super) fn is_over(&self) -> bool {
        self.told == 0 && self.heard.is_empty()
    }

    /// What was heard, if something is left of it.
    pub(super) fn poll_heard(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let some = self.heard.len().min(buf.remaining());
        buf.put_slice(&self.heard[..some]);
        self.heard.drain(..some);
        some > 0
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.told == 0 {
            return Pin::new(&mut self.wire).poll_write(cx, bytes);
        }
        let told = self.told.min(bytes.len());
        self.told -= told;
        Poll::Ready(Ok(told))
    }
}

/// Whether what was heard does not tell yet whether the session is taken.
fn is_unclear(heard: &[u8]) -> bool {
    match heard {
        [] => true,
        [b'E', a, b, c, d, ..] => heard.len() < LONGEST && heard.len() <= u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        [b'E', ..] => true,
        _ => false,
    }
}
