//! One connection between a client and its worker, for a host that relays bytes: the [`Session`]'s decisions, and the bytes
//! that are under way between the two.
//!
//! The host moves bytes and keeps no protocol state. What is held back, the Flush that is slipped in, the FATAL at the end,
//! when a side is to be ended: all of it comes out of [`Connection::poll_transmit`].

use super::drain::{Drain, Pace, Verdict};
use super::end::EndReason;
use super::fatal::Fatal;
use super::goodbye::Goodbye;
use super::session::{FLUSH, Session};
use super::startup::{NO_ENCRYPTION, Packet, StartupReader};
use super::time::Time;
use super::wire::Side;

/// The most that is read at once and kept for a destination that takes no more, in bytes.
pub const CHUNK: usize = 16_384;

/// A Terminate message, for a worker whose session is over.
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// One connection, with the bytes that are under way.
///
/// # The order of calls
///
/// 1. [`Connection::new`] when it is accepted.
/// 2. [`Connection::drive`] at once, and whenever anything may have happened: a socket can be read or written, the drain has
///    changed, or the time is over that the last call named. It moves what can be moved, and says what the host must do:
///
///    | it says | the host does, and then drives it again |
///    |---|---|
///    | [`Next::Opened`] | of a startup packet: [`Connection::handle_startup`], and looks for a worker; serves a cancel request itself, and drops the connection |
///    | [`Next::Cancel`] | sends a cancel request to the worker, with [`Session::worker_key`] |
///    | [`Next::Close`] | lets the worker be cancelled if it still runs something ([`Session::worker_runs`]), then calls [`Connection::close`] |
///    | [`Next::LetGo`] | closes both sockets, and drops the connection |
///    | [`Next::Wait`], [`Next::Again`] | waits; lets others have their turn |
/// 3. [`Connection::handle_worker_found`] once, behind [`Connection::handle_startup`], when a worker took the connection. Until
///    then there is no socket at that side. If none is found: [`Connection::close`].
///
/// A host whose sockets can't be called so calls what [`Connection::drive`] calls, in its order. At any time an administrator may
/// end it: [`Connection::handle_condemned`]. When a drain is taken back each connection is told: [`Connection::handle_recall`]. Time never goes back from one call to the next. A call out of
/// this order is a fault of the host's, which a debug build notices.
#[derive(Debug)]
pub struct Connection {
    session: Session,
    /// From the client to the worker.
    up: Pipe,
    /// From the worker to the client.
    down: Pipe,
    client: End,
    worker: End,
    opening: StartupReader,
    opened: Option<Packet>,
    /// The client is being told, and may read it; or there is nothing to wait for any more.
    goodbye: Option<Goodbye>,
    gone: bool,
}

/// The two sockets of a connection, as the host has them: nothing here waits. Before there is a worker, its side takes and
/// gives nothing.
pub trait Sockets {
    /// Writes as much of `bytes` as this side takes now.
    fn write(&mut self, to: Side, bytes: &[u8]) -> Written;

    /// Reads what has come from this side, `limit` bytes at most, and hands it to `take` at once.
    fn read(&mut self, from: Side, limit: usize, take: &mut dyn FnMut(&[u8])) -> Read;

    /// Ends our side of this socket, a half-close. Returns whether that is done.
    fn end(&mut self, side: Side) -> bool;

    /// The client's side, if it is no longer as it was at the last look. Asked of one that is not read now: it needs no read,
    /// and sees past bytes that nobody has read yet. A host that can't know has none.
    fn client(&mut self) -> Option<ClientSide> {
        None
    }

    /// Bytes written to the client that its machine has not acknowledged (on Linux, SIOCOUTQ); zero where a platform can't
    /// say. A system call: asked only where a decision waits for it.
    fn unacknowledged(&mut self) -> usize;

