//! Sockets of the engine on `turmoil-net`, as a process has them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use ::turmoil_net::shim::tokio::net::{TcpListener, TcpStream};
use lastcall_world::PeerState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::packets::Flow;
use super::socket::Socket;
use super::{Shared, World, lock};

/// A TCP connection. To be used and dropped by tasks of its own host.
pub struct Stream {
    socket: Arc<Mutex<Socket>>,
    flow: Flow,
    host: IpAddr,
    shared: Arc<Shared>,
    /// Whether it is closed with RST.
    aborts: bool,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, world: &World) -> io::Result<Stream> {
        let flow = Flow::new(tcp.local_addr()?, tcp.peer_addr()?);
        let shared = world.shared.clone();
        let host = lock(&shared.links).address(world.index);
        let socket = lock(&shared.sockets).open(tcp, flow, (host, world.id()), world.machine().buffers);
        Ok(Stream { socket, flow, host, shared, aborts: false })
    }

    pub(super) fn flow(&self) -> Flow {
        self.flow
    }

    /// Closes it with RST.
    pub(super) fn reset(mut self) {
        self.aborts = true;
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({:?})", self.flow)
    }
}

impl lastcall_world::Stream for Stream {
    /// Exact: what the peer's stack has acknowledged, once its acknowledgement has arrived. What was still unacknowledged
    /// when the connection was reset stays so.
    fn unacknowledged(&self) -> usize {
        lock(&self.socket).unacknowledged()
    }

    fn poll_peer(&mut self, known: PeerState, cx: &mut Context<'_>) -> Poll<PeerState> {
        lock(&self.socket).poll_peer(known, cx)
    }

    fn refresh(&mut self) {
        lock(&self.socket).refresh();
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let (read, goes_on) = lock(&self.shared.sockets).poll_read(&self.socket, cx, buf);
        if goes_on {
            self.shared.act();
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.act();
        lock(&self.socket).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.act();
        lock(&self.socket).poll_shutdown(cx)
    }
}

impl Drop for Stream {
    /// Before the stack's socket itself closes, which it does with FIN, or with RST if it holds unread bytes.
    fn drop(&mut self) {
        self.shared.act();
        lock(&self.shared.sockets).close(self.flow);
        if self.shared.abandon(self.host, || self.socket.clone()) {
            return;
        }
        let socket = lock(&self.socket);
        let mut unfinished = lock(&self.shared.unfinished);
        if self.aborts || socket.has_unread() {
            unfinished.reset(self.flow);
        } else if !socket.has_ended() {
            unfinished.orphan(self.flow);
        }
    }
}

/// A listening TCP socket. To be used and dropped by tasks of its own host.
pub struct Listener {
    tcp: Arc<TcpListener>,
    world: World,
    host: IpAddr,
    /// What its process knows: nobody is there to be accepted, and it has not been told otherwise.
    is_told_empty: bool,
}

impl Listener {
    pub(super) fn new(tcp: TcpListener, world: World) -> Listener {
        let host = lock(&world.shared.links).address(world.index);
        Listener { tcp: Arc::new(tcp), world, host, is_told_empty: false }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tcp.fmt(f)
    }
}

impl lastcall_world::Listener for Listener {
    type Stream = Stream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        let shared = &self.world.shared;
        if self.is_told_empty && lock(&shared.sockets).defers_accept(self.host, cx) {
            return Poll::Pending;
        }
        loop {
            let accepted = self.tcp.poll_accept(cx);
            self.is_told_empty = accepted.is_pending();
            let (tcp, peer) = ready!(accepted)?;
            let flow = Flow::new(tcp.local_addr()?, peer);
            if !lock(&shared.unfinished).is_unborn(flow) {
                return Poll::Ready(Stream::new(tcp, &self.world).map(|stream| (stream, peer)));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.world.shared.act();
        self.world.shared.abandon(self.host, || self.tcp.clone());
    }
}
