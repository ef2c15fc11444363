//! Whether an ErrorResponse ends the session, read as its bytes pass.
//!
//! Source: PostgreSQL's protocol, "Error and Notice Message Fields". A body is fields, each a type byte and a text that ends
//! with a zero, and one more zero. Field V is the severity as it is, field S the same in the server's language; servers
//! before 9.6, and some poolers, send S alone.

/// The severities that end a session.
const ENDS: [&[u8]; 2] = [b"FATAL", b"PANIC"];
/// How long they are.
const LENGTH: usize = 5;

/// Reads the body of one ErrorResponse in pieces of any size. Keeps no more of it than a severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SeverityReader {
    /// The type of the field under way; zero between two fields.
    field: u8,
    /// The beginning of its text, and how long the text is so far: `LENGTH + 1` for anything longer than `LENGTH`.
    text: [u8; LENGTH],
    length: u8,
    /// Whether the field S says that the session is over, and the field V, where there is one.
    shown: bool,
    told: Option<bool>,
}

impl SeverityReader {
    /// The next bytes of the body.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = match self.field {
                0 => {
                    (self.field, self.length) = (byte, 0);
                    rest
                }
                b'S' | b'V' => {
                    self.read_text(byte);
                    rest
                }
                _ => match bytes.iter().position(|byte| *byte == 0) {
                    // The zero itself is then taken for a field that is none.
                    Some(end) => {
                        self.field = 0;
                        &bytes[end..]
                    }
                    None => return,
                },
            };
        }
    }

    /// What all of it says.
    pub(super) fn is_fatal(&self) -> bool {
        self.told.unwrap_or(self.shown)
    }

    /// One byte of the text of a severity.
    fn read_text(&mut self, byte: u8) {
        let length = usize::from(self.length);
        if byte != 0 {
            if let Some(place) = self.text.get_mut(length) {
                *place = byte;
            }
            // At most LENGTH + 1.
            self.length = (length + 1).min(LENGTH + 1) as u8;
            return;
        }
        let ends = length == LENGTH && ENDS.contains(&&self.text[..]);
        if self.field == b'V' {
            self.told = Some(ends);
        } else {
            self.shown = ends;
        }
        self.field = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_severity_is_read_from_v_or_from_s_where_there_is_no_v_wherever_the_bytes_are_split() {
        for (body, fatal) in [
            (&b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0"[..], true),
            (b"SPANIC\0VPANIC\0\0", true),
            (b"SERROR\0VERROR\0C42601\0MFATAL\0\0", false),
            (b"SFATAL\0C57P01\0\0", true),
            (b"C57P01\0SFATAL\0\0", true),
            (b"SDODELIJK\0VFATAL\0\0", true),
            (b"SFATAL\0VERROR\0\0", false),
            (b"VERROR\0SFATAL\0\0", false),
            (b"SFATALITY\0\0", false),
            (b"SFATA\0\0", false),
            (b"MSFATAL\0Hx\0\0", false),
            (b"MxSFATAL\0\0", false),
            (b"S\0V\0\0", false),
            (b"SFATAL", false),
            (b"", false),
        ] {
            for split in 0..=body.len() {
                let mut reader = SeverityReader::default();
                reader.read(&body[..split]);
                reader.read(&body[split..]);
                assert_eq!(reader.is_fatal(), fatal, "{} at {split}", body.escape_ascii());
            }
            let mut reader = SeverityReader::default();
            body.chunks(1).for_each(|byte| reader.read(byte));
            assert_eq!(reader.is_fatal(), fatal, "{} in single bytes", body.escape_ascii());
        }
    }
}
