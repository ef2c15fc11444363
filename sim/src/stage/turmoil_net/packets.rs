//! The way of a packet between two hosts: how long it takes, in which order it arrives, and what is put right on the way.
//!
//! Each packet takes 1 ms, or what its link says, and by the seed 1 ms more. Packets of one connection in one direction keep
//! their order (the stack drops what arrives out of order); between connections, and between packets and timers, those that
//! are due in the same millisecond have an order drawn from the seed. Every packet comes by [`Packets::travel`] and
//! [`Packets::arrive`], and there by the [`Links`](super::links::Links), which delay, lose or hold it.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::iter::once;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::turmoil_net::{EnterGuard, Packet, TcpFlags, TcpSegment, Transport};
use bytes::Bytes;

use super::links::{Links, Rung};
use super::socket::{News, WINDOW, Woken};
use super::{Shared, TICK, lock};
use crate::stage::random;

/// A packet that arrives no sooner than the next millisecond has taken one; this many more, drawn evenly, are possible.
const JITTER_MS: u64 = 1;

/// Where one end of a connection is: IPv4, as all hosts are, and a port. In one number, because every packet is looked up by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address(u64);

impl Address {
    fn new(ip: IpAddr, port: u16) -> Address {
        match ip {
            IpAddr::V4(ip) => Address(u64::from(ip.to_bits()) << 16 | u64::from(port)),
            IpAddr::V6(ip) => panic!("hosts have IPv4 addresses, and this is {ip}"),
        }
    }

    pub(super) fn ip(self) -> IpAddr {
        Ipv4Addr::from_bits(u32::try_from(self.0 >> 16).expect("as it was put in")).into()
    }

    fn port(self) -> u16 {
        u16::try_from(self.0 & 0xffff).expect("16 bits")
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::new(address.ip(), address.port())
    }
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flow {
    pub(super) from: Address,
    pub(super) to: Address,
}

impl Flow {
    pub(super) fn new(from: SocketAddr, to: SocketAddr) -> Flow {
        Flow { from: from.into(), to: to.into() }
    }

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
    /// Half-open ends, and the sequence number that completes each. At most one a 4-tuple.
    half_open: BTreeMap<Flow, u32>,
    /// Reset while they were half-open: nobody is to accept them. At most one a 4-tuple.
    unborn: BTreeSet<Flow>,
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

    /// Whether this end was reset before it was complete, so that no real kernel would let a process accept it.
    pub(super) fn is_unborn(&mut self, flow: Flow) -> bool {
        self.unborn.remove(&flow)
    }

    /// A new connection between two ends: nothing is left to do for an earlier one.
    fn begin_anew(&mut self, flow: Flow) {
        for end in [flow, flow.reversed()] {
            self.orphans.remove(&end);
            self.half_open.remove(&end);
            self.unborn.remove(&end);
        }
    }

    /// A packet arrives at the end that sends `own`: what completes its handshake, if the packet ends it.
    fn handshake_goes_on(&mut self, own: Flow, flags: TcpFlags) -> Option<u32> {
        if flags.rst {
            let first = self.half_open.remove(&own)?;
            self.unborn.insert(own);
            return Some(first);
        }
        if flags.ack && !flags.syn {
            self.half_open.remove(&own);
        }
        None
    }
}

/// Packets of one flow that arrive in the same millisecond, in their order. Mostly one.
#[derive(Debug)]
pub(super) struct Arriving {
    flow: Flow,
    first: Packet,
    more: Vec<Packet>,
}

/// All packets between hosts.
pub(super) struct Packets {
    shared: Arc<Shared>,
    /// By when they are due, in the order in which the first of each flow was sent. Bounded by the sockets' windows.
    on_the_way: BTreeMap<Duration, Vec<Arriving>>,
    /// When the last packet of each flow is due, and its place among those that are due then: none may overtake it. Only flows
    /// with packets on the way.
    last_due: BTreeMap<Flow, (Duration, usize)>,
    jitter: random::Stream,
    /// Empty between passes; kept for its allocation.
    leaving: Vec<Packet>,
}

impl Packets {
    pub(super) fn new(seed: u64, shared: Arc<Shared>) -> Packets {
        Packets {
            shared,
            on_the_way: BTreeMap::new(),
            last_due: BTreeMap::new(),
            jitter: random::Stream::new(seed, "network", "jitter"),
            leaving: Vec::new(),
        }
    }

