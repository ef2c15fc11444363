//! The same instant: on the engines that draw its order from the seed.

use std::collections::BTreeSet;
use std::time::Duration;

use lastcall_world::World as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Log, accept, on_every_engine, second};
use crate::stage::{Engine, Host, Plan, SimWorld};

on_every_engine! {
    ;
    with faults:
    tasks_of_one_host_that_are_due_together_run_in_every_order
    a_packet_and_a_timer_come_in_both_orders
}

/// Enough for every order of three things: each has one chance in six a run.
const SEEDS: u64 = 64;

fn orders(run: impl Fn(u64) -> Vec<String>) -> BTreeSet<String> {
    (1..=SEEDS).map(|seed| run(seed).join(" ")).collect()
}

fn tasks_of_one_host_that_are_due_together_run_in_every_order<E: Engine>() {
    let run = |seed| {
        let log = Log::default();
        let seen = log.clone();
        let host = Host::new("pod", async move |world: E::World| {
            for name in ["a", "b", "c"] {
                let (world, seen) = (world.clone(), seen.clone());
                world.clone().spawn("task", async move {
                    world.sleep_until(second(60)).await;
                    seen.note(&world, name);
                });
            }
            world.sleep_until(second(61)).await;
            world.finish();
        });
        E::simulate(Plan { seed, limit: Duration::from_secs(100) }, vec![host]);
        log.words()
    };
    assert_eq!(run(7), run(7));
    let every = ["a b c", "a c b", "b a c", "b c a", "c a b", "c b a"].map(str::to_owned);
    assert_eq!(orders(run), BTreeSet::from(every));
}

/// The server's timer is due in the millisecond in which the client's byte arrives, or one before it: jitter.
fn a_packet_and_a_timer_come_in_both_orders<E: Engine>() {
    let run = |seed| {
        let log = Log::default();
        let seen = log.clone();
        let hosts = vec![
            Host::new("server", async move |world: E::World| {
                let (_listener, mut stream) = accept(&world).await;
                let (clock, ticks) = (world.clone(), seen.clone());
                world.spawn("timer", async move {
                    clock.sleep_until(second(60)).await;
                    ticks.note(&clock, "timer");
                });
                stream.read_exact(&mut [0]).await.unwrap();
                if world.now() == second(60) {
                    seen.note(&world, "packet");
                }
            }),
            Host::new("client", async |world: E::World| {
                let mut stream = world.connect("server:6432").await.unwrap();
                world.sleep_until(second(59) + Duration::from_millis(999)).await;
                stream.write_all(b"?").await.unwrap();
                world.sleep_until(second(61)).await;
                world.finish();
            }),
        ];
        E::simulate(Plan { seed, limit: Duration::from_secs(100) }, hosts);
        log.words()
    };
    assert_eq!(orders(run), BTreeSet::from(["timer", "timer packet", "packet timer"].map(str::to_owned)));
}
