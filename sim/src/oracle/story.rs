//! The log of a run, sorted by what it is about: connections, their requests, the workers' statements.
//!
//! It only sorts: nothing here judges. What the log does not say is `None`, and an event about something that the log never
//! introduced makes an entry of its own, so that a checker can ask about it.

use std::collections::BTreeMap;
use std::time::Duration;

use cp::core::Time;
use cp::lifecycle::Cause;
use cp::meter::{EndRecord, Exit};
use cp::world::Signal;

use crate::history::{Conn, Event, Fault, History, Inserted, Outcome, RequestKind, StatementEnd};

/// One entry of the log: which one, and when. Moments compare by their place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    /// Its index in the log.
    pub(super) index: usize,
    /// When it was.
    pub(super) at: Time,
}

/// The log, sorted. Everything is in the order in which it first appears.
#[derive(Debug, Default)]
pub(super) struct Story<'a> {
    /// Connection attempts.
    pub(super) connections: Vec<Connection<'a>>,
    /// Requests.
    pub(super) requests: Vec<Request<'a>>,
    /// Statements that a worker began; twice the same tag if it began twice.
    pub(super) statements: Vec<Statement<'a>>,
    /// Batches of the extended protocol at workers.
    pub(super) batches: Vec<Batch<'a>>,
    /// Sessions at workers, by their number.
    pub(super) worker_sessions: BTreeMap<u32, WorkerSession<'a>>,
    /// End records.
    pub(super) records: Vec<(Moment, &'a EndRecord)>,
    /// When each insert was made durable.
    pub(super) commits: BTreeMap<&'a str, Vec<Moment>>,
    /// How many rows of each insert were made durable.
    pub(super) rows: BTreeMap<&'a str, u64>,
    /// Signals to `cp`.
    pub(super) signals: Vec<(Moment, Signal)>,
    /// What began the drain, if there was one that was not taken back: the contract's t = 0.
    pub(super) drain: Option<(Moment, Cause)>,
    /// When the worker's process was killed.
    crashes: Vec<Moment>,
    /// When the worker began to take no new sessions (true), and took them again (false).
    refusals: Vec<(Moment, bool)>,
    /// When the worker hung (true), and went on (false).
    hangs: Vec<(Moment, bool)>,
    /// The longest way of a packet that the scenario asked for.
    pub(super) latency: Duration,
    faulty: bool,
    /// When `cp` began to listen.
    pub(super) started: Option<Moment>,
    /// When `cp` exited by itself, and how.
    pub(super) exit: Option<(Moment, &'a Exit)>,
    /// The kubelet's SIGKILL.
    pub(super) killed: Option<Moment>,
    /// The last entry.
    pub(super) last: Option<Moment>,
    by_conn: BTreeMap<&'a Conn, usize>,
    by_tag: BTreeMap<&'a str, usize>,
}

/// One connection attempt.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    /// Whose.
    pub(super) conn: &'a Conn,
    /// When the client started to connect, or the first that the log has of it.
    pub(super) connecting: Moment,
    /// When its startup packet was on its way: from here on it can be told things.
    pub(super) startup: Option<Moment>,
    /// Its first ReadyForQuery.
    pub(super) began: Option<Moment>,
    /// When it stopped reading (false) and read again (true).
    pub(super) reading: Vec<(Moment, bool)>,
    /// Whether it ever read slowly, or not at all.
    reads_late: bool,
    /// The FATALs it read.
    pub(super) fatals: Vec<FatalRead<'a>>,
    /// Its first end of the stream, and whether that was inside a message.
    pub(super) eof: Option<(Moment, bool)>,
    /// Its first reset.
    pub(super) reset: Option<Moment>,
    /// When the client itself ended it, and how.
    pub(super) left: Option<(Moment, &'static str)>,
    /// TCP could not be opened.
    pub(super) failed: Option<Moment>,
    /// When it read the answers to its batches' Syncs.
    pub(super) batches: Vec<Moment>,
    /// Its requests, as indices into [`Story::requests`], in the order sent.
    pub(super) requests: Vec<usize>,
}

/// A FATAL, as its client read it.
#[derive(Debug)]
pub(super) struct FatalRead<'a> {
    pub(super) moment: Moment,
    pub(super) code: &'a str,
    pub(super) detail: Option<&'a str>,
    pub(super) mid_message: bool,
}

