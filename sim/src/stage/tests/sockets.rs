//! Sockets: what a program may rely on with every engine.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::poll_fn;
use lastcall_core::Time;
use lastcall_world::{PeerState, Stream as _, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Log, accept, echo_server, on_every_engine, second, simulate};
use crate::stage::{Ending, Engine, Host, SimWorld};

on_every_engine! {
    an_echo_crosses_the_hosts
    a_client_that_has_shut_down_its_side_still_reads
    a_stream_dropped_with_unread_bytes_resets_its_peer
    a_stream_dropped_with_half_read_bytes_resets_its_peer
    writing_to_a_peer_that_has_closed_fails
    a_writer_that_waits_for_room_learns_of_a_reset
    connecting_to_a_closed_port_is_refused
    a_slow_reader_holds_its_writer_back_and_gets_every_byte
    small_reads_do_not_stop_a_large_transfer
    what_is_written_is_unacknowledged_until_the_peers_machine_has_it
    a_fin_is_unacknowledged_for_a_round_trip
    the_peers_end_is_seen_past_bytes_that_nobody_has_read
    a_reset_is_seen_by_who_only_watches
    a_reset_behind_the_peers_end_is_seen
}

fn an_echo_crosses_the_hosts<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    let ending = simulate::<E>(vec![
        Host::new("server", echo_server),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            stream.write_all(b"ping").await.unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.unwrap();
            seen.note(&world, String::from_utf8_lossy(&answer));
            world.finish();
        }),
    ]);
    assert_eq!(log.words(), ["ping"]);
    let Ending::Finished { at } = ending else { panic!("{ending:?}") };
    assert!(at > Time::EPOCH && at < second(1), "{at:?}");
}

fn a_client_that_has_shut_down_its_side_still_reads<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    simulate::<E>(vec![
        Host::new("server", async |world: E::World| {
            let (_listener, mut stream) = accept(&world).await;
            let mut request = Vec::new();
            stream.read_to_end(&mut request).await.unwrap();
            request.extend_from_slice(b", answered");
            stream.write_all(&request).await.unwrap();
        }),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            stream.write_all(b"request").await.unwrap();
            stream.shutdown().await.unwrap();
            stream.shutdown().await.expect("a second shutdown is no error");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            seen.note(&world, answer);
            world.finish();
        }),
    ]);
    assert_eq!(log.words(), ["request, answered"]);
}

fn a_stream_dropped_with_unread_bytes_resets_its_peer<E: Engine>() {
    assert_eq!(drop_after_reading::<E>(0), ErrorKind::ConnectionReset);
}

fn a_stream_dropped_with_half_read_bytes_resets_its_peer<E: Engine>() {
    assert_eq!(drop_after_reading::<E>(3), ErrorKind::ConnectionReset);
}

/// The server reads `n` of 6 bytes and drops the stream; this is what the client's read says.
fn drop_after_reading<E: Engine>(n: usize) -> ErrorKind {
    let kind = Arc::new(Mutex::new(None));
    let seen = kind.clone();
    simulate::<E>(vec![
        Host::new("server", async move |world: E::World| {
            let (_listener, mut stream) = accept(&world).await;
            world.sleep_until(second(1)).await;
            stream.read_exact(&mut vec![0; n]).await.unwrap();
            drop(stream);
            world.sleep_until(second(9)).await;
        }),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            stream.write_all(b"unread").await.unwrap();
            *seen.lock().unwrap() = stream.read(&mut [0; 10]).await.err().map(|error| error.kind());
            world.finish();
        }),
    ]);
    kind.lock().unwrap().expect("an error")
}

