//! One connection between a client and its worker, as a value: the tracker and the drain's rules together.
//!
//! It sees no socket and keeps no byte: for a host that has its own buffers, or owns messages. Where bytes are only relayed, a
//! [`Connection`](super::Connection) is less work.

use std::time::Duration;

use super::activity::{Activity, WaitsOn};
use super::delivery::Delivery;
use super::drain::{Cancelling, Drain, Pace, Standing, Verdict};
use super::end::EndReason;
use super::fatal::{Fatal, NOT_EXECUTED};
use super::time::Time;
use super::tracker::{Gate, Tracker};
use super::wire::{CancelKey, Malformed};

/// How long after a cancel request the next one goes out for a statement that still runs: one that comes between two
/// statements is lost.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);

/// A Flush message.
pub const FLUSH: [u8; 5] = [b'H', 0, 0, 0, 4];

/// How far a connection has come before its bytes are relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Its startup packet is not complete.
    Startup,
    /// It waits for a worker.
    Acquiring,
    /// It has one.
    Open,
}

/// One connection.
///
/// # The order of calls
///
/// 1. [`Session::new`] when it is accepted.
/// 2. [`Session::handle_startup`] when the startup packet is complete: from now on it waits for a worker.
/// 3. [`Session::handle_worker_found`] when one took it. Only from here on do bytes pass, in this order for each direction:
///
///    | bytes | the host calls |
///    |---|---|
///    | read from the client | [`Session::handle_client`], which says how many may go to the worker, or [`Session::handle_client_message`] with a whole one. The rest is *held*: shown again, first, when anything else has happened |
///    | taken by the worker's socket, or not | [`Session::handle_input`]; before, [`Session::take_flush`] says whether a Flush goes behind what was passed on and before what is held |
///    | read from the worker, no more than [`Session::worker_read_limit`] | [`Session::handle_worker`], which says how many go to the client. What the host says in a worker's place, a greeting of its own, is the worker's too |
///    | taken by the client's socket, or not | [`Session::handle_output`] |
/// 4. [`Session::handle_client_left`] when it is known that the client will send no more, though bytes of it are still to be
///    read. [`Session::handle_client_gone`], [`Session::handle_worker_gone`] at the ends.
/// 5. After each of these, when the drain has changed, and at [`Session::next_timeout`]: [`Session::poll_verdict`].
///
///    | it says | the host does |
///    |---|---|
///    | [`Verdict::LookNow`] | asks what the client's machine has not acknowledged: [`Session::handle_look`] |
///    | [`Verdict::CancelNow`] | sends a cancel request to the worker: [`Session::handle_cancelled`] |
///    | [`Verdict::CloseNow`] | cancels what the worker still runs ([`Session::worker_runs`]), and goes on with 6 |
///    | any other | nothing |
///
///    Before one of the last two named is obeyed the sockets are looked at once more: what has arrived in time counts, however
///    late the clock was read.
/// 6. [`Session::close`], once. Then [`Session::farewell`] is what the client is told, behind everything that the worker has
///    sent. Nothing passes any more; how long the client may take to read it, a [`Goodbye`](super::goodbye::Goodbye) says.
///
/// A pool that shares its workers between clients takes one back, without a word, whenever [`Session::needs_worker`] says no.
/// With the next message in hand, not shown yet, it calls [`Session::handle_worker_wanted`], and then goes on at 3. A Terminate
/// needs no worker.
///
/// At any time an administrator may end it: [`Session::handle_condemned`]. When a drain is taken back each session is told:
/// [`Session::handle_recall`]. Time never goes back from one call to the next.
/// A call out of this order is a fault of the host's, which a debug build notices.
#[derive(Debug)]
pub struct Session {
    tracker: Tracker,
    door: Door,
    standing: Standing,
    /// How far the worker's output has come.
    delivery: Delivery,
    /// The worker's socket takes no more of what was forwarded.
    stuffed: bool,
    /// Bytes read from the client are waiting here instead of going to the worker.
    held: bool,
    /// Why it will end as soon as nothing is running: the client is gone, or talks nonsense.
    leaving: Option<EndReason>,
    /// The nonsense.
    malformed: Option<Malformed>,
    worker_gone: bool,
    closed: Option<EndReason>,
    began: Option<Time>,
    executing: Duration,
    waiting: Duration,
    received: u64,
    sent: u64,
}

