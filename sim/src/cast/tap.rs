//! Listens in on the bytes that a client reads, and logs what they say of the connection's end.
//!
//! A client library stops reading when it is content or has had enough. The promise of a clean goodbye is about what
//! arrives behind that: one FATAL, then the end of the stream, at a message boundary. So the stream belongs to the tap;
//! the library gets a handle, and another one stays behind to read on.
//!
//! What the bytes say is logged in their order: the library is given what stands in front of a FATAL before the FATAL, and
//! the end of its request is logged where the ReadyForQuery stands.
//!
//! It also reads as slowly as it is told to, and logs when the whole startup packet is with the network.
//!
//! The tap follows message headers only, and shares no code with the control plane that it judges.

mod pace;
mod startup;
mod watch;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use lastcall_core::Time;
use lastcall_world::World;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::pace::Pace;
use self::startup::StartupWatch;
use self::watch::{Fatal, Said, Watch};
use super::frame::Inbox;
use crate::cast::history::{Conn, Event, NOT_EXECUTED, Outcome, Recorder, Tag};
use crate::scenario::model::Reading;
use crate::stage::SimWorld;

/// How long a client whose library is done with the connection goes on reading, for the end of the stream.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(60);

/// A client's stream, watched. Clones share the stream; it is closed when the last one is dropped.
pub struct Tap<W: World>(Arc<Mutex<Inner<W>>>);

struct Inner<W: World> {
    world: W,
    recorder: Recorder,
    conn: Conn,
    stream: W::Stream,
    /// Read from the stream, and not by the library yet. What it says is logged when the library is given it.
    ahead: Inbox,
    /// The request that the library waits for.
    asked: Option<Asked>,
    /// Requests that ended for the library before their ReadyForQuery, with an error: so many are still to come.
    unready: u32,
    watch: Watch,
    startup: StartupWatch,
    pace: Pace,
    /// SQLSTATE of the first FATAL.
    fatal: Option<String>,
    /// It said that the last request was not executed.
    not_executed: bool,
    fatal_at: Option<Time>,
    end: Option<End>,
    /// A write met a reset. Kernels report it to one call only, and call the next read the end of the stream.
    write_met_reset: bool,
}

/// A request of a library, which ends with the next ReadyForQuery.
struct Asked {
    tag: Tag,
    error: Option<String>,
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
            asked: None,
            unready: 0,
            watch: Watch::default(),
            startup: StartupWatch::default(),
            pace: Pace::default(),
            fatal: None,
            not_executed: false,
            fatal_at: None,
            end: None,
            write_met_reset: false,
        })))
    }

    /// The SQLSTATE of the FATAL that was read, if one was.
    pub fn fatal(&self) -> Option<String> {
        self.lock().fatal.clone()
    }

    /// Whether a FATAL was read that says that the last request was not executed.
    pub fn told_not_executed(&self) -> bool {
        self.lock().not_executed
    }

    /// When the first FATAL was read.
    pub fn fatal_at(&self) -> Option<Time> {
        self.lock().fatal_at
    }

    /// Whether the end of the stream was read, or a reset.
    pub fn ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// The library asks for this: its end is logged where the bytes say it.
    pub fn asks(&self, tag: Tag) {
        self.lock().asked = Some(Asked { tag, error: None });
    }

    /// The request whose end the bytes did not say yet. Its ReadyForQuery is no other's.
    pub fn unanswered(&self) -> Option<Tag> {
        let mut inner = self.lock();
        let asked = inner.asked.take()?;
        inner.unready += 1;
        Some(asked.tag)
    }

    /// Encryption was asked for: what is read next is one byte, and no message.
    pub fn expect_bare_byte(&self) {
        self.lock().watch.expect_bare_byte();
    }

    /// From here on reads like this, and logs that reading stopped or goes on.
    pub fn set_reading(&self, reading: Reading) {
        let mut inner = self.lock();
        let before = inner.pace.set(reading);
        let conn = || inner.conn.clone();
        let event = match (before, reading) {
            (_, Reading::Rate(_)) => Event::ReadingSlowed { conn: conn() },
            (Reading::Resume | Reading::Rate(_), Reading::Stop) => Event::ReadingStopped { conn: conn() },
            (Reading::Stop, Reading::Resume) => Event::ReadingResumed { conn: conn() },
            _ => return,
        };
        inner.record(event);
    }

    /// From here on reads whatever has arrived, and logs it there.
    pub fn read_for(&self, recorder: Recorder) {
        let mut inner = self.lock();
        inner.recorder = recorder;
        inner.pace.set(Reading::Resume);
    }

    /// Whether nothing is read, however long one waits.
    pub fn is_deaf(&self) -> bool {
        self.lock().pace.is_stopped()
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
                while inner.hand_out(usize::MAX, |_| {}) {}
                if inner.end.is_some() {
                    return Poll::Ready(true);
                }
                if inner.poll_read_ahead(cx).is_pending() {
                    return patience.as_mut().poll(cx).map(|()| false);
                }
            }
        })
        .await
    }

    /// The stream itself, from its only handle.
    fn into_stream(self) -> Option<W::Stream> {
        let inner = Arc::into_inner(self.0)?;
        Some(inner.into_inner().expect("nothing panics while it holds the stream").stream)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<W>> {
        self.0.lock().expect("nothing panics while it holds the stream")
    }
}

