//! One connection's bytes, in the clear or under TLS: a stream of the world that the rest relays without asking which.
//!
//! What is acknowledged stays what the other machine's kernel has acknowledged. Records are a little longer than what is in
//! them, so between two looks a few bytes too many may be taken for unacknowledged; none means none, the close_notify at the
//! end included.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::binding::Binding;
use super::early::Early;
use lastcall_world::{PeerState, Stream, World};

/// A connection of this world, as a session has it.
pub(crate) type Link<W> = Wire<<W as World>::Stream>;

/// The most that goes into one record, in bytes: TLS's own limit.
const RECORD: usize = 16_384;

/// See the module's text.
pub(crate) enum Wire<S> {
    /// As it came.
    Clear(S),
    /// Under TLS.
    Tls(Box<Secured<S>>),
    /// To a worker that was asked already whether it takes the session.
    Early(Box<Early<S>>),
    /// A handshake has it, or had it and failed.
    Gone,
}

/// A connection under TLS.
pub(crate) struct Secured<S> {
    tls: TlsStream<Rewound<S>>,
    /// Bytes that were taken and of which the socket may not have had all yet.
    unsent: usize,
    /// Towards a worker, until the client's login has passed the place where it matters.
    binding: Option<Binding>,
}

impl<S: Stream> Wire<S> {
    /// Becomes TLS's server side; `begun` was read of the handshake already.
    ///
    /// # Errors
    /// The handshake's. Nothing more can be said to the other end then.
    pub(crate) async fn accept(&mut self, config: Arc<ServerConfig>, begun: Vec<u8>) -> io::Result<()> {
        let stream = Rewound { begun, stream: self.take()? };
        self.secure(TlsAcceptor::from(config).accept(stream).await?.into(), None)
    }

    /// Becomes TLS's client side, towards the worker called `name`.
    ///
    /// # Errors
    /// The handshake's.
    pub(super) async fn connect(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        binding: impl FnOnce(&[u8]) -> Option<Binding>,
    ) -> io::Result<()> {
        let stream = Rewound { begun: Vec::new(), stream: self.take()? };
        let tls = TlsConnector::from(config).connect(name, stream).await?;
        let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let binding = binding(certificate.map_or(&[], AsRef::as_ref));
        self.secure(tls.into(), binding)
    }

    /// Asks the worker with the client's startup packet whether it takes the session. From outside nothing has happened then: the
    /// packet is still to be written, and the answer to be read.
    ///
    /// # Errors
    /// It can't be asked, or takes no sessions now.
    pub(crate) async fn knock(&mut self, packet: &[u8]) -> io::Result<()> {
        let wire = std::mem::replace(self, Wire::Gone);
        *self = Wire::Early(Box::new(Early::ask(wire, packet).await?));
        Ok(())
    }

    /// Forgets that it was asked, once nothing depends on it any more.
    fn settle(&mut self) {
        if let Wire::Early(early) = self
            && early.is_over()
        {
            *self = std::mem::replace(&mut early.wire, Wire::Gone);
        }
    }

    fn take(&mut self) -> io::Result<S> {
        match std::mem::replace(self, Wire::Gone) {
            Wire::Clear(stream) => Ok(stream),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn secure(&mut self, tls: TlsStream<Rewound<S>>, binding: Option<Binding>) -> io::Result<()> {
        *self = Wire::Tls(Box::new(Secured { tls, unsent: 0, binding }));
        Ok(())
    }
}

impl<S> Wire<S> {
    pub(crate) const fn is_encrypted(&self) -> bool {
        matches!(self, Wire::Tls(_))
    }

    /// The protocol that both sides agreed on in the handshake.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        match self {
            Wire::Tls(secured) => secured.tls.get_ref().1.alpn_protocol(),
            _ => None,
        }
    }

    fn socket(&self) -> Option<&S> {
        match self {
            Wire::Clear(stream) => Some(stream),
            Wire::Tls(secured) => Some(&secured.tls.get_ref().0.stream),
            Wire::Early(early) => early.wire.socket(),
            Wire::Gone => None,
        }
    }

    fn socket_mut(&mut self) -> Option<&mut S> {
        match self {
            Wire::Clear(stream) => Some(stream),
            Wire::Tls(secured) => Some(&mut secured.tls.get_mut().0.stream),
            Wire::Early(early) => early.wire.socket_mut(),
            Wire::Gone => None,
        }
    }
}