impl Session {
    /// A connection accepted at `now`.
    pub fn new(pace: Pace, drain: &Drain, now: Time) -> Self {
        Session {
            tracker: Tracker::new(),
            door: Door::Startup,
            standing: Standing {
                activity: Activity::Handshake,
                since: now,
                moved: now,
                pace,
                init_deadline: now + drain.settings().session_init_timeout,
                mid_message: false,
                acquired: now,
                paused: Duration::ZERO,
                cancelling: None,
                left: None,
                begun: false,
                streams: false,
                condemned: None,
            },
            delivery: Delivery::default(),
            stuffed: false,
            held: false,
            leaving: None,
            malformed: None,
            worker_gone: false,
            closed: None,
            began: None,
            executing: Duration::ZERO,
            waiting: Duration::ZERO,
            received: 0,
            sent: 0,
        }
    }

    /// The startup packet is complete, and a worker is looked for.
    pub fn handle_startup(&mut self, drain: &Drain, now: Time) {
        debug_assert_eq!(self.door, Door::Startup, "a startup packet comes once");
        self.door = Door::Acquiring;
        self.settle(drain, now);
    }

    /// A worker took the connection. The wait for it does not count against the client.
    pub fn handle_worker_found(&mut self, drain: &Drain, now: Time) {
        debug_assert_eq!(self.door, Door::Acquiring, "a worker is found where one is waited for");
        let waited = now.since(self.standing.since);
        self.standing.init_deadline = self.standing.init_deadline + waited;
        self.standing.acquired = now;
        self.door = Door::Open;
        self.settle(drain, now);
    }

    /// A message of the client's, which was not shown yet, waits for a worker, because the pool took the last one back. It has
    /// `worker_queue_timeout` for that. It is not executed if the session falls due before.
    pub fn handle_worker_wanted(&mut self, drain: &Drain, now: Time) {
        debug_assert!(
            self.is_open() && self.tracker.is_ready(),
            "the first worker is waited for since the startup packet"
        );
        debug_assert!(!self.needs_worker(), "its worker can't have been taken back");
        self.door = Door::Acquiring;
        self.held = true;
        self.settle(drain, now);
    }

    /// Takes `bytes` read from the client, or held before. Returns how many of them, from the first, must go to the worker;
    /// the rest is held.
    pub fn handle_client(&mut self, bytes: &[u8], drain: &Drain, now: Time) -> usize {
        if self.leaving.is_some() || self.closed.is_some() {
            return 0;
        }
        debug_assert!(self.is_open(), "a client's bytes pass when a worker was found");
        if self.is_walled(drain, now) || self.standing.cancelling.is_some() {
            self.held = !bytes.is_empty();
            return 0;
        }
        let gate = if drain.is_due(self.standing.pace, now) { Gate::Due } else { Gate::Open };
        let forwarded = self.tracker.forward(bytes, gate).unwrap_or_else(|malformed| {
            self.malformed = Some(malformed);
            self.leaving = Some(EndReason::Malformed);
            0
        });
        self.held = forwarded < bytes.len();
        self.received += forwarded as u64;
        // What a client sends does not excuse it from reading.
        if forwarded > 0 && self.standing.activity != Activity::StreamingOut {
            self.standing.moved = now;
        }
        if self.tracker.terminated() {
            self.leaving = Some(EndReason::Terminate);
        }
        self.settle(drain, now);
        forwarded
    }

    /// Takes `bytes` read from the worker. Returns how many of them, from the first, must go to the client: all, unless the
    /// worker talks nonsense.
    pub fn handle_worker(&mut self, bytes: &[u8], drain: &Drain, now: Time) -> usize {
        debug_assert!(self.is_open(), "what comes before a worker was found is no worker's");
        let answered = self.tracker.answered();
        let mut observed = 0;
        while observed < bytes.len() {
            match self.tracker.observe(&bytes[observed..]) {
                Ok(passed) => observed += passed,
                Err(malformed) => {
                    self.malformed = Some(malformed);
                    self.worker_gone = true;
                    break;
                }
            }
        }
        if self.began.is_none() && self.tracker.is_ready() {
            self.began = Some(now);
        }
        // A cancel request ends one statement: the next of a pipeline wants its own.
        if self.tracker.answered() > answered
            && let Some(cancelling) = &mut self.standing.cancelling
        {
            cancelling.again = now;
        }
        self.worker_gone |= self.tracker.said_fatal();
        self.settle(drain, now);
        observed
    }

