//! How many bytes per second the tracker can follow, beside a parser that copies each message out of a buffer.
//!
//! The parser is what a proxy does that decodes: `postgres-protocol` for the worker's messages, and for the client's, which
//! it can't read, the same `split_to` and no decoding at all. Both get the bytes as a relay does, in 16 KiB chunks. The tracker reads
//! headers and steps over bodies, so long messages cost it next to nothing and short ones are its worst case.

use std::hint::black_box;

use bytes::{Buf, BytesMut};
use criterion::{Criterion, Throughput};
use lastcall_core::tracker::{Gate, Tracker};
use postgres_protocol::message::backend::Message;

/// What a relay reads at once.
const CHUNK: usize = 16 * 1024;

/// Requests that are pipelined before an answer is read: fewer than the tracker allows.
const PIPELINED: usize = 300;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let small = data_row(30);
    let rows = Conversation {
        client: message(b'Q', b"SELECT\0"),
        worker: [small.repeat(30_000), message(b'C', b"SELECT 30000\0"), message(b'Z', b"I")].concat(),
    };
    let large = data_row(64 * 1024);
    let large_rows = Conversation {
        client: message(b'Q', b"SELECT\0"),
        worker: [large.repeat(16), message(b'C', b"SELECT 16\0"), message(b'Z', b"I")].concat(),
    };
    let batch =
        [message(b'B', b"\0statement\0\0\0\0\x01\0\0\0\x040042\0\0"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")];
    let answer = [message(b'2', b""), small, message(b'C', b"SELECT 1\0"), message(b'Z', b"I")];
    let batches = Conversation { client: batch.concat().repeat(PIPELINED), worker: answer.concat().repeat(PIPELINED) };
    compare(&mut criterion, "rows of 30 bytes", rows);
    compare(&mut criterion, "rows of 64 KiB", large_rows);
    compare(&mut criterion, "pipelined batches", batches);
    criterion.final_summary();
}

/// What both sides say, the client first.
struct Conversation {
    client: Vec<u8>,
    worker: Vec<u8>,
}

fn compare(criterion: &mut Criterion, name: &str, conversation: Conversation) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes((conversation.client.len() + conversation.worker.len()) as u64));
    let mut tracker = Tracker::new();
    tracker.observe(&message(b'Z', b"I")).expect("a ReadyForQuery");
    group.bench_function("tracker", |bencher| bencher.iter(|| follow(&mut tracker, &conversation)));
    group.bench_function("copying parser", |bencher| bencher.iter(|| parse(&conversation)));
    group.finish();
}

fn follow(tracker: &mut Tracker, conversation: &Conversation) {
    for chunk in conversation.client.chunks(CHUNK) {
        let forwarded = tracker.forward(chunk, Gate::Open).expect("well-formed");
        assert_eq!(forwarded, chunk.len(), "nothing is held");
    }
    for chunk in conversation.worker.chunks(CHUNK) {
        tracker.observe(chunk).expect("well-formed");
        black_box(tracker.activity());
    }
    assert_eq!(tracker.outstanding(), 0, "all is answered");
}

fn parse(conversation: &Conversation) {
    let mut buffer = BytesMut::new();
    for chunk in conversation.client.chunks(CHUNK) {
        buffer.extend_from_slice(chunk);
        while let Some(length) = buffer.get(1..5) {
            let length = 1 + length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            if buffer.len() < length {
                break;
            }
            let mut message = buffer.split_to(length);
            message.advance(5);
            black_box(message);
        }
    }
    let mut buffer = BytesMut::new();
    for chunk in conversation.worker.chunks(CHUNK) {
        buffer.extend_from_slice(chunk);
        while let Some(message) = Message::parse(&mut buffer).expect("well-formed") {
            black_box(message);
        }
    }
}

/// A DataRow of one column, `size` bytes long altogether.
fn data_row(size: usize) -> Vec<u8> {
    let column = size - 11;
    let head = [&1_u16.to_be_bytes()[..], &(column as u32).to_be_bytes()].concat();
    message(b'D', &[head, vec![b'x'; column]].concat())
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}
