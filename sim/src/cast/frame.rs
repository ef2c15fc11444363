//! PostgreSQL messages cut out of a stream of bytes, trusting none of them.
//!
//! pgwire writes the messages of this crate; it does not read them. Its decoders trust the counts inside a body and
//! panic where a body is shorter than it says, and what is read here may be what a broken control plane made of it.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

/// Room offered to every read. The simulated kernel announces a window again only when one read has freed half of its
/// 32 KiB, so anything below 16 KiB could stop a stream for good.
pub(crate) const READ_BYTES: usize = 32 * 1024;

/// Longest startup packet: PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
pub(crate) const MAX_STARTUP_BYTES: usize = 10_000;

/// One message behind startup: its type and what follows the length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The message's first byte.
    pub(crate) kind: u8,
    /// What follows the length.
    pub(crate) body: Bytes,
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Bytes that were read and not looked at yet. Holds no memory while it is empty: ten thousand idle sessions are usual.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: BytesMut,
}

impl Inbox {
    /// Reads once. Ready with how many bytes came; 0 is the end of the stream.
    pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.poll_fill_some(stream, usize::MAX, cx)
    }

    /// Reads once, and at most so many bytes, which are not none.
    pub(crate) fn poll_fill_some<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space[..most.min(READ_BYTES)]);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        self.bytes.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// What is there.
    pub(crate) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// How many bytes are there.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the next whole message, of at most `limit` bytes, length included.
    pub(crate) fn next_frame(&mut self, limit: usize) -> Result<Option<Frame>, Malformed> {
        let Some(header) = self.bytes.first_chunk::<5>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *header;
        Ok(self.take(1, length, 4..=limit)?.map(|body| Frame { kind, body }))
    }

    /// Takes a whole startup packet, which has no type: the body begins with the protocol version or a request's code.
    pub(crate) fn next_startup(&mut self) -> Result<Option<Bytes>, Malformed> {
        let Some(length) = self.bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        self.take(0, *length, 8..=MAX_STARTUP_BYTES)
    }

    /// Takes a message whose length stands behind `offset` bytes; returns what follows the length.
    fn take(
        &mut self,
        offset: usize,
        length: [u8; 4],
        fits: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<Bytes>, Malformed> {
        let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|length| fits.contains(length));
        let length = length.ok_or(Malformed("invalid length"))?;
        if self.bytes.len() < offset + length {
            return Ok(None);
        }
        let mut message = self.bytes.split_to(offset + length);
        message.advance(offset + 4);
        Ok(Some(message.freeze()))
    }
}

/// The fields of a message's body, one after the other.
#[derive(Debug)]
pub(crate) struct Fields(Bytes);

impl Fields {
    /// The fields of `body`.
    pub(crate) fn of(body: Bytes) -> Fields {
        Fields(body)
    }

    /// One byte.
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| ENDS_EARLY)
    }

    /// Two bytes: a count.
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.0.try_get_u16().map_err(|_| ENDS_EARLY)
    }

    /// Four bytes.
    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        self.0.try_get_i32().map_err(|_| ENDS_EARLY)
    }

    /// A length and as many bytes of text; a negative length is NULL, and no text. What is no UTF-8 is replaced.
    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        let length = usize::try_from(self.i32()?).unwrap_or(0);
        if self.0.len() < length {
            return Err(ENDS_EARLY);
        }
        Ok(String::from_utf8_lossy(&self.0.split_to(length)).into_owned())
    }

    /// Everything behind the fields that were taken.
    pub(crate) fn rest(&mut self) -> Bytes {
        self.0.split_off(0)
    }

    /// A string and the zero byte that ends it. What is no UTF-8 is replaced.
    pub(crate) fn string(&mut self) -> Result<String, Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(ENDS_EARLY)?;
        let string = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0.advance(end + 1);
        Ok(string)
    }
}

const ENDS_EARLY: Malformed = Malformed("ends before its last field");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_only_when_it_is_whole() {
        let mut inbox = Inbox::default();
        inbox.bytes().extend_from_slice(b"Q\0\0\0\x06a");
        assert_eq!(inbox.next_frame(100), Ok(None));
        inbox.bytes().extend_from_slice(b"\0Z");
        assert_eq!(inbox.next_frame(100), Ok(Some(Frame { kind: b'Q', body: Bytes::from_static(b"a\0") })));
        assert_eq!(inbox.len(), 1);
    }

    #[test]
    fn an_impossible_length_is_an_error() {
        for (header, limit) in [(b"Q\0\0\0\x03", 100), (b"Q\xff\xff\xff\xff", 100), (b"Q\0\0\0\x65", 100)] {
            let mut inbox = Inbox::default();
            inbox.bytes().extend_from_slice(header);
            assert!(inbox.next_frame(limit).is_err(), "{header:?}");
        }
    }

    #[test]
    fn fields_that_are_not_there_are_an_error() {
        assert_eq!(Fields::of(Bytes::new()).u8(), Err(ENDS_EARLY));
        assert_eq!(Fields::of(Bytes::from_static(b"\0")).u16(), Err(ENDS_EARLY));
        assert_eq!(Fields::of(Bytes::from_static(b"\0\0\0")).i32(), Err(ENDS_EARLY));
        assert_eq!(Fields::of(Bytes::from_static(b"abc")).string(), Err(ENDS_EARLY));
        assert_eq!(Fields::of(Bytes::from_static(b"\0\0\0\x04abc")).text(), Err(ENDS_EARLY));
    }
}
