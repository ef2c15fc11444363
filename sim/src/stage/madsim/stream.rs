//! Sockets of the engine on `madsim`, as a process has them.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use lastcall_world::PeerState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Connection;
use super::network::{Network, Port, ip};
use super::{lock, socket::Socket};

/// A TCP connection. To be used and dropped by tasks of its own host.
pub struct Stream {
    network: Arc<Network>,
    connection: Arc<Connection>,
    side: usize,
    /// Whether it is closed with RST.
    aborts: bool,
}

impl Stream {
    pub(super) async fn connect(
        network: &Arc<Network>,
        hosts: [usize; 2],
        port: u16,
        alias: Option<Arc<str>>,
    ) -> io::Result<Stream> {
        let connection = network.open_way(hosts, port, alias).await?;
        // Dropped with this future, it takes the connect back.
        let stream = Stream { network: network.clone(), connection, side: 0, aborts: false };
        stream.act(|socket| socket.connect(port));
        poll_fn(|cx| stream.act(|socket| socket.poll_connected(cx))).await?;
        Ok(stream)
    }

    /// Closes it with RST.
    pub(super) fn reset(mut self) {
        self.aborts = true;
    }

    /// The machine at this end is gone.
    pub(super) fn vanish(&self) {
        self.network.vanish(&self.connection, self.side);
    }

    fn act<T>(&self, change: impl FnOnce(&mut Socket) -> T) -> T {
        self.network.act(&self.connection, self.side, change)
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Connection { addresses, .. } = &*self.connection;
        write!(f, "Stream({} to {})", addresses[self.side], addresses[1 - self.side])
    }
}

impl lastcall_world::Stream for Stream {
    /// Exact. What was still unacknowledged when the connection was reset stays so.
    fn unacknowledged(&self) -> usize {
        self.act(|socket| socket.unacknowledged())
    }

    fn poll_peer(&mut self, known: PeerState, cx: &mut Context<'_>) -> Poll<PeerState> {
        self.act(|socket| socket.poll_peer(known, cx))
    }

    /// A socket always knows what its kernel has.
    fn refresh(&mut self) {}
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.act(|socket| socket.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.act(|socket| socket.poll_write(cx, buf))
    }

    /// What was written has left already, or waits for room.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.act(Socket::shut);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let aborts = self.aborts;
        self.act(|socket| socket.close(aborts));
    }
}

/// A listening TCP socket. To be used and dropped by tasks of its own host.
pub struct Listener {
    network: Arc<Network>,
    host: usize,
    number: u16,
    port: Arc<Mutex<Port>>,
}

impl Listener {
    pub(super) fn bind(network: &Arc<Network>, host: usize, port: u16) -> io::Result<Listener> {
        let (number, port) = network.listen(host, port)?;
        Ok(Listener { network: network.clone(), host, number, port })
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listener({}:{})", ip(self.host), self.number)
    }
}

impl lastcall_world::Listener for Listener {
    type Stream = Stream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        let mut port = lock(&self.port);
        let Some(connection) = port.queue.pop_front() else {
            port.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let peer = connection.addresses[0];
        Poll::Ready(Ok((Stream { network: self.network.clone(), connection, side: 1, aborts: false }, peer)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok((ip(self.host), self.number).into())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.network.unlisten(self.host, self.number);
    }
}