fn writing_to_a_peer_that_has_closed_fails<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    simulate::<E>(vec![
        Host::new("server", async |world: E::World| {
            let (_listener, stream) = accept(&world).await;
            drop(stream);
            world.sleep_until(second(9)).await;
        }),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            world.sleep_until(second(1)).await;
            for n in 1..=5 {
                if let Err(error) = stream.write_all(b"anyone?").await {
                    let is_reset = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
                    seen.note(&world, format!("write {n}, reset: {is_reset}"));
                    break;
                }
                world.sleep_until(world.now() + Duration::from_millis(100)).await;
            }
            world.finish();
        }),
    ]);
    assert_eq!(log.words(), ["write 2, reset: true"]);
}

fn a_writer_that_waits_for_room_learns_of_a_reset<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    simulate::<E>(vec![
        Host::new("server", async |world: E::World| {
            let (_listener, stream) = accept(&world).await;
            world.sleep_until(second(5)).await;
            drop(stream);
            world.sleep_until(second(9)).await;
        }),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            while stream.write_all(&[0; 1000]).await.is_ok() {}
            assert!(world.now() >= second(5));
            seen.note(&world, "failed");
            world.finish();
        }),
    ]);
    assert_eq!(log.words(), ["failed"]);
}

fn connecting_to_a_closed_port_is_refused<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    simulate::<E>(vec![
        Host::new("server", async |_: E::World| {}),
        Host::new("client", async move |world: E::World| {
            for address in ["server:6432", "nobody:6432", "server"] {
                let error = world.connect(address).await.err().map(|error| error.kind());
                seen.note(&world, format!("{error:?}"));
            }
            world.finish();
        }),
    ]);
    assert_eq!(log.words(), ["Some(ConnectionRefused)", "Some(NotFound)", "Some(InvalidInput)"]);
}

fn a_slow_reader_holds_its_writer_back_and_gets_every_byte<E: Engine>() {
    transfer::<E>(16 * 1024);
}

fn small_reads_do_not_stop_a_large_transfer<E: Engine>() {
    transfer::<E>(1000);
}

/// The client writes 6 MiB; the server begins to read after ten seconds, `at_once` bytes at most.
fn transfer<E: Engine>(at_once: usize) {
    const TOTAL: usize = 6 * 1024 * 1024;
    let log = Log::default();
    let seen = log.clone();
    let written = Arc::new(Mutex::new(0));
    let so_far = written.clone();
    let ending = simulate::<E>(vec![
        Host::new("server", async move |world: E::World| {
            let (_listener, mut stream) = accept(&world).await;
            world.sleep_until(second(10)).await;
            let held_back = *so_far.lock().unwrap();
            seen.note(&world, format!("held back: {}", (4_000_000..4_300_000).contains(&held_back)));
            let (mut buf, mut total) = (vec![0; at_once], 0);
            loop {
                let n = stream.read(&mut buf).await.unwrap();
                if n == 0 {
                    break;
                }
                for byte in &buf[..n] {
                    assert_eq!(usize::from(*byte), total % 251);
                    total += 1;
                }
            }
            seen.note(&world, format!("complete: {}", total == TOTAL));
            world.finish();
        }),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            let bytes: Vec<u8> = (0..TOTAL).map(|n| u8::try_from(n % 251).unwrap()).collect();
            for piece in bytes.chunks(4096) {
                stream.write_all(piece).await.unwrap();
                *written.lock().unwrap() += piece.len();
            }
        }),
    ]);
    assert_eq!(log.words(), ["held back: true", "complete: true"], "{ending:?}");
}

/// More than the peer's receive buffer holds, and less than that and the own send buffer.
const LARGE: usize = 100_000;