/// How a connection ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending<'a> {
    /// With a FATAL of this SQLSTATE.
    Fatal(&'a str),
    /// The client ended it itself.
    Left(&'static str),
    /// The end of the stream, without a FATAL.
    Eof,
    /// A reset, without a FATAL.
    Reset,
    /// It never was one.
    ConnectFailed,
}

/// A batch of the extended protocol: from its first message to its Sync, or to its session's end.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    worker_session: u32,
    /// Whose.
    pub(super) application: Option<&'a str>,
    pub(super) began: Moment,
    pub(super) ended: Option<Moment>,
}

/// One request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// Index into [`Story::connections`].
    pub(super) connection: usize,
    pub(super) tag: &'a str,
    pub(super) kind: RequestKind,
    pub(super) sent: Moment,
    /// How it ended for its client; more than one is one too many.
    pub(super) ends: Vec<(Moment, &'a Outcome)>,
    /// Its client's cancel requests.
    pub(super) cancels: Vec<Moment>,
    /// Its statements, as indices into [`Story::statements`].
    pub(super) statements: Vec<usize>,
}

/// One statement that a worker began.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    pub(super) tag: &'a str,
    pub(super) worker_session: u32,
    pub(super) began: Moment,
    pub(super) end: Option<(Moment, &'a StatementEnd)>,
    /// When its worker began to wait for the client, and went on.
    pub(super) waits: Vec<(Moment, Option<Moment>)>,
    /// Index into [`Story::requests`]; `None` if no client sent it.
    pub(super) request: Option<usize>,
}

/// One session at a worker.
#[derive(Debug)]
pub(super) struct WorkerSession<'a> {
    pub(super) application: &'a str,
    pub(super) began: Moment,
    pub(super) ended: Option<Moment>,
}

