//! Finding the messages in a stream of bytes, by their headers alone.
//!
//! A [`Framer`] is told of bytes in pieces of any size and says where each message begins and ends. It never copies a
//! payload; what it keeps of a message is its header (five bytes) and how much of its body is still to come.
//!
//! Source: PostgreSQL's protocol, "Message Formats". Every message after the startup packet is a type byte and a length in
//! network order that counts itself and the body, not the type byte.

use std::fmt;

/// Bytes of a message header: the type and the length.
const HEADER: usize = 5;

/// The largest length that any frontend message may claim: PostgreSQL's `PQ_LARGE_MESSAGE_LIMIT`, two bytes short of 1 GiB.
pub const LARGE_MESSAGE_LIMIT: u32 = 0x3fff_fffe;
/// The largest length of a frontend message whose body is small by nature: PostgreSQL's `PQ_SMALL_MESSAGE_LIMIT`.
pub const SMALL_MESSAGE_LIMIT: u32 = 10_000;
/// The largest length of a password or SASL message: PostgreSQL's `PG_MAX_AUTH_TOKEN_LENGTH`.
pub const AUTH_MESSAGE_LIMIT: u32 = 65_535;
/// The largest length that a backend message may claim: what a signed integer holds, which is all that libpq asks. A row
/// as large as PostgreSQL can build is longer, with its length's own four bytes, than any message that it reads.
pub const BACKEND_MESSAGE_LIMIT: u32 = 0x7fff_ffff;

/// What stands in the place of a version in a CancelRequest.
pub const CANCEL_REQUEST: u32 = 80_877_102;

/// Which side of the connection a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the client.
    Frontend,
    /// From the worker.
    Backend,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Frontend => "client",
            Side::Backend => "worker",
        })
    }
}

/// Bytes that are not the PostgreSQL protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// A type byte that this side never sends.
    UnknownType {
        /// Who sent it.
        side: Side,
        /// The byte.
        kind: u8,
    },
    /// A length that the type can't have.
    Length {
        /// Who sent it.
        side: Side,
        /// The message's type.
        kind: u8,
        /// The length that it claims.
        length: u32,
        /// The largest valid length.
        limit: u32,
    },
    /// A ReadyForQuery whose transaction status is none of `I`, `T`, `E`, or is missing.
    Status {
        /// The byte in the status's place.
        status: u8,
    },
    /// A startup packet that can't be read.
    Startup(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::UnknownType { side, kind } => write!(f, "unknown message type 0x{kind:02x} from the {side}"),
            Malformed::Length { side, kind, length, limit } => {
                let kind = char::from(*kind);
                write!(f, "message '{kind}' from the {side} claims a length of {length} bytes, valid is 4 to {limit}")
            }
            Malformed::Status { status } => write!(f, "ReadyForQuery with transaction status 0x{status:02x}"),
            Malformed::Startup(what) => write!(f, "malformed startup packet: {what}"),
        }
    }
}

impl std::error::Error for Malformed {}

/// The largest valid length of a message of this type, or `None` if the side never sends the type.
fn limit(side: Side, kind: u8) -> Option<u32> {
    match side {
        Side::Frontend => match kind {
            b'Q' | b'P' | b'B' | b'F' | b'd' => Some(LARGE_MESSAGE_LIMIT),
            b'p' => Some(AUTH_MESSAGE_LIMIT),
            b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' => Some(SMALL_MESSAGE_LIMIT),
            _ => None,
        },
        Side::Backend => match kind {
            b'1' | b'2' | b'3' | b'A' | b'C' | b'D' | b'E' | b'G' | b'H' | b'I' | b'K' | b'N' | b'R' | b'S' | b'T'
            | b'V' | b'W' | b'Z' | b'c' | b'd' | b'n' | b's' | b't' | b'v' => Some(BACKEND_MESSAGE_LIMIT),
            _ => None,
        },
    }
}

/// Whether the message that `bytes` begin with ends within them.
pub(super) fn holds_whole_message(bytes: &[u8]) -> bool {
    match bytes {
        [_, a, b, c, d, body @ ..] => body.len() + 4 >= u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        _ => false,
    }
}

/// One step through a stream: some bytes of one message, up to its end at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The message's type.
    pub kind: u8,
    /// How many of the bytes belong to its header; they come first.
    pub header: usize,
    /// How many belong to its body; they follow.
    pub body: usize,
    /// Where in the body the first of these is.
    pub offset: u32,
    /// Whether the message ends here.
    pub ended: bool,
}

