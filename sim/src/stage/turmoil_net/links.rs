//! What lies between the hosts: which packets are lost, held or slow, and what the kernels at both ends make of it.
//!
//! The stack itself has no clock, so what TCP does by the clock is done here, with Linux's numbers:
//!
//! - **Retransmission.** A lost packet is kept and sent again once its way is open, at the time at which its kernel would try
//!   next: 200 ms after the loss (a SYN 1 s), then each time twice as long, at most 120 s. What the same side sends later
//!   waits behind it, as bytes do that arrive out of order. A real sender may be faster, once acknowledgements of such later
//!   bytes tell it about the gap; and it does not repeat a lost acknowledgement or reset, while these here come late.
//! - **Keepalive.** A connection that nothing gets through to is reset 90 s later (60 s idle and 3 probes of 10 s, which is
//!   what the pod asks for), as though a packet had come just before.
//! - **User timeout.** While bytes are not acknowledged, the other clock runs instead, from the first loss: what the machine
//!   that opened the connection says ([`Machine::user_timeout`](crate::stage::Machine)), else 15 min. A peer that takes
//!   nothing because its window is closed is no loss, although Linux counts it as one.
//! - **Connecting** is given up after 127 s (7 SYNs).
//!
//! Every socket has these clocks, the pod's own and those of others. Giving up reads as a reset, where Linux says ETIMEDOUT. A
//! `hold` is not a failure but a slow network: no clock runs.
//!
//! A machine that has died with its process is silent from its last pass on: what its windows had let go by then arrives.
//!
//! None of this costs a pass: the driver is told when the next clock rings.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::turmoil_net::{NetstatEntry, NetstatState, Packet, TcpSegment, Transport, netstat};

use super::packets::{Address, Flow};
use super::{Link, Machine, TICK, whole_ticks};
use crate::stage::rules::{self, End, Rule};
use crate::stage::tcp::{Silence, next_retransmission};

/// All links of a run.
pub(super) struct Links {
    /// Of each host.
    addresses: Vec<IpAddr>,
    /// `TCP_USER_TIMEOUT` of the connections that each host opens.
    user_timeouts: Vec<Duration>,
    /// Of each host.
    machines: Vec<Power>,
    /// At most one for each two ends that a scenario names.
    rules: Vec<Rule>,
    /// What the connecting side of a connection is called besides. At most one a port.
    aliases: BTreeMap<Address, Arc<str>>,
    /// The connecting sides of connections. At most one a port.
    opened: BTreeSet<Address>,
    /// The names under which each host's connects go that have not left yet, in their order.
    connecting: Vec<VecDeque<Option<Arc<str>>>>,
    /// The connections whose machine at one end is gone, by what that machine sends.
    vanished: BTreeSet<Flow>,
    /// What did not get through. Bounded by the sockets' windows.
    kept: BTreeMap<Flow, Kept>,
    /// The sockets that hear nothing, named by the flow that they send.
    silences: BTreeMap<Flow, Silence>,
    /// When to look after a flow: too early is no harm.
    clocks: BTreeSet<(Duration, Flow)>,
}

/// Whether a machine is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    /// It takes nothing more; what its kernel has let go leaves with the next pass.
    Failing,
    Off,
    /// There again with the next pass, as one that knows nothing of what was.
    Starting,
}