    /// The client's socket took `taken` bytes of the worker's output; `left` wait because it takes no more.
    pub fn handle_output(&mut self, taken: usize, left: usize, drain: &Drain, now: Time) {
        // What a socket takes is no measure of a client that is slow: only a look is. Nor does what a client reads excuse it
        // from sending.
        if taken > 0 && !matches!(self.standing.activity, Activity::StreamingOut | Activity::CopyIn) {
            self.standing.moved = now;
        }
        self.sent += taken as u64;
        let was_blocked = self.delivery.is_blocked();
        self.delivery.handle_written(taken, left);
        match (was_blocked, self.delivery.is_blocked()) {
            (false, true) => self.delivery.look_at(now + drain.settings().look_every()),
            (true, false) => self.delivery.look_at(now),
            _ => {}
        }
        self.settle(drain, now);
    }

    /// Of what the client's socket took, `unacknowledged` bytes were not acknowledged by the client's machine at `now`.
    pub fn handle_look(&mut self, unacknowledged: usize, drain: &Drain, now: Time) {
        let longest = drain.settings().look_every();
        if self.delivery.handle_look(unacknowledged, self.tracker.answer_end(), longest, now)
            && self.standing.activity == Activity::StreamingOut
        {
            self.standing.moved = now;
        }
        self.settle(drain, now);
    }

    /// Of what was forwarded `left` bytes wait, because the worker's socket takes no more.
    pub fn handle_input(&mut self, left: usize, drain: &Drain, now: Time) {
        self.stuffed = left > 0;
        self.settle(drain, now);
    }

    /// The client has sent its FIN, though bytes of it may still be to be read, or have to wait: it is most likely gone, and
    /// perhaps only done with sending.
    pub fn handle_client_left(&mut self, now: Time) {
        self.standing.left.get_or_insert(now);
    }

    /// The client closed its side, and all that it sent has been read (`ClientClosed`), or it reset the connection
    /// (`ClientReset`). What it sent before is still answered after the former.
    pub fn handle_client_gone(&mut self, reason: EndReason) {
        debug_assert!(reason.by_client(), "{reason} is not the client's doing");
        if self.leaving.is_none() || reason == EndReason::ClientReset {
            self.leaving = Some(reason);
        }
    }

    /// The client's bytes are not the PostgreSQL protocol: for a host that has found out by itself.
    pub fn handle_malformed(&mut self, malformed: Malformed) {
        self.malformed = Some(malformed);
        self.leaving.get_or_insert(EndReason::Malformed);
    }

    /// A whole message of the client's, for a host that owns messages. Returns whether it may go to the worker now; if not,
    /// the host keeps it, and offers it again, first, when anything else has happened.
    pub fn handle_client_message(&mut self, message: &[u8], drain: &Drain, now: Time) -> bool {
        let passed = self.handle_client(message, drain, now);
        debug_assert!(passed == 0 || passed == message.len(), "a message is passed on whole, or not at all");
        passed == message.len()
    }

    /// The statement is being cancelled at its worker, as [`Verdict::CancelNow`] asked.
    pub fn handle_cancelled(&mut self, drain: &Drain, now: Time) {
        let wall = drain.walled(&self.standing, now) == Some(EndReason::Wall);
        let cancelling = self.standing.cancelling.get_or_insert(Cancelling { first: now, again: now, wall });
        cancelling.again = now + CANCEL_AGAIN;
        cancelling.wall |= wall;
    }

    /// An administrator ends this session, whatever the process does: what the wall would do to it is done now. A later call
    /// changes nothing.
    pub fn handle_condemned(&mut self, now: Time) {
        self.standing.condemned.get_or_insert(now);
    }

    /// The drain was taken back: what the next one counts, it counts from zero.
    pub fn handle_recall(&mut self) {
        self.standing.paused = Duration::ZERO;
        self.standing.cancelling = None;
    }

    /// The worker closed or reset its connection: nothing more will come from it.
    pub fn handle_worker_gone(&mut self) {
        self.worker_gone = true;
    }