    /// The next reads ask the kernel, whatever was last heard of readiness: a process that was stopped has timers that ring
    /// before its sockets do. What has arrived in time counts, however late the clock was read. Nothing where each read asks the kernel.
    fn refresh(&mut self) {}
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// So many bytes were taken; fewer than given, if there is no more room for now.
    Taken(usize),
    /// It takes nothing any more: it is broken.
    Broken,
}

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Bytes, one or more, were handed over.
    Bytes,
    /// Nothing has come.
    Nothing,
    /// It has ended its side, and all that it sent has been read.
    End,
    /// It has reset the connection, or its machine was given up.
    Reset,
}

/// The client's side, as far as it is known without a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientSide {
    /// It has sent its FIN.
    Left,
    /// It has reset the connection, or its machine was given up.
    Gone,
}

/// What is to be done for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// The packet that it opens with is complete: a startup packet, a cancel request, or something that can't be served.
    Opened(Packet),
    /// Its statement is to be cancelled at its worker.
    Cancel,
    /// It is over.
    Close(EndReason),
    /// Its client has been told, and has heard it or will not any more.
    LetGo,
    /// Nothing, until something happens, or until this time.
    Wait(Option<Time>),
    /// Nothing now; but there is more to move, and others should have their turn.
    Again,
}

/// Rounds of reading and writing before others get their turn.
const ROUNDS: usize = 16;

/// What the host is to do for one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmit<'a> {
    /// Write these bytes, as many as the socket takes, and call [`Connection::handle_taken`].
    Bytes(&'a [u8]),
    /// End this side (a half-close), and call [`Connection::handle_ended`].
    End,
}

/// Sides from which nothing more has come, as far as the host knows: it wakes the connection when something does.
#[derive(Clone, Copy, Debug, Default)]
struct Quiet {
    client: bool,
    worker: bool,
}

/// One of the two sockets.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    /// It has sent its last byte, which has been read.
    ended: bool,
    /// It takes nothing any more.
    deaf: bool,
    /// Our side has ended.
    shut: bool,
}

impl Connection {
    /// A connection accepted at `now`.
    pub fn new(pace: Pace, drain: &Drain, now: Time) -> Self {
        Connection {
            session: Session::new(pace, drain, now),
            up: Pipe::default(),
            down: Pipe::default(),
            client: End::default(),
            worker: End::default(),
            opening: StartupReader::default(),
            opened: None,
            goodbye: None,
            gone: false,
        }
    }

    /// A client that is told this, and nothing else.
    pub fn refusal(fatal: &Fatal, drain: &Drain, now: Time) -> Self {
        let mut refusal = Connection::new(Pace::default(), drain, now);
        refusal.session.close(EndReason::ShuttingDown, drain, now);
        refusal.down.append(&fatal.encode());
        refusal.goodbye = Some(Goodbye::spoken(drain, now));
        refusal
    }

    /// What is decided about it: activity, clocks, counts.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// The startup packet is complete, and a worker is looked for. It goes to the worker first.
    pub fn handle_startup(&mut self, packet: Vec<u8>, drain: &Drain, now: Time) {
        self.up = Pipe { sent: 0, cleared: packet.len(), bytes: packet };
        self.session.handle_startup(drain, now);
    }

    /// A worker took the connection.
    pub fn handle_worker_found(&mut self, drain: &Drain, now: Time) {
        self.session.handle_worker_found(drain, now);
    }

