//! Clients that no driver would be: the protocol's bytes by hand, over a real socket.
//!
//! They send without end, read slowly or not at all, or give a wrong answer, and see every byte that comes back.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

use crate::postgres::{DATABASE, SUPERUSER};

/// A receive buffer that is full after a few rows: what the client does not read soon stays with the control plane.
const SMALL_WINDOW: u32 = 16 * 1024;

/// One message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type byte.
    pub tag: u8,
    /// What follows its length.
    pub body: Vec<u8>,
}

/// A connection to the control plane, or to a worker.
#[derive(Debug)]
pub struct Raw {
    /// What the client reads.
    pub messages: Messages,
    /// Where the client writes.
    pub output: OwnedWriteHalf,
}

/// The messages that a client reads.
#[derive(Debug)]
pub struct Messages {
    input: OwnedReadHalf,
    /// Read and not yet returned.
    pending: Vec<u8>,
}

impl Raw {
    /// Opens a session as the superuser, up to its first ReadyForQuery.
    pub async fn session(port: u16, application: &str) -> Raw {
        let mut raw = Raw::connect(port).await;
        raw.log_in(SUPERUSER, application).await;
        raw
    }

    /// Opens a session whose client takes little before the other side must wait for it.
    pub async fn session_with_small_window(port: u16, application: &str) -> Raw {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket.set_recv_buffer_size(SMALL_WINDOW).expect("a window can be small");
        let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
        let mut raw = Raw::over(stream.expect("it listens"));
        raw.log_in(SUPERUSER, application).await;
        raw
    }

    /// Connects, and says nothing yet.
    pub async fn connect(port: u16) -> Raw {
        Raw::over(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("it listens"))
    }

    fn over(stream: TcpStream) -> Raw {
        let (input, output) = stream.into_split();
        Raw { messages: Messages { input, pending: Vec::new() }, output }
    }

    /// Sends a startup packet.
    pub async fn start_up(&mut self, user: &str, application: &str) {
        let parameters = format!("user\0{user}\0database\0{DATABASE}\0application_name\0{application}\0\0");
        let mut packet = (parameters.len() as u32 + 8).to_be_bytes().to_vec();
        packet.extend(196_608u32.to_be_bytes());
        packet.extend(parameters.as_bytes());
        self.send(&packet).await;
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.output.write_all(bytes).await.expect("the other side reads");
    }

    /// Goes without a goodbye: the other side sees a reset.
    pub fn reset(self) {
        self.output.as_ref().set_zero_linger().expect("a socket can be told not to linger");
        // Dropped, it would send the end of the stream first.
        self.output.forget();
    }

    async fn log_in(&mut self, user: &str, application: &str) {
        self.start_up(user, application).await;
        while self.messages.next().await.expect("no reset").expect("a session begins").tag != b'Z' {}
    }
}

impl Messages {
    /// The next message; `None` at the end of the stream.
    ///
    /// # Errors
    /// What the kernel reports, such as a reset. A stream that ends inside a message is an error too.
    pub async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            if self.input.read_buf(&mut self.pending).await? == 0 {
                return if self.pending.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Everything up to the end of the stream.
    ///
    /// # Errors
    /// As [`Messages::next`].
    pub async fn rest(&mut self) -> io::Result<Vec<Message>> {
        let mut rest = Vec::new();
        while let Some(message) = self.next().await? {
            rest.push(message);
        }
        Ok(rest)
    }

    fn take(&mut self) -> Option<Message> {
        let [tag, a, b, c, d, ..] = *self.pending.as_slice() else {
            return None;
        };
        let end = 1 + u32::from_be_bytes([a, b, c, d]) as usize;
        if self.pending.len() < end {
            return None;
        }
        let body = self.pending[5..end].to_vec();
        self.pending.drain(..end);
        Some(Message { tag, body })
    }
}

impl Message {
    /// The fields of an ErrorResponse, by their tags; `None` if it is another message.
    pub fn error(&self) -> Option<BTreeMap<char, String>> {
        let fields = self.body.split(|byte| *byte == 0).filter_map(|field| {
            let (tag, text) = field.split_first()?;
            Some((char::from(*tag), String::from_utf8_lossy(text).into_owned()))
        });
        (self.tag == b'E').then(|| fields.collect())
    }
}

/// A simple query.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', sql)
}

/// A PasswordMessage.
pub fn password(text: &str) -> Vec<u8> {
    message(b'p', text)
}

fn message(tag: u8, text: &str) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend((text.len() as u32 + 5).to_be_bytes());
    message.extend(text.as_bytes());
    message.push(0);
    message
}
