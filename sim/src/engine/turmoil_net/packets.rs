//! The way of a packet between two hosts: how long it takes, in which order it arrives, and what is put right on the way.
//!
//! Each packet takes 1 ms, or what its link says, and by the seed 1 ms more. Packets of one connection in one direction keep
//! their order (the stack drops what arrives out of order); between connections, and between packets and timers, those that
//! are due in the same millisecond have an order drawn from the seed. Every packet comes by [`Packets::send`] and
//! [`Packets::arrive`], and there by the [`Links`](super::links::Links), which lose or hold it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::turmoil_net::{EnterGuard, Packet, TcpFlags, TcpSegment, Transport};
use bytes::Bytes;

use super::links::Rung;
use super::socket::{WINDOW, Woken};
use super::{Shared, TICK, lock};
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
    pub(super) fn reversed(self) -> Flow {
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
    /// To be reset as well, without a word to the peer.
    forgotten: Vec<Flow>,
}

impl Unfinished {
    pub(super) fn orphan(&mut self, flow: Flow) {
        self.orphans.insert(flow);
    }

    pub(super) fn forget(&mut self, flows: impl Iterator<Item = Flow>) {
        self.forgotten.extend(flows);
    }

    pub(super) fn reset(&mut self, flow: Flow) {
        self.resets.push(flow);
    }
}

/// Packets of one flow that arrive in the same millisecond, in their order.
#[derive(Debug)]
pub(super) struct Arriving {
    flow: Flow,
    packets: Vec<Packet>,
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
            leaving: Vec::new(),
        }
    }

    /// When the next packet arrives, if any is on the way.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.on_the_way.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes what the hosts have sent in the milliseconds before `now`.
    pub(super) fn leave(&mut self, net: &EnterGuard, now: Duration) {
        // The own side first: a reset drops what the socket has not sent yet.
        let (resets, forgotten) = {
            let mut unfinished = lock(&self.shared.unfinished);
            (std::mem::take(&mut unfinished.resets), std::mem::take(&mut unfinished.forgotten))
        };
        for flow in resets.iter().chain(&forgotten) {
            self.deliver(reset(flow.reversed()), *flow, net);
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
        self.last_due.retain(|_, last_due| *last_due > now);
    }

    /// Does what the kernels' clocks ask for at `now`. False if none has rung.
    pub(super) fn ring_clocks(&mut self, net: &EnterGuard, now: Duration) -> bool {
        let mut any = false;
        while let Some(rung) = { lock(&self.shared.links).ring(now) } {
            any = true;
            self.shared.act();
            match rung {
                Rung::GiveUp(flow) => self.deliver(reset(flow.reversed()), flow, net),
                Rung::Again(packets) => packets.into_iter().for_each(|packet| self.send(packet, now + TICK)),
            }
        }
        any
    }

    /// What arrives at `now`, each flow by itself.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<Arriving> {
        let later = self.on_the_way.split_off(&(now + TICK, 0));
        let due = std::mem::replace(&mut self.on_the_way, later);
        let mut flows: Vec<Arriving> = Vec::new();
        let mut places = BTreeMap::new();
        for packet in due.into_values() {
            let flow = flow(&packet);
            let place = *places.entry(flow).or_insert(flows.len());
            match flows.get_mut(place) {
                Some(arriving) => arriving.packets.push(packet),
                None => flows.push(Arriving { flow, packets: vec![packet] }),
            }
        }
        flows
    }

    /// Packets of one flow arrive at their host.
    pub(super) fn arrive(&mut self, arriving: Arriving, net: &EnterGuard, now: Duration) {
        let Arriving { flow, packets } = arriving;
        let own = flow.reversed();
        for packet in packets {
            let Some(packet) = ({ lock(&self.shared.links).let_through(packet, flow, now) }) else { continue };
            let has_data = matches!(&packet.payload, Transport::Tcp(segment) if !segment.payload.is_empty());
            if has_data && lock(&self.shared.unfinished).orphans.remove(&own) {
                self.deliver(reset(own.reversed()), own, net);
                self.send(reset(own), now + TICK);
            } else {
                self.deliver(packet, own, net);
            }
        }
    }

    /// The stack takes a packet for the socket that sends `own`, and the process is told what that means.
    fn deliver(&self, packet: Packet, own: Flow, net: &EnterGuard) {
        net.deliver(packet.clone());
        if let Some(id) = self.shared.host_id(own.from.ip()) {
            net.set_current(id);
            let woken = lock(&self.shared.sockets).arrived(own, &packet);
            woken.wake();
        }
    }

    /// Connections within a host, whose packets never come by here, have moved with the pass.
    pub(super) fn pass_within(&self, net: &EnterGuard) {
        let turn = |host| {
            if let Some(id) = self.shared.host_id(host) {
                net.set_current(id);
            }
        };
        let woken = lock(&self.shared.sockets).pass_within(turn);
        woken.into_iter().for_each(Woken::wake);
    }

    /// A packet leaves its host. It arrives at `earliest` or a little later.
    fn send(&mut self, mut packet: Packet, earliest: Duration) {
        let flow = flow(&packet);
        if let Transport::Tcp(segment) = &mut packet.payload
            && segment.flags.syn
        {
            segment.window = segment.window.min(WINDOW);
            lock(&self.shared.sockets).syn_leaves(flow, segment.seq);
            if !segment.flags.ack {
                lock(&self.shared.links).connect_leaves(flow.from);
            }
            let orphans = &mut lock(&self.shared.unfinished).orphans;
            orphans.remove(&flow);
            orphans.remove(&flow.reversed());
        }
        let earliest = earliest + lock(&self.shared.links).latency(flow) - TICK;
        let jitter = u32::try_from(self.jitter.below(JITTER_MS + 1)).expect("as small as its bound");
        let due = (earliest + TICK * jitter).max(self.last_due.get(&flow).copied().unwrap_or_default());
        self.last_due.insert(flow, due);
        self.on_the_way.insert((due, self.sent), packet);
        self.sent += 1;
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