fn what_is_written_is_unacknowledged_until_the_peers_machine_has_it<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    simulate::<E>(vec![
        Host::new("server", async |world: E::World| {
            let (_listener, mut stream) = accept(&world).await;
            world.sleep_until(second(5)).await;
            stream.read_exact(&mut vec![0; LARGE + 3]).await.unwrap();
            std::future::pending().await
        }),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            world.sleep_until(second(1)).await;
            assert_eq!(stream.unacknowledged(), 0);
            stream.write_all(b"abc").await.unwrap();
            assert_eq!(stream.unacknowledged(), 3);
            world.sleep_until(second(2)).await;
            assert_eq!(stream.unacknowledged(), 0, "nobody has read it, but it has arrived");
            stream.write_all(&[0; LARGE]).await.unwrap();
            world.sleep_until(second(3)).await;
            let left = stream.unacknowledged();
            assert!((LARGE - 70_000..LARGE).contains(&left), "{left}");
            world.sleep_until(second(6)).await;
            seen.note(&world, stream.unacknowledged());
            world.finish();
        }),
    ]);
    assert_eq!(log.words(), ["0"]);
}

fn a_fin_is_unacknowledged_for_a_round_trip<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    simulate::<E>(vec![
        Host::new("server", async |world: E::World| {
            let (_listener, _stream) = accept(&world).await;
            std::future::pending::<()>().await;
        }),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            world.sleep_until(second(1)).await;
            stream.shutdown().await.unwrap();
            seen.note(&world, stream.unacknowledged());
            world.sleep_until(second(2)).await;
            seen.note(&world, stream.unacknowledged());
            world.finish();
        }),
    ]);
    assert_eq!(log.words(), ["1", "0"]);
}

fn the_peers_end_is_seen_past_bytes_that_nobody_has_read<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    simulate::<E>(vec![
        Host::new("server", async move |world: E::World| {
            let (_listener, mut stream) = accept(&world).await;
            let peer = poll_fn(|cx| stream.poll_peer(PeerState::Open, cx)).await;
            seen.note(&world, format!("{peer:?} {}", world.now() > second(3) && world.now() < second(4)));
            let gone = poll_fn(|cx| Poll::Ready(stream.poll_peer(PeerState::Closed, cx).is_pending())).await;
            let mut bytes = String::new();
            stream.read_to_string(&mut bytes).await.unwrap();
            seen.note(&world, format!("still there: {gone}, read: {bytes}"));
            world.finish();
        }),
        Host::new("client", async |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            stream.write_all(b"unread").await.unwrap();
            world.sleep_until(second(3)).await;
            stream.shutdown().await.unwrap();
            std::future::pending::<()>().await;
        }),
    ]);
    assert_eq!(log.words(), ["Closed true", "still there: true, read: unread"]);
}

fn a_reset_is_seen_by_who_only_watches<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    simulate::<E>(vec![
        Host::new("server", async |world: E::World| {
            let (_listener, stream) = accept(&world).await;
            world.sleep_until(second(3)).await;
            // Over bytes that nobody has read.
            drop(stream);
            std::future::pending::<()>().await;
        }),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            stream.write_all(b"unread").await.unwrap();
            let peer = poll_fn(|cx| stream.poll_peer(PeerState::Open, cx)).await;
            seen.note(&world, format!("{peer:?} {}", world.now() > second(3) && world.now() < second(4)));
            world.finish();
        }),
    ]);
    assert_eq!(log.words(), ["Gone true"]);
}

/// Who answers a client that has closed gets its FIN, and only then its reset.
fn a_reset_behind_the_peers_end_is_seen<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    simulate::<E>(vec![
        Host::new("server", async move |world: E::World| {
            let (_listener, mut stream) = accept(&world).await;
            assert_eq!(poll_fn(|cx| stream.poll_peer(PeerState::Open, cx)).await, PeerState::Closed);
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
            stream.write_all(b"last words").await.unwrap();
            let peer = poll_fn(|cx| stream.poll_peer(PeerState::Closed, cx)).await;
            seen.note(&world, format!("{peer:?} {}", world.now() < second(4)));
            world.finish();
        }),
        Host::new("client", async |world: E::World| {
            let stream = world.connect("server:6432").await.unwrap();
            world.sleep_until(second(3)).await;
            drop(stream);
            std::future::pending::<()>().await;
        }),
    ]);
    assert_eq!(log.words(), ["Gone true"]);
}
