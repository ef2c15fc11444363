//! What the tracker makes of bytes that are not the protocol.

use lastcall_core::Activity;
use lastcall_core::tracker::Gate;
use lastcall_core::wire::{BACKEND_MESSAGE_LIMIT, LARGE_MESSAGE_LIMIT, Malformed, SMALL_MESSAGE_LIMIT, Side};

use crate::talk::{connected, messages, talk};

#[test]
fn an_unknown_type_is_malformed_at_its_first_byte() {
    let mut tracker = connected();
    let malformed = Malformed::UnknownType { side: Side::Frontend, kind: b'Z' };
    assert_eq!(tracker.forward(b"Z", Gate::Open), Err(malformed));
    let malformed = Malformed::UnknownType { side: Side::Backend, kind: b'Q' };
    assert_eq!(tracker.observe(b"Q"), Err(malformed));
}

#[test]
fn a_length_is_malformed_below_four_and_above_what_postgresql_reads() {
    let header = |kind: u8, length: u32| [&[kind][..], &length.to_be_bytes()].concat();
    for (kind, limit) in [(b'Q', LARGE_MESSAGE_LIMIT), (b'd', LARGE_MESSAGE_LIMIT), (b'S', SMALL_MESSAGE_LIMIT)] {
        for length in [0, 3, limit + 1, u32::MAX] {
            let malformed = Malformed::Length { side: Side::Frontend, kind, length, limit };
            assert_eq!(connected().forward(&header(kind, length), Gate::Open), Err(malformed));
        }
        for length in [4, limit] {
            assert_eq!(connected().forward(&header(kind, length), Gate::Open), Ok(5), "{length}");
        }
    }
    // A row of PostgreSQL's largest size: what it builds has 0x3ffffffe bytes, and the length counts itself.
    for (length, valid) in [(3, false), (0x4000_0002, true), (BACKEND_MESSAGE_LIMIT, true), (0x8000_0000, false)] {
        assert_eq!(connected().observe(&header(b'D', length)).is_ok(), valid, "{length}");
    }
}

#[test]
fn a_ready_for_query_without_a_valid_status_is_malformed() {
    for (body, status) in [("", 0), ("X", b'X')] {
        let mut tracker = talk("> Q | executing 1");
        let bytes = messages(&format!("Z:{body}"));
        assert_eq!(tracker.observe(&bytes), Err(Malformed::Status { status }));
        assert_eq!((tracker.activity(), tracker.outstanding()), (Activity::Executing, 1));
        assert!(tracker.may_speak(), "nothing of it was passed on");
    }
    let mut tracker = talk("> Q | executing 1");
    let bytes = messages("Z:X");
    assert_eq!(tracker.observe(&bytes[..5]), Ok(5));
    assert_eq!(tracker.observe(&bytes[5..]), Err(Malformed::Status { status: b'X' }));
    assert!(!tracker.may_speak(), "its header was passed on");
}

#[test]
fn bytes_before_a_malformed_place_are_forwarded() {
    for nonsense in [&b"\0"[..], b"C\0\0\0\x03", b"Z\0\0\0\x05X", b"Z\0\0\0\x04"] {
        let mut tracker = talk("> Q | executing 1");
        let before = messages("D C");
        let bytes = [&before[..], nonsense].concat();
        assert_eq!(tracker.observe(&bytes), Ok(before.len()), "{nonsense:?}");
        assert!(tracker.observe(&bytes[before.len()..]).is_err(), "{nonsense:?}");
    }
    for nonsense in [&b"\0"[..], b"S\0\0\0\x03"] {
        let mut tracker = connected();
        let before = messages("P B");
        let bytes = [&before[..], nonsense].concat();
        assert_eq!(tracker.forward(&bytes, Gate::Open), Ok(before.len()), "{nonsense:?}");
        assert!(tracker.forward(&bytes[before.len()..], Gate::Open).is_err(), "{nonsense:?}");
        assert_eq!(tracker.activity(), Activity::OpenBatch);
    }
}
