//! Kernels and their machines: buffers of real sizes, what is lost with a machine, links with a rate, a process that was
//! stopped.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::future::poll_fn;
use lastcall_world::{Listener as _, PeerState, Stream as _, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{HOUR, Log, accept, echo_server, on_every_engine, second};
use crate::stage::turmoil_net;
use crate::stage::{Buffers, Engine, Host, Life, Link, Machine, Plan, SimWorld, TurmoilNet};

on_every_engine! {
    a_writer_that_was_refused_is_let_on_when_a_third_of_its_buffer_is_free
    ;
    with faults:
    what_is_not_acknowledged_when_a_pod_exits_is_lost_without_a_word
    what_has_left_and_what_was_closed_in_good_order_arrives_although_the_pod_is_gone
    a_pod_that_is_killed_sends_neither_fin_nor_reset_and_answers_nothing
    a_pod_can_be_started_again_where_one_has_died
    an_answer_of_megabytes_waits_in_the_senders_buffer
    a_receive_buffer_can_be_of_megabytes
    a_link_with_a_rate_is_shared_by_its_connections_and_carries_no_more
    a_reset_reaches_a_process_that_is_stopped
}

/// What a process on an engine has of a connection.
type StreamOf<E> = <<E as Engine>::World as World>::Stream;

fn mortal() -> Machine {
    Machine { life: Life::DiesWithProcess, ..Machine::default() }
}

fn small(send: usize) -> Machine {
    Machine { buffers: Buffers { send, receive: 64 * 1024 }, ..Machine::default() }
}

/// Runs a pod whose machine dies with it, and a client of its.
fn run<E: Engine, P, C>(
    pod: impl FnOnce(E::World, StreamOf<E>) -> P + Send + 'static,
    client: impl FnOnce(E::World, StreamOf<E>, Log) -> C + Send + 'static,
) -> Log
where
    P: Future<Output = ()> + Send + 'static,
    C: Future<Output = ()> + Send + 'static,
{
    let log = Log::default();
    let seen = log.clone();
    let hosts = vec![
        Host::new("pod", async move |world: E::World| {
            let (_listener, stream) = accept(&world).await;
            pod(world, stream).await;
        })
        .on(mortal()),
        Host::new("client", async move |world: E::World| {
            let stream = world.connect("pod:6432").await.unwrap();
            client(world.clone(), stream, seen).await;
            world.finish();
        }),
    ];
    E::simulate(Plan { seed: 1, limit: HOUR }, hosts);
    log
}

/// Reads to the end, and says how much came, and how and in which second it ended.
async fn read_all<W: World>(world: &W, stream: &mut W::Stream, seen: &Log) {
    let (mut buf, mut total) = (vec![0; 16 * 1024], 0);
    let end = loop {
        match stream.read(&mut buf).await {
            Ok(0) => break "end".to_owned(),
            Ok(read) => total += read,
            Err(error) => break error.kind().to_string(),
        }
    };
    seen.note(world, format!("{total} bytes, {end} at {} s", world.now().since_epoch().as_secs()));
}

fn what_is_not_acknowledged_when_a_pod_exits_is_lost_without_a_word<E: Engine>() {
    let log = run::<E, _, _>(
        async |world, mut stream| {
            world.sleep_until(second(1)).await;
            stream.write_all(&vec![0; 200_000]).await.unwrap();
            stream.shutdown().await.unwrap();
            world.sleep_until(second(5)).await;
        },
        async |world, mut stream, seen| {
            world.sleep_until(second(20)).await;
            read_all(&world, &mut stream, &seen).await;
        },
    );
    // What the client's machine had taken; its keepalive begins when the pod is gone.
    let words = log.words();
    let (bytes, end) = words[0].split_once(" bytes, ").unwrap();
    assert!((48 * 1024..=64 * 1024).contains(&bytes.parse().unwrap()), "{words:?}");
    assert_eq!(end, "connection reset at 95 s");
}

fn what_has_left_and_what_was_closed_in_good_order_arrives_although_the_pod_is_gone<E: Engine>() {
    let log = run::<E, _, _>(
        async |world, mut stream| {
            world.sleep_until(second(5)).await;
            stream.write_all(b"goodbye").await.unwrap();
            stream.shutdown().await.unwrap();
        },
        async |world, mut stream, seen| read_all(&world, &mut stream, &seen).await,
    );
    assert_eq!(log.words(), ["7 bytes, end at 5 s"]);
}

fn a_pod_that_is_killed_sends_neither_fin_nor_reset_and_answers_nothing<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    let hosts = vec![
        Host::new("pod", echo_server).on(mortal()),
        Host::new("client", async move |world: E::World| {
            let [mut idle, mut unread, mut writes] = std::array::from_fn(|_| None);
            for stream in [&mut idle, &mut unread, &mut writes] {
                *stream = Some(world.connect("pod:6432").await.unwrap());
            }
            let (mut idle, unread, mut writes) = (idle.unwrap(), unread.unwrap(), writes.unwrap());
            world.sleep_until(second(10)).await;
            world.kill("pod");
            let late = world.connect("pod:6432").await.err().map(|error| error.kind());
            seen.note(&world, format!("{late:?}"));
            writes.write_all(b"?").await.unwrap();
            let gone = poll_fn(|cx| idle.poll_peer(PeerState::Open, cx)).await;
            seen.note(&world, format!("{gone:?} at {} s", world.now().since_epoch().as_secs()));
            assert_eq!(writes.unacknowledged(), 1);
            assert!(unread.unacknowledged() == 0 && world.tasks("pod").is_empty());
            read_all(&world, &mut writes, &seen).await;
            world.finish();
        }),
    ];
    E::simulate(Plan { seed: 1, limit: HOUR }, hosts);
    let refused = format!("{:?}", Some(ErrorKind::ConnectionRefused));
    assert_eq!(log.words(), [&refused, "Gone at 100 s", "0 bytes, connection reset at 910 s"]);
}