    /// Moves what can be moved, and says what to do next.
    pub fn drive(&mut self, sockets: &mut impl Sockets, drain: &Drain, now: Time) -> Next {
        let (mut refreshed, mut quiet) = (false, Quiet::default());
        for round in 1..=ROUNDS {
            self.send(Side::Backend, sockets, drain, now);
            self.send(Side::Frontend, sockets, drain, now);
            let heard = self.read(Side::Backend, sockets, &mut quiet, drain, now);
            let asked = self.read(Side::Frontend, sockets, &mut quiet, drain, now);
            let mut learned = heard || asked;
            learned |= self.watch_client(sockets, drain, now);
            if let Some(packet) = self.opened.take() {
                return Next::Opened(packet);
            }
            // The verdict comes last: what has arrived is part of it.
            match self.poll_verdict(drain, now) {
                Verdict::LookNow => self.handle_look(sockets.unacknowledged(), drain, now),
                Verdict::LetGo => return Next::LetGo,
                // Also what has arrived while this process was stopped, and its clocks were not.
                Verdict::CancelNow | Verdict::CloseNow(_) if !refreshed => {
                    (refreshed, quiet) = (true, Quiet::default());
                    sockets.refresh();
                }
                // The rest of a message may have, too: it counts, and behind a worker's there is a place for the FATAL.
                Verdict::CloseNow(_) if self.is_mid_message([asked, heard]) && round < ROUNDS => {}
                Verdict::CancelNow => {
                    self.handle_cancelled(drain, now);
                    return Next::Cancel;
                }
                Verdict::CloseNow(reason) => return Next::Close(reason),
                Verdict::CarryOn | Verdict::CloseAt(..) | Verdict::CancelAt(_) if learned => {}
                Verdict::CarryOn | Verdict::CloseAt(..) | Verdict::CancelAt(_) => {
                    self.shrink();
                    return Next::Wait(self.next_timeout(drain, now));
                }
            }
        }
        Next::Again
    }

    /// Whether part of a message has just come, and not all of it: from the client, or from the worker.
    const fn is_mid_message(&self, [asked, heard]: [bool; 2]) -> bool {
        asked && self.session.is_mid_request() || heard && self.session.is_mid_answer()
    }

    /// Does for this side what there is to do.
    fn send(&mut self, to: Side, sockets: &mut impl Sockets, drain: &Drain, now: Time) {
        while let Some(transmit) = self.poll_transmit(to, drain, now) {
            let Transmit::Bytes(bytes) = transmit else {
                if sockets.end(to) {
                    self.handle_ended(to);
                }
                break;
            };
            let all = bytes.len();
            match sockets.write(to, bytes) {
                Written::Taken(taken) => {
                    self.handle_taken(to, taken, drain, now);
                    if taken < all {
                        break;
                    }
                }
                Written::Broken => {
                    self.handle_deaf(to, drain, now);
                    break;
                }
            }
        }
    }

    /// Reads from this side what is wanted of it, and sends it on. Returns whether anything was learned.
    fn read(&mut self, from: Side, sockets: &mut impl Sockets, quiet: &mut Quiet, drain: &Drain, now: Time) -> bool {
        let is_quiet = match from {
            Side::Frontend => &mut quiet.client,
            Side::Backend => &mut quiet.worker,
        };
        if *is_quiet {
            return false;
        }
        let wanted = self.wants(from, drain, now).min(CHUNK);
        if wanted == 0 {
            return false;
        }
        match sockets.read(from, wanted, &mut |bytes| self.handle_bytes(from, bytes, drain, now)) {
            Read::Nothing => {
                *is_quiet = true;
                return false;
            }
            Read::Bytes => {
                let to = if from == Side::Frontend { Side::Backend } else { Side::Frontend };
                self.send(to, sockets, drain, now);
            }
            Read::End | Read::Reset if from == Side::Backend => {
                self.handle_worker_ended();
                return false;
            }
            // What must be sent may be more now: a Flush, and the end of this side.
            Read::End => self.handle_client_ended(now),
            Read::Reset => self.handle_client_reset(now),
        }
        true
    }

    /// A client that ended its side, or of which bytes have to wait, is not read: whether it is still there must be asked.
    /// Returns whether anything was learned.
    fn watch_client(&mut self, sockets: &mut impl Sockets, drain: &Drain, now: Time) -> bool {
        if self.wants(Side::Frontend, drain, now) > 0 {
            return false;
        }
        match sockets.client() {
            Some(ClientSide::Gone) => self.handle_client_reset(now),
            Some(ClientSide::Left) => self.handle_client_left(now),
            None => return false,
        }
        true
    }

