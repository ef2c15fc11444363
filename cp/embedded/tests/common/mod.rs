//! What the tests connect with: tokio-postgres, and the bare protocol where that hides something.

#![allow(dead_code, reason = "no test uses all of it")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real sockets, never simulated")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::time::Duration;

use bytes::{Buf, BytesMut};
use lastcall_embedded::Engine;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Far longer than anything here takes.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Fails the test that waits for something that doesn't come.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, work).await.expect("it ends in time")
}

pub(crate) async fn connect(engine: &Engine) -> Client {
    let config = format!("host=127.0.0.1 port={} user=me dbname=db application_name=test", engine.address().port());
    let (client, connection) = soon(tokio_postgres::connect(&config, NoTls)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The texts of a Query's rows, joined.
pub(crate) async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let messages = soon(client.simple_query(sql)).await.unwrap();
    let text = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let texts = (0..row.len()).map(|index| row.get(index).unwrap_or("NULL").to_owned());
            Some(texts.collect::<Vec<_>>().join(","))
        }
        _ => None,
    };
    messages.into_iter().filter_map(text).collect()
}

/// The SQLSTATE that a Query fails with.
pub(crate) async fn state(client: &Client, sql: &str) -> String {
    code(soon(client.simple_query(sql)).await.unwrap_err())
}

pub(crate) fn code(error: tokio_postgres::Error) -> String {
    error.code().map_or_else(|| format!("{error:?}"), |code| code.code().to_owned())
}

/// A connection that shows every message.
pub(crate) struct Bare {
    stream: TcpStream,
    received: BytesMut,
}

impl Bare {
    pub(crate) async fn connect(engine: &Engine) -> Bare {
        let mut bare = Bare::open(engine).await;
        bare.start().await;
        bare
    }

    /// Before its startup.
    pub(crate) async fn open(engine: &Engine) -> Bare {
        let stream = TcpStream::connect(engine.address()).await.unwrap();
        Bare { stream, received: BytesMut::new() }
    }

    pub(crate) async fn start(&mut self) {
        self.send(|buffer| frontend::startup_message([("user", "me")], buffer).unwrap()).await;
    }

    /// The next byte, where there is no message yet.
    pub(crate) async fn byte(&mut self) -> u8 {
        soon(self.stream.read_u8()).await.unwrap()
    }

    pub(crate) async fn send(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut buffer = BytesMut::new();
        write(&mut buffer);
        self.stream.write_all(&buffer).await.unwrap();
    }

    /// The next message: its tag and its body.
    pub(crate) async fn next(&mut self) -> (char, Vec<u8>) {
        loop {
            if let Some(length) = self.received.get(1..5) {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.received.len() > length {
                    let mut message = self.received.split_to(1 + length);
                    let tag = char::from(message.get_u8());
                    message.advance(4);
                    return (tag, message.to_vec());
                }
            }
            assert!(soon(self.stream.read_buf(&mut self.received)).await.unwrap() > 0, "closed");
        }
    }

    /// What comes until ReadyForQuery: the tags, with the text of a CommandComplete, the SQLSTATE of an error, and the
    /// status at the end.
    pub(crate) async fn until_ready(&mut self) -> String {
        let mut told = Vec::new();
        loop {
            let (tag, body) = self.next().await;
            match tag {
                'C' => told.push(format!("C {}", text(&body))),
                'E' | 'N' => told.push(format!("{tag} {}", field(&body, b'C'))),
                'Z' => {
                    told.push(format!("Z{}", char::from(body[0])));
                    return told.join(" ");
                }
                'K' | 'R' | 'S' => {}
                tag => told.push(tag.to_string()),
            }
        }
    }

    pub(crate) async fn query(&mut self, sql: &str) -> String {
        self.send(|buffer| frontend::query(sql, buffer).unwrap()).await;
        self.until_ready().await
    }

    /// Parse, Bind, Execute and Sync of a statement without parameters.
    pub(crate) async fn extended(&mut self, sql: &str) -> String {
        self.send(|buffer| {
            frontend::parse("", sql, [], buffer).unwrap();
            bind("", buffer);
            frontend::execute("", 0, buffer).unwrap();
            frontend::sync(buffer);
        })
        .await;
        self.until_ready().await
    }
}

pub(crate) fn bind(portal: &str, buffer: &mut BytesMut) {
    let none = |(): (), _: &mut BytesMut| Ok(postgres_protocol::IsNull::Yes);
    match frontend::bind(portal, "", [], std::iter::empty(), none, [], buffer) {
        Ok(()) => {}
        Err(_) => panic!("a bind without parameters"),
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim_end_matches('\0').to_owned()
}

fn field(body: &[u8], tag: u8) -> String {
    body.split(|byte| *byte == 0).find(|field| field.first() == Some(&tag)).map(|field| text(&field[1..])).unwrap()
}
