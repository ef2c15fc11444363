//! Listens in on the bytes that a client reads, and logs what they say of the connection's end.
//!
//! A client library stops reading when it is content or has had enough. The promise of a clean goodbye is about what
//! arrives behind that: one FATAL, then the end of the stream, at a message boundary. So the stream belongs to the tap;
//! the library gets a handle, and another one stays behind to read on.
//!
//! The tap follows message headers only, and shares no code with the control plane that it judges.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use cp::core::Time;
use cp::world::World;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::Inbox;
use crate::history::{Conn, Event, Recorder};

/// How long a client whose library is done with the connection goes on reading, for the end of the stream.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(60);

/// Where a FATAL is looked for that was written into the middle of another message: the last bytes of the stream.
const TAIL_BYTES: usize = 4 * 1024;

/// Longest ErrorResponse that is read; libpq takes longer ones for a loss of synchronisation.
const MAX_ERROR_BYTES: usize = 30_000;

/// A client's stream, watched. Clones share the stream; it is closed when the last one is dropped.
pub struct Tap<W: World>(Arc<Mutex<Inner<W>>>);

struct Inner<W: World> {
    world: W,
    recorder: Recorder,
    conn: Conn,
    stream: W::Stream,
    /// Read from the stream, and not by the library yet.
    ahead: Inbox,
    watch: Watch,
    /// SQLSTATE of the first FATAL.
    fatal: Option<String>,
    fatal_at: Option<Time>,
    end: Option<End>,
    /// A write met a reset. Kernels report it to one call only, and call the next read the end of the stream.
    write_met_reset: bool,
}

/// How the stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Eof,
    Reset,
}

impl<W: World> Tap<W> {
    /// Watches `stream`, the connection `conn`.
    pub fn new(world: W, recorder: Recorder, conn: Conn, stream: W::Stream) -> Self {
        Tap(Arc::new(Mutex::new(Inner {
            world,
            recorder,
            conn,
            stream,
            ahead: Inbox::default(),
            watch: Watch::default(),
            fatal: None,
            fatal_at: None,
            end: None,
            write_met_reset: false,
        })))
    }

    /// The SQLSTATE of the FATAL that was read, if one was.
    pub fn fatal(&self) -> Option<String> {
        self.lock().fatal.clone()
    }

    /// When the first FATAL was read.
    pub fn fatal_at(&self) -> Option<Time> {
        self.lock().fatal_at
    }

