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
    /// Process id and secret, as BackendKeyData gave them; empty before.
    pub key: Vec<u8>,
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
        Raw::session_with(port, application, &[]).await
    }

    /// Opens a session with these `parameters` besides, such as `replication`.
    pub async fn session_with(port: u16, application: &str, parameters: &[(&str, &str)]) -> Raw {
        let mut raw = Raw::connect(port).await;
        raw.log_in(application, parameters).await;
        raw
    }

    /// Opens a session over `stream`, from wherever that comes.
    pub async fn session_over(stream: std::net::TcpStream, application: &str) -> Raw {
        stream.set_nonblocking(true).expect("a socket need not block");
        let mut raw = Raw::over(TcpStream::from_std(stream).expect("there is a runtime"));
        raw.log_in(application, &[]).await;
        raw
    }

    /// Opens a session whose client takes little before the other side must wait for it.
    pub async fn session_with_small_window(port: u16, application: &str) -> Raw {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket.set_recv_buffer_size(SMALL_WINDOW).expect("a window can be small");
        let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
        let mut raw = Raw::over(stream.expect("it listens"));
        raw.log_in(application, &[]).await;
        raw
    }

    /// Connects, and says nothing yet.
    pub async fn connect(port: u16) -> Raw {
        Raw::over(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("it listens"))
    }

    /// This side of `stream`.
    pub(crate) fn over(stream: TcpStream) -> Raw {
        let (input, output) = stream.into_split();
        Raw { messages: Messages { input, pending: Vec::new() }, output, key: Vec::new() }
    }

    /// Sends a startup packet.
    pub async fn start_up(&mut self, user: &str, application: &str) {
        self.start_up_with(user, application, &[]).await;
    }

    async fn start_up_with(&mut self, user: &str, application: &str, parameters: &[(&str, &str)]) {
        let mut text = String::new();
        let named = [("user", user), ("database", DATABASE), ("application_name", application)];
        for (name, value) in named.iter().chain(parameters) {
            text += &format!("{name}\0{value}\0");
        }
        text += "\0";
        let mut packet = (text.len() as u32 + 8).to_be_bytes().to_vec();
        packet.extend(196_608u32.to_be_bytes());
        packet.extend(text.as_bytes());
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

    /// The process id of its backend, as the client was told.
    pub fn process(&self) -> i32 {
        i32::from_be_bytes(*self.key.first_chunk().expect("a session has begun"))
    }

    async fn log_in(&mut self, application: &str, parameters: &[(&str, &str)]) {
        self.start_up_with(SUPERUSER, application, parameters).await;
        loop {
            let message = self.messages.next().await.expect("no reset").expect("a session begins");
            match message.tag {
                b'Z' => return,
                b'K' => self.key = message.body,
                _ => assert_eq!(message.error(), None, "a session begins"),
            }
        }
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

    /// Reads at most `limit` bytes from the socket, and nothing of what they say. None is the end of the stream.
    ///
    /// # Errors
    /// What the kernel reports, such as a reset.
    pub async fn read_bytes(&mut self, limit: usize) -> io::Result<usize> {
        self.pending.reserve(limit);
        (&mut self.input).take(limit as u64).read_buf(&mut self.pending).await
    }

    /// The startup packet with which a client begins, without its length.
    pub(crate) async fn startup_packet(&mut self) -> io::Result<Vec<u8>> {
        let length = self.input.read_u32().await?;
        let mut packet = vec![0; length as usize - 4];
        self.input.read_exact(&mut packet).await?;
        Ok(packet)
    }

    /// The next message of what has been read.
    pub fn take(&mut self) -> Option<Message> {
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
    message(b'Q', &text(sql))
}

/// A PasswordMessage.
pub fn password(password: &str) -> Vec<u8> {
    message(b'p', &text(password))
}

/// Parse: the unnamed statement, without parameters.
pub fn parse(sql: &str) -> Vec<u8> {
    message(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

/// Bind: the unnamed portal to the unnamed statement, everything as text.
pub fn bind() -> Vec<u8> {
    message(b'B', &[0; 8])
}

/// Describe the unnamed portal.
pub fn describe() -> Vec<u8> {
    message(b'D', b"P\0")
}

/// Execute the unnamed portal to its end.
pub fn execute() -> Vec<u8> {
    message(b'E', &[0; 5])
}

/// Flush.
pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

/// Sync.
pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// CopyData.
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

/// CopyDone.
pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

/// A CancelRequest for whoever has this `key`, in place of a startup packet.
pub fn cancel_request(key: &[u8]) -> Vec<u8> {
    let mut packet = (key.len() as u32 + 8).to_be_bytes().to_vec();
    packet.extend(80_877_102u32.to_be_bytes());
    packet.extend(key);
    packet
}

/// One message of either side.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    message
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}
