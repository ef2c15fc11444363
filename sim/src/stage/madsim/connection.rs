//! Connections: two [sockets](super::socket), what is on its way between them, and what their kernels do by the clock.
//!
//! With Linux's numbers, as on the engine on `turmoil-net`:
//!
//! - **Retransmission.** What is lost is kept, and comes through once its way is open, when its kernel would try next: 200 ms
//!   after the loss (a SYN 1 s), then each time twice as long, at most 120 s. What the same side sends later waits behind it.
//! - **Keepalive.** An end that hears nothing is reset 90 s later: 60 s idle and 3 probes of 10 s.
//! - **User timeout.** While bytes are not acknowledged that other clock runs instead, from the first loss.
//! - **Connecting** is given up after 127 s.
//!
//! No clock runs while everything gets through, or is only held.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::madsim::net::Sender;

use super::links::Path;
use super::lock;
use super::network::Network;
use super::socket::{Segment, Socket, State};
use crate::stage::rules::End;
use crate::stage::tcp::{Silence, next_retransmission};

/// A connection. Its side 0 has opened it.
pub(super) struct Connection {
    pub(super) hosts: [usize; 2],
    pub(super) addresses: [SocketAddr; 2],
    /// What it goes by besides, at side 0.
    alias: Option<Arc<str>>,
    /// How long bytes of each side may be lost.
    user_timeouts: [Duration; 2],
    pub(super) sides: Mutex<[Side; 2]>,
}

pub(super) struct Side {
    pub(super) socket: Socket,
    /// Where it sends, once it has something to send, and as long as one of the two has.
    pub(super) way: Option<Sender>,
    pub(super) machine: Machine,
    /// What did not get through to it. Bounded by the window.
    pub(super) kept: VecDeque<Segment>,
    /// When the first of it was lost; none if it is only held.
    pub(super) lost: Option<Duration>,
    silence: Option<Silence>,
}

/// The machine at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    On,
    /// It has died with its process. Another one may be there later that knows nothing of this connection.
    Off,
    /// For this connection it has vanished for good.
    Vanished,
}

impl Connection {
    pub(super) fn new(
        hosts: [usize; 2],
        addresses: [SocketAddr; 2],
        alias: Option<Arc<str>>,
        user_timeouts: [Duration; 2],
        sockets: [Socket; 2],
    ) -> Connection {
        let sides = sockets.map(|socket| Side {
            socket,
            way: None,
            machine: Machine::On,
            kept: VecDeque::new(),
            lost: None,
            silence: None,
        });
        Connection { hosts, addresses, alias, user_timeouts, sides: Mutex::new(sides) }
    }

    /// Whether this side of it is at that end of a link.
    pub(super) fn is_at(&self, end: &End, side: usize) -> bool {
        match end {
            End::Host(host) => self.hosts[side] == *host,
            End::Alias(name) => side == 0 && self.alias.as_ref().is_some_and(|alias| alias == name),
        }
    }
}

impl Network {
    /// Changes a socket, and sends what leaves it then.
    pub(super) fn act<T>(&self, connection: &Arc<Connection>, side: usize, change: impl FnOnce(&mut Socket) -> T) -> T {
        let mut sides = lock(&connection.sides);
        let result = change(&mut sides[side].socket);
        self.flush(connection, &mut sides, side);
        result
    }

    fn flush(&self, connection: &Arc<Connection>, sides: &mut [Side; 2], side: usize) {
        while let Some(segment) = sides[side].socket.leaves() {
            if let Some(way) = sides[side].way.as_ref().filter(|_| sides[side].machine == Machine::On) {
                self.send(way, connection, side, segment);
            }
        }
        if sides.iter().all(|side| side.socket.state() == State::Over) {
            sides.iter_mut().for_each(|side| side.way = None);
        }
    }

    /// A segment has come to this side, or would have.
    pub(super) fn arrive(self: &Arc<Self>, connection: &Arc<Connection>, to: usize, segment: Segment) {
        let from = 1 - to;
        let mut sides = lock(&connection.sides);
        if sides[from].machine == Machine::Vanished {
            return;
        }
        let path = self.path(connection);
        if path == Path::Lost || sides[to].machine != Machine::On {
            self.lose(connection, &mut sides, to, &segment);
        }
        if sides[to].machine != Machine::On {
            return;
        }
        if path != Path::Open || !sides[to].kept.is_empty() {
            return sides[to].kept.push_back(segment);
        }
        self.deliver(connection, &mut sides, to, segment);
    }

    fn deliver(&self, connection: &Arc<Connection>, sides: &mut [Side; 2], to: usize, segment: Segment) {
        let was = sides[to].socket.state();
        if let Segment::Syn { port } = segment {
            // A node or a service that knows of no such machine refuses for it.
            let listens = self.is_on(connection.hosts[to]) && self.listens(connection.hosts[to], port);
            sides[to].socket.answer(listens);
        } else {
            sides[to].socket.arrives(segment);
        }
        if was == State::Answered && sides[to].socket.state() == State::Open && !self.offer(connection) {
            sides[to].socket.close(true);
        }
        self.flush(connection, sides, to);
    }

    /// What is kept for this side comes through, if its way is open.
    async fn come_through(self: Arc<Self>, connection: Arc<Connection>, to: usize, at: Duration) {
        self.clock.sleep_until(at).await;
        self.clock.sleep(super::LATENCY).await;
        let mut sides = lock(&connection.sides);
        if self.path(&connection) != Path::Open || sides[to].machine != Machine::On {
            return;
        }
        sides[to].lost = None;
        while let Some(segment) = sides[to].kept.pop_front() {
            self.deliver(&connection, &mut sides, to, segment);
        }
    }

