//! What every engine promises, shown on each. Here: time, tasks, signals, seeds; sockets have a file of their own.

mod faults;
mod machines;
mod order;
mod sockets;

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::poll_fn;
use lastcall_core::Time;
use lastcall_world::{Listener, Signal, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Capabilities, Ending, Engine, Host, Madsim, Plan, SimWorld, Turmoil, TurmoilNet};

/// Makes a test of each of these functions for each engine. What comes behind `with faults:` is for those that can do all that
/// networks and machines may suffer, and that draw the order of what is due together from the seed.
macro_rules! on_every_engine {
    ($($test:ident)* $(; with faults: $($faulty:ident)*)?) => {
        mod on_turmoil_net {
            $(#[test] fn $test() { super::$test::<crate::stage::TurmoilNet>(); })*
            $($(#[test] fn $faulty() { super::$faulty::<crate::stage::TurmoilNet>(); })*)?
        }
        mod on_turmoil {
            $(#[test] fn $test() { super::$test::<crate::stage::Turmoil>(); })*
        }
        mod on_madsim {
            $(#[test] fn $test() { super::$test::<crate::stage::Madsim>(); })*
            $($(#[test] fn $faulty() { super::$faulty::<crate::stage::Madsim>(); })*)?
        }
    };
}
use on_every_engine;

on_every_engine! {
    kill_ends_the_tasks_and_closes_the_sockets
    a_panic_ends_its_task_and_is_reported
    pending_signals_are_delivered_once_each
    a_sleep_ends_at_its_time_on_every_host
    the_run_ends_when_a_host_says_so_or_at_the_limit
    a_task_that_never_rests_ends_the_run
    the_same_seed_gives_the_same_order_and_other_seeds_others
    two_runs_at_once_do_not_disturb_each_other
    nothing_of_a_run_is_left_when_it_has_ended
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
    let end = Host::new("end", async |world: E::World| {
        world.sleep_until(second(11)).await;
        world.finish();
    });
    // An hour: long enough for a tick of several milliseconds.
    E::simulate(Plan { seed: 1, limit: HOUR }, vec![sleeper("a", 1), sleeper("b", 20), end]);
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

fn nothing_of_a_run_is_left_when_it_has_ended<E: Engine>() {
    let held = Arc::new(());
    let (by_session, by_client, by_sleeper) = (held.clone(), held.clone(), held.clone());
    let ending = simulate::<E>(vec![
        Host::new("server", async move |world: E::World| {
            let (_listener, mut stream) = accept(&world).await;
            world.spawn("session", async move {
                let _by_session = by_session;
                let _ = stream.read_exact(&mut [0; 100]).await;
            });
            std::future::pending::<()>().await;
        }),
        Host::new("client", async move |world: E::World| {
            let _by_client = by_client;
            let mut stream = world.connect("server:6432").await.unwrap();
            stream.write_all(b"unread").await.unwrap();
            let sleep = world.sleep_until(second(20));
            world.spawn("sleeper", async move {
                let _by_sleeper = by_sleeper;
                sleep.await;
            });
            world.sleep_until(second(1)).await;
            world.finish();
            std::future::pending::<()>().await;
        }),
    ]);
    assert_eq!(ending, Ending::Finished { at: second(1) });
    assert_eq!(Arc::strong_count(&held), 1);
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
    let hosts = vec![Host::new("server", echo_server), racer("a"), racer("b"), racer("c")];
    E::simulate(Plan { seed, limit: Duration::from_secs(30) }, hosts);
    let entries = log.0.lock().unwrap();
    entries.clone()
}

#[test]
fn what_an_engine_lacks_is_named() {
    let needed = Capabilities { exact_times: true, reset: true, ..Capabilities::default() };
    assert_eq!(Turmoil::SUPPORTS.lacks(needed), ["exact times"]);
    assert!(TurmoilNet::SUPPORTS.lacks(needed).is_empty());
    assert!(Madsim::SUPPORTS.lacks(needed).is_empty());
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
