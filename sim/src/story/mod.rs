//! The log of a run, sorted by what it is about: connections, their requests, the workers' statements.
//!
//! It only sorts: nothing here judges. What the log does not say is `None`, and an event about something that the log never
//! introduced makes an entry of its own, so that a checker can ask about it.

mod connection;
pub mod holders;
mod outages;
pub mod stays;
pub mod timeline;

use std::collections::BTreeMap;
use std::time::Duration;

use lastcall_core::Time;
use lastcall_world::Signal;

pub(crate) use self::connection::{Connection, Ending, FatalRead};
use self::outages::Outages;
use crate::cast::history::{Conn, Event, Fault, History, Inserted, Outcome, RequestKind, StatementEnd};
use crate::cast::pod::report::{Cause, DrainReport, EndRecord};

/// What one connection moves in a round trip: the window of the engine on `turmoil-net`.
pub(crate) const ROUND_TRIP_BYTES: u64 = 32 * 1024;

/// One entry of the log: which one, and when. Moments compare by their place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    /// Its index in the log.
    pub(crate) index: usize,
    /// When it was.
    pub(crate) at: Time,
}

/// The log, sorted. Everything is in the order in which it first appears.
#[derive(Debug, Default)]
pub(crate) struct Story<'a> {
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
    /// When the worker's process was killed.
    crashes: Vec<Moment>,
    /// When the worker ended sessions with a FATAL of its own: those of this client, or all.
    dismissals: Vec<(Moment, Option<&'a str>)>,
    /// When the worker began to take no new sessions (true), and took them again (false).
    refusals: Vec<(Moment, bool)>,
    /// When what lay between two hosts, or a host, let nothing through.
    pub(crate) outages: Outages<'a>,
    /// The longest way of a packet that the scenario asked for.
    pub(crate) latency: Duration,
    faulty: bool,
    /// When the pod's process began.
    pub(crate) started: Option<Moment>,
    /// When the pod exited by itself, and with which code.
    pub(crate) exit: Option<(Moment, u8)>,
    /// What it told of its drain.
    pub(crate) report: Option<&'a DrainReport>,
    /// The kubelet's SIGKILL.
    pub(crate) killed: Option<Moment>,
    /// The last entry.
    pub(crate) last: Option<Moment>,
    by_conn: BTreeMap<&'a Conn, usize>,
    by_tag: BTreeMap<&'a str, usize>,
}

/// A batch of the extended protocol: from its first message to its Sync, or to its session's end.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    worker_session: u32,
    /// Whose.
    pub(crate) application: Option<&'a str>,
    pub(crate) began: Moment,
    pub(crate) ended: Option<Moment>,
}

/// A drain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// Its t = 0.
    pub(crate) began: Moment,
    /// What began it.
    pub(crate) cause: Cause,
    /// When it was taken back, if it was.
    pub(crate) recalled: Option<Moment>,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// Index into [`Story::connections`].
    pub(crate) connection: usize,
    pub(crate) tag: &'a str,
    pub(crate) kind: RequestKind,
    pub(crate) sent: Moment,
    /// How it ended for its client; more than one is one too many.
    pub(crate) ends: Vec<(Moment, &'a Outcome)>,
    /// How it ended for a client that never read that, and when somebody looked.
    pub(crate) unread: Option<(Moment, &'a Outcome)>,
    /// Its client's cancel requests.
    pub(crate) cancels: Vec<Moment>,
    /// Its statements, as indices into [`Story::statements`].
    pub(crate) statements: Vec<usize>,
}

/// One statement that a worker began.
#[derive(Debug)]
pub(crate) struct Statement<'a> {
    pub(crate) tag: &'a str,
    pub(crate) worker_session: u32,
    pub(crate) began: Moment,
    pub(crate) end: Option<(Moment, &'a StatementEnd)>,
    /// When its worker waited for the client.
    pub(crate) waits: Vec<Wait>,
    /// Index into [`Story::requests`]; `None` if no client sent it.
    pub(crate) request: Option<usize>,
}

/// A worker waits for its client in the middle of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) began: Moment,
    pub(crate) went_on: Option<Moment>,
    /// For the client to send, and not to take.
    pub(crate) for_input: bool,
}

impl Wait {
    /// Whether it lasted for some of this time.
    pub(crate) fn lasts_within(&self, from: Time, to: Time) -> bool {
        self.began.at <= to && self.went_on.is_none_or(|went_on| went_on.at >= from)
    }
}

/// One session at a worker.
#[derive(Debug)]
pub(crate) struct WorkerSession<'a> {
    pub(crate) application: &'a str,
    pub(crate) began: Moment,
    pub(crate) ended: Option<Moment>,
}

