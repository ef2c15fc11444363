//! What may happen to a network and its machines: on the engines that know how.

use std::io::ErrorKind;
use std::time::Duration;

use lastcall_core::Time;
use lastcall_world::World as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{HOUR, Log, accept, echo_server, on_every_engine, second};
use crate::stage::{Engine, Host, Link, Machine, Plan, SimWorld};

on_every_engine! {
    a_frozen_process_does_nothing_until_it_is_thawed
    ;
    with faults:
    a_reset_is_what_the_peer_reads
    a_peer_that_vanishes_is_found_out_by_keepalive
    a_peer_that_vanishes_under_unacknowledged_bytes_is_found_out_by_the_user_timeout
    what_a_partition_has_lost_comes_through_after_it
    what_is_sent_while_the_lost_is_sent_again_arrives_behind_it
    a_partition_that_lasts_ends_idle_connections_at_both_ends
    a_short_partition_leaves_idle_connections_alone
    a_connect_into_a_partition_waits_for_its_end_or_gives_up
    what_is_held_arrives_in_order_at_the_release_however_late
    latency_is_one_way
    a_fault_of_one_name_touches_no_other_connection
    a_host_that_was_killed_can_be_started_again
    a_keepalive_that_would_have_rung_long_ago_does_not_ring_in_the_past
    who_opens_a_connection_has_the_user_timeout_of_its_own_machine
    a_server_can_be_started_again_after_a_connect_that_was_given_up_half_way
    a_connect_that_is_tried_again_takes_no_other_ones_name
}