fn a_pod_can_be_started_again_where_one_has_died<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    let hosts = vec![
        Host::new("pod", echo_server).on(mortal()),
        Host::new("client", async move |world: E::World| {
            let mut old = world.connect("pod:6432").await.unwrap();
            world.sleep_until(second(10)).await;
            world.kill("pod");
            world.sleep_until(second(20)).await;
            world.start("pod", echo_server);
            world.sleep_until(second(21)).await;
            let mut new = world.connect("pod:6432").await.unwrap();
            new.write_all(b"new").await.unwrap();
            let mut answer = [0; 3];
            new.read_exact(&mut answer).await.unwrap();
            seen.note(&world, String::from_utf8_lossy(&answer));
            old.write_all(b"old").await.unwrap();
            read_all(&world, &mut old, &seen).await;
            world.finish();
        }),
    ];
    E::simulate(Plan { seed: 1, limit: HOUR }, hosts);
    assert_eq!(log.words(), ["new", "0 bytes, connection reset at 21 s"]);
}

fn a_writer_that_was_refused_is_let_on_when_a_third_of_its_buffer_is_free<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    let hosts = vec![
        Host::new("server", async |world: E::World| {
            let (_listener, mut stream) = accept(&world).await;
            let mut step = 1;
            while stream.read_exact(&mut [0; 100_000]).await.is_ok() {
                step += 1;
                world.sleep_until(second(10 * step)).await;
            }
        }),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            world.sleep_until(second(1)).await;
            stream.write_all(&[0; 1_000_000]).await.unwrap();
            // Taken: all of the own buffer, and what the server's machine holds.
            while world.now() < second(9) {
                let full = poll_fn(|cx| {
                    let write = std::pin::Pin::new(&mut stream);
                    std::task::Poll::Ready(tokio::io::AsyncWrite::poll_write(write, cx, &[0; 10_000]).is_pending())
                });
                if full.await {
                    let next = world.now() + Duration::from_millis(500);
                    world.sleep_until(next).await;
                }
            }
            stream.write_all(&[0; 1]).await.unwrap();
            seen.note(&world, format!("{:?}", world.now().since_epoch().as_secs()));
            world.finish();
        })
        .on(small(1_200_000)),
    ];
    E::simulate(Plan { seed: 1, limit: HOUR }, hosts);
    // 100 kB are read every ten seconds: 400 kB are a third.
    let words = log.words();
    let at: u64 = words[0].parse().unwrap();
    assert!((40..=50).contains(&at), "{at} s");
}

fn an_answer_of_megabytes_waits_in_the_senders_buffer<E: Engine>() {
    let log = run::<E, _, _>(
        async |world, mut stream| {
            stream.write_all(&vec![0; 4 * 1024 * 1024]).await.unwrap();
            world.sleep_until(second(5)).await;
            assert_eq!(stream.unacknowledged(), 4 * 1024 * 1024 - 64 * 1024);
            world.sleep_until(second(60)).await;
            assert_eq!(stream.unacknowledged(), 0);
        },
        async |world, mut stream, seen| {
            world.sleep_until(second(10)).await;
            let mut answer = vec![0; 4 * 1024 * 1024];
            stream.read_exact(&mut answer).await.unwrap();
            seen.note(&world, world.now() < second(20));
            world.sleep_until(second(61)).await;
        },
    );
    assert_eq!(log.words(), ["true"]);
}