/// Where in its stream of messages one side is.
#[derive(Clone, Copy, Debug)]
pub struct Framer {
    side: Side,
    /// The header's bytes seen so far; meaningless from `seen` on.
    header: [u8; HEADER],
    /// How many of them. `HEADER` means: inside a body.
    seen: u8,
    /// Bytes of the body, and how many of them have passed; meaningful inside a body.
    length: u32,
    passed: u32,
}

impl Framer {
    /// At the beginning of a stream of messages of this side.
    pub const fn new(side: Side) -> Self {
        Framer { side, header: [0; HEADER], seen: 0, length: 0, passed: 0 }
    }

    /// Whether the bytes so far end where a message ends.
    pub const fn at_boundary(&self) -> bool {
        self.seen == 0
    }

    /// The type of the message that is under way, as soon as its first byte has been seen.
    pub const fn kind(&self) -> Option<u8> {
        if self.seen > 0 { Some(self.header[0]) } else { None }
    }

    /// How many more bytes are known to belong to the message under way; zero at a boundary.
    pub const fn owed(&self) -> usize {
        match self.seen as usize {
            0 => 0,
            HEADER => (self.length - self.passed) as usize,
            seen => HEADER - seen,
        }
    }

    /// Goes on through `bytes` (not empty) to the end of one message, or to the end of the bytes.
    ///
    /// # Errors
    /// [`Malformed`] for an unknown type, told at its first byte, or an impossible length. The framer stays where it was.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        debug_assert!(!bytes.is_empty(), "an empty read is the end of the stream");
        let mut next = *self;
        let step = next.take(bytes)?;
        *self = next;
        Ok(step)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        let seen = usize::from(self.seen);
        let header = (HEADER - seen).min(bytes.len());
        if header > 0 {
            self.header[seen..seen + header].copy_from_slice(&bytes[..header]);
            self.seen += header as u8;
            // The other four bytes of an unknown message may never come: its type is judged at once.
            let kind = self.header[0];
            let limit = limit(self.side, kind).ok_or(Malformed::UnknownType { side: self.side, kind })?;
            if seen + header < HEADER {
                return Ok(Step { kind, header, body: 0, offset: 0, ended: false });
            }
            let [_, a, b, c, d] = self.header;
            let length = u32::from_be_bytes([a, b, c, d]);
            if !(4..=limit).contains(&length) {
                return Err(Malformed::Length { side: self.side, kind, length, limit });
            }
            self.length = length - 4;
            self.passed = 0;
        }
        let kind = self.header[0];
        let offset = self.passed;
        let body = (bytes.len() - header).min((self.length - self.passed) as usize);
        // At most what is left of a u32.
        self.passed += body as u32;
        let ended = self.passed == self.length;
        if ended {
            self.seen = 0;
        }
        Ok(Step { kind, header, body, offset, ended })
    }
}

/// With what a client can cancel: a process id and a secret, as BackendKeyData and CancelRequest carry them. The secret has
/// 4 bytes in version 3.0 of the protocol and up to 256 in version 3.2.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelKey(Box<[u8]>);

impl CancelKey {
    /// The longest there is, in bytes.
    pub const MAX: usize = 4 + 256;

    /// A key from the body of a BackendKeyData, or from what follows the code of a CancelRequest. None if that is too short,
    /// or too long.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        (8..=Self::MAX).contains(&bytes.len()).then(|| CancelKey(bytes.into()))
    }

    /// The worker's name for the session. Others may have the same at other workers.
    pub fn process_id(&self) -> u32 {
        self.0.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// Whether it is this very key. For keys of the same length that takes the same time wherever they differ.
    pub fn matches(&self, other: &CancelKey) -> bool {
        let differ = self.0.iter().zip(&other.0).fold(0, |differ, (one, other)| differ | (one ^ other));
        self.0.len() == other.0.len() && std::hint::black_box(differ) == 0
    }

    /// The CancelRequest packet that carries this key. Source: protocol, "CancelRequest".
    pub fn request(&self) -> Vec<u8> {
        // At most MAX and eight.
        let length = self.0.len() as u32 + 8;
        [&length.to_be_bytes()[..], &CANCEL_REQUEST.to_be_bytes(), &self.0].concat()
    }
}

/// Secrets don't go into logs.
impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey({}, …)", self.process_id())
    }
}
