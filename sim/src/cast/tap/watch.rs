//! Follows a server's messages through a stream of bytes, for the FATAL in it and for its boundaries.

/// Where a FATAL is looked for that was written into the middle of another message: the last bytes of the stream.
const TAIL_BYTES: usize = 4 * 1024;

/// Longest ErrorResponse that is read; libpq takes longer ones for a loss of synchronisation.
const MAX_ERROR_BYTES: usize = 30_000;

/// What a FATAL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fatal {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) detail: Option<String>,
}

/// What a message says of requests, or of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// ReadyForQuery.
    Ready,
    /// An ErrorResponse with this SQLSTATE that is not FATAL.
    Error(String),
    /// A FATAL.
    Fatal(Fatal),
}

/// Follows messages through a stream that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The next byte is no message: the answer to a request for encryption.
    bare_byte: bool,
    header: Vec<u8>,
    /// Bytes of the current message's body still to come.
    body_left: usize,
    /// The body so far, if it is an ErrorResponse.
    error: Option<Vec<u8>>,
    /// What came was no message: there are no boundaries any more.
    lost: bool,
    /// At a boundary, a FATAL was read.
    fatal_seen: bool,
    /// The last bytes.
    tail: Vec<u8>,
}

impl Watch {
    /// Encryption was asked for: the answer is one byte, or an ErrorResponse.
    pub(super) fn expect_bare_byte(&mut self) {
        self.bare_byte = true;
    }

    /// Follows the next bytes, which are not none, up to the end of the first message that says something, and no further
    /// than to the beginning of an ErrorResponse behind others: whoever is given the bytes in these pieces knows of each
    /// answer before it knows of the FATAL behind it. Returns how many bytes that is, and what was said.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> (usize, Option<Said>) {
        let (followed, said) = self.follow_message(bytes);
        self.keep_tail(&bytes[..followed]);
        (followed, said)
    }

    fn follow_message(&mut self, bytes: &[u8]) -> (usize, Option<Said>) {
        let mut at = 0;
        if self.bare_byte {
            self.bare_byte = false;
            at = usize::from(bytes.first() == Some(&b'N'));
        }
        while at < bytes.len() && !self.lost {
            let rest = &bytes[at..];
            if self.header.is_empty() && at > 0 && rest.first() == Some(&b'E') {
                return (at, None);
            }
            if self.header.len() < HEADER_BYTES {
                let more = &rest[..rest.len().min(HEADER_BYTES - self.header.len())];
                self.header.extend_from_slice(more);
                at += more.len();
                if self.header.len() == HEADER_BYTES {
                    self.begin_body();
                }
            } else {
                let more = &rest[..rest.len().min(self.body_left)];
                self.body_left -= more.len();
                if let Some(error) = &mut self.error {
                    error.extend_from_slice(more);
                }
                at += more.len();
            }
            if self.header.len() == HEADER_BYTES && self.body_left == 0 && !self.lost {
                let is_ready = self.header.first() == Some(&b'Z');
                self.header.clear();
                let said = match self.error.take() {
                    Some(body) => said_of(&body),
                    None => is_ready.then_some(Said::Ready),
                };
                self.fatal_seen |= matches!(said, Some(Said::Fatal(_)));
                if said.is_some() {
                    return (at, said);
                }
            }
        }
        (bytes.len(), None)
    }

    fn begin_body(&mut self) {
        match header_of(&self.header) {
            Some((kind, body)) if kind != b'E' || body <= MAX_ERROR_BYTES => {
                self.body_left = body;
                self.error = (kind == b'E').then(Vec::new);
            }
            _ => self.lost = true,
        }
    }

    /// Whether the bytes so far do not end at a message boundary.
    pub(super) fn mid_message(&self) -> bool {
        self.lost || !self.header.is_empty()
    }

    /// The FATAL at the end of a stream in which none stood at a message boundary: somebody wrote it into a message.
    pub(super) fn hidden_fatal(&self) -> Option<Fatal> {
        if self.fatal_seen {
            return None;
        }
        (0..self.tail.len()).rev().find_map(|start| {
            let message = &self.tail[start..];
            let (kind, length) = header_of(message.get(..HEADER_BYTES)?)?;
            let body = message.get(HEADER_BYTES..HEADER_BYTES + length)?;
            match said_of(body) {
                Some(Said::Fatal(fatal)) if kind == b'E' => Some(fatal),
                _ => None,
            }
        })
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let excess = (self.tail.len() + new.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
        self.tail.extend_from_slice(new);
    }
}

/// A message's type and length.
const HEADER_BYTES: usize = 5;

/// Type and length of the body, if that can be a header of a backend's message.
fn header_of(header: &[u8]) -> Option<(u8, usize)> {
    /// Every message of a backend (protocol chapter, "Message Formats").
    const KINDS: &[u8] = b"123ACDEGHIKNRSTVWZcdnstv";

    let (kind, length) = header.split_first()?;
    let length = i32::from_be_bytes(length.try_into().ok()?);
    let body = usize::try_from(length).ok()?.checked_sub(4)?;
    KINDS.contains(kind).then_some((*kind, body))
}