    /// What is to become of the connection at `now`.
    pub fn poll_verdict(&self, drain: &Drain, now: Time) -> Verdict {
        if let Some(reason) = self.closed {
            return Verdict::CloseNow(reason);
        }
        let verdict = self.decide(drain, now);
        // No clock ends a connection of which it is not known whether it has its answer.
        let is_blind = self.has_unseen() && !self.delivery.is_late() && matches!(verdict, Verdict::CloseNow(_));
        if is_blind || self.next_look(drain).is_some_and(|look| look <= now) { Verdict::LookNow } else { verdict }
    }

    /// When [`Session::poll_verdict`] must be asked again although nothing has happened.
    pub fn next_timeout(&self, drain: &Drain, now: Time) -> Option<Time> {
        let verdict = match self.poll_verdict(drain, now) {
            Verdict::CarryOn => None,
            Verdict::CloseAt(at, _) | Verdict::CancelAt(at) => Some(at),
            Verdict::CloseNow(_) | Verdict::CancelNow | Verdict::LookNow | Verdict::LetGo => Some(now),
        };
        verdict.into_iter().chain(self.next_look(drain)).min().map(|at| at.max(now))
    }

    /// The verdict, as far as is known of what the client's machine has acknowledged.
    fn decide(&self, drain: &Drain, now: Time) -> Verdict {
        // What a client asked for before it left, or before it talked nonsense, is still answered. Not so a COPY whose data
        // will not come any more, or a stream that would never end.
        let answering = self.turn() == Activity::Executing;
        let owed = answering || !self.tracker.may_speak() || self.delivery.is_blocked();
        match self.leaving {
            Some(EndReason::ClientReset) => return Verdict::CloseNow(EndReason::ClientReset),
            // Whatever the client said behind it: its statement was cancelled because of the wall, or by an administrator.
            Some(_) if self.was_cut() && !owed => return Verdict::CloseNow(EndReason::Wall),
            Some(_) if self.standing.condemned.is_some() && !owed => {
                return Verdict::CloseNow(EndReason::Administrator);
            }
            // A client that hangs up on a refusal of its worker's has not ended the session by itself.
            Some(_) if self.tracker.said_fatal() => {}
            Some(reason) if self.worker_gone || !owed => return Verdict::CloseNow(reason),
            _ => {}
        }
        if self.worker_gone {
            // Behind a refusal of the worker's, what is malformed may be the client's.
            return Verdict::CloseNow(match (self.tracker.said_fatal(), self.malformed) {
                (true, _) if !self.tracker.is_ready() => EndReason::LoginFailed,
                (false, Some(_)) => EndReason::WorkerMalformed,
                _ => EndReason::WorkerLost,
            });
        }
        drain.verdict(&self.standing, now)
    }

    /// When somebody has to look how much of an answer the client's machine has acknowledged; none where nothing depends on
    /// it: a look is a system call.
    fn next_look(&self, drain: &Drain) -> Option<Time> {
        if !self.has_unseen() {
            return None;
        }
        let (standing, longest) = (&self.standing, drain.settings().look_every());
        if standing.activity == Activity::StreamingOut {
            let clock = drain.signal().is_some() || !self.delivery.is_blocked();
            return clock.then_some(self.delivery.next());
        }
        // An answer that went out in one piece. What a client has not got it has no time to think about: its clock is another
        // one, from the signal on.
        let first = drain.due(standing.pace).is_some() && !self.delivery.is_late();
        let clock = first && self.turn().waits_on() == WaitsOn::Client;
        drain.signal().filter(|_| clock).map(|signal| standing.since.max(signal) + longest)
    }

    /// Whether it is not known that the client's machine has acknowledged all of the last answer.
    fn has_unseen(&self) -> bool {
        let relays = self.closed.is_none() && self.tracker.is_ready();
        relays && !self.delivery.is_delivered(self.tracker.answer_end())
    }

    /// The connection is over. Nothing is forwarded any more.
    pub fn close(&mut self, reason: EndReason, drain: &Drain, now: Time) {
        debug_assert!(self.closed.is_none(), "a session is closed once");
        self.closed.get_or_insert(reason);
        self.settle(drain, now);
    }

