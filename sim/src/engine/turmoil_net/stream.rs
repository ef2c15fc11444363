//! Sockets of the engine on `turmoil-net`: its own, with two things put right.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::turmoil_net::shim::tokio::net::{TcpListener, TcpStream};
use bytes::{Buf, Bytes};
use cp::world::Peer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::packets::Flow;
use super::{RECEIVE_BUFFER, Shared, lock};

/// The stack opens its window again only when one read frees half of the receive buffer.
const READ_AT_ONCE: usize = RECEIVE_BUFFER as usize / 2;

/// A TCP connection. To be used and dropped by tasks of its own host.
///
/// A read with less room than 16 KiB reads that much from the socket and keeps the rest for the next one, because the stack
/// would never open its window again for small reads. So a reader that has stopped has taken up to 16 KiB more than it read;
/// on a drop they count as unread.
pub struct Stream {
    tcp: TcpStream,
    flow: Flow,
    shared: Arc<Shared>,
    ahead: Bytes,
    /// The peer has closed its side, and it was read to the end.
    eof: bool,
    /// Whether it is closed with RST.
    aborts: bool,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, shared: Arc<Shared>) -> io::Result<Stream> {
        let flow = Flow { from: tcp.local_addr()?, to: tcp.peer_addr()? };
        Ok(Stream { tcp, flow, shared, ahead: Bytes::new(), eof: false, aborts: false })
    }

    pub(super) fn flow(&self) -> Flow {
        self.flow
    }

    /// Closes it with RST.
    pub(super) fn reset(mut self) {
        self.aborts = true;
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.eof |= buf.filled().len() == before;
        Poll::Ready(Ok(()))
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({} to {})", self.flow.from, self.flow.to)
    }
}

impl cp::world::Stream for Stream {
    fn unacknowledged(&self) -> usize {
        0
    }

    fn poll_peer(&mut self, _known: Peer, _cx: &mut Context<'_>) -> Poll<Peer> {
        Poll::Pending
    }

    fn refresh(&mut self) {}
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if self.ahead.is_empty() {
            if buf.remaining() >= READ_AT_ONCE {
                return self.poll_socket(cx, buf);
            }
            let mut room = [0; READ_AT_ONCE];
            let mut read = ReadBuf::new(&mut room);
            ready!(self.poll_socket(cx, &mut read))?;
            let (now, later) = read.filled().split_at(read.filled().len().min(buf.remaining()));
            buf.put_slice(now);
            self.ahead = Bytes::copy_from_slice(later);
            return Poll::Ready(Ok(()));
        }
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..n]);
        self.ahead.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl Drop for Stream {
    /// Before the socket itself closes, which it does with FIN, or with RST if it holds unread bytes.
    fn drop(&mut self) {
        let mut unfinished = lock(&self.shared.unfinished);
        if self.aborts || !self.ahead.is_empty() {
            unfinished.reset(self.flow);
        } else if !self.eof {
            unfinished.orphan(self.flow);
        }
    }
}

/// A listening TCP socket. To be used and dropped by tasks of its own host.
pub struct Listener {
    tcp: TcpListener,
    shared: Arc<Shared>,
}

impl Listener {
    pub(super) fn new(tcp: TcpListener, shared: Arc<Shared>) -> Listener {
        Listener { tcp, shared }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tcp.fmt(f)
    }
}

impl cp::world::Listener for Listener {
    type Stream = Stream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        let (tcp, peer) = ready!(self.tcp.poll_accept(cx))?;
        Poll::Ready(Stream::new(tcp, self.shared.clone()).map(|stream| (stream, peer)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}