/// Runs a server that says what its one connection reads, and a client that does `client`.
fn run<E: Engine, F>(client: impl FnOnce(E::World, Log) -> F + Send + 'static) -> Log
where
    F: Future<Output = ()> + Send + 'static,
{
    let log = Log::default();
    let (seen, clients) = (log.clone(), log.clone());
    let server = Host::new("server", async move |world: E::World| {
        let (_listener, mut stream) = accept(&world).await;
        loop {
            let mut buf = [0; 100];
            match stream.read(&mut buf).await {
                Ok(0) => break seen.note(&world, "end"),
                Ok(n) => seen.note(&world, String::from_utf8_lossy(&buf[..n])),
                Err(error) => break seen.note(&world, error.kind()),
            }
        }
    });
    let client = Host::new("client", async move |world: E::World| {
        client(world.clone(), clients).await;
        world.finish();
    });
    E::simulate(Plan { seed: 1, limit: HOUR }, vec![server, client]);
    log
}

/// What was noted, and in which second.
fn noted(log: &Log) -> Vec<(u64, String)> {
    let entries = log.0.lock().unwrap();
    entries.iter().map(|(at, what)| (at.since_epoch().as_secs(), what.clone())).collect()
}

fn at(second: u64, what: &str) -> (u64, String) {
    (second, what.to_owned())
}

fn a_reset_is_what_the_peer_reads<E: Engine>() {
    let log = run::<E, _>(async |world, _| {
        let mut stream = world.connect("server:6432").await.unwrap();
        stream.write_all(b"sent or not").await.unwrap();
        world.reset(stream);
        world.sleep_until(second(1)).await;
    });
    assert_eq!(log.words().last().map(String::as_str), Some("connection reset"));
}

fn a_peer_that_vanishes_is_found_out_by_keepalive<E: Engine>() {
    let log = run::<E, _>(async |world, seen| {
        let mut stream = world.connect("server:6432").await.unwrap();
        world.sleep_until(second(100)).await;
        stream.write_all(b"lost on its way").await.unwrap();
        world.vanish(&stream);
        let forever = async move {
            stream.read_exact(&mut [0]).await.unwrap();
        };
        world.clone().spawn("reader", forever);
        world.sleep_until(second(3000)).await;
        seen.note(&world, format!("{:?}", world.tasks("client")));
    });
    assert_eq!(noted(&log), [at(190, "connection reset"), at(3000, r#"["main", "reader"]"#)]);
}

fn a_peer_that_vanishes_under_unacknowledged_bytes_is_found_out_by_the_user_timeout<E: Engine>() {
    let answers = |to: u64| {
        let log = Log::default();
        let seen = log.clone();
        E::simulate(
            Plan { seed: 1, limit: HOUR },
            vec![
                Host::new("server", async move |world: E::World| {
                    let (_listener, mut stream) = accept(&world).await;
                    world.sleep_until(second(to)).await;
                    stream.write_all(b"answer").await.unwrap();
                    let end = stream.read(&mut [0]).await.map_err(|error| error.kind());
                    seen.note(&world, format!("{end:?}"));
                    world.finish();
                }),
                Host::new("client", async |world: E::World| {
                    let stream = world.connect("server:6432").await.unwrap();
                    world.sleep_until(second(100)).await;
                    world.vanish(&stream);
                    std::future::pending().await
                }),
            ],
        );
        noted(&log)
    };
    assert_eq!(answers(110), [at(110 + 15 * 60, "Err(ConnectionReset)")]);
    assert_eq!(answers(189), [at(189 + 15 * 60, "Err(ConnectionReset)")]);
    assert_eq!(answers(10), [at(190, "Err(ConnectionReset)")]);
}

fn what_a_partition_has_lost_comes_through_after_it<E: Engine>() {
    let log = run::<E, _>(async |world, _| {
        let mut stream = world.connect("server:6432").await.unwrap();
        world.sleep_until(second(10)).await;
        world.link(["server", "client"], Link::Partition);
        stream.write_all(b"one,").await.unwrap();
        world.sleep_until(second(11)).await;
        stream.write_all(b"two").await.unwrap();
        world.sleep_until(second(20)).await;
        world.link(["client", "server"], Link::Heal);
        stream.write_all(b",three").await.unwrap();
        world.sleep_until(second(200)).await;
    });
    let entries = log.0.lock().unwrap();
    let text: Vec<&str> = entries.iter().map(|(_, what)| what.as_str()).collect();
    assert_eq!(text.concat(), "one,two,three");
    // Lost after 10.001 s, tried again 0.2, 0.6, 1.4, 3, 6.2, 12.6 s later.
    let (first, _) = entries.first().unwrap();
    assert!(first.since(Time::EPOCH).as_millis().abs_diff(22_602) <= 3, "{first:?}");
}

fn what_is_sent_while_the_lost_is_sent_again_arrives_behind_it<E: Engine>() {
    let log = run::<E, _>(async |world, _| {
        let mut stream = world.connect("server:6432").await.unwrap();
        world.sleep_until(second(10)).await;
        world.link(["server", "client"], Link::Partition);
        for letter in b'a'..=b'z' {
            stream.write_all(&[letter]).await.unwrap();
            world.sleep_until(world.now() + Duration::from_millis(1)).await;
        }
        world.sleep_until(second(11)).await;
        world.link(["client", "server"], Link::Heal);
        // It was lost 10.001 s after the start, and is sent again 1.4 s later.
        world.sleep_until(second(11) + Duration::from_millis(390)).await;
        for letter in b'A'..=b'Z' {
            stream.write_all(&[letter]).await.unwrap();
            world.sleep_until(world.now() + Duration::from_millis(1)).await;
        }
        world.sleep_until(second(20)).await;
    });
    assert_eq!(log.words().concat(), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

fn a_partition_that_lasts_ends_idle_connections_at_both_ends<E: Engine>() {
    let log = run::<E, _>(async |world, seen| {
        let mut stream = world.connect("server:6432").await.unwrap();
        world.sleep_until(second(10)).await;
        world.link(["server", "client"], Link::Partition);
        let end = stream.read(&mut [0]).await.map_err(|error| error.kind());
        seen.note(&world, format!("{end:?}"));
        world.sleep_until(second(101)).await;
        world.link(["server", "client"], Link::Heal);
        world.sleep_until(second(200)).await;
    });
    let mut noted = noted(&log);
    noted.sort();
    assert_eq!(noted, [at(100, "Err(ConnectionReset)"), at(100, "connection reset")]);
}

fn a_short_partition_leaves_idle_connections_alone<E: Engine>() {
    let log = run::<E, _>(async |world, _| {
        let mut stream = world.connect("server:6432").await.unwrap();
        world.link(["server", "client"], Link::Partition);
        world.sleep_until(second(89)).await;
        world.link(["server", "client"], Link::Heal);
        world.sleep_until(second(500)).await;
        stream.write_all(b"still here").await.unwrap();
        world.sleep_until(second(501)).await;
    });
    assert_eq!(noted(&log), [at(500, "still here")]);
}

fn a_connect_into_a_partition_waits_for_its_end_or_gives_up<E: Engine>() {
    let connect = |heals: u64| {
        let log = run::<E, _>(async move |world, seen| {
            world.link(["server", "client"], Link::Partition);
            let other = world.clone();
            world.spawn("healer", async move {
                other.sleep_until(second(heals)).await;
                other.link(["server", "client"], Link::Heal);
            });
            let connected = world.connect("server:6432").await.map(drop).map_err(|error| error.kind());
            seen.note(&world, format!("{connected:?}"));
        });
        noted(&log).remove(0)
    };
    assert_eq!(connect(10), at(15, "Ok(())"));
    assert_eq!(connect(200), (127, format!("{:?}", Err::<(), _>(ErrorKind::ConnectionRefused))));
}

fn what_is_held_arrives_in_order_at_the_release_however_late<E: Engine>() {
    let log = run::<E, _>(async |world, _| {
        let mut stream = world.connect("server:6432").await.unwrap();
        world.sleep_until(second(10)).await;
        world.link(["server", "client"], Link::Hold);
        for word in [b"a", b"b", b"c"] {
            stream.write_all(word).await.unwrap();
            let next = world.now() + Duration::from_secs(1000);
            world.sleep_until(next).await;
        }
        world.link(["server", "client"], Link::Release);
        world.sleep_until(second(3100)).await;
    });
    let text: String = log.words().concat();
    assert_eq!(text, "abc");
    assert!(log.times().iter().all(|at| *at > second(3010) && *at < second(3011)), "{:?}", log.times());
}

fn latency_is_one_way<E: Engine>() {
    let log = run::<E, _>(async |world, _| {
        let mut stream = world.connect("server:6432").await.unwrap();
        world.link(["server", "client"], Link::Latency(Duration::from_millis(40)));
        world.sleep_until(second(10)).await;
        stream.write_all(b"slow").await.unwrap();
        world.sleep_until(second(11)).await;
    });
    let took = log.times()[0].since(second(10)).as_millis();
    assert!((40..=41).contains(&took), "{took} ms");
}

fn a_fault_of_one_name_touches_no_other_connection<E: Engine>() {
    let log = Log::default();
    let client = |name: &'static str| {
        let seen = log.clone();
        move |world: E::World| async move {
            let world = world.alias(name);
            let mut stream = world.connect("server:6432").await.unwrap();
            world.sleep_until(second(10)).await;
            stream.write_all(b"?").await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            seen.note(&world, name);
        }
    };
    let (one, other) = (client("one"), client("other"));
    let hosts = vec![
        Host::new("server", echo_server),
        Host::new("clients", async move |world: E::World| {
            world.spawn("one", one(world.clone()));
            world.spawn("other", other(world.clone()));
            world.sleep_until(second(5)).await;
            world.link(["one", "server"], Link::Hold);
            world.sleep_until(second(20)).await;
            world.link(["one", "server"], Link::Release);
            world.sleep_until(second(21)).await;
            world.finish();
        }),
    ];
    E::simulate(Plan { seed: 1, limit: HOUR }, hosts);
    assert_eq!(noted(&log), [at(10, "other"), at(20, "one")]);
}

fn a_host_that_was_killed_can_be_started_again<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    let hosts = vec![
        Host::new("server", echo_server),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            world.sleep_until(second(1)).await;
            world.kill("server");
            let end = stream.read(&mut [0]).await.map_err(|error| error.kind());
            seen.note(&world, format!("{end:?}"));
            world.start("server", echo_server);
            let mut stream = world.connect("server:6432").await.unwrap();
            stream.write_all(b"again").await.unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await.unwrap();
            seen.note(&world, String::from_utf8_lossy(&answer));
            world.finish();
        }),
    ];
    E::simulate(Plan { seed: 1, limit: HOUR }, hosts);
    assert_eq!(log.words(), ["Ok(0)", "again"]);
}

fn a_frozen_process_does_nothing_until_it_is_thawed<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    let hosts = vec![
        Host::new("server", echo_server),
        Host::new("client", async move |world: E::World| {
            world.sleep_until(second(1)).await;
            world.freeze("server");
            let other = world.clone();
            world.spawn("thaw", async move {
                other.sleep_until(second(5)).await;
                other.thaw("server");
            });
            let mut stream = world.connect("server:6432").await.unwrap();
            stream.write_all(b"?").await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            seen.note(&world, "answered");
            world.finish();
        }),
    ];
    E::simulate(Plan { seed: 1, limit: Duration::from_secs(10) }, hosts);
    assert_eq!(noted(&log), [at(5, "answered")]);
}

fn a_keepalive_that_would_have_rung_long_ago_does_not_ring_in_the_past<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    let hosts = vec![
        Host::new("server", async move |world: E::World| {
            let (_listener, mut stream) = accept(&world).await;
            world.sleep_until(second(10)).await;
            stream.write_all(b"lost").await.unwrap();
            world.sleep_until(second(120)).await;
            stream.write_all(b"lost, too").await.unwrap();
            let end = stream.read(&mut [0]).await.map_err(|error| error.kind());
            seen.note(&world, format!("{end:?}"));
            world.finish();
        }),
        Host::new("client", async |world: E::World| {
            let stream = world.connect("server:6432").await.unwrap();
            world.sleep_until(second(9) + Duration::from_millis(999)).await;
            world.vanish(&stream);
            std::future::pending().await
        }),
    ];
    E::simulate(Plan { seed: 1, limit: HOUR }, hosts);
    assert_eq!(noted(&log), [at(910, "Err(ConnectionReset)")]);
}