    /// What the client is to be told, after everything that the worker has sent; none if there is nobody to tell, or no
    /// place for it. `worker` is the worker's address.
    pub fn farewell(&self, worker: &str) -> Option<Fatal> {
        let reason = self.closed?;
        // Before the startup packet nobody has spoken PostgreSQL yet; inside a message of the worker's our words would be
        // taken for its payload; and behind the worker's own FATAL they would be a second one for the same thing.
        if self.door == Door::Startup || !self.tracker.may_speak() || self.tracker.said_fatal() {
            return None;
        }
        let about = match reason {
            EndReason::WorkerLost | EndReason::WorkerUnreachable => Some(format!("The worker is {worker}.")),
            EndReason::Malformed | EndReason::WorkerMalformed => {
                self.malformed.map(|malformed| format!("{malformed}."))
            }
            EndReason::Boundary if self.held || self.tracker.is_mid_request() => Some(NOT_EXECUTED.to_owned()),
            _ => None,
        };
        reason.fatal(about.as_deref())
    }

    /// Whether a Flush ([`FLUSH`]) is to go to the worker now, behind everything forwarded so far and before what is held, so
    /// that an Execute whose answer sits in the worker's buffer can be told from one that runs: while draining, when the
    /// client leaves or an administrator ends it, and at any time before half a message, behind which it would be too late. Says
    /// so once for each.
    pub fn take_flush(&mut self, drain: &Drain) -> bool {
        let ends = self.leaving.is_some() || self.standing.condemned.is_some();
        let wanted = drain.signal().is_some() || self.held || ends;
        let possible = self.closed.is_none() && !self.tracker.terminated();
        let flush = wanted && possible && self.tracker.needs_flush();
        if flush {
            self.tracker.flush_sent();
        }
        flush
    }

    /// How many bytes may be read from the worker at once, at most `space`: what comes unasked when it is due, and anything
    /// behind the wall, is read to the end of its message and no further, so that there is a place for the FATAL.
    pub fn worker_read_limit(&self, space: usize, drain: &Drain, now: Time) -> usize {
        let due = drain.is_due(self.standing.pace, now) && self.tracker.is_unasked();
        match self.tracker.owed() {
            Some(owed) if due || self.is_walled(drain, now) => space.min(owed),
            _ => space,
        }
    }

    /// Whether a worker has taken it.
    pub fn is_open(&self) -> bool {
        self.door == Door::Open
    }

    /// Whether its startup packet is not complete.
    pub fn is_opening(&self) -> bool {
        self.door == Door::Startup
    }

    /// Whether its worker is in use: something is not answered, or a transaction is open, or it has not let the client in yet. One that is
    /// not may serve another client meanwhile, as far as what a session leaves behind at its server is nobody's concern.
    pub fn needs_worker(&self) -> bool {
        self.is_open() && (self.tracker.is_stream() || self.tracker.activity() != Activity::Idle)
    }

    /// Whether it was closed.
    pub const fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Whether it is to be closed now, as far as is known.
    pub(super) fn is_over(&self, drain: &Drain, now: Time) -> bool {
        matches!(self.poll_verdict(drain, now), Verdict::CloseNow(_) | Verdict::LookNow)
    }

    /// Whether part of a client's message has been forwarded, and not all of it.
    pub const fn is_mid_request(&self) -> bool {
        self.tracker.is_mid_request()
    }

    /// Whether nothing new is begun for it, because the wall has fallen or an administrator has ended it.
    fn is_walled(&self, drain: &Drain, now: Time) -> bool {
        drain.walled(&self.standing, now).is_some()
    }

    /// Whether the wall cancelled its statement.
    pub fn was_cut(&self) -> bool {
        self.standing.cancelling.is_some_and(|cancelling| cancelling.wall)
    }

    /// Whether what the client was sent stops inside a message.
    pub const fn is_mid_answer(&self) -> bool {
        !self.tracker.may_speak()
    }

    /// Whether the worker has said its own last word: a FATAL, which was passed on.
    pub const fn worker_said_fatal(&self) -> bool {
        self.tracker.said_fatal()
    }

    /// Whether the worker still runs something: a statement that whoever lets go of the worker must cancel, because a server
    /// that has lost its client runs on to its next write.
    pub fn worker_runs(&self) -> bool {
        self.door == Door::Open && !self.worker_gone && self.turn() == Activity::Executing
    }

