//! What happened in a run: its log, read once and sorted by what it is about: connections, their requests, the workers'
//! statements, drains, and what the pod reports of itself.
//!
//! Whoever wants to know something of a run asks here. It only sorts: nothing here judges. What the log does not say is `None`,
//! and an event about something that the log never introduced makes an entry of its own, so that a checker can ask about it.

mod connection;
mod drains;
pub mod holders;
mod outages;
mod read;
pub mod rollout;
pub mod stays;
pub mod timeline;
mod work;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use indexmap::IndexMap;
use lastcall_core::{DrainPolicy, Pacing, Settings, Time};
use lastcall_world::Signal;

pub(crate) use self::connection::{Connection, Ending, FatalRead};
pub(crate) use self::drains::{Drain, DrainRequest, Phases, Wall};
use self::outages::Outages;
pub(crate) use self::stays::Stay;
pub(crate) use self::work::{Batch, Request, Statement, Wait, WorkerSession};
use crate::cast::history::{Conn, History, Outcome, StatementEnd};
use crate::cast::pod::report::{DrainReport, EndRecord, Listed};

/// What one connection moves in a round trip: the window of the engine on `turmoil-net`.
pub(crate) const ROUND_TRIP_BYTES: u64 = 32 * 1024;

/// A machine that nothing reaches gives a connection up after that much time: 60 s of silence, and three probes, 10 s apart.
pub(crate) const GIVEN_UP: Duration = Duration::from_secs(90);

/// One entry of the log: which one, and when. Moments compare by their place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    /// Its index in the log.
    pub(crate) index: usize,
    /// When it was.
    pub(crate) at: Time,
}

