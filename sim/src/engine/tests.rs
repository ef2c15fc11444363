//! What both engines promise, each shown on both.

use std::io::ErrorKind;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use cp::core::Time;
use cp::world::{Listener, Signal, World};
use futures_util::future::poll_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Capabilities, Ending, Engine, Host, Plan, SimWorld, Turmoil, TurmoilNet};

macro_rules! on_both_engines {
    ($($test:ident)*) => {
        mod on_turmoil_net {
            $(#[test] fn $test() { super::$test::<super::TurmoilNet>(); })*
        }
        mod on_turmoil {
            $(#[test] fn $test() { super::$test::<super::Turmoil>(); })*
        }
    };
}

on_both_engines! {
    an_echo_crosses_the_hosts
    a_client_that_has_shut_down_its_side_still_reads
    a_stream_dropped_with_unread_bytes_resets_its_peer
    a_stream_dropped_with_half_read_bytes_resets_its_peer
    writing_to_a_peer_that_has_closed_fails
    a_writer_that_waits_for_room_learns_of_a_reset
    connecting_to_a_closed_port_is_refused
    a_slow_reader_holds_its_writer_back_and_gets_every_byte
    small_reads_do_not_stop_a_large_transfer
    kill_ends_the_tasks_and_closes_the_sockets
    a_panic_ends_its_task_and_is_reported
    pending_signals_are_delivered_once_each
    a_sleep_ends_at_its_time_on_every_host
    the_run_ends_when_a_host_says_so_or_at_the_limit
    a_task_that_never_rests_ends_the_run
    the_same_seed_gives_the_same_order_and_other_seeds_others
    two_runs_at_once_do_not_disturb_each_other
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

/// The client writes 1 MiB; the server begins to read after ten seconds, `at_once` bytes at most.
fn transfer<E: Engine>(at_once: usize) {
    const TOTAL: usize = 1024 * 1024;
    let log = Log::default();
    let seen = log.clone();
    let written = Arc::new(Mutex::new(0));
    let so_far = written.clone();
    let ending = simulate::<E>(vec![
        Host::new("server", async move |world: E::World| {
            let (_listener, mut stream) = accept(&world).await;
            world.sleep_until(second(10)).await;
            let held_back = *so_far.lock().unwrap();
            seen.note(&world, format!("held back: {}", (1..200_000).contains(&held_back)));
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

fn kill_ends_the_tasks_and_closes_the_sockets<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    simulate::<E>(vec![
        Host::new("server", async |world: E::World| {
            let (_listener, stream) = accept(&world).await;
            world.spawn("session", async move {
                let _stream = stream;
                std::future::pending::<()>().await;
            });
            std::future::pending::<()>().await;
        }),
        Host::new("kubelet", async |world: E::World| {
            world.sleep_until(second(1)).await;
            world.kill("server");
        }),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            world.sleep_until(second(1)).await;
            seen.note(&world, format!("{:?}", world.tasks("client")));
            let end = stream.read(&mut [0; 10]).await;
            seen.note(&world, format!("{end:?} {:?}", world.tasks("server")));
            let again = world.connect("server:6432").await.err().map(|error| error.kind());
            seen.note(&world, format!("{again:?}"));
            world.finish();
        }),
    ]);
    assert_eq!(log.words(), [r#"["main"]"#, "Ok(0) []", "Some(ConnectionRefused)"]);
}

fn a_panic_ends_its_task_and_is_reported<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    simulate::<E>(vec![Host::new("pod", async move |world: E::World| {
        world.spawn("drain", async { panic!("lost {} records", 2) });
        world.sleep_until(second(1)).await;
        for panic in world.panics() {
            seen.note(&world, format!("{} on {}: {}", panic.task, panic.host, panic.message));
        }
        seen.note(&world, format!("{:?}", world.tasks("pod")));
        world.finish();
    })]);
    assert_eq!(log.words(), ["drain on pod: lost 2 records", r#"["main"]"#]);
}

fn pending_signals_are_delivered_once_each<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    simulate::<E>(vec![
        Host::new("pod", async move |world: E::World| {
            loop {
                let signal = world.next_signal().await;
                seen.note(&world, signal);
            }
        }),
        Host::new("kubelet", async |world: E::World| {
            for signal in [Signal::Int, Signal::Term, Signal::Term] {
                world.send_signal("pod", signal);
            }
            world.sleep_until(second(1)).await;
            world.send_signal("pod", Signal::Term);
            world.sleep_until(second(2)).await;
            world.finish();
        }),
    ]);
    assert_eq!(log.words(), ["SIGTERM", "SIGINT", "SIGTERM"]);
}

fn a_sleep_ends_at_its_time_on_every_host<E: Engine>() {
    let log = Log::default();
    let sleeper = |name: &'static str, first: u64| {
        let seen = log.clone();
        Host::new(name, async move |world: E::World| {
            for ms in (first..10_000).step_by(37) {
                let at = Time::from_epoch(Duration::from_millis(ms));
                world.sleep_until(at).await;
                assert!(world.now() >= at && world.now().since(at) < E::resolution(HOUR));
                seen.note(&world, ms);
            }
        })
    };
    E::simulate(Plan { seed: 1, limit: HOUR }, vec![sleeper("a", 1), sleeper("b", 20)]);
    let times = log.times();
    assert_eq!(times.len(), 541);
    assert!(times.is_sorted(), "no host is ahead of another");
}

fn the_run_ends_when_a_host_says_so_or_at_the_limit<E: Engine>() {
    let limit = Duration::from_secs(5);
    let run = |until: Time| {
        let log = Log::default();
        let seen = log.clone();
        let ending = E::simulate(
            Plan { seed: 1, limit },
            vec![Host::new("pod", async move |world: E::World| {
                world.sleep_until(until).await;
                world.finish();
                let other = world.clone();
                world.spawn("ready at once", async move { seen.note(&other, "ran") });
                world.sleep_until(world.now() + E::resolution(HOUR)).await;
                panic!("too late");
            })],
        );
        (ending, log.words().len())
    };
    assert_eq!(run(second(3)), (Ending::Finished { at: second(3) }, 1));
    assert_eq!(run(second(5)), (Ending::OutOfTime { at: second(5) }, 0));
}

fn a_task_that_never_rests_ends_the_run<E: Engine>() {
    let ending = simulate::<E>(vec![Host::new("pod", async |world: E::World| {
        world.sleep_until(second(2)).await;
        world.spawn("spinner", async {
            poll_fn::<(), _>(|cx| {
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        });
    })]);
    let Ending::Stuck { at, why } = ending else { panic!("{ending:?}") };
    assert_eq!(at, second(2));
    assert!(why.contains("busiest: spinner on pod"), "{why}");
}

fn the_same_seed_gives_the_same_order_and_other_seeds_others<E: Engine>() {
    let first = race::<E>(1);
    assert_eq!(first.len(), 60);
    assert_eq!(first, race::<E>(1));
    assert!((2..6).any(|seed| race::<E>(seed) != first));
}

fn two_runs_at_once_do_not_disturb_each_other<E: Engine>() {
    let alone = race::<E>(1);
    std::thread::scope(|scope| {
        let runs = [1, 2, 1, 2].map(|seed| scope.spawn(move || race::<E>(seed)));
        let [a, b, c, d] = runs.map(|run| run.join().unwrap());
        assert_eq!([&a, &c], [&alone, &alone]);
        assert_eq!(b, d);
    });
}

/// Three hosts with the same work at the same times: when, and in which order, they send and are answered.
fn race<E: Engine>(seed: u64) -> Vec<(Time, String)> {
    let log = Log::default();
    let racer = |name: &'static str| {
        let seen = log.clone();
        Host::new(name, async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            for n in 1..=10 {
                world.sleep_until(second(n)).await;
                seen.note(&world, format!("{name} sends"));
                stream.write_all(b"?").await.unwrap();
                stream.read_exact(&mut [0]).await.unwrap();
                seen.note(&world, format!("{name} is answered"));
            }
        })
    };
    simulate::<E>(vec![Host::new("server", echo_server), racer("a"), racer("b"), racer("c")]);
    let entries = log.0.lock().unwrap();
    entries.clone()
}

#[test]
fn what_an_engine_lacks_is_named() {
    let needed = Capabilities { exact_times: true, reset: true, ..Capabilities::default() };
    assert_eq!(Turmoil::SUPPORTS.lacks(needed), ["exact times"]);
    assert!(TurmoilNet::SUPPORTS.lacks(needed).is_empty());
    assert_eq!(Capabilities::default().lacks(needed), ["reset", "exact times"]);
}

const HOUR: Duration = Duration::from_secs(3600);

fn second(n: u64) -> Time {
    Time::from_epoch(Duration::from_secs(n))
}

fn simulate<E: Engine>(hosts: Vec<Host<E::World>>) -> Ending {
    E::simulate(Plan { seed: 1, limit: Duration::from_secs(30) }, hosts)
}

/// What happened, when, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Time, String)>>>);

impl Log {
    fn note(&self, world: &impl World, what: impl ToString) {
        self.0.lock().unwrap().push((world.now(), what.to_string()));
    }

    fn words(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(_, what)| what.clone()).collect()
    }

    fn times(&self) -> Vec<Time> {
        self.0.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }
}

/// Accepts one connection. The listener comes along so that it stays open.
async fn accept<W: World>(world: &W) -> (W::Listener, W::Stream) {
    let mut listener = world.bind("0.0.0.0:6432").await.unwrap();
    let (stream, _peer) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
    (listener, stream)
}

async fn echo_server<W: World>(world: W) {
    let mut listener = world.bind("0.0.0.0:6432").await.unwrap();
    loop {
        let (mut stream, _peer) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        world.spawn("echo", async move {
            let mut buf = vec![0; 16 * 1024];
            while let Ok(n @ 1..) = pin!(stream.read(&mut buf)).await {
                stream.write_all(&buf[..n]).await.unwrap();
            }
        });
    }
}