impl<'a> Story<'a> {
    /// Sorts a log.
    pub(super) fn of(history: &'a History) -> Story<'a> {
        let mut story = Story::default();
        let moment = |index: usize| Moment { index, at: history.entries[index].at };
        story.drain = history.drain_began().map(|(index, cause)| (moment(index), cause));
        for (index, entry) in history.entries.iter().enumerate() {
            story.add(Moment { index, at: entry.at }, &entry.event);
        }
        story
    }

    fn add(&mut self, moment: Moment, event: &'a Event) {
        self.last = Some(moment);
        match event {
            Event::Connecting { conn } => {
                self.connection(moment, conn);
            }
            Event::StartupSent { conn } => {
                self.connection(moment, conn).startup.get_or_insert(moment);
            }
            Event::ReadingStopped { conn } => {
                let connection = self.connection(moment, conn);
                connection.reading.push((moment, false));
                connection.reads_late = true;
            }
            Event::ReadingSlowed { conn } => {
                let connection = self.connection(moment, conn);
                connection.reading.push((moment, true));
                connection.reads_late = true;
            }
            Event::ReadingResumed { conn } => self.connection(moment, conn).reading.push((moment, true)),
            Event::WorkerWaits { worker_session } => {
                if let Some(statement) = self.running(*worker_session) {
                    statement.waits.push((moment, None));
                }
            }
            Event::WorkerGoesOn { worker_session } => {
                if let Some((_, went_on)) = self.running(*worker_session).and_then(|running| running.waits.last_mut()) {
                    went_on.get_or_insert(moment);
                }
            }
            Event::SessionBegan { conn } => {
                self.connection(moment, conn).began.get_or_insert(moment);
            }
            Event::ConnectFailed { conn, .. } => {
                self.connection(moment, conn).failed.get_or_insert(moment);
            }
            Event::RequestSent { conn, tag, kind } => {
                self.request(moment, conn, tag, *kind);
            }
            Event::RequestEnded { conn, tag, outcome } => {
                self.request(moment, conn, tag, RequestKind::Query).ends.push((moment, outcome));
            }
            Event::BatchAnswered { conn } => self.connection(moment, conn).batches.push(moment),
            Event::CancelSent { conn, tag } => {
                self.request(moment, conn, tag, RequestKind::Query).cancels.push(moment);
            }
            Event::FatalRead { conn, code, detail, mid_message, .. } => {
                let fatal = FatalRead { moment, code, detail: detail.as_deref(), mid_message: *mid_message };
                self.connection(moment, conn).fatals.push(fatal);
            }
            Event::EofRead { conn, mid_message } => {
                self.connection(moment, conn).eof.get_or_insert((moment, *mid_message));
            }
            Event::ResetRead { conn } => {
                self.connection(moment, conn).reset.get_or_insert(moment);
            }
            Event::ClientLeft { conn, how } => {
                self.connection(moment, conn).left.get_or_insert((moment, how));
            }
            Event::WorkerSessionBegan { worker_session, application } => {
                let session = WorkerSession { application, began: moment, ended: None };
                self.worker_sessions.insert(*worker_session, session);
            }
            Event::BatchBegan { worker_session } => {
                let application = self.worker_sessions.get(worker_session).map(|session| session.application);
                let batch = Batch { worker_session: *worker_session, application, began: moment, ended: None };
                self.batches.push(batch);
            }
            Event::BatchSynced { worker_session } => self.end_batch(*worker_session, moment),
            Event::WorkerSessionEnded { worker_session } => {
                self.end_batch(*worker_session, moment);
                if let Some(session) = self.worker_sessions.get_mut(worker_session) {
                    session.ended.get_or_insert(moment);
                }
            }
            Event::StatementBegan { worker_session, tag } => {
                let request = self.by_tag.get(tag.as_str()).copied();
                if let Some(request) = request {
                    self.requests[request].statements.push(self.statements.len());
                }
                let statement = Statement {
                    tag,
                    worker_session: *worker_session,
                    began: moment,
                    end: None,
                    waits: Vec::new(),
                    request,
                };
                self.statements.push(statement);
            }
            Event::StatementEnded { worker_session, tag, end } => {
                let open = self.statements.iter_mut().rev().find(|statement| {
                    statement.tag == tag && statement.worker_session == *worker_session && statement.end.is_none()
                });
                if let Some(statement) = open {
                    statement.end = Some((moment, end));
                }
            }
            Event::Committed { inserts, .. } => {
                for Inserted { tag, rows } in inserts {
                    self.commits.entry(tag).or_default().push(moment);
                    *self.rows.entry(tag).or_default() += u64::from(*rows);
                }
            }
            Event::Recorded { record } => self.records.push((moment, record)),
            Event::SignalSent { signal } => self.signals.push((moment, *signal)),
            Event::PodStarted => {
                self.started.get_or_insert(moment);
            }
            Event::PodExited { exit, .. } => {
                self.exit.get_or_insert((moment, exit));
            }
            Event::Killed => {
                self.killed.get_or_insert(moment);
            }
            Event::Fault { what } => {
                self.faulty = true;
                self.add_fault(moment, what);
            }
            Event::ClientDone { .. }
            | Event::HalfClosed { .. }
            | Event::Replicates { .. }
            | Event::PartSent { .. }
            | Event::RolledBack { .. }
            | Event::ActivityChanged { .. }
            | Event::ConnectionLeft { .. }
            | Event::ReadinessProbed { .. }
            | Event::DrainAsked { .. }
            | Event::Panicked { .. }
            | Event::OutOfTime => {}
        }
    }

    fn add_fault(&mut self, moment: Moment, what: &Fault) {
        match what {
            Fault::WorkerCrash => self.crashes.push(moment),
            Fault::WorkerDrain | Fault::WorkerShutdown => self.refusals.push((moment, true)),
            Fault::WorkerHang => self.hangs.push((moment, true)),
            Fault::WorkerBack => {
                self.refusals.push((moment, false));
                self.hangs.push((moment, false));
            }
            Fault::Latency { latency, .. } => self.latency = self.latency.max(latency.0),
            // A packet waits behind what its connection may have on its way.
            Fault::Rate { rate, .. } => {
                let queued = Duration::from_secs(super::ROUND_TRIP_BYTES) / rate.0.get();
                self.latency = self.latency.max(queued);
            }
            _ => {}
        }
    }

    fn end_batch(&mut self, worker_session: u32, moment: Moment) {
        let last = self.batches.iter_mut().rev().find(|batch| batch.worker_session == worker_session);
        if let Some(batch) = last {
            batch.ended.get_or_insert(moment);
        }
    }

    /// The statement that a worker's session is in the middle of. Log order: it is the last that began there.
    fn running(&mut self, worker_session: u32) -> Option<&mut Statement<'a>> {
        let last = self.statements.iter_mut().rev().find(|statement| statement.worker_session == worker_session);
        last.filter(|statement| statement.end.is_none())
    }

