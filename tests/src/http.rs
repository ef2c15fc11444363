//! The kubelet: asks over HTTP how the process is.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer has a few lines.
const MAX_ANSWER: usize = 64 * 1024;

/// A connection that is kept open between requests.
#[derive(Debug)]
pub struct Prober(TcpStream);

impl Prober {
    /// Connects to the admin port.
    ///
    /// # Errors
    /// What the kernel reports.
    pub async fn connect(port: u16) -> io::Result<Prober> {
        Ok(Prober(TcpStream::connect(("127.0.0.1", port)).await?))
    }

    /// The status of `GET path`. The answer's body has no more than its first piece, which is all that a probe's answer
    /// has.
    ///
    /// # Errors
    /// What the kernel reports, and whatever is no answer.
    pub async fn status(&mut self, path: &str) -> io::Result<u16> {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nHost: pod\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            if let Some((status, length)) = parse(&answer) {
                return if answer.len() >= length { Ok(status) } else { Err(io::ErrorKind::InvalidData.into()) };
            }
            if answer.len() > MAX_ANSWER || self.0.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Waits until the other side closes.
    ///
    /// # Errors
    /// What the kernel reports.
    pub async fn closed(&mut self) -> io::Result<()> {
        let mut more = Vec::new();
        while self.0.read_buf(&mut more).await? > 0 {}
        Ok(())
    }
}

/// Status and body of one `METHOD path` with these headers (`Name: value\r\n` each), on a connection of its own.
///
/// # Errors
/// What the kernel reports, and whatever is no answer.
pub async fn ask(port: u16, request: &str, headers: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while answer.len() <= MAX_ANSWER && stream.read_buf(&mut answer).await? > 0 {}
    let (status, _) = parse(&answer).ok_or(io::ErrorKind::UnexpectedEof)?;
    let text = String::from_utf8_lossy(&answer);
    let (_, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}

/// The status of one `GET path` on a connection of its own.
///
/// # Errors
/// What the kernel reports, and whatever is no answer.
pub async fn status(port: u16, path: &str) -> io::Result<u16> {
    Prober::connect(port).await?.status(path).await
}

/// Status and length of an answer, once its head is complete and its body is too.
fn parse(answer: &[u8]) -> Option<(u16, usize)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (body.len() >= length).then_some((status, text.len() - body.len() + length))
}