impl<W: SimWorld> Tap<W> {
    /// Closes the connection with a reset. Only the last handle can.
    pub fn reset(self, world: &W) {
        if let Some(stream) = self.into_stream() {
            world.reset(stream);
        }
    }

    /// From here on no packet of the connection arrives, in either direction. It lives on at both ends, as far as they
    /// know.
    pub fn vanish(&self, world: &W) {
        world.vanish(&self.lock().stream);
    }
}

impl<W: World> Clone for Tap<W> {
    fn clone(&self) -> Self {
        Tap(self.0.clone())
    }
}

impl<W: World> Inner<W> {
    /// Reads once from the stream; what was read before is handed out. Errors and the end are remembered, and logged once.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Ready(());
        }
        let most = ready!(self.pace.poll_most(&self.world, cx));
        let end = match ready!(self.ahead.poll_fill_some(&mut self.stream, most, cx)) {
            Ok(read @ 1..) => {
                self.pace.has_read(read);
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

    /// Gives the library the next bytes, at most so many, and logs what they say. False if there are none.
    fn hand_out(&mut self, most: usize, take: impl FnOnce(&[u8])) -> bool {
        let ahead = self.ahead.bytes();
        let count = ahead.len().min(most);
        if count == 0 {
            return false;
        }
        let (followed, said) = self.watch.follow(&ahead[..count]);
        take(&ahead[..followed]);
        ahead.advance(followed);
        match said {
            None => {}
            Some(Said::Fatal(fatal)) => self.log_fatal(fatal, false),
            Some(Said::Error(code)) => {
                if let Some(asked) = &mut self.asked {
                    asked.error.get_or_insert(code);
                }
            }
            Some(Said::Ready) if self.unready > 0 => self.unready -= 1,
            Some(Said::Ready) => {
                if let Some(Asked { tag, error }) = self.asked.take() {
                    let outcome = error.map_or(Outcome::Complete, Outcome::Error);
                    self.record(Event::RequestEnded { conn: self.conn.clone(), tag, outcome });
                }
            }
        }
        true
    }

    fn log_fatal(&mut self, fatal: Fatal, mid_message: bool) {
        self.not_executed |= fatal.detail.as_deref() == Some(NOT_EXECUTED);
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
        inner.hand_out(buf.remaining(), |bytes| buf.put_slice(bytes));
        Poll::Ready(Ok(()))
    }
}

impl<W: World> AsyncWrite for Tap<W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        let written = pin!(&mut inner.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = written
            && inner.startup.feed(&buf[..count])
        {
            inner.record(Event::StartupSent { conn: inner.conn.clone() });
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::test_world::TestWorld;
    use lastcall_world::Listener;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn the_ready_for_query_behind_an_error_is_not_the_next_requests() {
        const READY: &[u8] = b"Z\0\0\0\x05I";
        const ERROR: &[u8] = b"E\0\0\0\x13SERROR\0C22012\0\0";
        TestWorld::run(|world| async move {
            let mut listener = world.bind("server:1").await.unwrap();
            let stream = world.connect("server:1").await.unwrap();
            let (mut far, _) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
            let (recorder, conn) = (Recorder::default(), Conn { client: "a".to_owned(), copy: 1, attempt: 1 });
            let mut tap = Tap::new(world, recorder.clone(), conn.clone(), stream);
            let mut read = Vec::new();
            tap.asks("a.1/1".to_owned());
            far.write_all(ERROR).await.unwrap();
            tap.read_buf(&mut read).await.unwrap();
            assert_eq!(tap.unanswered().as_deref(), Some("a.1/1"), "the library knows, before it is ready");
            tap.asks("a.1/2".to_owned());
            far.write_all(&[READY, ERROR, READY].concat()).await.unwrap();
            while !read.ends_with(&[READY, ERROR, READY].concat()) {
                tap.read_buf(&mut read).await.unwrap();
            }
            let events: Vec<Event> = recorder.history().entries.into_iter().map(|entry| entry.event).collect();
            let outcome = Outcome::Error("22012".to_owned());
            assert_eq!(events, [Event::RequestEnded { conn, tag: "a.1/2".to_owned(), outcome }]);
        });
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
}
