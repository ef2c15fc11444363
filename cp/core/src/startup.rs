//! Before a connection speaks typed messages: encryption requests, the startup packet, a cancel request.
//!
//! Nothing is read beyond the packet under way, so no byte of what follows is ever taken for something it isn't. A startup
//! packet goes to the worker as it came: which minor version and which protocol options are spoken is between the client and
//! its worker.
//!
//! Source: PostgreSQL's protocol, "Message Formats" (SSLRequest, GSSENCRequest, CancelRequest, StartupMessage).

use super::wire::{CANCEL_REQUEST, CancelKey, Malformed};

/// The largest startup packet: PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
const MAX_PACKET: usize = 10_000;
/// Encryption requests before the startup packet: one for GSSAPI, one for TLS.
const MAX_REQUESTS: usize = 2;

const SSL_REQUEST: u32 = 80_877_103;
/// An SSLRequest, for a worker.
pub const SSL_REQUEST_PACKET: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// What a TLS handshake begins with: no startup packet is long enough for it.
const HANDSHAKE: u8 = 0x16;
const GSSENC_REQUEST: u32 = 80_877_104;
/// The major version that is spoken here.
const MAJOR: u32 = 3;

/// The answer to an encryption request where there is none of its kind.
pub const NO_ENCRYPTION: &[u8] = b"N";
/// The answer to one for TLS, in front of the handshake.
pub const TLS: &[u8] = b"S";

/// Reads how a connection opens, packet by packet.
///
/// Read [`StartupReader::wants`] bytes, no more, and pass them to [`StartupReader::handle_bytes`]; again and again, until it has a packet.
/// Behind a [`Packet::Encryption`] (to be answered with [`NO_ENCRYPTION`], or with [`TLS`] and a handshake) another packet follows,
/// and so it does behind the handshake of a [`Packet::Handshake`].
#[derive(Debug, Default)]
pub struct StartupReader {
    packet: Vec<u8>,
    /// Encryption requests so far.
    requests: usize,
}

/// What a connection opens with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet {
    /// It wants a session: the packet, for the worker.
    Startup(Vec<u8>),
    /// It brings a cancel request.
    Cancel(CancelKey),
    /// It asks for encryption.
    Encryption(Encryption),
    /// It is in the middle of a TLS handshake that it has begun without asking (`sslnegotiation=direct`): what was read of
    /// it. It must name the protocol `postgresql` (ALPN).
    Handshake(Vec<u8>),
    /// It wants a protocol that is not spoken here: this major version.
    Version(u16),
}

/// How a connection is to be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// By TLS.
    Tls,
    /// By GSSAPI.
    Gssapi,
}

impl StartupReader {
    /// How many bytes are to be read next.
    pub fn wants(&self) -> usize {
        self.length().unwrap_or(4) - self.packet.len()
    }

    /// Whether encryption was asked for before.
    pub const fn asked_for_encryption(&self) -> bool {
        self.requests > 0
    }

    /// Takes bytes of the packet under way, as many as [`StartupReader::wants`] said or fewer. Returns the packet once it is
    /// complete.
    ///
    /// # Errors
    /// [`Malformed::Startup`] for what is no such packet.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<Packet>, Malformed> {
        debug_assert!(bytes.len() <= self.wants(), "nothing is read beyond the packet under way");
        self.packet.extend_from_slice(bytes);
        if self.requests == 0 && self.packet.first() == Some(&HANDSHAKE) {
            self.requests += 1;
            return Ok(Some(Packet::Handshake(std::mem::take(&mut self.packet))));
        }
        if self.length().is_some_and(|length| !(8..=MAX_PACKET).contains(&length)) {
            return Err(Malformed::Startup("its length is not between 8 and 10000"));
        }
        if self.wants() > 0 {
            return Ok(None);
        }
        let packet = std::mem::take(&mut self.packet);
        let [_, _, _, _, a, b, c, d, body @ ..] = packet.as_slice() else { return Ok(None) };
        match u32::from_be_bytes([*a, *b, *c, *d]) {
            SSL_REQUEST | GSSENC_REQUEST if self.requests == MAX_REQUESTS => {
                Err(Malformed::Startup("encryption was asked for again and again"))
            }
            kind @ (SSL_REQUEST | GSSENC_REQUEST) => {
                self.requests += 1;
                let encryption = if kind == SSL_REQUEST { Encryption::Tls } else { Encryption::Gssapi };
                Ok(Some(Packet::Encryption(encryption)))
            }
            CANCEL_REQUEST => {
                let malformed = Malformed::Startup("a cancel request's key is too short or too long");
                CancelKey::read(body).map(|key| Some(Packet::Cancel(key))).ok_or(malformed)
            }
            version if version >> 16 == MAJOR => {
                parameters(&packet)?;
                Ok(Some(Packet::Startup(packet)))
            }
            version => Ok(Some(Packet::Version((version >> 16) as u16))),
        }
    }

    /// The length that the packet under way claims, once it is known.
    fn length(&self) -> Option<usize> {
        self.packet.first_chunk().map(|length| u32::from_be_bytes(*length) as usize)
    }
}

/// A parameter's name and value, in the client's own encoding.
pub type Parameter<'a> = (&'a [u8], &'a [u8]);

/// The parameters of a startup packet.
///
/// # Errors
/// [`Malformed::Startup`] if the packet can't be read to its end.
pub fn parameters(packet: &[u8]) -> Result<Vec<Parameter<'_>>, Malformed> {
    let mut parameters = Vec::new();
    let mut rest = packet.get(8..).unwrap_or_default();
    loop {
        let name = text(&mut rest)?;
        if name.is_empty() {
            break;
        }
        parameters.push((name, text(&mut rest)?));
    }
    if rest.is_empty() { Ok(parameters) } else { Err(Malformed::Startup("there are bytes behind its last parameter")) }
}

/// Takes a zero-terminated text off the front.
fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let end = rest.iter().position(|byte| *byte == 0).ok_or(Malformed::Startup("a parameter does not end"))?;
    let (text, behind) = rest.split_at(end);
    *rest = &behind[1..];
    Ok(text)
}