    /// Whether the end of the stream was read, or a reset.
    pub fn ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Reads on, and throws away, to the end of the stream, but no longer than [`DRAIN_PATIENCE`]. False if that
    /// passed.
    pub async fn drain(&self) -> bool {
        let mut patience = {
            let inner = self.lock();
            Box::pin(inner.world.sleep_until(inner.world.now() + DRAIN_PATIENCE))
        };
        poll_fn(|cx| {
            let mut inner = self.lock();
            loop {
                if inner.end.is_some() {
                    return Poll::Ready(true);
                }
                inner.ahead.bytes().clear();
                if inner.poll_read_ahead(cx).is_pending() {
                    return patience.as_mut().poll(cx).map(|()| false);
                }
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Inner<W>> {
        self.0.lock().expect("nothing panics while it holds the stream")
    }
}

impl<W: World> Clone for Tap<W> {
    fn clone(&self) -> Self {
        Tap(self.0.clone())
    }
}

impl<W: World> Inner<W> {
    /// Reads once from the stream and watches what came. Errors and the end are remembered, and logged once.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Ready(());
        }
        let known = self.ahead.len();
        let end = match ready!(self.ahead.poll_fill(&mut self.stream, cx)) {
            Ok(1..) => {
                let mut fatals = Vec::new();
                self.watch.feed(&self.ahead.bytes()[known..], &mut fatals);
                for fatal in fatals {
                    self.log_fatal(fatal, false);
                }
                return Poll::Ready(());
            }
            Ok(0) if !self.write_met_reset => End::Eof,
            Ok(0) | Err(_) => End::Reset,
        };
        self.end = Some(end);
        if let Some(fatal) = self.watch.hidden_fatal() {
            self.log_fatal(fatal, true);
        }
        let conn = self.conn.clone();
        self.record(match end {
            End::Eof => Event::EofRead { conn, mid_message: self.watch.mid_message() },
            End::Reset => Event::ResetRead { conn },
        });
        Poll::Ready(())
    }

    fn log_fatal(&mut self, fatal: Fatal, mid_message: bool) {
        self.fatal.get_or_insert_with(|| fatal.code.clone());
        self.fatal_at.get_or_insert(self.world.now());
        let Fatal { code, message, detail } = fatal;
        self.record(Event::FatalRead { conn: self.conn.clone(), code, message, detail, mid_message });
    }

    fn record(&self, event: Event) {
        self.recorder.record(self.world.now(), event);
    }

    fn note<T>(&mut self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &written {
            self.write_met_reset |= error.kind() == io::ErrorKind::ConnectionReset;
        }
        written
    }
}

impl<W: World> AsyncRead for Tap<W> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        if inner.ahead.len() == 0 {
            ready!(inner.poll_read_ahead(cx));
        }
        if inner.ahead.len() == 0 && inner.end == Some(End::Reset) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let count = inner.ahead.len().min(buf.remaining());
        let bytes = inner.ahead.bytes();
        buf.put_slice(&bytes[..count]);
        bytes.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<W: World> AsyncWrite for Tap<W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        let written = pin!(&mut inner.stream).poll_write(cx, buf);
        inner.note(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        let flushed = pin!(&mut inner.stream).poll_flush(cx);
        inner.note(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        let shut = pin!(&mut inner.stream).poll_shutdown(cx);
        inner.note(shut)
    }
}

/// What a FATAL says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fatal {
    code: String,
    message: String,
    detail: Option<String>,
}

/// Follows messages through a stream that comes in pieces.
#[derive(Debug, Default)]
struct Watch {
    header: Vec<u8>,
    /// Bytes of the current message's body still to come.
    body_left: usize,
    /// The body so far, if it is an ErrorResponse.
    error: Option<Vec<u8>>,
    /// What came was no message: there are no boundaries any more.
    lost: bool,
    /// At a boundary, a FATAL was read.
    fatal_seen: bool,
    /// The last bytes.
    tail: Vec<u8>,
}

impl Watch {
    fn feed(&mut self, mut bytes: &[u8], fatals: &mut Vec<Fatal>) {
        self.keep_tail(bytes);
        while !bytes.is_empty() && !self.lost {
            if self.header.len() < HEADER_BYTES {
                let (more, rest) = bytes.split_at(bytes.len().min(HEADER_BYTES - self.header.len()));
                self.header.extend_from_slice(more);
                bytes = rest;
                if self.header.len() == HEADER_BYTES {
                    self.begin_body();
                }
            } else {
                let (more, rest) = bytes.split_at(bytes.len().min(self.body_left));
                self.body_left -= more.len();
                if let Some(error) = &mut self.error {
                    error.extend_from_slice(more);
                }
                bytes = rest;
            }
            if self.header.len() == HEADER_BYTES && self.body_left == 0 {
                self.header.clear();
                let fatal = self.error.take().and_then(|body| fatal_of(&body));
                self.fatal_seen |= fatal.is_some();
                fatals.extend(fatal);
            }
        }
    }

    fn begin_body(&mut self) {
        match header_of(&self.header) {
            Some((kind, body)) if kind != b'E' || body <= MAX_ERROR_BYTES => {
                self.body_left = body;
                self.error = (kind == b'E').then(Vec::new);
            }
            _ => self.lost = true,
        }
    }

    /// Whether the bytes so far do not end at a message boundary.
    fn mid_message(&self) -> bool {
        self.lost || !self.header.is_empty()
    }

