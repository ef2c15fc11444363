//! The way of a packet between two hosts: how long it takes, in which order it arrives, and what is put right on the way.
//!
//! Each packet takes 1 ms, and by the seed 1 ms more. Packets of one connection in one direction keep their order (the
//! stack drops what arrives out of order); between connections, those that are due in the same pass arrive in an order drawn
//! from the seed. Every packet comes by [`Packets::send`] and [`Packets::arrive`]: these are the places for a fault that
//! holds, delays or loses packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::turmoil_net::{EnterGuard, Packet, TcpFlags, TcpSegment, Transport};
use bytes::Bytes;

use super::{RECEIVE_BUFFER, Shared, TICK, lock};
use crate::random;

/// A packet that arrives no sooner than the next millisecond has taken one; this many more, drawn evenly, are possible.
const JITTER_MS: u64 = 1;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flow {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
}

impl Flow {
    fn reversed(self) -> Flow {
        Flow { from: self.to, to: self.from }
    }
}

/// Connections that a process has closed and the network still has to do with. Flows from the closing side.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// Closed in good order, while the peer may still send: data that arrives gets a reset. At most one a 4-tuple, taken
    /// away when the tuple is used again.
    orphans: BTreeSet<Flow>,
    /// To be reset in the next pass. At most one a stream.
    resets: Vec<Flow>,
    /// Both directions of the connections whose machine at one end is gone.
    vanished: BTreeSet<Flow>,
}

impl Unfinished {
    pub(super) fn orphan(&mut self, flow: Flow) {
        self.orphans.insert(flow);
    }

    pub(super) fn reset(&mut self, flow: Flow) {
        self.resets.push(flow);
    }

    pub(super) fn vanish(&mut self, flow: Flow) {
        self.vanished.insert(flow);
        self.vanished.insert(flow.reversed());
    }
}

/// All packets between hosts.
pub(super) struct Packets {
    shared: Arc<Shared>,
    /// By when they are due, then by when they were sent. Bounded by the sockets' windows.
    on_the_way: BTreeMap<(Duration, u64), Packet>,
    sent: u64,
    /// When the last packet of each flow is due: none may overtake it. Only flows with packets on the way.
    last_due: BTreeMap<Flow, Duration>,
    jitter: random::Stream,
    order: random::Stream,
    /// Empty between passes; kept for its allocation.
    leaving: Vec<Packet>,
}

impl Packets {
    pub(super) fn new(seed: u64, shared: Arc<Shared>) -> Packets {
        Packets {
            shared,
            on_the_way: BTreeMap::new(),
            sent: 0,
            last_due: BTreeMap::new(),
            jitter: random::Stream::new(seed, "network", "jitter"),
            order: random::Stream::new(seed, "network", "order"),
            leaving: Vec::new(),
        }
    }

    /// When the next packet arrives, if any is on the way.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.on_the_way.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes what the hosts have sent in the milliseconds before `now`, and delivers what is due at `now`.
    pub(super) fn pass(&mut self, net: &EnterGuard, now: Duration) {
        // The own side first: a reset drops what the socket has not sent yet.
        let resets = std::mem::take(&mut lock(&self.shared.unfinished).resets);
        for flow in &resets {
            net.deliver(reset(flow.reversed()));
        }
        let mut leaving = std::mem::take(&mut self.leaving);
        net.egress_all(&mut leaving);
        for packet in leaving.drain(..) {
            self.send(packet, now);
        }
        self.leaving = leaving;
        for flow in resets {
            self.send(reset(flow), now);
        }

        let later = self.on_the_way.split_off(&(now + TICK, 0));
        let due = std::mem::replace(&mut self.on_the_way, later);
        self.last_due.retain(|_, last_due| *last_due > now);
        if !due.is_empty() {
            // Whoever is not woken by them answers all the same: with an acknowledgement, which wants another pass.
            self.shared.act();
        }
        for packet in self.shuffled(due) {
            self.arrive(packet, net, now);
        }
    }

    /// A packet leaves its host. It arrives at `earliest` or a little later.
    fn send(&mut self, mut packet: Packet, earliest: Duration) {
        let flow = flow(&packet);
        if let Transport::Tcp(segment) = &mut packet.payload
            && segment.flags.syn
        {
            segment.window = segment.window.min(RECEIVE_BUFFER);
            let orphans = &mut lock(&self.shared.unfinished).orphans;
            orphans.remove(&flow);
            orphans.remove(&flow.reversed());
        }
        let jitter = u32::try_from(self.jitter.below(JITTER_MS + 1)).expect("as small as its bound");
        let due = (earliest + TICK * jitter).max(self.last_due.get(&flow).copied().unwrap_or_default());
        self.last_due.insert(flow, due);
        self.on_the_way.insert((due, self.sent), packet);
        self.sent += 1;
    }

    /// A packet arrives at its host.
    fn arrive(&mut self, packet: Packet, net: &EnterGuard, now: Duration) {
        let own = flow(&packet).reversed();
        if lock(&self.shared.unfinished).vanished.contains(&own) {
            return;
        }
        let has_data = matches!(&packet.payload, Transport::Tcp(segment) if !segment.payload.is_empty());
        if has_data && lock(&self.shared.unfinished).orphans.remove(&own) {
            net.deliver(reset(own.reversed()));
            self.send(reset(own), now + TICK);
        } else {
            net.deliver(packet);
        }
    }

    /// Whole flows in an order drawn from the seed; each flow in its own order.
    fn shuffled(&mut self, due: BTreeMap<(Duration, u64), Packet>) -> Vec<Packet> {
        let mut ranks = BTreeMap::new();
        let mut ranked: Vec<(u64, Packet)> = Vec::with_capacity(due.len());
        for packet in due.into_values() {
            let rank = *ranks.entry(flow(&packet)).or_insert_with(|| self.order.next_u64());
            ranked.push((rank, packet));
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, packet)| packet).collect()
    }
}

fn flow(packet: &Packet) -> Flow {
    let (from, to) = match &packet.payload {
        Transport::Tcp(segment) => (segment.src_port, segment.dst_port),
        Transport::Udp(datagram) => (datagram.src_port, datagram.dst_port),
    };
    Flow { from: SocketAddr::new(packet.src, from), to: SocketAddr::new(packet.dst, to) }
}

/// The stack takes a reset for what it is without looking at its numbers.
fn reset(flow: Flow) -> Packet {
    Packet {
        src: flow.from.ip(),
        dst: flow.to.ip(),
        ttl: 64,
        payload: Transport::Tcp(TcpSegment {
            src_port: flow.from.port(),
            dst_port: flow.to.port(),
            seq: 0,
            ack: 0,
            flags: TcpFlags { rst: true, ..TcpFlags::default() },
            window: 0,
            payload: Bytes::new(),
        }),
    }
}