    /// The clock that runs for it, by the name of its setting, and when that ends it if nothing happens before; none while
    /// it waits for its worker.
    pub fn clock(&self, drain: &Drain, now: Time) -> Option<(Time, &'static str)> {
        if self.closed.is_some() {
            return Some((self.standing.since + drain.settings().close_linger, "close_linger"));
        }
        match self.decide(drain, now) {
            Verdict::CloseAt(at, reason) => reason.clock().map(|clock| (at, clock)),
            // No setting's clock: it is being ended.
            Verdict::CancelAt(_) if self.standing.condemned.is_some() => None,
            Verdict::CancelAt(at) if self.standing.left.is_some_and(|_| drain.wall() != Some(at)) => {
                Some((at, "stall_grace"))
            }
            Verdict::CancelAt(at) => Some((at, "wall")),
            Verdict::CarryOn | Verdict::CloseNow(_) | Verdict::CancelNow | Verdict::LookNow | Verdict::LetGo => None,
        }
    }

    /// What it is doing.
    pub const fn activity(&self) -> Activity {
        self.standing.activity
    }

    /// Since when it has been doing that.
    pub const fn since(&self) -> Time {
        self.standing.since
    }

    /// When the session began: the first ReadyForQuery. None during the handshake.
    pub const fn began(&self) -> Option<Time> {
        self.began
    }

    /// How long the worker has been executing, all in all, up to the last change of activity.
    pub const fn executing(&self) -> Duration {
        self.executing
    }

    /// How long work was open and waited for the client, all in all, up to the last change of activity.
    pub const fn waiting(&self) -> Duration {
        self.waiting
    }

    /// Bytes of the client's that were passed on.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of the worker's that the client's socket took.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Requests answered.
    pub const fn answered(&self) -> u64 {
        self.tracker.answered()
    }

    /// The worker's own cancel key, once it is known.
    pub const fn worker_key(&self) -> Option<&CancelKey> {
        self.tracker.worker_key()
    }

    /// What the connection is doing, whether the client takes the output or not.
    fn turn(&self) -> Activity {
        match self.tracker.activity() {
            // The client has sent, and the worker does not read: what it is busy with, for example a row of the COPY that
            // waits for a lock, is the worker's.
            Activity::CopyIn | Activity::OpenBatch if self.stuffed => Activity::Executing,
            activity => activity,
        }
    }

    /// Whether bytes of an answer wait for the client, and nothing else does: the worker has finished, or is held back by
    /// them. What nobody asked for, a backlog of notifications, is no answer.
    fn streams_out(&self) -> bool {
        let turn = self.turn();
        let held_back = turn == Activity::Executing || turn == Activity::CopyIn;
        let blocked = self.delivery.is_blocked() && held_back || self.delivery.holds_answer(self.tracker.answer_end());
        blocked || self.delivery.is_late() && turn.waits_on() == WaitsOn::Client
    }

    /// Works out the activity anew, and the times that depend on its changes.
    fn settle(&mut self, drain: &Drain, now: Time) {
        let activity = match self.door {
            _ if self.closed.is_some() => Activity::Closing,
            Door::Startup => Activity::Handshake,
            Door::Acquiring => Activity::Acquiring,
            Door::Open if self.tracker.is_ready() && self.streams_out() => Activity::StreamingOut,
            Door::Open => self.turn(),
        };
        self.standing.begun = self.tracker.is_ready();
        self.standing.streams = self.tracker.is_stream();
        self.standing.mid_message = !self.tracker.may_speak();
        let before = self.standing.activity;
        if activity == before {
            return;
        }
        if before == Activity::Executing {
            self.executing += now.since(self.standing.since);
        }
        if before.holds_worker() {
            self.waiting += now.since(self.standing.since);
        }
        if before.is_pause()
            && let Some(signal) = drain.signal()
        {
            self.standing.paused += now.since(self.standing.since.max(signal));
        }
        let found_late = activity == Activity::StreamingOut && !self.delivery.is_blocked();
        if found_late {
            // What the last look found may be long past.
            self.delivery.look_at(now);
        }
        self.standing.activity = activity;
        self.standing.since = now;
        // One that is found to be late has been so since its last byte.
        if !(found_late && before.waits_on() == WaitsOn::Client) {
            self.standing.moved = now;
        }
    }
}
