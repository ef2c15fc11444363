use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::task::Poll;

use lastcall_core::Time;
use lastcall_world::{Listener, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::cast::pod::{Config, last_call};
use crate::stage::AnyWorld;

const FATAL: &[u8] = b"E\0\0\0\x1eSFATAL\0VFATAL\0C0A000\0Mno\0\0";
const OTHER: &[u8] = b"E\0\0\0\x1eSFATAL\0VFATAL\0C08P01\0Mno\0\0";

/// Two clients, and a signal.
const FILE: &str = "title = 't'\n[[client]]\nname = 'a'\nstart = '30s'\nsteps = ['connect']\n\
                    [[client]]\nname = 'b'\nstart = '30s'\nsteps = ['connect']\n[[event]]\nat = '1m'\ndo = 'sigterm'\n";

/// What a control plane could go by.
struct Guest {
    peer: SocketAddr,
    packet: usize,
    reads: usize,
    at: Time,
    /// When the first of all came.
    first: Time,
}

/// Whom a control plane likes.
type Likes = fn(&Guest) -> bool;

/// A control plane that turns everybody away, those whom it does not like with another word.
struct TurnsAway {
    likes: Likes,
}

impl Pod for TurnsAway {
    fn run(&self, world: AnyWorld, config: Config) -> futures_util::future::BoxFuture<'static, u8> {
        let TurnsAway { likes } = *self;
        Box::pin(async move {
            let mut listener = world.bind(&config.listen).await.expect("the address is free");
            let signalled = world.clone();
            let mut signal = pin!(signalled.next_signal());
            let mut first = None;
            loop {
                let accepted = poll_fn(|cx| match listener.poll_accept(cx) {
                    Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
                    Poll::Pending => signal.as_mut().poll(cx).map(|_| None),
                });
                let Some((mut stream, peer)) = accepted.await else { return 0 };
                let first = *first.get_or_insert(world.now());
                let (mut packet, mut reads) = (Vec::with_capacity(1024), 0);
                while packet.first_chunk().is_none_or(|length| packet.len() < u32::from_be_bytes(*length) as usize) {
                    let read = stream.read_buf(&mut packet).await.unwrap_or(0);
                    reads += 1;
                    if read == 0 {
                        break;
                    }
                }
                let is_liked = likes(&Guest { peer, packet: packet.len(), reads, at: world.now(), first });
                let _ = stream.write_all(if is_liked { FATAL } else { OTHER }).await;
                let _ = stream.shutdown().await;
            }
        })
    }
}

fn compared(pod: TurnsAway, variant: Variant) -> Compared {
    let pod: Arc<dyn Pod> = Arc::new(pod);
    // Who comes at the beginning comes in the file's order, and later ones in that of the seed.
    let text = if variant == Variant::Reordered { FILE.replace("start = '30s'\n", "") } else { FILE.to_owned() };
    compare(&pod, &text, 1, variant).expect("it is a scenario")
}

#[test]
fn what_goes_by_nothing_that_a_variant_changes_is_alike_in_each() {
    for variant in Variant::value_variants() {
        let honest = compared(TurnsAway { likes: |_| true }, *variant);
        assert_eq!(honest, Compared::Alike { facts: 10 }, "{}", variant.name());
        let alike = compare(&last_call(), FILE, 1, *variant);
        assert!(matches!(alike, Some(Compared::Alike { .. })), "{}: {alike:?}", variant.name());
    }
}

#[test]
fn what_goes_by_a_name_an_order_a_number_a_time_or_a_packet_differs() {
    /// The port that the first client of a file has on the engine that others are compared with.
    const FIRST: u16 = 49_152;
    /// And its machine's network.
    const NETWORK: [u8; 2] = [192, 168];
    let cases: [(Variant, Likes); 6] = [
        (Variant::Renamed, |guest| guest.packet < 80),
        (Variant::Reordered, |guest| guest.peer.port() == FIRST),
        (Variant::Bystander, |guest| guest.first > Time::from_epoch(Duration::from_secs(10))),
        (Variant::Scaled, |guest| guest.at > Time::from_epoch(Duration::from_secs(10))),
        (Variant::Split, |guest| guest.reads == 1),
        (Variant::Engine, |guest| matches!(guest.peer.ip(), IpAddr::V4(ip) if ip.octets()[..2] == NETWORK)),
    ];
    for (variant, likes) in cases {
        let compared = compared(TurnsAway { likes }, variant);
        let Compared::Differs(failure) = &compared else { panic!("{}: {compared:?}", variant.name()) };
        assert_eq!(Variant::of_find(&failure.broke), Some(variant));
        assert!(failure.evidence.contains(&format!("\n    {}: ", variant.name())), "{}", failure.evidence);
    }
}

#[test]
fn what_comes_out_so_now_and_then_is_chance() {
    let coin: Likes = |guest| !guest.at.since(Time::EPOCH).as_millis().is_multiple_of(3);
    for variant in [Variant::Renamed, Variant::Reordered, Variant::Split] {
        let compared = compared(TurnsAway { likes: coin }, variant);
        assert!(matches!(compared, Compared::Alike { .. }), "{}: {compared:?}", variant.name());
    }
}

#[test]
fn what_must_come_out_otherwise_is_not_compared() {
    let not = |text: &str, variant| compare(&last_call(), &format!("{FILE}{text}"), 1, variant);
    let again = "[[event]]\nat = '2m'\ndo = 'sigint'\n";
    let late = "[[client]]\nname = 'late'\nstart = '1h'\nsteps = ['connect']\n";
    let gone = "[[client]]\nname = 'gone'\nsteps = ['connect', 'vanish']\n";
    let lost = "[[event]]\nat = '2s'\ndo = 'partition'\nbetween = ['pod', 'worker']\n";
    for (text, variant, why) in [
        (again, Variant::Bystander, "it is not told once to end"),
        (late, Variant::Bystander, "a client came when the process was gone"),
        ("[drain]\nmax_connections = 3\n", Variant::Bystander, "few connections are allowed"),
        ("[drain]\ntermination_grace = '1h'\n", Variant::Bystander, "a wall may end it"),
        (lost, Variant::Scaled, "TCP has clocks of its own"),
        (again, Variant::Scaled, "it is not told once to end"),
        (gone, Variant::Scaled, "TCP has clocks of its own"),
        (gone, Variant::Engine, "a client is gone before its bytes are"),
    ] {
        assert_eq!(not(text, variant), Some(Compared::Not(why)), "{}", variant.name());
    }
}

#[test]
fn a_seed_tries_the_same_variant_each_time_and_one_in_so_many_tries_one() {
    let tries = Tries { one_in: 4, only: Vec::new() };
    let tried: Vec<_> = (0..600).map(|seed| tries.of_seed(seed)).collect();
    assert_eq!(tried, (0..600).map(|seed| tries.of_seed(seed)).collect::<Vec<_>>());
    let count = tried.iter().flatten().count();
    assert!((110..190).contains(&count), "{count}");
    for variant in Variant::value_variants() {
        assert!(tried.contains(&Some(*variant)), "{}", variant.name());
    }
    assert!((0..600).all(|seed| Tries::default().of_seed(seed).is_none()));
    let only = Tries { one_in: 1, only: vec![Variant::Split] };
    assert!((0..600).all(|seed| only.of_seed(seed) == Some(Variant::Split)));
}