    /// The FATAL at the end of a stream in which none stood at a message boundary: somebody wrote it into a message.
    fn hidden_fatal(&self) -> Option<Fatal> {
        if self.fatal_seen {
            return None;
        }
        (0..self.tail.len()).rev().find_map(|start| {
            let message = &self.tail[start..];
            let (kind, length) = header_of(message.get(..HEADER_BYTES)?)?;
            let body = message.get(HEADER_BYTES..HEADER_BYTES + length)?;
            fatal_of(body).filter(|_| kind == b'E')
        })
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let excess = (self.tail.len() + new.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
        self.tail.extend_from_slice(new);
    }
}

/// A message's type and length.
const HEADER_BYTES: usize = 5;

/// Type and length of the body, if that can be a header of a backend's message.
fn header_of(header: &[u8]) -> Option<(u8, usize)> {
    /// Every message of a backend (protocol chapter, "Message Formats").
    const KINDS: &[u8] = b"123ACDEGHIKNRSTVWZcdnstv";

    let (kind, length) = header.split_first()?;
    let length = i32::from_be_bytes(length.try_into().ok()?);
    let body = usize::try_from(length).ok()?.checked_sub(4)?;
    KINDS.contains(kind).then_some((*kind, body))
}

/// Reads the body of an ErrorResponse; none if its severity is not FATAL.
fn fatal_of(body: &[u8]) -> Option<Fatal> {
    let field = |name: u8| {
        let mut fields = body.split(|byte| *byte == 0).map_while(|field| field.split_first());
        fields.find(|(key, _)| **key == name).map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    // S is translated, V (since 9.6) is not.
    let severity = field(b'V').or_else(|| field(b'S'))?;
    (severity == "FATAL").then(|| Fatal {
        code: field(b'C').unwrap_or_default(),
        message: field(b'M').unwrap_or_default(),
        detail: field(b'D'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::test_world::TestWorld;
    use cp::world::Listener;
    use tokio::io::AsyncWriteExt;

    const READY: &[u8] = b"Z\0\0\0\x05I";

    fn error(severity: &str) -> Vec<u8> {
        let body = format!("S{severity}\0V{severity}\0C57P01\0Mbye\0Dwhy\0\0");
        let mut message = vec![b'E'];
        message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(body.as_bytes());
        message
    }

    fn bye() -> Fatal {
        Fatal { code: "57P01".to_owned(), message: "bye".to_owned(), detail: Some("why".to_owned()) }
    }

    fn fed(pieces: &[&[u8]]) -> (Watch, Vec<Fatal>) {
        let (mut watch, mut fatals) = (Watch::default(), Vec::new());
        for piece in pieces {
            watch.feed(piece, &mut fatals);
        }
        (watch, fatals)
    }

    #[test]
    fn a_fatal_is_seen_however_the_stream_is_cut() {
        let stream = [READY, &error("ERROR"), &error("FATAL")].concat();
        for cut in 0..stream.len() {
            let (watch, fatals) = fed(&[&stream[..cut], &stream[cut..]]);
            assert_eq!(fatals, [bye()], "cut at {cut}");
            assert!(!watch.mid_message());
            assert_eq!(watch.hidden_fatal(), None);
        }
    }

    #[test]
    fn a_fatal_inside_another_message_is_found_at_the_end() {
        let (watch, fatals) = fed(&[READY, b"D\0\0\x04\0\0\x01half of a row", &error("FATAL")]);
        assert_eq!(fatals, []);
        assert!(watch.mid_message());
        assert_eq!(watch.hidden_fatal(), Some(bye()));
    }

    #[test]
    fn a_stream_that_ends_inside_a_message_or_in_garbage_is_not_at_a_boundary() {
        assert!(!fed(&[READY]).0.mid_message());
        assert!(fed(&[READY, b"Z"]).0.mid_message());
        assert!(fed(&[b"Z\0\0\0\x05"]).0.mid_message());
        assert!(fed(&[READY, b"!\0\0\0\x04"]).0.mid_message());
        assert!(fed(&[READY, b"Z\0\0\0\x03"]).0.mid_message());
    }

    #[test]
    fn an_error_that_is_not_fatal_is_no_goodbye() {
        let (watch, fatals) = fed(&[&error("ERROR")]);
        assert_eq!((fatals, watch.hidden_fatal()), (vec![], None));
    }

    #[test]
    fn a_reset_that_a_write_met_is_no_end_of_the_stream() {
        TestWorld::run(|world| async move {
            let mut listener = world.bind("server:1").await.unwrap();
            let stream = world.connect("server:1").await.unwrap();
            let (far, _) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
            let (recorder, conn) = (Recorder::default(), Conn { client: "a".to_owned(), copy: 1, attempt: 1 });
            let mut tap = Tap::new(world, recorder.clone(), conn.clone(), stream);
            far.reset();
            tap.write_all(b"Q").await.unwrap_err();
            assert!(tap.drain().await);
            assert!(tap.drain().await, "the end is logged once");
            let events: Vec<Event> = recorder.history().entries.into_iter().map(|entry| entry.event).collect();
            assert_eq!(events, [Event::ResetRead { conn }]);
        });
    }

    #[test]
    fn the_tail_is_bounded() {
        let (watch, _) = fed(&[&[b'x'; 3 * TAIL_BYTES], &[b'y'; 10]]);
        assert_eq!(watch.tail.len(), TAIL_BYTES);
        assert!(watch.tail.ends_with(b"xyyyyyyyyyy"));
    }
}