    /// How many bytes may be read from this side now; none while others wait for their destination, or where nothing is
    /// wanted.
    pub fn wants(&self, from: Side, drain: &Drain, now: Time) -> usize {
        let is_open = self.session.is_open();
        let room = match from {
            _ if self.session.is_closed() => CHUNK,
            // What a client sends before it has a worker waits behind the startup packet.
            Side::Frontend if is_open => {
                if self.up.is_empty() {
                    CHUNK
                } else {
                    0
                }
            }
            // What follows an encryption request may not be plain any more.
            Side::Frontend if self.session.is_opening() => self.opening.wants(),
            Side::Frontend => {
                if self.up.has_held() {
                    0
                } else {
                    CHUNK
                }
            }
            Side::Backend if !is_open || !self.down.is_empty() => 0,
            Side::Backend => self.session.worker_read_limit(CHUNK, drain, now),
        };
        let has_ended = match from {
            Side::Frontend => self.client.ended,
            Side::Backend => self.worker.ended,
        };
        if has_ended { 0 } else { room }
    }

    /// Takes `bytes` that were read from this side: no more than [`Connection::wants`] said. Behind the close they are thrown
    /// away: a connection closed over unread bytes is reset by the kernel, and a reset destroys what the client has not read.
    pub fn handle_bytes(&mut self, from: Side, bytes: &[u8], drain: &Drain, now: Time) {
        if self.session.is_closed() {
            return;
        }
        match from {
            Side::Frontend if self.session.is_opening() => match self.opening.handle_bytes(bytes) {
                Ok(Some(Packet::Encryption(_))) => self.down.append(NO_ENCRYPTION),
                Ok(opened) => self.opened = opened,
                Err(malformed) => self.session.handle_malformed(malformed),
            },
            Side::Frontend => {
                let is_open = self.session.is_open();
                let cleared = if is_open { self.session.handle_client(bytes, drain, now) } else { 0 };
                self.up.keep(bytes, cleared);
            }
            Side::Backend => {
                debug_assert!(self.down.is_empty(), "a side is read when all that it sent before has been taken");
                let observed = self.session.handle_worker(bytes, drain, now);
                self.down.keep(&bytes[..observed], observed);
            }
        }
    }