/// Reads the body of an ErrorResponse; none if it has no severity.
fn said_of(body: &[u8]) -> Option<Said> {
    let field = |name: u8| {
        let mut fields = body.split(|byte| *byte == 0).map_while(|field| field.split_first());
        fields.find(|(key, _)| **key == name).map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    // S is translated, V (since 9.6) is not.
    let severity = field(b'V').or_else(|| field(b'S'))?;
    let code = field(b'C').unwrap_or_default();
    if severity != "FATAL" {
        return Some(Said::Error(code));
    }
    Some(Said::Fatal(Fatal { code, message: field(b'M').unwrap_or_default(), detail: field(b'D') }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &[u8] = b"Z\0\0\0\x05I";

    fn error(severity: &str) -> Vec<u8> {
        let body = format!("S{severity}\0V{severity}\0C57P01\0Mbye\0Dwhy\0\0");
        let mut message = vec![b'E'];
        message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(body.as_bytes());
        message
    }

    fn bye() -> Fatal {
        Fatal { code: "57P01".to_owned(), message: "bye".to_owned(), detail: Some("why".to_owned()) }
    }

    fn fed(pieces: &[&[u8]]) -> (Watch, Vec<Fatal>) {
        let mut watch = Watch::default();
        let said: Vec<Said> = pieces.iter().flat_map(|piece| follow(&mut watch, piece)).collect();
        let fatals = said.into_iter().filter_map(|said| match said {
            Said::Fatal(fatal) => Some(fatal),
            _ => None,
        });
        (watch, fatals.collect())
    }

    /// All of a piece, whatever is in it.
    fn follow(watch: &mut Watch, mut piece: &[u8]) -> Vec<Said> {
        let mut all = Vec::new();
        while !piece.is_empty() {
            let (followed, said) = watch.follow(piece);
            assert!(followed > 0);
            piece = &piece[followed..];
            all.extend(said);
        }
        all
    }

    #[test]
    fn what_stands_in_front_of_a_fatal_is_told_before_it() {
        let row = b"D\0\0\0\x06\0\0";
        let stream = [&row[..], READY, row, &error("FATAL")].concat();
        let mut watch = Watch::default();
        assert_eq!(watch.follow(&stream), (row.len() + READY.len(), Some(Said::Ready)));
        let rest = &stream[row.len() + READY.len()..];
        assert_eq!(watch.follow(rest), (row.len(), None));
        assert_eq!(watch.follow(&rest[row.len()..]), (rest.len() - row.len(), Some(Said::Fatal(bye()))));
        assert_eq!(follow(&mut watch, &error("ERROR")), [Said::Error("57P01".to_owned())]);
    }

    #[test]
    fn a_fatal_is_seen_however_the_stream_is_cut() {
        let stream = [READY, &error("ERROR"), &error("FATAL")].concat();
        for cut in 0..stream.len() {
            let (watch, fatals) = fed(&[&stream[..cut], &stream[cut..]]);
            assert_eq!(fatals, [bye()], "cut at {cut}");
            assert!(!watch.mid_message());
            assert_eq!(watch.hidden_fatal(), None);
        }
    }

    #[test]
    fn a_fatal_inside_another_message_is_found_at_the_end() {
        let (watch, fatals) = fed(&[READY, b"D\0\0\x04\0\0\x01half of a row", &error("FATAL")]);
        assert_eq!(fatals, []);
        assert!(watch.mid_message());
        assert_eq!(watch.hidden_fatal(), Some(bye()));
    }

    #[test]
    fn a_stream_that_ends_inside_a_message_or_in_garbage_is_not_at_a_boundary() {
        assert!(!fed(&[READY]).0.mid_message());
        assert!(fed(&[READY, b"Z"]).0.mid_message());
        assert!(fed(&[b"Z\0\0\0\x05"]).0.mid_message());
        assert!(fed(&[READY, b"!\0\0\0\x04"]).0.mid_message());
        assert!(fed(&[READY, b"Z\0\0\0\x03"]).0.mid_message());
    }

    #[test]
    fn an_error_that_is_not_fatal_is_no_goodbye() {
        let (watch, fatals) = fed(&[&error("ERROR")]);
        assert_eq!((fatals, watch.hidden_fatal()), (vec![], None));
    }

    #[test]
    fn a_no_to_encryption_is_a_byte_and_no_message() {
        let mut watch = Watch::default();
        watch.expect_bare_byte();
        follow(&mut watch, b"N");
        assert!(!watch.mid_message());
        follow(&mut watch, READY);
        assert!(!watch.mid_message());
    }

    #[test]
    fn the_tail_is_bounded() {
        let (watch, _) = fed(&[&[b'x'; 3 * TAIL_BYTES], &[b'y'; 10]]);
        assert_eq!(watch.tail.len(), TAIL_BYTES);
        assert!(watch.tail.ends_with(b"xyyyyyyyyyy"));
    }
}