    /// When the next packet arrives, if any is on the way.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.on_the_way.first_key_value().map(|(due, _)| *due)
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
        let shared = self.shared.clone();
        let mut links = lock(&shared.links);
        for packet in leaving.drain(..).chain(resets.into_iter().map(reset)) {
            self.send(packet, now, &mut links);
        }
        drop(links);
        self.leaving = leaving;
        self.bury(net);
    }

    /// Machines that are there again know nothing of the sockets of those that died. All of these have been reset.
    fn bury(&self, net: &EnterGuard) {
        let started = lock(&self.shared.links).pass();
        for host in started {
            self.shared.act();
            net.set_current(self.shared.ids[host]);
            let abandoned = lock(&self.shared.abandoned).remove(&host);
            drop(abandoned);
        }
    }

    /// Does what the kernels' clocks ask for at `now`. False if none has rung.
    pub(super) fn ring_clocks(&mut self, net: &EnterGuard, now: Duration) -> bool {
        let mut any = false;
        while let Some(rung) = { lock(&self.shared.links).ring(now) } {
            any = true;
            self.shared.act();
            match rung {
                Rung::GiveUp(flow) => self.deliver(reset(flow.reversed()), flow, net),
                Rung::Again(lost) => {
                    let later = lost.first().map(|first| self.take_under_way(flow(first))).unwrap_or_default();
                    let shared = self.shared.clone();
                    let mut links = lock(&shared.links);
                    lost.into_iter().chain(later).for_each(|packet| self.travel(packet, now + TICK, &mut links));
                }
            }
        }
        any
    }

    /// What is under way of a flow. What the stack takes out of its order it never asks for again, so behind a gap nothing may
    /// arrive first.
    fn take_under_way(&mut self, of: Flow) -> Vec<Packet> {
        self.last_due.remove(&of);
        let under_way = self.on_the_way.values_mut();
        let taken = under_way.flat_map(|arriving| arriving.extract_if(.., |arriving| arriving.flow == of));
        let taken = taken.flat_map(|Arriving { first, more, .. }| once(first).chain(more)).collect();
        self.on_the_way.retain(|_, arriving| !arriving.is_empty());
        taken
    }