    /// What is to be done for this side now, if anything.
    pub fn poll_transmit(&mut self, to: Side, drain: &Drain, now: Time) -> Option<Transmit<'_>> {
        match to {
            Side::Frontend => {
                if !self.down.unsent().is_empty() {
                    return (!self.client.deaf).then_some(Transmit::Bytes(self.down.unsent()));
                }
                let ends = self.goodbye.is_some_and(|goodbye| goodbye.has_begun()) && !self.client.shut;
                ends.then_some(Transmit::End)
            }
            Side::Backend if !self.session.is_open() => None,
            Side::Backend => {
                if !self.session.is_closed() {
                    self.clear(drain, now);
                }
                if !self.up.unsent().is_empty() && !self.worker.deaf {
                    return Some(Transmit::Bytes(self.up.unsent()));
                }
                // Behind the client's last byte the worker does what it would do without us.
                let over = self.session.is_closed()
                    || self.client.ended && self.up.is_empty() && !self.session.is_over(drain, now);
                (over && !self.worker.shut).then_some(Transmit::End)
            }
        }
    }

    /// Lets pass what may pass now.
    fn clear(&mut self, drain: &Drain, now: Time) {
        if self.session.take_flush(drain) {
            self.up.slip_in(&FLUSH);
        }
        if self.up.has_held() {
            let cleared = self.session.handle_client(self.up.held(), drain, now);
            self.up.cleared += cleared;
        }
    }

    /// The socket of this side took `taken` of the bytes that [`Connection::poll_transmit`] gave: none, if it takes no more
    /// for now.
    pub fn handle_taken(&mut self, to: Side, taken: usize, drain: &Drain, now: Time) {
        match to {
            Side::Frontend => {
                let left = self.down.take(taken);
                if self.session.is_open() {
                    self.session.handle_output(taken, left, drain, now);
                }
            }
            Side::Backend => {
                let left = self.up.take(taken);
                self.session.handle_input(left, drain, now);
            }
        }
    }

    /// The socket of this side takes nothing any more: it is broken. A client of that kind is gone; a worker's last words
    /// may still be read.
    pub fn handle_deaf(&mut self, to: Side, drain: &Drain, now: Time) {
        match to {
            Side::Frontend => {
                self.client.deaf = true;
                self.handle_client_reset(now);
            }
            Side::Backend => {
                self.worker.deaf = true;
                // One that will never take it is not waited for.
                self.session.handle_input(0, drain, now);
            }
        }
    }

    /// Our side of this socket has ended, as [`Transmit::End`] asked.
    pub fn handle_ended(&mut self, to: Side) {
        match to {
            Side::Frontend => self.client.shut = true,
            Side::Backend => self.worker.shut = true,
        }
    }

    /// The client has sent its FIN, though bytes of it are still to be read.
    pub fn handle_client_left(&mut self, now: Time) {
        self.session.handle_client_left(now);
    }

    /// The client has ended its side, and all that it sent has been read.
    pub fn handle_client_ended(&mut self, now: Time) {
        if std::mem::replace(&mut self.client.ended, true) {
            return;
        }
        self.session.handle_client_left(now);
        self.session.handle_client_gone(EndReason::ClientClosed);
        if let Some(goodbye) = &mut self.goodbye {
            goodbye.look_at(now);
        }
    }

    /// The client has reset the connection, or its machine was given up: nobody is there any more.
    pub fn handle_client_reset(&mut self, now: Time) {
        self.client.ended = true;
        self.gone = self.session.is_closed();
        self.session.handle_client_left(now);
        self.session.handle_client_gone(EndReason::ClientReset);
    }

    /// The worker closed or reset its connection.
    pub fn handle_worker_ended(&mut self) {
        self.worker.ended = true;
        self.session.handle_worker_gone();
    }

    /// Of what the client's socket took, its machine had not acknowledged `unacknowledged` bytes at `now`. Zero where a
    /// platform can't say.
    pub fn handle_look(&mut self, unacknowledged: usize, drain: &Drain, now: Time) {
        match &mut self.goodbye {
            Some(goodbye) => goodbye.handle_look(unacknowledged + self.down.unsent().len(), drain, now),
            None => self.session.handle_look(unacknowledged, drain, now),
        }
    }

    /// The statement is being cancelled at its worker, as [`Verdict::CancelNow`] asked.
    pub fn handle_cancelled(&mut self, drain: &Drain, now: Time) {
        self.session.handle_cancelled(drain, now);
    }

    /// An administrator ends this connection, whatever the process does.
    pub fn handle_condemned(&mut self, now: Time) {
        self.session.handle_condemned(now);
    }

    /// The drain was taken back.
    pub fn handle_recall(&mut self) {
        self.session.handle_recall();
    }

    /// The connection is over: nothing is forwarded any more, the worker is said goodbye, and the client is told why behind
    /// everything that the worker has sent. `worker` is the worker's address, for the DETAIL.
    pub fn close(&mut self, reason: EndReason, worker: &str, drain: &Drain, now: Time) {
        debug_assert!(!self.session.is_closed(), "a connection is closed once");
        // Inside a message the goodbye's bytes would be taken for the client's, and could complete a request that the client
        // was told is not executed. Behind the end of our side nothing can be said.
        let can_tell = self.session.is_open() && !self.worker.shut;
        let listens = can_tell && !self.session.worker_runs() && !self.is_torn();
        self.session.close(reason, drain, now);
        self.up.clear();
        if listens {
            self.up.keep(&TERMINATE, TERMINATE.len());
        }
        let fatal = self.session.farewell(worker);
        // One that is cut inside a message has nobody who could make sense of more.
        if matches!(reason, EndReason::Quit | EndReason::ClientReset) || self.session.is_mid_answer() {
            self.down.clear();
            self.gone = true;
            return;
        }
        let speaks = fatal.is_some() || self.session.worker_said_fatal() || !self.down.is_empty();
        if let Some(fatal) = fatal {
            self.down.append(&fatal.encode());
        }
        self.goodbye = Some(if speaks { Goodbye::spoken(drain, now) } else { Goodbye::silent(drain, now) });
    }

    /// Whether what the worker has taken of the client's bytes stops inside a message.
    pub fn is_torn(&self) -> bool {
        !self.up.unsent().is_empty() || self.session.is_mid_request()
    }

    /// What is to become of the connection at `now`.
    pub fn poll_verdict(&self, drain: &Drain, now: Time) -> Verdict {
        match &self.goodbye {
            _ if self.gone => Verdict::LetGo,
            Some(goodbye) => goodbye.verdict(self.client.ended, drain, now),
            None => self.session.poll_verdict(drain, now),
        }
    }

    /// When [`Connection::poll_verdict`] must be asked again although nothing has happened.
    pub fn next_timeout(&self, drain: &Drain, now: Time) -> Option<Time> {
        match &self.goodbye {
            _ if self.gone => Some(now),
            Some(goodbye) => Some(goodbye.next_timeout(drain).max(now)),
            None => self.session.next_timeout(drain, now),
        }
    }

    /// Gives memory back that is not in use: for when nothing more is to be done for now.
    pub fn shrink(&mut self) {
        if self.session.activity() == super::Activity::Idle {
            self.up.give_back();
            self.down.give_back();
        }
    }
}

