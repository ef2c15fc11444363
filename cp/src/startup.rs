//! Before a connection speaks typed messages: encryption requests, the startup packet, a cancel request.
//!
//! Which bytes are read, and what they mean, is [`lastcall_core::startup`]'s business.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio_rustls::rustls::ServerConfig;

use crate::tls::{ALPN, Tls, Wire};
use crate::who::Names;
use lastcall_core::startup::{self, Encryption, NO_ENCRYPTION, Packet, StartupReader};
use lastcall_core::wire::CancelKey;
use lastcall_core::{EndReason, Malformed};
use lastcall_world::Stream;
use lastcall_world::peer::Peer;

/// Bytes read at once.
const CHUNK: usize = 512;
/// The longest name that is shown, in bytes: PostgreSQL's NAMEDATALEN less its zero. PostgreSQL cuts a longer one as well.
const MAX_NAME: usize = 63;
/// How a connection opened.
#[derive(Debug)]
pub(crate) enum Opening {
    /// It wants a session.
    Session(Startup),
    /// It brings a cancel request.
    Cancel(CancelKey),
}

/// Why a connection never got to a startup packet that can be used.
#[derive(Debug)]
pub(crate) enum NoOpening {
    /// Its time was up, or the process exits.
    Ended(EndReason),
    /// It closed or reset.
    Gone,
    /// It did so when it was told that there is no such encryption here.
    NoEncryption,
    /// It wants a session in the clear, where that is not allowed.
    NotEncrypted,
    /// The TLS handshake failed, and why.
    Handshake(String),
    /// What it sent is no startup packet.
    Malformed(Malformed),
    /// It wants a protocol that is not spoken here: this major version.
    Version(u16),
}

/// What a startup packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Startup {
    pub(crate) names: Arc<Names>,
    /// The packet, for the worker.
    pub(crate) packet: Vec<u8>,
}

