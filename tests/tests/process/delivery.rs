//! Delivered means acknowledged: a pod's network goes with its process, and with it whatever is still queued there.
//!
//! Three processes at once, each at the end of a cable of 2 Mbit/s that is gone the moment the process is.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join, join3};
use process_tests::control_plane::ControlPlane;
use process_tests::machine::{Machine, in_own_network};
use process_tests::raw::{self, Message, Raw};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::time::{sleep, timeout};

use super::{ADMIN_SHUTDOWN, assert_exit, millis};

const ROWS: usize = 3000;
/// Three megabytes: at 2 Mbit/s they take twelve seconds.
const ANSWER: &str = "select repeat('x', 990) from generate_series(1, 3000)";

/// What a client is told that has asked for nothing more.
const IDLE: &str = "The server shuts down, and idle_grace was over for this idle session.";

/// How a client reads its answer.
#[derive(Clone, Copy)]
enum Reader {
    /// It pauses now and then, for longer than `close_linger`, and near its answer's end, too.
    Pausing,
    /// It sends further requests while it reads.
    Sending,
    /// It reads records of 16 kB, whole ones only, as a TLS library does.
    Records,
}

/// Rows from one pause, or request, to the next. Behind the last step the rest of the answer fits into any send buffer.
const STEP: usize = 950;

/// Its machine takes so little for it that nothing is acknowledged during most of a pause.
const SMALL_WINDOW: usize = 32 * 1024;

/// Nothing comes through a cable that is gone, not even an end.
const SILENCE: Duration = Duration::from_secs(10);

/// A TLS record's payload, at most. Source: RFC 8446, 5.1.
const RECORD: usize = 16 * 1024;

#[test]
fn an_answer_on_a_slow_link_and_the_fatal_behind_it_arrive_although_the_network_goes_with_the_process() {
    in_own_network(
        "delivery::an_answer_on_a_slow_link_and_the_fatal_behind_it_arrive_although_the_network_goes_with_the_process",
        async {
            let (pausing, sending, records) =
                join3(last_words(0, Reader::Pausing), last_words(1, Reader::Sending), last_words(2, Reader::Records))
                    .await;

            assert_eq!(pausing[&'D'], IDLE, "pausing");
            assert_eq!(sending[&'D'], "The last request was not executed.", "sending");
            assert_eq!(records[&'D'], IDLE, "records");
        },
    );
}

/// Runs a process whose only client reads a long answer as `reader` does when it is due, and pulls the cable when the process
/// has ended. The client has its answer; returns the FATAL behind it.
async fn last_words(number: usize, reader: Reader) -> BTreeMap<char, String> {
    let machine = Machine::plug_in_at(number);
    machine.slow_down("2mbit");
    let flags = ["--lame-duck", "0", "--idle-grace", "500ms", "--stall-grace", "20s", "--close-linger", "1s"];
    let mut plane = ControlPlane::start_at(&machine.here(), &flags).await;
    let stream = machine.connect(plane.port);
    if matches!(reader, Reader::Pausing) {
        set_socket_recv_buffer_size(&stream, SMALL_WINDOW).expect("a window can be small");
    }
    let mut client = Raw::session_over(stream, "slow-link").await;
    client.send(&raw::query(ANSWER)).await;
    let mut messages = vec![client.messages.next().await.unwrap().expect("an answer")];

    plane.drain().await;
    let read = async {
        read(&mut client, reader, &mut messages).await;
        client
    };
    let exit = async {
        let exit = plane.exit().await;
        machine.unplug();
        exit
    };
    let (client, exit) = join(read, exit).await;
    drop(client);

    assert!(exit.after > millis(8000), "the link was not slow: {exit:?}");
    assert_exit(exit, 0, millis(30_000));
    let rows = messages.iter().filter(|message| message.tag == b'D').count();
    let behind: String = messages.iter().map(|message| char::from(message.tag)).filter(|tag| *tag != 'D').collect();
    assert_eq!((rows, behind.as_str()), (ROWS, "TCZE"));
    let fatal = messages.last().and_then(Message::error).unwrap();
    assert_eq!((fatal[&'C'].as_str(), fatal[&'M'].as_str()), ADMIN_SHUTDOWN);
    let records = plane.records();
    assert_eq!((records.len(), &records[0]["reason"]), (1, &"boundary".into()), "{records:?}");
    fatal
}

/// Reads to the end of the stream, or until nothing comes any more.
async fn read(client: &mut Raw, reader: Reader, messages: &mut Vec<Message>) {
    let mut step = 0;
    loop {
        let mut record = 0;
        while record < RECORD {
            let read = timeout(SILENCE, client.messages.read_bytes(RECORD - record)).await;
            let read = read.map_or(0, |read| read.expect("a reset has destroyed an answer"));
            if read == 0 {
                messages.extend(std::iter::from_fn(|| client.messages.take()));
                return;
            }
            record += read;
            if !matches!(reader, Reader::Records) {
                break;
            }
        }
        messages.extend(std::iter::from_fn(|| client.messages.take()));
        if messages.len() / STEP > step {
            step = messages.len() / STEP;
            match reader {
                Reader::Pausing => sleep(millis(2000)).await,
                Reader::Sending => client.send(&raw::query("select 'another'")).await,
                Reader::Records => {}
            }
        }
    }
}