/// What one direction keeps for later: `[sent | cleared to be sent | held back]`.
#[derive(Debug, Default)]
struct Pipe {
    bytes: Vec<u8>,
    sent: usize,
    cleared: usize,
}

impl Pipe {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..self.cleared]
    }

    fn held(&self) -> &[u8] {
        &self.bytes[self.cleared..]
    }

    fn has_held(&self) -> bool {
        self.cleared < self.bytes.len()
    }

    /// Keeps `bytes`, of which the first `cleared` may go on. None are kept while others are held back.
    fn keep(&mut self, bytes: &[u8], cleared: usize) {
        debug_assert!(!self.has_held(), "nothing overtakes what is held back");
        self.bytes.extend_from_slice(bytes);
        self.cleared += cleared;
    }

    /// Puts `message` behind what is cleared and before what is held back.
    fn slip_in(&mut self, message: &[u8]) {
        self.bytes.splice(self.cleared..self.cleared, message.iter().copied());
        self.cleared += message.len();
    }

    /// Puts `message` behind everything.
    fn append(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.cleared = self.bytes.len();
    }

    /// The destination took so many. Returns how many of those cleared are left.
    fn take(&mut self, taken: usize) -> usize {
        self.sent += taken;
        debug_assert!(self.sent <= self.cleared, "a socket took more than it was given");
        let left = self.cleared - self.sent;
        if self.sent == self.bytes.len() {
            self.clear();
        }
        left
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        self.cleared = 0;
    }

    fn give_back(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Activity, Settings};
    use super::*;

    #[test]
    fn an_idle_connection_keeps_no_memory_for_bytes_and_a_busy_one_does() {
        let (drain, now) = (Drain::new(Arc::new(Settings::default())), Time::EPOCH);
        let mut connection = Connection::new(Pace::default(), &drain, now);
        connection.handle_startup(vec![0; 8], &drain, now);
        connection.handle_worker_found(&drain, now);
        connection.handle_taken(Side::Backend, 8, &drain, now);
        for (from, to, message, activity) in [
            (Side::Backend, Side::Frontend, &b"Z\0\0\0\x05I"[..], Activity::Idle),
            (Side::Frontend, Side::Backend, b"S\0\0\0\x04", Activity::Executing),
            (Side::Backend, Side::Frontend, b"Z\0\0\0\x05I", Activity::Idle),
        ] {
            connection.handle_bytes(from, message, &drain, now);
            connection.handle_taken(to, message.len(), &drain, now);
            assert_eq!(connection.session.activity(), activity);
            connection.shrink();
            let memory = connection.up.bytes.capacity() + connection.down.bytes.capacity();
            assert_eq!(memory == 0, activity == Activity::Idle, "{activity}");
        }
    }
}