/// What a clock asks for.
pub(super) enum Rung {
    /// The socket that sends this flow gives up.
    GiveUp(Flow),
    /// These packets leave again.
    Again(Vec<Packet>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Open,
    Held,
    Lost,
    Gone,
}

struct Kept {
    packets: Vec<Packet>,
    /// When the first one was lost; none if it is only held.
    lost: Option<Duration>,
    /// When they leave again, once the way is open.
    again: Option<Duration>,
}

/// What a socket waits for an acknowledgement of.
#[derive(Clone, Copy, Debug)]
struct Owed {
    any: bool,
    syn: bool,
}

impl Links {
    /// The links between hosts with these addresses and machines: all open.
    pub(super) fn new(addresses: Vec<IpAddr>, machines: &[Machine]) -> Links {
        Links {
            user_timeouts: machines.iter().map(|machine| machine.user_timeout).collect(),
            machines: vec![Power::On; addresses.len()],
            opened: BTreeSet::new(),
            connecting: vec![VecDeque::new(); addresses.len()],
            addresses,
            rules: Vec::new(),
            aliases: BTreeMap::new(),
            vanished: BTreeSet::new(),
            kept: BTreeMap::new(),
            silences: BTreeMap::new(),
            clocks: BTreeSet::new(),
        }
    }

    /// The address of a host.
    pub(super) fn address(&self, host: usize) -> IpAddr {
        self.addresses[host]
    }

    /// Whose address it is.
    pub(super) fn host(&self, ip: IpAddr) -> Option<usize> {
        self.addresses.iter().position(|address| *address == ip)
    }

    /// A connect of `host` is on its way. Hosts' SYNs leave in the order in which they connect.
    pub(super) fn connects(&mut self, host: usize, alias: Option<Arc<str>>) {
        self.connecting[host].push_back(alias);
    }

    /// A SYN leaves for the first time: what was known of an earlier connection between the two is over.
    pub(super) fn connect_leaves(&mut self, flow: Flow) {
        let from = flow.from;
        self.opened.insert(from);
        for flow in [flow, flow.reversed()] {
            self.vanished.remove(&flow);
            self.kept.remove(&flow);
            self.silences.remove(&flow);
        }
        let alias = self.host(from.ip()).and_then(|host| self.connecting[host].pop_front()).flatten();
        match alias {
            Some(alias) => self.aliases.insert(from, alias),
            None => self.aliases.remove(&from),
        };
    }

    /// The machine of a host is gone.
    pub(super) fn die(&mut self, host: usize, now: Duration) {
        self.machines[host] = Power::Failing;
        let address = self.addresses[host];
        // What was lost would have been sent again by nobody else. What is held has left.
        self.kept.retain(|flow, kept| flow.to.ip() != address && (flow.from.ip() != address || kept.lost.is_none()));
        self.silences.retain(|flow, _| flow.from.ip() != address);
        self.fall_silent(now);
    }

    /// A host has a machine again for another process, if it had lost it.
    pub(super) fn revive(&mut self, host: usize) {
        if self.machines[host] != Power::On {
            self.machines[host] = Power::Starting;
        }
        self.connecting[host].clear();
    }

    /// A pass is over: nothing of a machine that has died leaves any more. Returns the hosts whose machines are there again.
    #[must_use]
    pub(super) fn pass(&mut self) -> Vec<usize> {
        let mut started = Vec::new();
        for (host, machine) in self.machines.iter_mut().enumerate() {
            match machine {
                Power::Failing => *machine = Power::Off,
                Power::Starting => {
                    *machine = Power::On;
                    started.push(host);
                }
                Power::On | Power::Off => {}
            }
        }
        started
    }

    /// Whether the machine is gone that has this address.
    pub(super) fn is_gone(&self, ip: IpAddr) -> bool {
        self.host(ip).is_some_and(|host| self.machines[host] != Power::On)
    }

    /// Whether a machine sends: also what it had let go when it died.
    pub(super) fn sends(&self, ip: IpAddr) -> bool {
        self.host(ip).is_none_or(|host| self.machines[host] != Power::Off)
    }

    /// The machine that sends this flow is gone.
    pub(super) fn vanish(&mut self, flow: Flow, now: Duration) {
        let survivor = flow.reversed();
        self.vanished.insert(flow);
        self.kept.remove(&flow);
        self.kept.remove(&survivor);
        self.silences.remove(&flow);
        let sockets = netstat(survivor.from.ip()).entries;
        if let Some(socket) = sockets.iter().find(|socket| sends(socket) == Some(survivor)) {
            self.begin_silence(survivor, owes(socket), now);
        }
    }

