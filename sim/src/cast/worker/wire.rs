//! A worker's side of a connection: bytes in, and output held back as PostgreSQL holds it back.
//!
//! Output leaves at Flush, at Sync, at ReadyForQuery, with every error and notice, and whenever PostgreSQL's 8 KiB send
//! buffer is full; not a moment earlier. An Execute without Flush may therefore have run long before its client hears
//! of it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::response::ErrorResponse;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

use crate::cast::frame::{Frame, Inbox, Malformed};

/// PostgreSQL's send buffer (`PQ_SEND_BUFFER_SIZE`): full blocks of it leave at once.
const SEND_BUFFER_BYTES: usize = 8 * 1024;

/// Longest message that a client may send. A scenario's statements have some hundred bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Pipelined bytes that are read while a statement runs. When so many wait, the rest stays in the socket, and the end
/// of the stream behind it is not seen before the statement's end.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// The connection is gone: its end or an error was read, or nothing can be written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// Why there is no next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoMessage {
    /// The connection is gone.
    Closed,
    /// What came is no message.
    Malformed(Malformed),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    input: Inbox,
    /// The end of the stream was read: no more comes, but what was asked for can still be answered.
    ended: bool,
    output: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A connection of which nothing was read yet.
    pub(super) fn new(stream: S) -> Self {
        Wire { stream, input: Inbox::default(), ended: false, output: BytesMut::new() }
    }

    /// The next message.
    pub(super) async fn frame(&mut self) -> Result<Frame, NoMessage> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// The next message, as soon as all of it was read.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, NoMessage>> {
        self.poll_message(|input| input.next_frame(MAX_MESSAGE_BYTES), cx)
    }

    /// The next startup packet: what follows its length.
    pub(super) async fn startup(&mut self) -> Result<Bytes, NoMessage> {
        poll_fn(|cx| self.poll_message(Inbox::next_startup, cx)).await
    }

    fn poll_message<T>(
        &mut self,
        mut take: impl FnMut(&mut Inbox) -> Result<Option<T>, Malformed>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, NoMessage>> {
        loop {
            match take(&mut self.input) {
                Ok(Some(message)) => return Poll::Ready(Ok(message)),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Err(NoMessage::Malformed(malformed))),
            }
            if ready!(self.poll_fill(cx)) == Err(Closed) {
                return Poll::Ready(Err(NoMessage::Closed));
            }
        }
    }

    /// The next message, if all of it was read.
    pub(super) fn whole_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        self.input.next_frame(MAX_MESSAGE_BYTES)
    }

    /// Whether what was read and not taken begins with a message of this type.
    pub(super) fn begins_with(&mut self, kind: u8) -> bool {
        self.input.bytes().first() == Some(&kind)
    }

    /// Reads once.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if self.ended {
            return Poll::Ready(Err(Closed));
        }
        let read = ready!(self.input.poll_fill(&mut self.stream, cx));
        self.ended = matches!(read, Ok(0));
        Poll::Ready(if matches!(read, Ok(1..)) { Ok(()) } else { Err(Closed) })
    }

    /// Watches the connection while a statement runs; ready when it was reset. Bytes that come are kept for later, and so is
    /// the end of the stream: as in PostgreSQL, a statement that runs is finished first.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        while self.input.len() < MAX_HELD_BYTES && !self.ended {
            match self.poll_fill(cx) {
                Poll::Ready(Err(Closed)) if !self.ended => return Poll::Ready(Closed),
                Poll::Ready(_) => {}
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    /// Puts a message into the output, where it stays until it is flushed or spilt.
    pub(super) fn put(&mut self, message: &impl Message) {
        message.encode(&mut self.output).expect("a worker's messages are far below the protocol's limits");
    }

    /// Puts an error into the output, with PostgreSQL's fields in PostgreSQL's order.
    pub(super) fn put_error(&mut self, severity: &str, code: &str, text: &str) {
        let fields = [(b'S', severity), (b'V', severity), (b'C', code), (b'M', text)];
        self.put(&ErrorResponse::new(fields.map(|(field, value)| (field, value.to_owned())).to_vec()));
    }

    /// Puts bytes that are no message.
    pub(super) fn put_raw(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// How many bytes of the output are in full blocks of the send buffer, which leave without being asked for.
    pub(super) fn full_blocks(&self) -> usize {
        self.output.len() / SEND_BUFFER_BYTES * SEND_BUFFER_BYTES
    }

    /// How many bytes the output has.
    pub(super) fn held_back(&self) -> usize {
        self.output.len()
    }

    /// Writes full blocks of the send buffer, and keeps the rest. Waits while the socket takes no more, and reads
    /// nothing meanwhile: that is what pushes back on a client that doesn't read.
    pub(super) async fn spill(&mut self) -> Result<(), Closed> {
        self.write(self.full_blocks()).await
    }

    /// Writes everything.
    pub(super) async fn flush(&mut self) -> Result<(), Closed> {
        self.write(self.output.len()).await
    }

    /// Writes so many bytes of the output.
    pub(super) async fn write(&mut self, mut bytes: usize) -> Result<(), Closed> {
        while bytes > 0 {
            bytes -= poll_fn(|cx| self.poll_write(bytes, cx)).await?;
        }
        poll_fn(|cx| Pin::new(&mut self.stream).poll_flush(cx)).await.map_err(|_: io::Error| Closed)
    }

    /// Moves bytes of the output to the socket: at least one and at most `bytes`, which is not 0.
    pub(super) fn poll_write(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<Result<usize, Closed>> {
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output[..bytes])) {
            Ok(written @ 1..) => {
                let _ = self.output.split_to(written);
                if self.output.is_empty() {
                    self.output = BytesMut::new();
                }
                Ok(written)
            }
            Ok(0) | Err(_) => Err(Closed),
        })
    }

    /// Throws away what is in the output and was not written.
    pub(super) fn drop_output(&mut self) {
        self.output = BytesMut::new();
    }

    /// Reads and throws away, to the end of the connection.
    pub(super) async fn outlast(&mut self) {
        while poll_fn(|cx| self.poll_fill(cx)).await.is_ok() {
            self.input.bytes().clear();
        }
    }

    /// Ends the connection after a FATAL: what is in the output, then FIN.
    pub(super) async fn finish(mut self) {
        // Whoever is gone already misses nothing.
        if self.flush().await.is_ok() {
            let _ = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await;
        }
    }
}