impl<'a> Story<'a> {
    /// Sorts a log.
    pub(crate) fn of(history: &'a History) -> Story<'a> {
        let mut story = Story::default();
        let moment = |index: usize| Moment { index, at: history.entries[index].at };
        story.drains = history
            .drains()
            .map(|drain| Drain { began: moment(drain.began), cause: drain.cause, recalled: drain.recalled.map(moment) })
            .collect();
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
            Event::WorkerWaits { worker_session, for_input } => {
                if let Some(statement) = self.running(*worker_session) {
                    statement.waits.push(Wait { began: moment, went_on: None, for_input: *for_input });
                }
            }
            Event::WorkerGoesOn { worker_session } => {
                if let Some(wait) = self.running(*worker_session).and_then(|running| running.waits.last_mut()) {
                    wait.went_on.get_or_insert(moment);
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
            Event::PartSent { conn } | Event::BatchFed { conn } => self.connection(moment, conn).fed.push(moment),
            Event::GarbageSent { conn } => {
                let connection = self.connection(moment, conn);
                connection.fed.push(moment);
                connection.garbage.get_or_insert(moment);
            }
            Event::HalfClosed { conn } => {
                self.connection(moment, conn).half_closed.get_or_insert(moment);
            }
            Event::MachineHas { conn, answered, fatal, .. } => {
                self.connection(moment, conn).unread = Some(fatal.as_deref());
                for (tag, outcome) in answered {
                    self.request(moment, conn, tag, RequestKind::Query).unread = Some((moment, outcome));
                }
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
            Event::DrainReported { report } => {
                self.report.get_or_insert(report);
            }
            Event::PodExited { code, .. } => {
                self.exit.get_or_insert((moment, *code));
            }
            Event::Killed => {
                self.killed.get_or_insert(moment);
            }
            Event::Fault { what } => {
                self.faulty = true;
                self.add_fault(moment, what);
            }
            Event::ClientDone { .. }
            | Event::Replicates { .. }
            | Event::RolledBack { .. }
            | Event::ActivityChanged { .. }
            | Event::ConnectionLeft { .. }
            | Event::ReadinessProbed { .. }
            | Event::LivenessProbed { .. }
            | Event::DrainAsked { .. }
            | Event::Panicked { .. }
            | Event::OutOfTime => {}
        }
    }

    fn add_fault(&mut self, moment: Moment, what: &'a Fault) {
        match what {
            Fault::WorkerCrash => self.crashes.push(moment),
            Fault::WorkerDrain => self.refusals.push((moment, true)),
            Fault::WorkerShutdown => {
                self.refusals.push((moment, true));
                self.dismissals.push((moment, None));
            }
            Fault::WorkerBack => self.refusals.push((moment, false)),
            Fault::Terminate { client, .. } => self.dismissals.push((moment, Some(client))),
            Fault::Latency { latency, .. } => self.latency = self.latency.max(latency.0),
            // A packet waits behind what its connection may have on its way.
            Fault::Rate { rate, .. } => {
                let queued = Duration::from_secs(ROUND_TRIP_BYTES) / rate.0.get();
                self.latency = self.latency.max(queued);
            }
            _ => {}
        }
        self.outages.add(moment.at, what);
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
            self.connections.push(Connection::new(conn, moment));
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
            unread: None,
            cancels: Vec::new(),
            statements: Vec::new(),
        });
        &mut self.requests[index]
    }

    /// The drain that was not taken back.
    pub(crate) fn drain(&self) -> Option<&Drain> {
        self.drains.last().filter(|drain| drain.recalled.is_none())
    }

    /// The contract's t = 0: the first SIGTERM or SIGINT, or the request for a drain that it made final.
    pub(crate) fn signal(&self) -> Option<Moment> {
        self.drain().map(|drain| drain.began)
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
        let its = |client: Option<&str>| client.is_none_or(|client| client == connection.conn.client);
        self.dismissals.iter().any(|(moment, client)| its(*client) && from <= moment.at && moment.at <= to)
    }

    /// Whether anything befell the network or the worker.
    pub(crate) fn faulty(&self) -> bool {
        self.faulty
    }

    /// Whether the worker took no new sessions then.
    pub(crate) fn worker_refuses_at(&self, at: Time) -> bool {
        last_said(&self.refusals, at)
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

    /// The session at a worker that served this connection.
    pub(crate) fn worker_session_of(&self, connection: &Connection) -> Option<&WorkerSession<'a>> {
        let application = connection.conn.application();
        let began = connection.began?;
        let its = |session: &&WorkerSession| session.application == application && session.began < began;
        self.worker_sessions.values().filter(its).max_by_key(|session| session.began)
    }

    /// The connection of a request.
    pub(crate) fn connection_of(&self, request: &Request<'a>) -> &Connection<'a> {
        &self.connections[request.connection]
    }

    /// The statements of a request that a worker began.
    pub(crate) fn statements_of(&self, request: &Request<'a>) -> impl Iterator<Item = &Statement<'a>> {
        request.statements.iter().map(|index| &self.statements[*index])
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

fn last_said(changes: &[(Moment, bool)], at: Time) -> bool {
    changes.iter().rev().find(|(moment, _)| moment.at <= at).is_some_and(|(_, said)| *said)
}

impl Statement<'_> {
    /// The wait that its worker was in just before this moment. One that goes on in the very instant in which it is cancelled
    /// has done nothing.
    pub(crate) fn waited_at(&self, moment: Moment) -> Option<&Wait> {
        let last = self.waits.iter().rev().find(|wait| wait.began < moment)?;
        last.went_on.is_none_or(|went_on| went_on.at >= moment.at).then_some(last)
    }
}

impl<'a> Request<'a> {
    /// How it ended for its client's machine: as its client saw it or, of a client that did not read, as it could have.
    pub(crate) fn delivered(&self) -> Option<(Moment, &'a Outcome)> {
        self.end().or(self.unread)
    }

    /// How it ended for its client.
    pub(crate) fn end(&self) -> Option<(Moment, &'a Outcome)> {
        self.ends.first().copied()
    }

    /// Whether its client was told that it is complete.
    pub(crate) fn complete(&self) -> bool {
        matches!(self.end(), Some((_, Outcome::Complete)))
    }
}