fn who_opens_a_connection_has_the_user_timeout_of_its_own_machine<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    let impatient = Machine { user_timeout: Duration::from_secs(90), ..Machine::default() };
    let hosts = vec![
        Host::new("server", async |world: E::World| {
            let (_listener, _stream) = accept(&world).await;
            std::future::pending::<()>().await;
        }),
        Host::new("client", async move |world: E::World| {
            let mut stream = world.connect("server:6432").await.unwrap();
            world.sleep_until(second(10)).await;
            world.link(["server", "client"], Link::Partition);
            stream.write_all(b"lost").await.unwrap();
            let end = stream.read(&mut [0]).await.map_err(|error| error.kind());
            seen.note(&world, format!("{end:?}"));
            world.finish();
        })
        .on(impatient),
    ];
    E::simulate(Plan { seed: 1, limit: HOUR }, hosts);
    assert_eq!(noted(&log), [at(100, "Err(ConnectionReset)")]);
}

fn a_server_can_be_started_again_after_a_connect_that_was_given_up_half_way<E: Engine>() {
    let log = Log::default();
    let seen = log.clone();
    let hosts = vec![
        Host::new("server", echo_server),
        Host::new("client", async move |world: E::World| {
            world.link(["server", "client"], Link::Latency(Duration::from_secs(5)));
            let impatient = world.clone();
            world.spawn("impatient", async move {
                let connects = std::pin::pin!(impatient.connect("server:6432"));
                let patience = std::pin::pin!(impatient.sleep_until(second(3)));
                futures_util::future::select(connects, patience).await;
            });
            // Its SYN has come, and its reset has not come back.
            world.sleep_until(second(20)).await;
            assert_eq!(world.tasks("server"), ["main"], "nobody was accepted");
            world.kill("server");
            world.start("server", echo_server);
            world.link(["server", "client"], Link::Latency(Duration::from_millis(1)));
            world.sleep_until(second(40)).await;
            let mut stream = world.connect("server:6432").await.unwrap();
            stream.write_all(b"again").await.unwrap();
            stream.read_exact(&mut [0; 5]).await.unwrap();
            seen.note(&world, format!("{:?}", world.panics()));
            world.finish();
        }),
    ];
    E::simulate(Plan { seed: 1, limit: HOUR }, hosts);
    assert_eq!(log.words(), ["[]"]);
}