    /// Changes what lies between two ends. An end is a host, or the name of some host's connections.
    pub(super) fn set(&mut self, between: [Result<usize, &str>; 2], link: Link, now: Duration) {
        let between = between.map(|end| end.map_or_else(|name| End::Alias(name.into()), End::Host));
        rules::set(&mut self.rules, between, link, now);
        match link {
            Link::Partition => self.fall_silent(now),
            Link::Heal | Link::Release => self.open(now),
            Link::Hold | Link::Latency(_) | Link::Rate(_) => {}
        }
    }

    /// When a packet of so many bytes arrives at the earliest that leaves at `left`.
    pub(super) fn arrival(&mut self, flow: Flow, bytes: u32, left: Duration) -> Duration {
        let (mut sent, mut latency) = (left, TICK);
        for index in 0..self.rules.len() {
            if !self.is_between(&self.rules[index].between, flow) {
                continue;
            }
            let back = !self.is_at(&self.rules[index].between[0], flow.from);
            let rule = &mut self.rules[index];
            latency = latency.max(rule.latency);
            sent = rule.leave(usize::from(back), u64::from(bytes), sent);
        }
        whole_ticks(sent).unwrap_or(sent) + latency
    }

    /// A packet would arrive: it comes back if it does.
    pub(super) fn let_through(&mut self, packet: Packet, flow: Flow, now: Duration) -> Option<Packet> {
        let all_on = self.machines.iter().all(|machine| *machine == Power::On);
        if self.rules.is_empty() && self.vanished.is_empty() && all_on {
            return Some(packet);
        }
        let path = self.path(flow);
        if path == Path::Open && !self.kept.contains_key(&flow) {
            return Some(packet);
        }
        if path == Path::Lost || (path == Path::Gone && !self.vanished.contains(&flow)) {
            self.lose(&packet, flow, now);
        }
        if path != Path::Gone {
            let kept = self.kept.entry(flow).or_insert(Kept { packets: Vec::new(), lost: None, again: None });
            if path == Path::Lost {
                kept.lost.get_or_insert(now);
            }
            kept.packets.push(packet);
        }
        None
    }

    /// When the next clock rings.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.clocks.first().map(|(at, _)| *at)
    }

    /// What the next clock asks for that has rung.
    pub(super) fn ring(&mut self, now: Duration) -> Option<Rung> {
        while self.next_due().is_some_and(|due| due <= now) {
            let (_, flow) = self.clocks.pop_first()?;
            if self.kept.get(&flow).is_some_and(|kept| kept.again.is_some_and(|again| again <= now)) {
                // The other clock of the same flow may have been set to the same time.
                if let Some(silence) = self.silences.get(&flow) {
                    self.clocks.insert((silence.ends().max(now), flow));
                }
                return self.kept.remove(&flow).map(|kept| Rung::Again(kept.packets));
            }
            match self.silences.get(&flow).map(|silence| silence.ends()) {
                Some(ends) if ends <= now => {
                    self.silences.remove(&flow);
                    self.kept.remove(&flow);
                    return Some(Rung::GiveUp(flow));
                }
                Some(ends) => _ = self.clocks.insert((ends, flow)),
                None => {}
            }
        }
        None
    }

    fn path(&self, flow: Flow) -> Path {
        if self.vanished.contains(&flow) || self.vanished.contains(&flow.reversed()) || self.is_gone(flow.to.ip()) {
            return Path::Gone;
        }
        let mut path = Path::Open;
        for rule in self.rules.iter().filter(|rule| rule.lost || rule.held) {
            if self.is_between(&rule.between, flow) {
                if rule.lost {
                    return Path::Lost;
                }
                path = Path::Held;
            }
        }
        path
    }

    fn is_between(&self, [one, other]: &[End; 2], flow: Flow) -> bool {
        let joins = |flow: Flow| self.is_at(one, flow.from) && self.is_at(other, flow.to);
        joins(flow) || joins(flow.reversed())
    }