    /// A segment is lost on its way to this side: its sender begins to wait for what doesn't come.
    fn lose(self: &Arc<Self>, connection: &Arc<Connection>, sides: &mut [Side; 2], to: usize, segment: &Segment) {
        let from = 1 - to;
        let now = self.clock.now();
        if matches!(segment, Segment::Rst) {
            // Its sender has forgotten the connection, and what it had sent.
            sides[to].kept.clear();
            sides[from].silence = None;
            return;
        }
        sides[to].lost.get_or_insert(now);
        if segment.wants_answer() || sides[from].silence.is_some() {
            self.begin_silence(connection, sides, from, segment.wants_answer());
        }
    }

    /// This side hears nothing from here on.
    fn begin_silence(self: &Arc<Self>, connection: &Arc<Connection>, sides: &mut [Side; 2], side: usize, owes: bool) {
        let now = self.clock.now();
        let connects = matches!(sides[side].socket.state(), State::Opening | State::Answered);
        let user_timeout = connection.user_timeouts[side];
        if sides[side].silence.is_none() {
            sides[side].silence = Some(Silence { since: now, unacknowledged: None, user_timeout, connects });
            let watch = self.clone().watch(connection.clone(), side);
            self.spawn(connection.hosts[side], watch);
        }
        if let Some(silence) = sides[side].silence.as_mut().filter(|_| owes) {
            silence.unacknowledged.get_or_insert(now);
        }
    }

    /// Gives a connection up when its silence has lasted too long.
    async fn watch(self: Arc<Self>, connection: Arc<Connection>, side: usize) {
        loop {
            let ends = {
                let mut sides = lock(&connection.sides);
                let Some(silence) = sides[side].silence else { return };
                if silence.ends() <= self.clock.now() {
                    sides[side].silence = None;
                    sides[1 - side].kept.clear();
                    sides[side].socket.end();
                    return self.flush(&connection, &mut sides, side);
                }
                silence.ends()
            };
            self.clock.sleep_until(ends).await;
        }
    }

    /// The connections between ends that are cut off hear nothing of each other from here on.
    pub(super) fn fall_silent(self: &Arc<Self>) {
        for connection in self.connections() {
            if self.path(&connection) != Path::Lost {
                continue;
            }
            let mut sides = lock(&connection.sides);
            for side in 0..2 {
                self.miss(&connection, &mut sides, side);
            }
        }
    }

    /// The other side of this one is gone, or cut off.
    fn miss(self: &Arc<Self>, connection: &Arc<Connection>, sides: &mut [Side; 2], side: usize) {
        let Side { socket, machine, silence, .. } = &sides[side];
        if *machine == Machine::On && socket.state() != State::Over && silence.is_none() {
            let owes = socket.state() != State::Open || socket.unacknowledged() > 0;
            self.begin_silence(connection, sides, side, owes);
        }
    }

    /// Some way is open again.
    pub(super) fn open(self: &Arc<Self>) {
        let now = self.clock.now();
        for connection in self.connections() {
            let path = self.path(&connection);
            let mut sides = lock(&connection.sides);
            for side in 0..2 {
                if path != Path::Lost && sides[1 - side].machine == Machine::On {
                    sides[side].silence = None;
                }
                if path == Path::Open && !sides[side].kept.is_empty() {
                    let syn = matches!(sides[side].kept.front(), Some(Segment::Syn { .. } | Segment::SynAck { .. }));
                    let again = sides[side].lost.map_or(now, |lost| next_retransmission(lost, syn, now));
                    let comes = self.clone().come_through(connection.clone(), side, again);
                    self.spawn(connection.hosts[side], comes);
                }
            }
        }
    }

    /// The machine of a host is gone, and with it its ends of its connections.
    pub(super) fn die(self: &Arc<Self>, host: usize) {
        self.switch(host, false);
        for connection in self.connections() {
            let mut sides = lock(&connection.sides);
            for side in (0..2).filter(|side| connection.hosts[*side] == host) {
                if sides[side].machine == Machine::On {
                    sides[side].machine = Machine::Off;
                    self.vacate(&connection, &mut sides, side);
                    sides[side].socket.forget();
                }
            }
        }
    }

    /// The machine at this end of a connection is gone for good. The stream itself does not know.
    pub(super) fn vanish(self: &Arc<Self>, connection: &Arc<Connection>, side: usize) {
        let mut sides = lock(&connection.sides);
        sides[side].machine = Machine::Vanished;
        self.vacate(connection, &mut sides, side);
    }

    fn vacate(self: &Arc<Self>, connection: &Arc<Connection>, sides: &mut [Side; 2], side: usize) {
        sides[side].silence = None;
        sides[side].kept.clear();
        // What was lost would have been sent again by nobody else. What is held has left.
        if sides[1 - side].lost.is_some() || sides[side].machine == Machine::Vanished {
            sides[1 - side].kept.clear();
        }
        self.miss(connection, sides, 1 - side);
    }

    /// A host has a machine again, and a kernel that knows nothing of an earlier process.
    pub(super) fn revive(&self, host: usize) {
        self.switch(host, true);
        for connection in self.connections() {
            let mut sides = lock(&connection.sides);
            for side in (0..2).filter(|side| connection.hosts[*side] == host) {
                if sides[side].machine == Machine::Off {
                    sides[side].machine = Machine::On;
                } else if sides[side].socket.is_orphan() {
                    sides[side].socket.forget();
                }
            }
        }
    }
}
