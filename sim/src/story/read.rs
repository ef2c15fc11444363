//! How a log becomes a story: one pass, an event at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use indexmap::IndexMap;
use lastcall_core::{Settings, Time};

use super::drains::Drains;
use super::outages::Outages;
use super::stays::Stays;
use super::{
    Batch, Connection, DrainRequest, FatalRead, GIVEN_UP, Moment, Phases, ROUND_TRIP_BYTES, Request, Statement, Story,
    Wait, WorkerSession,
};
use crate::cast::history::{Conn, Event, Fault, History, Inserted, RequestKind};

impl<'a> Story<'a> {
    /// Reads the log of a run under these settings, once.
    pub fn of(history: &'a History, settings: &'a Settings) -> Story<'a> {
        let mut story = Story {
            history,
            settings,
            connections: Vec::new(),
            requests: Vec::new(),
            statements: Vec::new(),
            batches: Vec::new(),
            worker_sessions: BTreeMap::new(),
            records: Vec::new(),
            commits: BTreeMap::new(),
            rows: BTreeMap::new(),
            signals: Vec::new(),
            drains: Vec::new(),
            phases: Phases::of(&[], settings),
            drain_requests: Vec::new(),
            readiness: Vec::new(),
            listed: Vec::new(),
            dead: Vec::new(),
            stays: Vec::new(),
            panics: Vec::new(),
            crashes: Vec::new(),
            dismissals: Vec::new(),
            garbled: Vec::new(),
            notifications: Vec::new(),
            refusals: Vec::new(),
            outages: Outages::default(),
            latency: Duration::ZERO,
            rates: Vec::new(),
            faulty: false,
            started: None,
            exit: None,
            tasks_left: &[],
            report: None,
            killed: None,
            out_of_budget: None,
            last: None,
            by_conn: BTreeMap::new(),
            by_tag: IndexMap::new(),
        };
        let (mut drains, mut stays) = (Drains::default(), Stays::default());
        for (index, entry) in history.entries.iter().enumerate() {
            let moment = Moment { index, at: entry.at };
            drains.add(moment, &entry.event, settings);
            stays.add(entry.at, &entry.event);
            story.add(moment, &entry.event);
        }
        story.latency = story.queues().chain([story.latency]).max().unwrap_or_default();
        stays.end_at(story.last.map_or(Time::EPOCH, |last| last.at));
        story.phases = Phases::of(&drains.all, settings);
        (story.drains, story.stays) = (drains.all, stays.all);
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
            Event::PartSent { conn } => {
                let connection = self.connection(moment, conn);
                connection.fed.push(moment);
                connection.parts.push(moment);
            }
            Event::CopyEnded { conn } => self.connection(moment, conn).copies_ended.push(moment),
            Event::BatchFed { conn } => self.connection(moment, conn).fed.push(moment),
            Event::GarbageSent { conn } => {
                let connection = self.connection(moment, conn);
                connection.fed.push(moment);
                connection.garbage.get_or_insert(moment);
            }
            Event::Replicates { conn } => {
                self.connection(moment, conn).replicates.get_or_insert(moment);
            }
            Event::HalfClosed { conn } => {
                self.connection(moment, conn).half_closed.get_or_insert(moment);
            }
            Event::MachineHas { conn, answered, fatal, end } => {
                let gone = self.gone().map(|gone| moment.at.since(gone.at));
                let silent = gone.max(Some(self.outages.client_away_for(conn, moment.at)));
                // A machine that has given the connection up has thrown away what had arrived.
                if fatal.is_some() || *end || silent < Some(GIVEN_UP) {
                    self.connection(moment, conn).unread = Some(fatal.as_deref());
                }
                for (tag, outcome) in answered {
                    self.request(moment, conn, tag, RequestKind::Query).unread = Some((moment, outcome));
                }
            }
            Event::BatchAnswered { conn } => self.connection(moment, conn).batches.push(moment),
            Event::CancelSent { conn, tag } => {
                self.request(moment, conn, tag, RequestKind::Query).cancels.push(moment);
            }
            Event::FatalRead { conn, code, message, detail, mid_message } => {
                let fatal = FatalRead { moment, code, message, detail: detail.as_deref(), mid_message: *mid_message };
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
            Event::WorkerSessionBegan { worker_session, application, login } => {
                let session = WorkerSession { application, login, began: moment, ended: None };
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
            Event::PodExited { code, tasks } => {
                self.exit.get_or_insert((moment, *code));
                self.tasks_left = tasks;
            }
            Event::DrainAsked { begin } => {
                self.drain_requests.push(DrainRequest { begin: *begin, asked: moment, answered: None });
            }
            // One at a time.
            Event::DrainAnswered { begin, .. } => match self.drain_requests.last_mut() {
                Some(request) if request.answered.is_none() => request.answered = Some(moment),
                _ => self.drain_requests.push(DrainRequest { begin: *begin, asked: moment, answered: Some(moment) }),
            },
            Event::ReadinessProbed { ready } => self.readiness.push((moment, *ready)),
            Event::DrainListed { asked, listed } => self.listed.push((*asked, moment, listed.as_ref())),
            Event::LivenessProbed { live: false } => self.dead.push(moment),
            Event::Panicked { task, message } => self.panics.push((moment, task, message)),
            Event::Killed => {
                self.killed.get_or_insert(moment);
            }
            Event::Fault { what } => {
                self.faulty = true;
                self.add_fault(moment, what);
            }
            Event::ClientDone { .. }
            | Event::RolledBack { .. }
            | Event::ActivityChanged { .. }
            | Event::ConnectionLeft { .. }
            | Event::LivenessProbed { live: true }
            | Event::DeploymentTold { .. }
            | Event::DeploymentSettled
            | Event::PodCreated { .. }
            | Event::PodReady
            | Event::PodDeleted
            | Event::PodRouted { .. }
            | Event::JobEnded { .. }
            | Event::OutOfTime => {}
            Event::OutOfBudget { client, events } => self.out_of_budget = Some((moment, client, *events)),
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
            Fault::Notify { client, .. } => self.notifications.push((moment, Some(client))),
            Fault::Garbage { client } => self.garbled.push((moment, Some(client))),
            Fault::Latency { latency, .. } => self.latency = self.latency.max(latency.0),
            Fault::Rate { between, rate } => self.rates.push((between, rate.0)),
            _ => {}
        }
        self.outages.add(moment.at, what);
    }

    /// How long a packet waits at most behind what others may have on its way, where a rate is limited.
    fn queues(&self) -> impl Iterator<Item = Duration> {
        self.rates.iter().map(|(between, rate)| {
            let is_of = |connection: &Connection| between.contains(&connection.conn.client);
            let one = self.connections.iter().filter(|connection| is_of(connection)).count();
            let all = if between.iter().any(|end| end == "kubelet") { 1 } else { self.connections.len() };
            let connections = u32::try_from(if one > 0 { one } else { all }).unwrap_or(u32::MAX).max(1);
            (Duration::from_secs(ROUND_TRIP_BYTES) / rate.get()).saturating_mul(connections)
        })
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
}