    fn is_at(&self, end: &End, address: Address) -> bool {
        match end {
            End::Host(host) => self.addresses[*host] == address.ip(),
            End::Alias(name) => self.aliases.get(&address).is_some_and(|alias| alias == name),
        }
    }

    /// A packet is lost: its sender begins to wait for what doesn't come.
    fn lose(&mut self, packet: &Packet, flow: Flow, now: Duration) {
        let Transport::Tcp(TcpSegment { flags, payload, .. }) = &packet.payload else { return };
        if flags.rst {
            // Its sender has forgotten the connection, and what it had sent.
            self.kept.remove(&flow);
            self.silences.remove(&flow);
            return;
        }
        let wants_answer = flags.syn || flags.fin || !payload.is_empty();
        if wants_answer || self.silences.contains_key(&flow) {
            self.begin_silence(flow, Owed { any: wants_answer, syn: flags.syn }, now);
        }
    }

    fn begin_silence(&mut self, flow: Flow, owed: Owed, now: Duration) {
        let opener = Some(flow.from).filter(|from| self.opened.contains(from)).and_then(|from| self.host(from.ip()));
        let user_timeout = opener.map_or(Machine::USER_TIMEOUT, |host| self.user_timeouts[host]);
        let silence = Silence { since: now, unacknowledged: None, user_timeout, connects: false };
        let silence = self.silences.entry(flow).or_insert(silence);
        silence.connects |= owed.syn;
        if owed.any {
            silence.unacknowledged.get_or_insert(now);
        }
        // What would have rung already, had nothing been sent, does not ring in the past.
        self.clocks.insert((silence.ends().max(now), flow));
    }

    /// The connections between ends that are cut off, or one of which is gone, hear nothing of each other from here on.
    fn fall_silent(&mut self, now: Duration) {
        for address in self.addresses.clone() {
            for socket in netstat(address).entries {
                let flow = sends(&socket).filter(|flow| matches!(self.path(*flow), Path::Lost | Path::Gone));
                let flow = flow.filter(|flow| !self.vanished.contains(flow) && !self.is_gone(flow.from.ip()));
                if let Some(flow) = flow.filter(|flow| !self.silences.contains_key(flow)) {
                    self.begin_silence(flow, owes(&socket), now);
                }
            }
        }
    }

    /// Some way is open again.
    fn open(&mut self, now: Duration) {
        let silent: Vec<Flow> = self.silences.keys().copied().collect();
        for flow in silent {
            if !matches!(self.path(flow), Path::Lost | Path::Gone) {
                self.silences.remove(&flow);
            }
        }
        let kept: Vec<Flow> = self.kept.keys().copied().collect();
        for flow in kept.into_iter().filter(|flow| self.path(*flow) == Path::Open).collect::<Vec<_>>() {
            if let Some(kept) = self.kept.get_mut(&flow) {
                let again = kept.lost.map_or(now, |lost| next_retransmission(lost, is_syn(&kept.packets), now));
                kept.again = Some(again);
                self.clocks.insert((again, flow));
            }
        }
    }
}

fn is_syn(packets: &[Packet]) -> bool {
    matches!(packets.first().map(|packet| &packet.payload), Some(Transport::Tcp(segment)) if segment.flags.syn)
}

/// What a socket sends, if it has a peer.
pub(super) fn sends(socket: &NetstatEntry) -> Option<Flow> {
    socket.peer.map(|peer| Flow::new(socket.local, peer))
}

/// What a socket has sent, or wants to send, that is not acknowledged.
fn owes(socket: &NetstatEntry) -> Owed {
    use NetstatState::{Closing, FinWait1, LastAck, SynReceived, SynSent};
    let syn = matches!(socket.state, Some(SynSent | SynReceived));
    Owed { any: syn || matches!(socket.state, Some(FinWait1 | Closing | LastAck)) || socket.send_q > 0, syn }
}