    fn connection(&mut self, moment: Moment, conn: &'a Conn) -> &mut Connection<'a> {
        let index = *self.by_conn.entry(conn).or_insert_with(|| {
            self.connections.push(Connection {
                conn,
                connecting: moment,
                startup: None,
                began: None,
                reading: Vec::new(),
                reads_late: false,
                fatals: Vec::new(),
                eof: None,
                reset: None,
                left: None,
                failed: None,
                batches: Vec::new(),
                requests: Vec::new(),
            });
            self.connections.len() - 1
        });
        &mut self.connections[index]
    }

    fn request(&mut self, moment: Moment, conn: &'a Conn, tag: &'a str, kind: RequestKind) -> &mut Request<'a> {
        if let Some(index) = self.by_tag.get(tag) {
            return &mut self.requests[*index];
        }
        let index = self.requests.len();
        self.connection(moment, conn).requests.push(index);
        let connection = self.by_conn[conn];
        self.by_tag.insert(tag, index);
        self.requests.push(Request {
            connection,
            tag,
            kind,
            sent: moment,
            ends: Vec::new(),
            cancels: Vec::new(),
            statements: Vec::new(),
        });
        &mut self.requests[index]
    }

    /// The contract's t = 0: the first SIGTERM or SIGINT, or the request for a drain that it made final.
    pub(super) fn signal(&self) -> Option<Moment> {
        self.drain.map(|(moment, _)| moment)
    }

    /// The first SIGQUIT.
    pub(super) fn quit(&self) -> Option<Moment> {
        self.signals.iter().find(|(_, signal)| *signal == Signal::Quit).map(|(moment, _)| *moment)
    }

    /// When the process was first told to go.
    pub(super) fn told(&self) -> Option<Moment> {
        self.signal().into_iter().chain(self.quit()).min()
    }

    /// Whether the worker's crash ended this statement.
    pub(super) fn crashed(&self, statement: &Statement) -> bool {
        let aborted = statement.end.filter(|(_, end)| **end == StatementEnd::Aborted).map(|(moment, _)| moment.at);
        self.crashes.iter().any(|crash| aborted == Some(crash.at))
    }

    /// Whether anything befell the network or the worker.
    pub(super) fn faulty(&self) -> bool {
        self.faulty
    }

    /// Whether the worker took no new sessions then.
    pub(super) fn worker_refuses_at(&self, at: Time) -> bool {
        last_said(&self.refusals, at)
    }

    /// Whether the worker hung then.
    pub(super) fn worker_hangs_at(&self, at: Time) -> bool {
        last_said(&self.hangs, at)
    }

    /// Whether the pod had been told to die at once before this entry: by the kubelet's SIGKILL or by SIGQUIT. What the
    /// clients see after that is not a decision of `cp`.
    pub(super) fn shot_before(&self, moment: Moment) -> bool {
        [self.killed, self.quit()].into_iter().flatten().any(|shot| shot < moment)
    }

    /// When the process was gone, one way or another.
    pub(super) fn gone(&self) -> Option<Moment> {
        self.exit.map(|(moment, _)| moment).into_iter().chain(self.killed).min()
    }

