//! A socket, and the messages on both its ways.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::time::Duration;

use lastcall_core::Malformed;
use lastcall_core::connection::CHUNK;
use lastcall_core::startup::{NO_ENCRYPTION, Packet, StartupReader};
use lastcall_core::wire::{Framer, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A socket, and what waits on both its ways.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    pub(crate) framer: Framer,
    /// What was read, and how far the framer has seen it.
    pub(crate) input: Vec<u8>,
    pub(crate) seen: usize,
    pub(crate) out: Vec<u8>,
    pub(crate) ended: bool,
}

impl Link {
    pub(crate) fn new(stream: TcpStream, side: Side) -> Link {
        let _ = stream.set_nodelay(true);
        Link { stream, framer: Framer::new(side), input: Vec::new(), seen: 0, out: Vec::new(), ended: false }
    }

    /// Reads the packet that a client opens with.
    pub(crate) async fn open(&mut self) -> io::Result<Packet> {
        let mut opening = StartupReader::default();
        loop {
            let mut bytes = vec![0; opening.wants()];
            let read = self.stream.read(&mut bytes).await?;
            match opening.handle_bytes(&bytes[..read]).map_err(io::Error::other)? {
                Some(Packet::Encryption(_)) => self.stream.write_all(NO_ENCRYPTION).await?,
                Some(packet) => return Ok(packet),
                None if read == 0 => return Err(ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        }
    }

    /// The first whole message of those read.
    pub(crate) fn message(&mut self) -> Result<Option<&[u8]>, Malformed> {
        while (self.seen == 0 || !self.framer.at_boundary()) && self.seen < self.input.len() {
            let step = self.framer.advance(&self.input[self.seen..])?;
            self.seen += step.header + step.body;
        }
        Ok((self.seen > 0 && self.framer.at_boundary()).then(|| &self.input[..self.seen]))
    }

    /// That message is dealt with.
    pub(crate) fn pass(&mut self) -> Vec<u8> {
        self.input.drain(..std::mem::take(&mut self.seen)).collect()
    }

    /// Waits until something can be written or, if it `reads`, read; does that, and returns how many bytes were written.
    pub(crate) async fn step(&mut self, reads: bool) -> io::Result<usize> {
        let interest = match (reads && !self.ended, !self.out.is_empty()) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return pending().await,
        };
        self.stream.ready(interest).await?;
        // Nothing waits from here on.
        let written = if self.out.is_empty() { 0 } else { for_now(self.stream.try_write(&self.out))?.unwrap_or(0) };
        self.out.drain(..written);
        if interest.is_readable() {
            let mut space = [0; CHUNK];
            let read = for_now(self.stream.try_read(&mut space))?;
            self.ended = read == Some(0);
            self.input.extend_from_slice(&space[..read.unwrap_or(0)]);
        }
        Ok(written)
    }

    /// The last words, and the end of this side; then the client ends its own.
    pub(crate) async fn goodbye(&mut self, linger: Duration) -> io::Result<()> {
        while !self.out.is_empty() {
            let written = timeout(linger, self.stream.write(&self.out)).await??;
            self.out.drain(..written);
        }
        self.stream.shutdown().await?;
        let mut unread = tokio::io::sink();
        timeout(linger, tokio::io::copy(&mut self.stream, &mut unread)).await?.map(|_| ())
    }
}

/// Nothing, if it would have to wait.
fn for_now(moved: io::Result<usize>) -> io::Result<Option<usize>> {
    match moved {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        moved => moved.map(Some),
    }
}