    /// What arrives at `now`, each flow by itself.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<Arriving> {
        let Some(due) = self.on_the_way.first_entry().filter(|due| *due.key() <= now) else { return Vec::new() };
        let due = due.remove();
        self.count();
        for Arriving { flow, .. } in &due {
            if let Entry::Occupied(last_due) = self.last_due.entry(*flow)
                && last_due.get().0 <= now
            {
                last_due.remove();
            }
        }
        due
    }

    /// Packets of one flow arrive at their host.
    pub(super) fn arrive(&mut self, arriving: Arriving, net: &EnterGuard, now: Duration) {
        let Arriving { flow, first, more } = arriving;
        let own = flow.reversed();
        let shared = self.shared.clone();
        for packet in once(first).chain(more) {
            if is_first_syn(&packet) && lock(&self.shared.links).is_gone(flow.to.ip()) {
                self.travel(reset(own), now + TICK, &mut lock(&shared.links));
                continue;
            }
            let Some(packet) = ({ lock(&self.shared.links).let_through(packet, flow, now) }) else { continue };
            let has_data = matches!(&packet.payload, Transport::Tcp(segment) if !segment.payload.is_empty());
            if has_data && lock(&self.shared.unfinished).orphans.remove(&own) {
                self.deliver(reset(own.reversed()), own, net);
                self.send(reset(own), now + TICK, &mut lock(&shared.links));
            } else {
                self.deliver(packet, own, net);
            }
        }
    }

    /// The stack takes a packet for the socket that sends `own`, and the process is told what that means.
    fn deliver(&self, packet: Packet, own: Flow, net: &EnterGuard) {
        let Transport::Tcp(segment) = &packet.payload else { return net.deliver(packet) };
        let news = News { flags: segment.flags, ack: segment.ack, has_data: !segment.payload.is_empty() };
        let ended = { lock(&self.shared.unfinished).handshake_goes_on(own, news.flags) };
        // The stack never forgets a connection that is reset before it is complete. So it is completed first, and
        // whoever accepts leaves it out.
        ended.into_iter().for_each(|first| net.deliver(acknowledgement(own.reversed(), first)));
        net.deliver(packet);
        let (woken, is_settled) = lock(&self.shared.sockets).arrived(own, news);
        if !is_settled {
            self.shared.act();
        }
        woken.wake();
    }

    /// Connections within a host, whose packets never come by here, have moved with the pass.
    pub(super) fn pass_within(&self) {
        let moved = lock(&self.shared.sockets).pass_within();
        if !moved.is_empty() {
            self.shared.act();
        }
        moved.into_iter().for_each(Woken::wake);
    }

    /// A packet leaves its host for the first time.
    fn send(&mut self, mut packet: Packet, earliest: Duration, links: &mut Links) {
        let flow = flow(&packet);
        if !links.sends(flow.from.ip()) {
            return;
        }
        if let Transport::Tcp(segment) = &mut packet.payload
            && segment.flags.syn
        {
            segment.window = segment.window.min(WINDOW);
            lock(&self.shared.sockets).syn_leaves(flow, segment.seq);
            let mut unfinished = lock(&self.shared.unfinished);
            if segment.flags.ack {
                unfinished.half_open.insert(flow, segment.seq.wrapping_add(1));
            } else {
                unfinished.begin_anew(flow);
                links.connect_leaves(flow);
            }
        }
        self.travel(packet, earliest, links);
    }

    /// A packet is on its way, and has left in the millisecond before `earliest`. It arrives then or later.
    fn travel(&mut self, packet: Packet, earliest: Duration, links: &mut Links) {
        let flow = flow(&packet);
        let earliest = links.arrival(flow, packet.size(), earliest.saturating_sub(TICK));
        let jitter = u32::try_from(self.jitter.below(JITTER_MS + 1)).expect("as small as its bound");
        let (last_due, place) = self.last_due.entry(flow).or_default();
        let due = (earliest + TICK * jitter).max(*last_due);
        let all = self.on_the_way.entry(due).or_default();
        if due == *last_due {
            all[*place].more.push(packet);
        } else {
            (*last_due, *place) = (due, all.len());
            all.push(Arriving { flow, first: packet, more: Vec::new() });
        }
        self.count();
    }

    /// Others ask whether the network is busy.
    fn count(&self) {
        self.shared.is_network_busy.store(!self.on_the_way.is_empty(), Ordering::Relaxed);
    }
}

fn is_first_syn(packet: &Packet) -> bool {
    matches!(&packet.payload, Transport::Tcp(segment) if segment.flags.syn && !segment.flags.ack)
}

fn flow(packet: &Packet) -> Flow {
    let (from, to) = match &packet.payload {
        Transport::Tcp(segment) => (segment.src_port, segment.dst_port),
        Transport::Udp(datagram) => (datagram.src_port, datagram.dst_port),
    };
    Flow { from: Address::new(packet.src, from), to: Address::new(packet.dst, to) }
}

/// The stack takes a reset for what it is without looking at its numbers.
fn reset(flow: Flow) -> Packet {
    bare(flow, 0, TcpFlags { rst: true, ..TcpFlags::default() })
}

fn acknowledgement(flow: Flow, ack: u32) -> Packet {
    bare(flow, ack, TcpFlags { ack: true, ..TcpFlags::default() })
}

fn bare(flow: Flow, ack: u32, flags: TcpFlags) -> Packet {
    let (src_port, dst_port) = (flow.from.port(), flow.to.port());
    let segment = TcpSegment { src_port, dst_port, seq: 0, ack, flags, window: 0, payload: Bytes::new() };
    Packet { src: flow.from.ip(), dst: flow.to.ip(), ttl: 64, payload: Transport::Tcp(segment) }
}