fn a_connect_that_is_tried_again_takes_no_other_ones_name<E: Engine>() {
    let log = Log::default();
    let client = |name: &'static str, at: u64| {
        let seen = log.clone();
        move |world: E::World| async move {
            world.sleep_until(second(at)).await;
            let mut stream = world.alias(name).connect("server:6432").await.unwrap();
            world.sleep_until(second(100)).await;
            stream.write_all(b"?").await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            seen.note(&world, name);
        }
    };
    let (early, late) = (client("early", 1), client("late", 31));
    let hosts = vec![
        Host::new("server", echo_server),
        Host::new("clients", async move |world: E::World| {
            world.link(["early", "server"], Link::Partition);
            world.spawn("early", early(world.clone()));
            world.spawn("late", late(world.clone()));
            // The SYN that was lost leaves again 31 s after the loss, and so in the same millisecond as the other's, or near.
            world.sleep_until(second(20)).await;
            world.link(["early", "server"], Link::Heal);
            world.sleep_until(second(90)).await;
            world.link(["early", "server"], Link::Partition);
            world.sleep_until(second(110)).await;
            world.link(["early", "server"], Link::Heal);
            world.sleep_until(second(200)).await;
            world.finish();
        }),
    ];
    E::simulate(Plan { seed: 1, limit: HOUR }, hosts);
    let noted = noted(&log);
    assert_eq!((noted[0].clone(), noted[1].1.as_str()), (at(100, "late"), "early"), "{noted:?}");
    assert!(noted[1].0 > 110, "{noted:?}");
}
