//! What a client may send to a worker once its session has begun.

use crate::cast::frame::{Fields, Frame, Malformed};

/// One message from the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A simple query.
    Query(String),
    /// Calls a function; the text is its first argument.
    Call(String),
    /// Makes a prepared statement.
    Parse { name: String, text: String },
    /// Makes a portal. The values of the parameters are of no interest, their number is.
    Bind { portal: String, statement: String, parameters: u16 },
    /// Asks what a statement or a portal returns.
    Describe { target: Target, name: String },
    /// Runs a portal; 0 rows means all of them.
    Execute { portal: String, max_rows: u32 },
    /// Drops a statement or a portal.
    Close { target: Target, name: String },
    /// Asks for everything that is ready.
    Flush,
    /// Ends a batch.
    Sync,
    /// Says goodbye.
    Terminate,
    /// CopyData, CopyDone, CopyFail: PostgreSQL ignores them outside of a COPY.
    Copy,
}

/// Of which of the two a message speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Statement,
    Portal,
}

impl Request {
    /// Reads a message. Fields behind the last one of interest are not looked at.
    pub(super) fn read(frame: Frame) -> Result<Request, Malformed> {
        let mut fields = Fields::of(frame.body);
        Ok(match frame.kind {
            b'Q' => Request::Query(fields.string()?),
            b'F' => {
                fields.i32()?;
                for _ in 0..fields.u16()? {
                    fields.u16()?;
                }
                match fields.u16()? {
                    0 => Request::Call(String::new()),
                    _ => Request::Call(fields.text()?),
                }
            }
            b'P' => Request::Parse { name: fields.string()?, text: fields.string()? },
            b'B' => {
                let (portal, statement) = (fields.string()?, fields.string()?);
                for _ in 0..fields.u16()? {
                    fields.u16()?;
                }
                Request::Bind { portal, statement, parameters: fields.u16()? }
            }
            b'D' => Request::Describe { target: target(&mut fields)?, name: fields.string()? },
            b'E' => {
                let portal = fields.string()?;
                // As PostgreSQL: zero and negative numbers ask for all rows.
                Request::Execute { portal, max_rows: u32::try_from(fields.i32()?).unwrap_or(0) }
            }
            b'C' => Request::Close { target: target(&mut fields)?, name: fields.string()? },
            b'H' => Request::Flush,
            b'S' => Request::Sync,
            b'X' => Request::Terminate,
            b'd' | b'c' | b'f' => Request::Copy,
            _ => return Err(Malformed("invalid frontend message type")),
        })
    }
}

fn target(fields: &mut Fields) -> Result<Target, Malformed> {
    match fields.u8()? {
        b'S' => Ok(Target::Statement),
        b'P' => Ok(Target::Portal),
        _ => Err(Malformed("neither a statement nor a portal")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::frame::Inbox;
    use bytes::Bytes;
    use pgwire::messages::Message;
    use pgwire::messages::extendedquery::{Bind, Execute, Parse};

    #[test]
    fn what_pgwire_writes_is_read() {
        let mut inbox = Inbox::default();
        let parse = Parse::new(None, "BEGIN".to_owned(), vec![25]);
        let value = Some(Bytes::from_static(b"1"));
        let bind = Bind::new(Some("p".to_owned()), None, vec![1], vec![value, None], vec![1]);
        parse.encode(inbox.bytes()).unwrap();
        bind.encode(inbox.bytes()).unwrap();
        Execute::new(Some("p".to_owned()), 7).encode(inbox.bytes()).unwrap();
        let mut next = || Request::read(inbox.next_frame(1000).unwrap().unwrap()).unwrap();
        assert_eq!(next(), Request::Parse { name: String::new(), text: "BEGIN".to_owned() });
        assert_eq!(next(), Request::Bind { portal: "p".to_owned(), statement: String::new(), parameters: 2 });
        assert_eq!(next(), Request::Execute { portal: "p".to_owned(), max_rows: 7 });
    }

    #[test]
    fn a_cut_body_is_an_error_and_not_a_panic() {
        let mut inbox = Inbox::default();
        Bind::new(Some("p".to_owned()), None, vec![0, 1], vec![], vec![]).encode(inbox.bytes()).unwrap();
        let whole = inbox.next_frame(1000).unwrap().unwrap().body;
        // The result formats at the end are not read.
        for length in 0..whole.len() - 2 {
            assert!(Request::read(Frame { kind: b'B', body: whole.slice(..length) }).is_err(), "{length}");
        }
    }
}
