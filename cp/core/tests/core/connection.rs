//! A connection that is relayed, from its first byte on.

use std::sync::Arc;

use lastcall_core::connection::{Next, Read, Sockets, Written};
use lastcall_core::drain::Pace;
use lastcall_core::startup::Packet;
use lastcall_core::wire::Side;
use lastcall_core::{Connection, Drain, Settings, Time};

/// A client that has sent everything at once, and what it is told.
struct Client {
    sends: Vec<u8>,
    told: Vec<u8>,
}

impl Sockets for Client {
    fn write(&mut self, _: Side, bytes: &[u8]) -> Written {
        self.told.extend(bytes);
        Written::Taken(bytes.len())
    }

    fn read(&mut self, from: Side, limit: usize, take: &mut dyn FnMut(&[u8])) -> Read {
        if from == Side::Backend || self.sends.is_empty() {
            return Read::Nothing;
        }
        let rest = self.sends.split_off(limit.min(self.sends.len()));
        take(&std::mem::replace(&mut self.sends, rest));
        Read::Bytes
    }

    fn end(&mut self, _: Side) -> bool {
        true
    }

    fn unacknowledged(&mut self) -> usize {
        0
    }
}

#[test]
fn nothing_is_read_beyond_the_packet_that_a_connection_opens_with() {
    let drain = Drain::new(Arc::new(Settings::default()));
    let mut connection = Connection::new(Pace(0), &drain, Time::EPOCH);
    let encryption = [0, 0, 0, 8, 4, 210, 22, 47];
    let startup = b"\0\0\0\x11\0\x03\0\0user\0me\0\0".to_vec();
    let sends = [&encryption[..], &startup, b"behind"].concat();
    let mut client = Client { sends, told: Vec::new() };
    let mut next = connection.drive(&mut client, &drain, Time::EPOCH);
    while next == Next::Again {
        next = connection.drive(&mut client, &drain, Time::EPOCH);
    }
    assert_eq!(next, Next::Opened(Packet::Startup(startup)));
    assert_eq!((client.told.as_slice(), client.sends.as_slice()), (&b"N"[..], &b"behind"[..]));
}
