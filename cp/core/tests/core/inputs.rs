//! Any bytes at all: what must hold whatever a client and a worker send. The fuzz targets under `fuzz/` call the same functions;
//! what they have found, and what shows each kind of message once, lies in `fuzz/corpus/` and is run here.

use lastcall_core::startup::{Packet, StartupReader};
use lastcall_core::tracker::{Gate, MAX_OUTSTANDING, Tracker};

/// Reads `input` as the beginning of a connection, whole and in pieces: both give the same packets, and nothing is read beyond one.
pub(crate) fn startup(input: &[u8]) {
    let read = |piece: usize| {
        let (mut reader, mut rest, mut packets) = (StartupReader::default(), input, Vec::new());
        while !rest.is_empty() {
            let wants = reader.wants();
            assert!((1..=10_000).contains(&wants), "it wants {wants} bytes");
            let (bytes, behind) = rest.split_at(wants.min(piece).min(rest.len()));
            rest = behind;
            match reader.handle_bytes(bytes) {
                Ok(Some(packet @ Packet::Encryption(_))) => packets.push(packet),
                // How much of it was read depends on the piece.
                Ok(Some(Packet::Handshake(begun))) => {
                    return (packets, Some(Ok(Packet::Handshake(begun[..1].to_vec()))));
                }
                Ok(Some(packet)) => return (packets, Some(Ok(packet))),
                Ok(None) => {}
                Err(malformed) => return (packets, Some(Err(malformed))),
            }
        }
        (packets, None)
    };
    assert_eq!(read(usize::MAX), read(1));
}

/// Plays `input` to two trackers, one of which sees it byte by byte: first a byte that says who sends, and whether the connection is
/// due; then how many bytes; then these.
pub(crate) fn tracker(input: &[u8]) {
    let (mut whole, mut pieces) = (Tracker::new(), Tracker::new());
    let mut rest = input;
    while let [who, length, behind @ ..] = rest {
        let (bytes, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        let gate = if who & 2 == 0 { Gate::Open } else { Gate::Due };
        let is_fine = if who & 1 == 0 {
            observe(&mut whole, bytes, usize::MAX) & observe(&mut pieces, bytes, 1)
        } else {
            forward(&mut whole, bytes, gate)
        };
        assert!(whole.outstanding() <= MAX_OUTSTANDING, "{} are outstanding", whole.outstanding());
        assert!(!(whole.may_speak() && whole.owed().is_some()), "inside a message nothing can be said");
        if !is_fine {
            return;
        }
        // What a client may send depends on what it is shown at once; from then on the two have heard other things.
        if who & 1 == 1 {
            continue;
        }
        assert_eq!(whole.status(), pieces.status());
        assert_eq!((whole.owed(), whole.said_fatal()), (pieces.owed(), pieces.said_fatal()));
        assert_eq!(whole.worker_key(), pieces.worker_key());
    }
}

/// Whether all of it was the protocol.
fn observe(tracker: &mut Tracker, bytes: &[u8], piece: usize) -> bool {
    bytes.chunks(piece.min(bytes.len()).max(1)).all(|bytes| match tracker.observe(bytes) {
        Ok(observed) => {
            assert!((1..=bytes.len()).contains(&observed), "of {} bytes {observed}", bytes.len());
            observed == bytes.len()
        }
        Err(_) => false,
    })
}

/// Likewise; what is held back is no mistake.
fn forward(tracker: &mut Tracker, bytes: &[u8], gate: Gate) -> bool {
    match tracker.forward(bytes, gate) {
        Ok(forwarded) => {
            assert!(forwarded <= bytes.len(), "of {} bytes {forwarded}", bytes.len());
            forwarded == bytes.len()
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;

    /// The inputs that lie there for this target.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files = fs::read_dir(&directory).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
        let inputs: Vec<_> = files.collect();
        assert!(inputs.len() >= 5, "{} has {} inputs", directory.display(), inputs.len());
        inputs
    }

    /// Changes some bytes of one of them.
    fn changed(target: &'static str) -> impl Strategy<Value = Vec<u8>> {
        let inputs = corpus(target);
        let change = vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
        (prop::sample::select(inputs), change).prop_map(|(mut input, changes)| {
            for (at, byte) in changes {
                let at = at.index(input.len());
                input[at] = byte;
            }
            input
        })
    }

    #[test]
    fn what_lies_in_the_corpus_is_read_as_it_must_be() {
        corpus("startup").iter().for_each(|input| super::startup(input));
        corpus("tracker").iter().for_each(|input| super::tracker(input));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_changed_in_it_startup_packets_are_read_alike_in_all_pieces(input in changed("startup")) {
            super::startup(&input);
        }

        #[test]
        fn whatever_is_changed_in_it_the_tracker_keeps_its_word(input in changed("tracker")) {
            super::tracker(&input);
        }

        #[test]
        fn no_bytes_at_all_make_either_break_its_word(input in vec(any::<u8>(), 0..600)) {
            super::startup(&input);
            super::tracker(&input);
        }
    }
}