fn a_receive_buffer_can_be_of_megabytes<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    let large = Machine { buffers: Buffers { receive: 1024 * 1024, ..Buffers::default() }, ..Machine::default() };
    let hosts = vec![
        Host::new("server", async |world: E::World| {
            let (_listener, _stream) = accept(&world).await;
            std::future::pending::<()>().await;
        })
        .on(large),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            stream.write_all(&vec![0; 2 * 1024 * 1024]).await.unwrap();
            world.sleep_until(second(5)).await;
            seen.note(&world, (1024 * 1024..1024 * 1024 + 64 * 1024).contains(&stream.unacknowledged()));
            world.finish();
        }),
    ];
    E::simulate(Plan { seed: 1, limit: HOUR }, hosts);
    assert_eq!(log.words(), ["true"]);
}

fn a_link_with_a_rate_is_shared_by_its_connections_and_carries_no_more<E: Engine>() {
    let log = Log::default();
    let reader = |name: &'static str| {
        let seen = log.clone();
        move |world: E::World| async move {
            let mut stream = world.connect("server:6432").await.unwrap();
            stream.read_exact(&mut vec![0; 1_000_000]).await.unwrap();
            seen.note(&world, name);
        }
    };
    let (one, other, fast) = (reader("one"), reader("other"), reader("fast"));
    let hosts = vec![
        Host::new("server", async |world: E::World| {
            let mut listener = world.bind("0.0.0.0:6432").await.unwrap();
            loop {
                let (mut stream, _) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
                world.spawn("writer", async move {
                    stream.write_all(&vec![0; 1_000_000]).await.unwrap();
                    std::future::pending::<()>().await;
                });
            }
        }),
        Host::new("clients", async move |world: E::World| {
            world.link(["clients", "server"], Link::Rate(250_000));
            world.spawn("one", one(world.clone()));
            world.spawn("other", other(world.clone()));
            world.sleep_until(second(20)).await;
            world.link(["server", "clients"], Link::Rate(0));
            fast(world.clone()).await;
            world.finish();
        }),
    ];
    E::simulate(Plan { seed: 1, limit: HOUR }, hosts);
    let took: Vec<u64> = log.times().iter().map(|at| at.since_epoch().as_secs()).collect();
    // 2 MB, and 3 % of headers and acknowledgements.
    assert!(took[0] >= 7 && took[1] == 8 && took[2] == 20, "{took:?}");
}

#[test]
fn behind_a_stop_timers_ring_before_sockets_tell_what_has_come() {
    let sees = |refreshes: bool| {
        let log = Log::default();
        let seen = log.clone();
        let hosts = vec![
            Host::new("server", async move |world: turmoil_net::World| {
                let (_listener, mut stream) = accept(&world).await;
                let deadline = world.sleep_until(second(3));
                let mut deadline = std::pin::pin!(deadline);
                // As a process does that looks at what has come first, and then at the time.
                let came = poll_fn(|cx| {
                    if refreshes && world.now() >= second(3) {
                        stream.refresh();
                    }
                    let mut byte = [0];
                    let mut read = tokio::io::ReadBuf::new(&mut byte);
                    if tokio::io::AsyncRead::poll_read(std::pin::Pin::new(&mut stream), cx, &mut read).is_ready() {
                        return std::task::Poll::Ready("bytes");
                    }
                    deadline.as_mut().poll(cx).map(|()| "deadline")
                });
                let came = came.await;
                seen.note(&world, format!("{came} at {:?}", world.now().since_epoch()));
                if stream.read_exact(&mut [0]).await.is_ok() {
                    seen.note(&world, "and bytes");
                }
                world.finish();
            }),
            Host::new("client", async move |world: turmoil_net::World| {
                let mut stream = world.connect("server:6432").await.unwrap();
                world.sleep_until(second(1)).await;
                world.freeze("server");
                world.sleep_until(second(2)).await;
                stream.write_all(b"!!").await.unwrap();
                world.sleep_until(second(5)).await;
                world.thaw("server");
                std::future::pending().await
            }),
        ];
        TurmoilNet::simulate(Plan { seed: 1, limit: HOUR }, hosts);
        assert!(log.times().iter().all(|at| *at == second(5)), "{:?}", log.times());
        log.words()
    };
    assert_eq!(sees(false), ["deadline at 5s", "and bytes"]);
    assert_eq!(sees(true), ["bytes at 5s", "and bytes"]);
}

fn a_reset_reaches_a_process_that_is_stopped<E: Engine>() {
    let log = run::<E, _, _>(
        async |_, stream| {
            // Over bytes that nobody has read.
            let _stream = stream;
            std::future::pending::<()>().await;
        },
        async |world, stream, seen| {
            world.freeze("pod");
            world.reset(stream);
            world.sleep_until(second(5)).await;
            world.thaw("pod");
            world.kill("pod");
            seen.note(&world, "survived");
            world.sleep_until(second(6)).await;
        },
    );
    assert_eq!(log.words(), ["survived"]);
}
