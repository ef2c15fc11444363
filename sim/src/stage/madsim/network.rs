//! The network of a run: madsim's, which carries segments, and what every host's kernel has besides connections.
//!
//! Each host has one endpoint of madsim's for the whole run, and each connection a channel of its own in each direction, from
//! one endpoint to the other: ordered, and with a latency that madsim draws for each segment. madsim's links can be clogged
//! between nodes only, and are asked again every ten seconds; here a link may also be that of one client. So what is lost or
//! held is kept at the receiving end (see [`super::connection`]), where its way would have ended.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;

use ::madsim::net::{Endpoint, NetSim, Receiver, Sender};
use ::madsim::runtime::NodeHandle;
use futures_util::FutureExt as _;

use super::clock::Clock;
use super::connection::Connection;
use super::links::{Links, Path};
use super::lock;
use super::socket::{Segment, Socket};
use crate::stage::rules::End;
use crate::stage::{Link, Machine};

/// Where each host's endpoint is: no program listens there.
const ENDPOINT_PORT: u16 = 1;

/// Linux's range for those who connect.
const EPHEMERAL: std::ops::Range<u16> = 32_768..61_000;

/// Headers of IP and TCP, and what a packet carries at most beside them.
const HEADERS_BYTES: u64 = 40;
const PACKET_BYTES: u64 = 1_460;

pub(super) struct Network {
    pub(super) clock: Clock,
    sim: Arc<NetSim>,
    nodes: Vec<NodeHandle>,
    endpoints: Vec<Endpoint>,
    machines: Vec<Machine>,
    links: Mutex<Links>,
    hosts: Mutex<Vec<Host>>,
    /// Those that are over are taken out when the list has grown.
    connections: Mutex<Vec<Weak<Connection>>>,
    on_the_way: AtomicUsize,
    /// The run is over: nobody is told anything any more.
    is_over: AtomicBool,
}

/// What a host's kernel has.
struct Host {
    is_on: bool,
    next_port: u16,
    ports: BTreeMap<u16, Arc<Mutex<Port>>>,
}

/// A port that somebody listens on.
#[derive(Default)]
pub(super) struct Port {
    /// Those that wait to be accepted. No more than clients there are.
    pub(super) queue: VecDeque<Arc<Connection>>,
    pub(super) waker: Option<Waker>,
}

/// What madsim carries.
struct Packet {
    connection: Arc<Connection>,
    to: usize,
    segment: Segment,
}

/// The address of a host.
pub(super) fn ip(host: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + u32::try_from(host).expect("hosts are few"))
}