/// What happened in a run. Everything is in the order in which it first appears.
#[derive(Debug)]
pub struct Story<'a> {
    pub(crate) history: &'a History,
    pub(crate) settings: &'a Settings,
    /// Connection attempts.
    pub(crate) connections: Vec<Connection<'a>>,
    /// Requests.
    pub(crate) requests: Vec<Request<'a>>,
    /// Statements that a worker began; twice the same tag if it began twice.
    pub(crate) statements: Vec<Statement<'a>>,
    /// Batches of the extended protocol at workers.
    pub(crate) batches: Vec<Batch<'a>>,
    /// Sessions at workers, by their number.
    pub(crate) worker_sessions: BTreeMap<u32, WorkerSession<'a>>,
    /// End records.
    pub(crate) records: Vec<(Moment, &'a EndRecord)>,
    /// When each insert was made durable.
    pub(crate) commits: BTreeMap<&'a str, Vec<Moment>>,
    /// How many rows of each insert were made durable.
    pub(crate) rows: BTreeMap<&'a str, u64>,
    /// Signals to the pod.
    pub(crate) signals: Vec<(Moment, Signal)>,
    /// Every drain, those that were taken back included.
    pub(crate) drains: Vec<Drain>,
    /// The phases that follow.
    pub(crate) phases: Phases,
    /// When the preStop hook asked for a drain, or took that back, whatever the answer.
    pub(crate) drain_requests: Vec<DrainRequest>,
    /// What `/readyz` said.
    pub(crate) readiness: Vec<(Moment, bool)>,
    /// What `GET /drain` said: when it was asked, and when it had said so.
    pub(crate) listed: Vec<(Time, Moment, Option<&'a Listed>)>,
    /// When `/livez` said no.
    pub(crate) dead: Vec<Moment>,
    /// The pod's connections, as it reports them.
    pub(crate) stays: Vec<Stay<'a>>,
    /// Tasks of the pod that panicked, and what they said.
    pub(crate) panics: Vec<(Moment, &'a str, &'a str)>,
    /// When the worker's process was killed.
    crashes: Vec<Moment>,
    /// When the worker ended sessions with a FATAL of its own: those of this client, or all.
    dismissals: Vec<(Moment, Option<&'a str>)>,
    /// When a worker talked nonsense to a client's sessions.
    garbled: Vec<(Moment, Option<&'a str>)>,
    /// When a worker told a client's sessions what they had not asked for.
    notifications: Vec<(Moment, Option<&'a str>)>,
    /// When the worker began to take no new sessions (true), and took them again (false).
    refusals: Vec<(Moment, bool)>,
    /// When what lay between two hosts, or a host, let nothing through.
    pub(crate) outages: Outages<'a>,
    /// The longest way of a packet that the scenario asked for.
    pub(crate) latency: Duration,
    /// Links of which the scenario limits the rate.
    rates: Vec<(&'a [String; 2], NonZeroU32)>,
    faulty: bool,
    /// When the pod's process began.
    pub(crate) started: Option<Moment>,
    /// When the pod exited by itself, and with which code.
    pub(crate) exit: Option<(Moment, u8)>,
    /// Its tasks that were left then.
    pub(crate) tasks_left: &'a [String],
    /// What it told of its drain.
    pub(crate) report: Option<&'a DrainReport>,
    /// The kubelet's SIGKILL.
    pub(crate) killed: Option<Moment>,
    /// When the log was full, with how many events of which client.
    pub(crate) out_of_budget: Option<(Moment, &'a str, u64)>,
    /// The last entry.
    pub(crate) last: Option<Moment>,
    by_conn: BTreeMap<&'a Conn, usize>,
    by_tag: IndexMap<&'a str, usize>,
}

impl<'a> Story<'a> {
    /// The drain that was not taken back.
    pub(crate) fn drain(&self) -> Option<&Drain> {
        self.drains.last().filter(|drain| drain.recalled.is_none())
    }

    /// The contract's t = 0: the first SIGTERM or SIGINT, or the request for a drain that it made final.
    pub(crate) fn signal(&self) -> Option<Moment> {
        self.drain().map(|drain| drain.began)
    }

    /// The moment of this entry of the log.
    pub(crate) fn moment(&self, index: usize) -> Moment {
        Moment { index, at: self.history.entries[index].at }
    }

    /// From when on times are told: t = 0, or the first signal of another kind.
    pub(crate) fn zero(&self) -> Option<Time> {
        self.signal().or(self.signals.first().map(|(moment, _)| *moment)).map(|zero| zero.at)
    }

    /// From when to when connections fall due in the drain that was not taken back.
    pub(crate) fn due_times(&self) -> Option<(Time, Time)> {
        let Settings { drain_policy, pacing, lame_duck, idle_grace, .. } = *self.settings;
        let signal = self.signal().filter(|_| drain_policy == DrainPolicy::IdleAware)?.at;
        let first = match pacing {
            Pacing::Even => (idle_grace / 2).max(lame_duck).min(idle_grace),
            Pacing::None => idle_grace,
        };
        Some((signal + first, signal + idle_grace))
    }

    /// Until when a connection that is idle, and does not read its FATAL, may stay in the drain that was not taken back.
    pub(crate) fn grace_over(&self) -> Option<Time> {
        self.due_times().map(|(_, last)| last + self.settings.close_linger)
    }

    /// When the contract's wall stands in the drain that was not taken back, if it is set: work that still runs then may be
    /// ended.
    pub(crate) fn wall(&self) -> Option<Time> {
        self.drain()?.wall().map(|(wall, _)| wall)
    }

    /// The same, where it is certain to fall.
    pub(crate) fn certain_wall(&self) -> Option<Time> {
        self.drain()?.certain_wall().map(|(wall, _)| wall)
    }

    /// When the old `flat` policy tears everything down. No excuse, but the pod must be honest about it.
    pub(crate) fn flat_cap(&self) -> Option<Time> {
        let cap = self.settings.handover_drain_timeout;
        let flat = self.settings.drain_policy == DrainPolicy::Flat && !cap.is_zero();
        self.signal().filter(|_| flat).map(|signal| signal.at + cap)
    }

    /// The first SIGQUIT.
    pub(crate) fn quit(&self) -> Option<Moment> {
        self.signals.iter().find(|(_, signal)| *signal == Signal::Quit).map(|(moment, _)| *moment)
    }

    /// When the process was first told to go.
    pub(crate) fn told(&self) -> Option<Moment> {
        self.signal().into_iter().chain(self.quit()).min()
    }

    /// Whether the worker's crash ended this statement.
    pub(crate) fn crashed(&self, statement: &Statement) -> bool {
        let aborted = statement.end.filter(|(_, end)| **end == StatementEnd::Aborted).map(|(moment, _)| moment.at);
        self.crashes.iter().any(|crash| aborted == Some(crash.at))
    }

    /// Whether the worker itself ended this connection's session in this time.
    pub(crate) fn dismissed(&self, connection: &Connection, from: Time, to: Time) -> bool {
        befell(&self.dismissals, connection, from, to)
    }

    /// Whether a worker talked nonsense to this connection in this time.
    pub(crate) fn garbled(&self, connection: &Connection, from: Time, to: Time) -> bool {
        befell(&self.garbled, connection, from, to)
    }

    /// Whether the scenario limits the rate of a link.
    pub(crate) fn is_rate_limited(&self) -> bool {
        !self.rates.is_empty()
    }

    /// Whether a worker told this connection something unasked in this time.
    pub(crate) fn notified(&self, connection: &Connection, from: Time, to: Time) -> bool {
        befell(&self.notifications, connection, from, to)
    }

    /// Whether anything befell the network or the worker.
    pub(crate) fn faulty(&self) -> bool {
        self.faulty
    }

    /// Whether the worker took no new sessions for some of this time.
    pub(crate) fn worker_refuses_within(&self, from: Time, to: Time) -> bool {
        let mut changes = self.refusals.iter();
        let last = changes.clone().rev().find(|(moment, _)| moment.at <= from);
        last.is_some_and(|(_, refuses)| *refuses)
            || changes.any(|(moment, refuses)| *refuses && from <= moment.at && moment.at <= to)
    }

    /// Whether the pod had been told to die at once before this entry: by the kubelet's SIGKILL or by SIGQUIT. What the
    /// clients see after that is not a decision of the pod.
    pub(crate) fn shot_before(&self, moment: Moment) -> bool {
        [self.killed, self.quit()].into_iter().flatten().any(|shot| shot < moment)
    }

    /// When the process was gone, one way or another.
    pub(crate) fn gone(&self) -> Option<Moment> {
        self.exit.map(|(moment, _)| moment).into_iter().chain(self.killed).min()
    }

    /// When a connection ended, where its end could be seen: nothing is heard of a machine that has vanished or is out of reach.
    pub(crate) fn visible_end(&self, connection: &Connection<'a>) -> Option<(Moment, Ending<'a>)> {
        let away = |end: Time| self.outages.between(connection.conn, end, end);
        connection.ending().filter(|(end, ending)| *ending != Ending::Left("vanish") && !away(end.at))
    }

    /// The session at a worker that served this connection.
    pub(crate) fn worker_session_of(&self, connection: &Connection) -> Option<&WorkerSession<'a>> {
        let application = connection.conn.application();
        let began = connection.began?;
        let its = |session: &&WorkerSession| session.application == application && session.began < began;
        self.worker_sessions.values().filter(its).max_by_key(|session| session.began)
    }

    /// When the worker's session ended that served this connection: its worker knows, whatever its client has seen.
    pub(crate) fn worker_let_go(&self, connection: &Connection) -> Option<Moment> {
        self.worker_session_of(connection)?.ended
    }

    /// Whether a client that reads late sent something to a process that was gone: the reset which that brings destroys what it
    /// has not read.
    pub(crate) fn drew_a_reset(&self, connection: &Connection<'a>) -> bool {
        let sent = self.requests_of(connection).map(|request| request.sent).chain(connection.fed.iter().copied());
        connection.reads_late() && self.gone().is_some_and(|gone| sent.max().is_some_and(|sent| sent > gone))
    }

    /// Whether a client let `stall_grace` pass in a drain without reading, before this moment: it may have been given up then.
    pub(crate) fn may_have_stalled(&self, connection: &Connection<'a>, before: Moment) -> bool {
        let now = connection.deaf_at(before).map(|from| (from, before));
        connection.deaf_before(before).chain(now).any(|(from, to)| {
            let mut drains = self.drains.iter().filter(|drain| drain.began.at <= to.at);
            drains.any(|drain| from.at.max(drain.began.at) + self.settings.stall_grace <= to.at)
        })
    }

    /// The connection of a request.
    pub(crate) fn connection_of(&self, request: &Request<'a>) -> &Connection<'a> {
        &self.connections[request.connection]
    }

    /// The statements of a request that a worker began.
    pub(crate) fn statements_of(&self, request: &Request<'a>) -> impl Iterator<Item = &Statement<'a>> {
        request.statements.iter().map(|index| &self.statements[*index])
    }

    /// A client's name for people; which of its copies, and which attempt, if it has more than one.
    pub(crate) fn name_of(&self, connection: &Connection) -> String {
        let conn = connection.conn;
        let is_alone =
            self.connections.iter().all(|other| other.conn.client != conn.client || other.conn.copy == conn.copy);
        let copy = if is_alone { String::new() } else { format!(".{}", conn.copy) };
        let attempt = if conn.attempt > 1 { format!(" (attempt {})", conn.attempt) } else { String::new() };
        format!("{}{copy}{attempt}", conn.client)
    }

    /// The requests of a connection, in the order sent.
    pub(crate) fn requests_of(&self, connection: &Connection<'a>) -> impl Iterator<Item = &Request<'a>> {
        connection.requests.iter().map(|index| &self.requests[*index])
    }

    /// Whether a request's answer was the FATAL that ended its connection, and not an answer of its own.
    pub(crate) fn refused_by_fatal(&self, request: &Request<'a>) -> Option<&FatalRead<'a>> {
        let (ended, Outcome::Error(code)) = request.end()? else {
            return None;
        };
        // Noted when the same message is read, or later: a client may first read to the end of the stream. After a FATAL
        // nothing else is answered, so the code can't be the request's own.
        self.connection_of(request).fatals.iter().find(|fatal| fatal.code == code && fatal.moment.at <= ended.at)
    }
}

/// Whether one of these happened to this connection's client, or to all, in this time.
fn befell(happened: &[(Moment, Option<&str>)], connection: &Connection, from: Time, to: Time) -> bool {
    let its = |client: Option<&str>| client.is_none_or(|client| client == connection.conn.client);
    happened.iter().any(|(moment, client)| its(*client) && from <= moment.at && moment.at <= to)
}
