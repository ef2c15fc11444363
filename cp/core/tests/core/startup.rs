//! What a connection opens with.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lastcall_core::Malformed;
use lastcall_core::startup::{Encryption, Packet, StartupReader, parameters};
use lastcall_core::wire::CancelKey;

/// A packet with this code in the place of a version.
fn packet(code: [u16; 2], body: &[u8]) -> Vec<u8> {
    let length = body.len() as u32 + 8;
    [&length.to_be_bytes()[..], &code[0].to_be_bytes(), &code[1].to_be_bytes(), body].concat()
}

const SSL: [u16; 2] = [1234, 5679];
const GSSENC: [u16; 2] = [1234, 5680];
const CANCEL: [u16; 2] = [1234, 5678];

fn ssl_request() -> Vec<u8> {
    packet(SSL, b"")
}

/// What the reader makes of these packets, read as it wants them.
fn read(reader: &mut StartupReader, mut bytes: &[u8]) -> Result<Option<Packet>, Malformed> {
    loop {
        let (now, behind) = bytes.split_at(reader.wants());
        let opened = reader.handle_bytes(now)?;
        if opened.is_some() {
            assert_eq!(behind, b"", "it read all that there is");
            return Ok(opened);
        }
        bytes = behind;
    }
}

fn opened(bytes: &[u8]) -> Result<Option<Packet>, Malformed> {
    read(&mut StartupReader::default(), bytes)
}

#[test]
fn a_startup_packet_goes_on_as_it_came_whatever_its_minor_version() {
    for minor in [0, 2, 9999] {
        let startup = packet([3, minor], b"user\0me\0options\0\0\0");
        assert_eq!(opened(&startup), Ok(Some(Packet::Startup(startup.clone()))));
        assert_eq!(parameters(&startup), Ok(vec![(&b"user"[..], &b"me"[..]), (b"options", b"")]));
    }
}

#[test]
fn a_packet_is_read_to_its_end_and_no_further_in_whatever_pieces_it_comes() {
    let startup = packet([3, 0], b"user\0me\0\0");
    let mut reader = StartupReader::default();
    let (last, before) = startup.split_last().unwrap();
    for (index, byte) in before.iter().enumerate() {
        let end = if index < 4 { 4 } else { startup.len() };
        assert_eq!((reader.wants(), reader.handle_bytes(&[*byte])), (end - index, Ok(None)));
    }
    assert_eq!(reader.handle_bytes(&[*last]), Ok(Some(Packet::Startup(startup))));
}

#[test]
fn encryption_may_be_asked_for_twice() {
    let mut reader = StartupReader::default();
    assert!(!reader.asked_for_encryption());
    for (request, encryption) in [(GSSENC, Encryption::Gssapi), (SSL, Encryption::Tls)] {
        assert_eq!(read(&mut reader, &packet(request, b"")), Ok(Some(Packet::Encryption(encryption))));
        assert!(reader.asked_for_encryption());
    }
    let startup = packet([3, 0], b"user\0me\0\0");
    assert_eq!(read(&mut reader, &startup), Ok(Some(Packet::Startup(startup))));
    for request in [GSSENC, SSL] {
        let mut reader = StartupReader::default();
        assert!(read(&mut reader, &ssl_request()).is_ok() && read(&mut reader, &ssl_request()).is_ok());
        assert!(read(&mut reader, &packet(request, b"")).is_err());
    }
}

#[test]
fn a_tls_handshake_that_nobody_asked_for_is_known_by_its_first_byte_and_handed_over_as_far_as_it_was_read() {
    for begun in [&b"\x16"[..], b"\x16\x03\x01\x02"] {
        let mut reader = StartupReader::default();
        assert_eq!(reader.handle_bytes(begun), Ok(Some(Packet::Handshake(begun.to_vec()))));
        // Under it a startup packet follows, and no second handshake.
        assert!(reader.handle_bytes(b"\x16\x03\x01\x02").is_err());
    }
}

#[test]
fn a_cancel_request_brings_a_key() {
    let key = *b"\0\0\x12\x34secret";
    assert_eq!(opened(&packet(CANCEL, &key)), Ok(Some(Packet::Cancel(CancelKey::read(&key).unwrap()))));
    for length in [7, CancelKey::MAX + 1] {
        assert!(opened(&packet(CANCEL, &vec![0; length])).is_err(), "{length}");
    }
}

#[test]
fn another_major_version_is_told() {
    assert_eq!(opened(&packet([2, 0], b"")), Ok(Some(Packet::Version(2))));
    assert_eq!(opened(&packet([4, 3], b"anything")), Ok(Some(Packet::Version(4))));
}

#[test]
fn a_length_is_malformed_below_eight_and_above_what_postgresql_reads() {
    for (length, valid) in [(0, false), (7, false), (8, true), (10_000, true), (10_001, false), (u32::MAX, false)] {
        let read = StartupReader::default().handle_bytes(&length.to_be_bytes());
        assert_eq!(read.is_ok(), valid, "{length}");
    }
}

#[test]
fn parameters_are_pairs_of_texts_behind_which_nothing_follows() {
    for body in [&b""[..], b"user\0me\0", b"user\0me", b"user\0", b"user\0me\0\0behind", b"user\0\0"] {
        let startup = packet([3, 0], body);
        assert!(parameters(&startup).is_err(), "{body:?}");
        assert!(opened(&startup).is_err(), "{body:?}");
    }
    assert_eq!(parameters(&packet([3, 0], b"\0")), Ok(vec![]));
}

#[test]
fn bytes_behind_the_packet_under_way_are_noticed_in_a_debug_build() {
    let mut reader = StartupReader::default();
    let noticed = catch_unwind(AssertUnwindSafe(|| reader.handle_bytes(&ssl_request()))).is_err();
    assert_eq!(noticed, cfg!(debug_assertions));
}