impl Network {
    /// The network between these nodes, and the machines that they are.
    pub(super) async fn new(clock: Clock, nodes: Vec<NodeHandle>, machines: Vec<Machine>) -> Arc<Network> {
        let mut endpoints = Vec::new();
        for (host, node) in nodes.iter().enumerate() {
            // An endpoint is its task's node's.
            let bound = node.spawn(Endpoint::bind(SocketAddr::from((ip(host), ENDPOINT_PORT)))).await;
            endpoints.push(bound.expect("nobody ends this task").expect("nothing else is bound there"));
        }
        let host = || Host { is_on: true, next_port: EPHEMERAL.start, ports: BTreeMap::new() };
        let network = Arc::new(Network {
            clock,
            sim: NetSim::current(),
            hosts: Mutex::new(nodes.iter().map(|_| host()).collect()),
            nodes,
            endpoints,
            machines,
            links: Mutex::default(),
            connections: Mutex::default(),
            on_the_way: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        for (host, endpoint) in network.endpoints.iter().enumerate() {
            let (kernel, endpoint) = (network.clone(), endpoint.clone());
            network.spawn(host, async move {
                while let Ok((way, from, _)) = endpoint.accept1().await {
                    kernel.spawn(host, kernel.clone().receive(from, Some(way)));
                }
            });
        }
        network
    }

    /// Runs a task of the kernel of a host: not the process's, so it goes on when that is stopped or has ended.
    pub(super) fn spawn(&self, host: usize, task: impl Future<Output = ()> + Send + 'static) {
        if !self.is_over.load(Ordering::Relaxed) {
            drop(self.nodes[host].spawn(task));
        }
    }

    /// Opens a way from one host to another, and a connection that has not begun.
    pub(super) async fn open_way(
        self: &Arc<Self>,
        hosts: [usize; 2],
        port: u16,
        alias: Option<Arc<str>>,
    ) -> io::Result<Arc<Connection>> {
        let endpoint = SocketAddr::from((ip(hosts[1]), ENDPOINT_PORT));
        let (way, back) = self.endpoints[hosts[0]].connect1(endpoint).await?;
        let own_port = {
            let next = &mut lock(&self.hosts)[hosts[0]].next_port;
            let port = *next;
            *next = if port + 1 < EPHEMERAL.end { port + 1 } else { EPHEMERAL.start };
            port
        };
        let addresses = [(ip(hosts[0]), own_port).into(), (ip(hosts[1]), port).into()];
        let user_timeouts = [self.machines[hosts[0]].user_timeout, Machine::USER_TIMEOUT];
        let sockets = hosts.map(|host| Socket::new(self.machines[host].buffers));
        let connection = Arc::new(Connection::new(hosts, addresses, alias, user_timeouts, sockets));
        lock(&connection.sides)[0].way = Some(way);
        self.remember(&connection);
        self.spawn(hosts[0], self.clone().receive(back, None));
        Ok(connection)
    }

    /// Takes what comes in for one side of a connection; `way`: back, if this is the side that it was opened to.
    async fn receive(self: Arc<Self>, mut from: Receiver, mut way: Option<Sender>) {
        while let Ok(packet) = from.recv().await {
            self.on_the_way.fetch_sub(1, Ordering::Relaxed);
            let Packet { connection, to, segment } = *packet.downcast().expect("nothing else is sent");
            if let Some(way) = way.take() {
                lock(&connection.sides)[to].way = Some(way);
            }
            self.arrive(&connection, to, segment);
        }
    }

    /// Sends a segment of this side of a connection.
    pub(super) fn send(&self, way: &Sender, connection: &Arc<Connection>, from: usize, segment: Segment) {
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        let payload = if let Segment::Data(bytes) = &segment { bytes.len() as u64 } else { 0 };
        let bytes = payload + HEADERS_BYTES * payload.div_ceil(PACKET_BYTES).max(1);
        let takes = lock(&self.links).takes(connection, from, bytes, self.clock.now());
        // madsim has one latency for all links. It draws from this range when it is given the segment, which is now.
        let arrives = self.clock.arrival(takes);
        self.sim.update_config(|config| config.send_latency = arrives);
        let packet = Packet { connection: connection.clone(), to: 1 - from, segment };
        let sent = way.send(Box::new(packet)).now_or_never().expect("it waits for nothing");
        if sent.is_ok() {
            self.on_the_way.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether something is on its way that is neither lost nor held.
    pub(super) fn is_busy(&self) -> bool {
        self.on_the_way.load(Ordering::Relaxed) > 0
    }

    pub(super) fn path(&self, connection: &Connection) -> Path {
        lock(&self.links).path(connection)
    }

    pub(super) fn link(self: &Arc<Self>, between: [End; 2], link: Link) {
        lock(&self.links).set(between, link, self.clock.now());
        match link {
            Link::Partition => self.fall_silent(),
            Link::Heal | Link::Release => self.open(),
            Link::Hold | Link::Latency(_) | Link::Rate(_) => {}
        }
    }

    /// The connections that are not over.
    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        lock(&self.connections).iter().filter_map(Weak::upgrade).collect()
    }

    fn remember(&self, connection: &Arc<Connection>) {
        let mut connections = lock(&self.connections);
        if connections.len() == connections.capacity() {
            connections.retain(|connection| connection.strong_count() > 0);
        }
        connections.push(Arc::downgrade(connection));
    }

    /// Listens on a port of a host, or on one that is free.
    pub(super) fn listen(&self, host: usize, port: u16) -> io::Result<(u16, Arc<Mutex<Port>>)> {
        let Host { ports, .. } = &mut lock(&self.hosts)[host];
        let free = |port: &u16| !ports.contains_key(port);
        let port = if port == 0 { EPHEMERAL.rev().find(free) } else { Some(port).filter(free) };
        let port = port.ok_or(io::ErrorKind::AddrInUse)?;
        Ok((port, ports.entry(port).or_default().clone()))
    }

    /// Nobody listens there any more; those who wait in the queue are reset.
    pub(super) fn unlisten(&self, host: usize, port: u16) {
        let closed = lock(&self.hosts)[host].ports.remove(&port);
        let waiting = closed.map(|port| std::mem::take(&mut lock(&port).queue)).unwrap_or_default();
        for connection in waiting {
            self.act(&connection, 1, |socket| socket.close(true));
        }
    }

    pub(super) fn listens(&self, host: usize, port: u16) -> bool {
        lock(&self.hosts)[host].ports.contains_key(&port)
    }

    /// A connection is complete: whether somebody is there to accept it.
    pub(super) fn offer(&self, connection: &Arc<Connection>) -> bool {
        let port = lock(&self.hosts)[connection.hosts[1]].ports.get(&connection.addresses[1].port()).cloned();
        let Some(port) = port else { return false };
        let mut port = lock(&port);
        port.queue.push_back(connection.clone());
        if let Some(waker) = port.waker.take() {
            waker.wake();
        }
        true
    }

    pub(super) fn is_on(&self, host: usize) -> bool {
        lock(&self.hosts)[host].is_on
    }

    pub(super) fn switch(&self, host: usize, on: bool) {
        lock(&self.hosts)[host].is_on = on;
    }

    /// Sockets that are dropped from here on say nothing.
    pub(super) fn close(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// A node for each host.
    pub(super) fn nodes(&self) -> &[NodeHandle] {
        &self.nodes
    }
}