    /// The connection of a request.
    pub(super) fn connection_of(&self, request: &Request<'a>) -> &Connection<'a> {
        &self.connections[request.connection]
    }

    /// The statements of a request that a worker began.
    pub(super) fn statements_of(&self, request: &Request<'a>) -> impl Iterator<Item = &Statement<'a>> {
        request.statements.iter().map(|index| &self.statements[*index])
    }

    /// The requests of a connection, in the order sent.
    pub(super) fn requests_of(&self, connection: &Connection<'a>) -> impl Iterator<Item = &Request<'a>> {
        connection.requests.iter().map(|index| &self.requests[*index])
    }

    /// Whether a request's answer was the FATAL that ended its connection, and not an answer of its own.
    pub(super) fn refused_by_fatal(&self, request: &Request<'a>) -> Option<&FatalRead<'a>> {
        let (ended, Outcome::Error(code)) = request.end()? else {
            return None;
        };
        // Noted when the same message is read, or later: a client may first read to the end of the stream. After a FATAL
        // nothing else is answered, so the code can't be the request's own.
        self.connection_of(request).fatals.iter().find(|fatal| fatal.code == code && fatal.moment.at <= ended.at)
    }
}

fn last_said(changes: &[(Moment, bool)], at: Time) -> bool {
    changes.iter().rev().find(|(moment, _)| moment.at <= at).is_some_and(|(_, said)| *said)
}

impl<'a> Connection<'a> {
    /// How it ended, and when: the first thing that said so; of two in the same instant, what the client did itself, for
    /// it could not have known better. `None` if nothing did.
    pub(super) fn ending(&self) -> Option<(Moment, Ending<'a>)> {
        let fatal = self.fatals.first().map(|fatal| (fatal.moment, Ending::Fatal(fatal.code)));
        let left = self.left.map(|(moment, how)| (moment, Ending::Left(how)));
        let eof = self.eof.map(|(moment, _)| (moment, Ending::Eof));
        let reset = self.reset.map(|moment| (moment, Ending::Reset));
        let failed = self.failed.map(|moment| (moment, Ending::ConnectFailed));
        let own = |ending| !matches!(ending, Ending::Left(_));
        let all = [fatal, left, eof, reset, failed].into_iter().flatten();
        all.min_by_key(|(moment, ending)| (moment.at, own(*ending), *moment))
    }

    /// When the client left by itself, if it did so before this entry.
    pub(super) fn left_before(&self, moment: Moment) -> bool {
        self.left.is_some_and(|(left, _)| left < moment)
    }

    /// Whether it ever read slowly, or not at all: then it sees later what was sent to it.
    pub(super) fn reads_late(&self) -> bool {
        self.reads_late
    }

    /// Since when it had not been reading at this moment, if it was not.
    pub(super) fn deaf_at(&self, moment: Moment) -> Option<Moment> {
        let last = self.reading.iter().rev().find(|(changed, _)| *changed < moment)?;
        (!last.1).then_some(last.0)
    }

    /// Whether it was there at this time.
    pub(super) fn open_at(&self, at: Time) -> bool {
        self.connecting.at <= at && self.ending().is_none_or(|(end, _)| end.at > at)
    }
}

impl Statement<'_> {
    /// The last instant up to `until` at which its worker was executing, or a byte of it moved.
    pub(super) fn last_moved(&self, until: Moment) -> Moment {
        let end = self.end.map_or(until, |(end, _)| end.min(until));
        match self.waits.iter().rev().find(|(began, _)| *began < end) {
            Some((began, went_on)) if went_on.is_none_or(|went_on| went_on > end) => *began,
            _ => end,
        }
    }
}

impl<'a> Request<'a> {
    /// How it ended for its client.
    pub(super) fn end(&self) -> Option<(Moment, &'a Outcome)> {
        self.ends.first().copied()
    }

    /// Whether its client was told that it is complete.
    pub(super) fn complete(&self) -> bool {
        matches!(self.end(), Some((_, Outcome::Complete)))
    }
}
