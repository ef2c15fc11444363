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
use super::time::Time;
use super::wire::Side;

/// The most that is read at once and kept for a destination that takes no more, in bytes.
pub const CHUNK: usize = 16 * 1024;

/// A Terminate message, for a worker whose session is over.
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// One connection, with the bytes that are under way.
///
/// # The order of calls
///
/// 1. [`Connection::new`] when it is accepted. The host reads the startup packet ([`StartupReader`](super::startup::StartupReader)) and
///    meanwhile asks [`Connection::poll_verdict`].
/// 2. [`Connection::handle_startup`] once, with the packet; then the host looks for a worker.
/// 3. [`Connection::handle_worker_found`] once, when a worker took the connection.
/// 4. From then on, whenever anything may have happened:
///    - for each side, as long as [`Connection::poll_transmit`] has something: do it, and say how far that came
///      ([`Connection::handle_taken`], [`Connection::handle_ended`]);
///    - for each side whose [`Connection::wants`] is not zero: read so much at most, and pass it on
///      ([`Connection::handle_bytes`]), or say how that side has ended ([`Connection::handle_client_ended`],
///      [`Connection::handle_client_reset`], [`Connection::handle_worker_ended`]);
///    - a client that is not read now is watched all the same: [`Connection::handle_client_left`] for its FIN, and
///      [`Connection::handle_client_reset`].
/// 5. Behind that, each time: obey [`Connection::poll_verdict`], and wait no longer than [`Connection::next_timeout`].
///    - [`Verdict::LookNow`]: [`Connection::handle_look`] with what the client's machine has not acknowledged, and ask again.
///    - [`Verdict::CancelNow`]: [`Connection::handle_cancelled`], and a cancel request to the worker with
///      [`Session::worker_key`].
///    - [`Verdict::CloseNow`]: [`Connection::close`] once, and go on from 4: the FATAL is to be sent. A worker that still runs
///      something ([`Session::worker_runs`], asked before) is to be sent a cancel request.
///    - [`Verdict::LetGo`]: both sockets are closed, and the connection is dropped.
///
///    Before one of the last two or a cancel is obeyed for the first time the sockets are read once more: what has arrived
///    in time counts, however late the clock was read.
///
/// When a drain is taken back each connection is told: [`Connection::handle_recall`]. Time never goes back from one call to
/// the next. A call out of this order is a fault of the host's, which a debug build notices.
#[derive(Debug)]
pub struct Connection {
    session: Session,
    /// From the client to the worker.
    up: Pipe,
    /// From the worker to the client.
    down: Pipe,
    client: End,
    worker: End,
    /// The client is being told, and may read it; or there is nothing to wait for any more.
    goodbye: Option<Goodbye>,
    gone: bool,
}

/// What the host is to do for one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmit<'a> {
    /// Write these bytes, as many as the socket takes, and call [`Connection::handle_taken`].
    Bytes(&'a [u8]),
    /// End this side (a half-close), and call [`Connection::handle_ended`].
    End,
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
                self.session.handle_output(taken, left, drain, now);
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

    /// The drain was taken back.
    pub fn handle_recall(&mut self) {
        self.session.handle_recall();
    }

    /// The connection is over: nothing is forwarded any more, the worker is said goodbye, and the client is told why behind
    /// everything that the worker has sent. `worker` is the worker's address, for the DETAIL.
    pub fn close(&mut self, reason: EndReason, worker: &str, drain: &Drain, now: Time) {
        debug_assert!(!self.session.is_closed(), "a connection is closed once");
        // Inside a message the goodbye's bytes would be taken for the client's, and could complete a request that the client
        // was told is not executed.
        let listens = self.session.is_open() && !self.session.worker_runs() && !self.is_torn();
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

    /// Keeps `bytes`, of which the first `cleared` may go on; no more than that if others are held back.
    fn keep(&mut self, bytes: &[u8], cleared: usize) {
        debug_assert!(cleared == 0 || !self.has_held(), "nothing overtakes what is held back");
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