/// Reads up to and including the startup packet, under TLS where the client wants it and `tls` has it. Polls `end` whenever the
/// connection's task runs.
pub(crate) async fn read<S: Stream>(
    stream: &mut Peer<Wire<S>>,
    tls: &Tls,
    mut end: impl FnMut(&mut Context<'_>) -> Poll<EndReason>,
) -> Result<Opening, NoOpening> {
    let mut reader = StartupReader::default();
    loop {
        let packet = read_packet(stream, &mut reader, &mut end).await;
        let refused = reader.asked_for_encryption();
        match packet
            .map_err(|why| if refused && matches!(why, NoOpening::Gone) { NoOpening::NoEncryption } else { why })?
        {
            Packet::Encryption(encryption) => match tls.server().filter(|_| encryption == Encryption::Tls) {
                // Not a byte behind the request was read: what was sent in the clear there is no handshake.
                Some(config) => {
                    write_all(stream, startup::TLS, &mut end).await?;
                    Box::pin(shake_hands(stream, config, Vec::new(), &mut end)).await?;
                }
                None => write_all(stream, NO_ENCRYPTION, &mut end).await?,
            },
            Packet::Handshake(begun) => {
                let config = tls.server().ok_or(NoOpening::NoEncryption)?;
                Box::pin(shake_hands(stream, config, begun, &mut end)).await?;
                if stream.stream().alpn() != Some(ALPN) {
                    return Err(NoOpening::Handshake("it did not ask for the protocol postgresql (ALPN)".to_owned()));
                }
            }
            Packet::Cancel(key) => return Ok(Opening::Cancel(key)),
            Packet::Startup(_) if tls.is_required() && !stream.stream().is_encrypted() => {
                return Err(NoOpening::NotEncrypted);
            }
            Packet::Startup(packet) => {
                return Startup::read(packet).map(Opening::Session).map_err(NoOpening::Malformed);
            }
            Packet::Version(major) => return Err(NoOpening::Version(major)),
            other => unreachable!("a packet of no known kind: {other:?}"),
        }
    }
}

impl Startup {
    /// What a startup packet says.
    fn read(packet: Vec<u8>) -> Result<Startup, Malformed> {
        let mut names = Names::default();
        for (name, value) in startup::parameters(&packet)? {
            match name {
                b"user" => names.user = shown(value),
                b"database" => names.database = shown(value),
                b"application_name" => names.application = shown(value),
                _ => {}
            }
        }
        if names.database.is_empty() {
            names.database.clone_from(&names.user);
        }
        Ok(Startup { names: Arc::new(names), packet })
    }
}

/// A name as the log, the records and the admin port show it: a client chooses it, so it is cut, and what could make one line
/// look like two, or paint a terminal, is escaped.
fn shown(name: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(&name[..name.len().min(MAX_NAME)]).chars() {
        if is_deceptive(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// Whether a letter is not seen, or changes how others are: controls, separators of lines, and Unicode's format characters,
/// those that turn the direction of writing among them.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

async fn read_packet<S: Stream>(
    stream: &mut Peer<S>,
    reader: &mut StartupReader,
    end: &mut impl FnMut(&mut Context<'_>) -> Poll<EndReason>,
) -> Result<Packet, NoOpening> {
    std::future::poll_fn(|cx| {
        let mut refreshed = false;
        loop {
            let mut space = [0; CHUNK];
            let mut bytes = ReadBuf::new(&mut space[..reader.wants().min(CHUNK)]);
            match stream.poll_read(cx, &mut bytes) {
                Poll::Ready(0) => return Poll::Ready(Err(NoOpening::Gone)),
                Poll::Ready(_) => match reader.handle_bytes(bytes.filled()) {
                    Ok(Some(packet)) => return Poll::Ready(Ok(packet)),
                    Ok(None) => {}
                    Err(malformed) => return Poll::Ready(Err(NoOpening::Malformed(malformed))),
                },
                Poll::Pending => match end(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(reason) if refreshed => return Poll::Ready(Err(NoOpening::Ended(reason))),
                    // What has arrived in time counts, however late the clock was read.
                    Poll::Ready(_) => {
                        refreshed = true;
                        stream.refresh();
                    }
                },
            }
        }
    })
    .await
}

/// Becomes TLS, of which `begun` was read already, unless the connection ends first.
async fn shake_hands<S: Stream>(
    stream: &mut Peer<Wire<S>>,
    config: Arc<ServerConfig>,
    begun: Vec<u8>,
    end: &mut impl FnMut(&mut Context<'_>) -> Poll<EndReason>,
) -> Result<(), NoOpening> {
    let mut shaking = pin!(stream.stream_mut().accept(config, begun));
    std::future::poll_fn(|cx| match shaking.as_mut().poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            Poll::Ready(Err(NoOpening::Handshake(error.to_string())))
        }
        Poll::Ready(Err(_)) => Poll::Ready(Err(NoOpening::Gone)),
        Poll::Pending => end(cx).map(|reason| Err(NoOpening::Ended(reason))),
    })
    .await
}

/// Writes `bytes`, unless the connection ends first.
async fn write_all<S: Stream>(
    stream: &mut Peer<S>,
    mut bytes: &[u8],
    end: &mut impl FnMut(&mut Context<'_>) -> Poll<EndReason>,
) -> Result<(), NoOpening> {
    std::future::poll_fn(|cx| {
        bytes = &bytes[stream.write(bytes, cx)..];
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if stream.is_deaf() {
            return Poll::Ready(Err(NoOpening::Gone));
        }
        end(cx).map(|reason| Err(NoOpening::Ended(reason)))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use lastcall_core::wire::CANCEL_REQUEST;

    use super::*;
    use crate::in_memory;

    fn packet(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut packet = [[0; 4], version.to_be_bytes()].concat();
        for (name, value) in parameters {
            packet.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        packet.push(0);
        let length = packet.len() as u32;
        packet[..4].copy_from_slice(&length.to_be_bytes());
        packet
    }

    #[test]
    fn a_startup_packet_is_passed_on_as_it_is_whatever_minor_version_and_options_it_asks_for() {
        let parameters = [("user", "app"), ("_pq_.shiny", "on"), ("application_name", "etl"), ("DateStyle", "ISO")];
        for version in [0x3_0000, 0x3_0002, 0x3_270f] {
            let packet = packet(version, &parameters);
            let startup = Startup::read(packet.clone()).unwrap();
            assert_eq!(
                (startup.names.user.as_str(), startup.names.database.as_str(), startup.names.application.as_str()),
                ("app", "app", "etl")
            );
            assert_eq!(startup.packet, packet);
        }
    }

    #[test]
    fn a_name_is_shown_in_one_line_that_its_client_can_not_lengthen() {
        let forged = "x\n2026 INFO session ended\u{1b}[2J\u{2028}é\u{202e}\u{200f}\u{2066}\u{61c}\u{200b}\u{feff}";
        let startup = Startup::read(packet(0x3_0000, &[("user", "app"), ("application_name", forged)])).unwrap();
        assert_eq!(
            startup.names.application,
            r"x\n2026 INFO session ended\u{1b}[2J\u{2028}é\u{202e}\u{200f}\u{2066}\u{61c}\u{200b}\u{feff}"
        );
        let startup = Startup::read(packet(0x3_0000, &[("user", &"u".repeat(9000))])).unwrap();
        assert_eq!((startup.names.user.len(), startup.names.database.len()), (MAX_NAME, MAX_NAME));
        assert!(startup.packet.len() > 9000, "the worker is told all of it");
    }

    #[test]
    fn a_cancel_request_carries_a_secret_of_4_to_256_bytes() {
        for (secret, valid) in [(0, false), (3, false), (4, true), (32, true), (256, true), (257, false)] {
            let key = vec![7; 4 + secret];
            let length = key.len() as u32 + 8;
            let packet = [&length.to_be_bytes()[..], &CANCEL_REQUEST.to_be_bytes(), &key].concat();
            let (stream, client) = in_memory::pair();
            client.say(&packet);
            let (mut stream, tls) = (Peer::new(Wire::Clear(stream)), Tls::default());
            let read = pin!(read(&mut stream, &tls, |_| Poll::Pending)).poll(&mut Context::from_waker(Waker::noop()));
            match read {
                Poll::Ready(Ok(Opening::Cancel(told))) => {
                    assert_eq!((Some(told), valid), (CancelKey::read(&key), true))
                }
                Poll::Ready(Err(NoOpening::Malformed(_))) => assert!(!valid, "{secret} bytes"),
                other => panic!("{secret} bytes: {other:?}"),
            }
        }
    }

    #[test]
    fn a_startup_packet_that_breaks_off_or_goes_on_is_malformed() {
        for body in [&b"user\0app"[..], b"user\0", b"", b"user\0app\0\0more"] {
            assert!(Startup::read([&[0; 8], body].concat()).is_err(), "{body:?}");
        }
    }
}