impl<S: Stream> Secured<S> {
    /// Gives the socket what was taken before.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(binding) = &mut self.binding {
            while let Some(bytes) = binding.unsent() {
                let taken = ready!(Pin::new(&mut self.tls).poll_write(cx, bytes))?;
                binding.handle_taken(taken);
            }
        }
        if self.unsent > 0 || self.tls.get_ref().1.wants_write() {
            ready!(Pin::new(&mut self.tls).poll_flush(cx))?;
            self.unsent = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // What does not go out now does when the socket wakes the task.
        let _ = self.poll_sent(cx);
        loop {
            if let Some(binding) = &mut self.binding {
                if let Some(bytes) = binding.hear(buf.remaining()) {
                    buf.put_slice(&bytes);
                    return Poll::Ready(Ok(()));
                }
                if binding.is_over() {
                    return Poll::Ready(Ok(()));
                }
                if binding.is_settled() {
                    self.binding = None;
                }
            }
            let Some(binding) = &mut self.binding else { return self.poll_decrypted(cx, buf) };
            // What may have to be changed is read into a place of its own.
            let mut space = [0; 1024];
            let mut bytes = ReadBuf::new(&mut space);
            let read = match Pin::new(&mut self.tls).poll_read(cx, &mut bytes) {
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                read => ready!(read),
            };
            binding.handle_worker(bytes.filled());
            if read.is_err() || bytes.filled().is_empty() {
                binding.handle_worker_ended();
                read?;
            }
        }
    }

    fn poll_decrypted(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.tls).poll_read(cx, buf) {
            // A FIN without a close_notify is what a killed process leaves, under TLS as without.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => read,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // No more than one record waits here.
        ready!(self.poll_sent(cx))?;
        let bytes = &bytes[..bytes.len().min(RECORD)];
        let taken = match &mut self.binding {
            Some(binding) if binding.watches_client() => binding.handle_client(bytes),
            _ => ready!(Pin::new(&mut self.tls).poll_write(cx, bytes))?,
        };
        self.unsent += taken;
        let _ = self.poll_sent(cx)?;
        Poll::Ready(Ok(taken))
    }
}

impl<S: Stream> Stream for Wire<S> {
    fn unacknowledged(&self) -> usize {
        // Looked at towards clients, and no client is early.
        let unsent = match self {
            Wire::Tls(secured) => secured.unsent.max(usize::from(secured.tls.get_ref().1.wants_write())),
            _ => 0,
        };
        unsent + self.socket().map_or(0, Stream::unacknowledged)
    }

    fn poll_peer(&mut self, known: PeerState, cx: &mut Context<'_>) -> Poll<PeerState> {
        if let Wire::Tls(secured) = self {
            let _ = secured.poll_sent(cx);
        }
        match self.socket_mut() {
            Some(stream) => stream.poll_peer(known, cx),
            None => Poll::Pending,
        }
    }

    fn refresh(&mut self) {
        if let Some(stream) = self.socket_mut() {
            stream.refresh();
        }
    }
}

impl<S: Stream> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Wire::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Tls(secured) => secured.poll_read(cx, buf),
            Wire::Early(early) => {
                if !early.poll_heard(buf) {
                    return Pin::new(&mut early.wire).poll_read(cx, buf);
                }
                self.settle();
                Poll::Ready(Ok(()))
            }
            Wire::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<S: Stream> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Wire::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Wire::Tls(secured) => secured.poll_write(cx, bytes),
            Wire::Early(early) => {
                let written = early.poll_write(cx, bytes);
                self.settle();
                written
            }
            Wire::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Wire::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Tls(secured) => secured.poll_sent(cx),
            Wire::Early(early) => Pin::new(&mut early.wire).poll_flush(cx),
            Wire::Gone => Poll::Ready(Ok(())),
        }
    }

    /// Under TLS, behind a close_notify.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Wire::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(secured) => {
                ready!(secured.poll_sent(cx))?;
                Pin::new(&mut secured.tls).poll_shutdown(cx)
            }
            Wire::Early(early) => Pin::new(&mut early.wire).poll_shutdown(cx),
            Wire::Gone => Poll::Ready(Ok(())),
        }
    }
}

/// A stream of which the first bytes were read already.
struct Rewound<S> {
    begun: Vec<u8>,
    stream: S,
}

impl<S: Stream> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.begun.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let read = self.begun.len().min(buf.remaining());
        buf.put_slice(&self.begun[..read]);
        self.begun.drain(..read);
        if self.begun.is_empty() {
            self.begun = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
