//! Histories made by hand, for the checkers' tests: a line for each thing that happens, in order.

use std::time::Duration;

use lastcall_core::{Settings, Time};
use lastcall_world::Signal;

use super::clean_goodbye::TEXTS;
use super::{Judged, Violation};
use crate::cast::history::{Conn, Entry, Event, History, Inserted, Login, Outcome, RequestKind, StatementEnd};
use crate::cast::pod::Report;
use crate::cast::pod::report::{DrainReport, EndReason, EndRecord};

/// A history in the making, and the settings of its run. Times are seconds of the run. Clients are named like `etl.1` or
/// `etl.1#2`, requests like `etl.1/7`; what is said of a request is said of its client's first connection.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) history: History,
    pub(super) settings: Settings,
    sessions: Vec<(Conn, Time)>,
    killed: Vec<String>,
    reports: Vec<Report>,
}

/// `etl.1` or `etl.1#2`, as a connection.
pub(super) fn conn(name: &str) -> Conn {
    let (application, attempt) = name.split_once('#').unwrap_or((name, "1"));
    let (client, copy) = application.rsplit_once('.').unwrap();
    Conn { client: client.to_owned(), copy: copy.parse().unwrap(), attempt: attempt.parse().unwrap() }
}

fn seconds(at: f64) -> Time {
    Time::from_epoch(Duration::from_secs_f64(at))
}

fn of(tag: &str) -> Conn {
    conn(tag.split_once('/').unwrap().0)
}

impl Default for Log {
    /// A pod that runs since the epoch.
    fn default() -> Log {
        let log = Log {
            history: History::default(),
            settings: Settings::default(),
            sessions: Vec::new(),
            killed: Vec::new(),
            reports: Report::ALL.to_vec(),
        };
        log.event(0.0, Event::PodStarted)
    }
}

impl Log {
    pub(super) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Log {
        change(&mut self.settings);
        self
    }

    /// Of a pod that reports only this of itself.
    pub(super) fn reporting(self, reports: &[Report]) -> Log {
        Log { reports: reports.to_vec(), ..self }
    }

    pub(super) fn event(mut self, at: f64, event: Event) -> Log {
        let at = seconds(at);
        assert!(self.history.entries.last().is_none_or(|last| last.at <= at), "times must not go back: {event:?}");
        self.history.entries.push(Entry::new(at, event));
        self
    }

    /// Takes out what does not fit the test.
    pub(super) fn without(mut self, unwanted: impl Fn(&Event) -> bool) -> Log {
        self.history.entries.retain(|entry| !unwanted(&entry.event));
        self
    }

    pub(super) fn connecting(self, at: f64, name: &str) -> Log {
        self.event(at, Event::Connecting { conn: conn(name) })
    }

    /// Connects and has a session at once.
    pub(super) fn session(self, at: f64, name: &str) -> Log {
        let conn = conn(name);
        let mut log = self.connecting(at, name);
        log.sessions.push((conn.clone(), seconds(at)));
        let worker_session = log.sessions.len() as u32;
        let (application, login) = (conn.application(), Login::default());
        log.event(at, Event::WorkerSessionBegan { worker_session, application, login })
            .event(at, Event::SessionBegan { conn })
    }

    fn worker_session(&self, conn: &Conn) -> u32 {
        let session = self.sessions.iter().rposition(|(known, _)| known.application() == conn.application());
        session.expect("a session first") as u32 + 1
    }

    pub(super) fn sent(self, at: f64, tag: &str, kind: RequestKind) -> Log {
        self.event(at, Event::RequestSent { conn: of(tag), tag: tag.to_owned(), kind })
    }

    pub(super) fn began(self, at: f64, tag: &str) -> Log {
        let worker_session = self.worker_session(&of(tag));
        self.event(at, Event::StatementBegan { worker_session, tag: tag.to_owned() })
    }

    /// Sent, and begun by its worker.
    pub(super) fn begun(self, at: f64, tag: &str, kind: RequestKind) -> Log {
        self.sent(at, tag, kind).began(at, tag)
    }

    pub(super) fn statement_ended(self, at: f64, tag: &str, end: StatementEnd) -> Log {
        let worker_session = self.worker_session(&of(tag));
        self.event(at, Event::StatementEnded { worker_session, tag: tag.to_owned(), end })
    }

    pub(super) fn ended(self, at: f64, tag: &str, outcome: Outcome) -> Log {
        self.event(at, Event::RequestEnded { conn: of(tag), tag: tag.to_owned(), outcome })
    }

    /// Complete, at the worker and for the client.
    pub(super) fn complete(self, at: f64, tag: &str) -> Log {
        self.statement_ended(at, tag, StatementEnd::Complete).ended(at, tag, Outcome::Complete)
    }

    /// An error of its own, at the worker and for the client.
    pub(super) fn failed(self, at: f64, tag: &str, code: &str) -> Log {
        self.statement_ended(at, tag, StatementEnd::Failed(code.to_owned())).ended(at, tag, error(code))
    }

    /// Sent, begun and complete.
    pub(super) fn answered(self, sent: f64, complete: f64, tag: &str, kind: RequestKind) -> Log {
        self.begun(sent, tag, kind).complete(complete, tag)
    }

    pub(super) fn committed(self, at: f64, tags: &[&str]) -> Log {
        let worker_session = self.worker_session(&of(tags[0]));
        let inserts = tags.iter().map(|tag| Inserted { tag: (*tag).to_owned(), rows: 1 }).collect();
        self.event(at, Event::Committed { worker_session, inserts })
    }

    pub(super) fn cancel(self, at: f64, tag: &str) -> Log {
        self.event(at, Event::CancelSent { conn: of(tag), tag: tag.to_owned() })
    }

    pub(super) fn fatal(self, at: f64, name: &str, code: &str, detail: Option<&str>) -> Log {
        let message = TEXTS.iter().find(|(of, _)| *of == code).map_or("broken", |(_, text)| text).to_owned();
        let (conn, code, detail) = (conn(name), code.to_owned(), detail.map(str::to_owned));
        self.event(at, Event::FatalRead { conn, code, message, detail, mid_message: false })
    }

    pub(super) fn eof(self, at: f64, name: &str) -> Log {
        self.event(at, Event::EofRead { conn: conn(name), mid_message: false })
    }

    pub(super) fn reset(self, at: f64, name: &str) -> Log {
        self.event(at, Event::ResetRead { conn: conn(name) })
    }

    pub(super) fn left(self, at: f64, name: &str, how: &'static str) -> Log {
        self.event(at, Event::ClientLeft { conn: conn(name), how })
    }

    /// The record of this connection's session; the worker's session ends with it.
    pub(super) fn recorded(self, at: f64, name: &str, reason: EndReason) -> Log {
        let conn = conn(name);
        let session = self.sessions.iter().rposition(|(known, _)| *known == conn).expect("a session first");
        let worked = self.history.entries.iter().filter_map(|entry| match &entry.event {
            Event::StatementBegan { tag, .. } if of(tag).application() == conn.application() => {
                Some((tag.clone(), entry.at))
            }
            _ => None,
        });
        let end_of = |tag: &str| {
            let mut ends = self.history.entries.iter().filter_map(|entry| match &entry.event {
                Event::StatementEnded { tag: ended, .. } if ended == tag => Some(entry.at),
                _ => None,
            });
            ends.next().unwrap_or(seconds(at))
        };
        let executing = worked.map(|(tag, began)| end_of(&tag) - began).sum();
        let answered = self.history.entries.iter().filter(|entry| match &entry.event {
            Event::RequestEnded { conn: of, outcome: Outcome::Complete, .. } => *of == conn,
            _ => false,
        });
        let record = EndRecord {
            session: session as u32 + 1,
            login: Login::default(),
            statements: answered.count() as u64,
            application: conn.application(),
            began: self.sessions[session].1,
            ended: seconds(at),
            reason,
            executing,
            sent: 0,
        };
        self.event(at, Event::Recorded { record })
            .event(at, Event::WorkerSessionEnded { worker_session: session as u32 + 1 })
    }

    /// Changes the last record.
    pub(super) fn but_recorded(mut self, change: impl FnOnce(&mut EndRecord)) -> Log {
        let last = self.history.entries.iter_mut().rev().find_map(|entry| match &mut entry.event {
            Event::Recorded { record } => Some(record),
            _ => None,
        });
        change(last.expect("a record first"));
        self
    }

    /// Closed at a boundary, as the contract says: FATAL 57P01, EOF, record.
    pub(super) fn goodbye(self, at: f64, name: &str) -> Log {
        self.fatal(at, name, "57P01", Some("idle_grace was over.")).eof(at, name).recorded(
            at,
            name,
            EndReason::Boundary,
        )
    }

    pub(super) fn term(self, at: f64) -> Log {
        self.event(at, Event::SignalSent { signal: Signal::Term })
    }

    pub(super) fn int(self, at: f64) -> Log {
        self.event(at, Event::SignalSent { signal: Signal::Int })
    }

    pub(super) fn quit(self, at: f64) -> Log {
        self.event(at, Event::SignalSent { signal: Signal::Quit })
    }

    pub(super) fn ready(self, at: f64, ready: bool) -> Log {
        self.event(at, Event::ReadinessProbed { ready })
    }

    pub(super) fn killed(self, at: f64) -> Log {
        self.event(at, Event::Killed)
    }

    /// The file says that this client is killed.
    pub(super) fn condemning(mut self, client: &str) -> Log {
        self.killed.push(client.to_owned());
        self
    }

    /// At the end of the run: what the machine of a client that did not read has of these requests' answers.
    pub(super) fn machine_has(self, at: f64, name: &str, answered: &[&str]) -> Log {
        let answered = answered.iter().map(|tag| ((*tag).to_owned(), Outcome::Complete)).collect();
        self.event(at, Event::MachineHas { conn: conn(name), answered, fatal: None, end: false })
    }

    pub(super) fn out_of_time(self, at: f64) -> Log {
        self.event(at, Event::OutOfTime)
    }

    /// Exits with a report that agrees with the log so far.
    pub(super) fn exit(self, at: f64, code: u8) -> Log {
        let log = match self.report(at) {
            Some(report) => self.event(at, Event::DrainReported { report: Box::new(report) }),
            None => self,
        };
        log.event(at, Event::PodExited { code, tasks: Vec::new() })
    }

    /// Changes the report of the exit.
    pub(super) fn but_reported(mut self, change: impl FnOnce(&mut DrainReport)) -> Log {
        let report = self.history.entries.iter_mut().find_map(|entry| match &mut entry.event {
            Event::DrainReported { report } => Some(report),
            _ => None,
        });
        change(report.expect("an exit with a report first"));
        self
    }

    fn report(&self, at: f64) -> Option<DrainReport> {
        let (started, cause) = self.run(|run| run.story.drain().map(|drain| (drain.began.at, drain.cause)))?;
        let mut report = DrainReport {
            cause,
            policy: self.settings.drain_policy,
            started,
            ended: seconds(at),
            connections_at_signal: 0,
            ended_by: Default::default(),
            refused: 0,
            cancels: 0,
            last: None,
        };
        for entry in &self.history.entries {
            match &entry.event {
                Event::SessionBegan { .. } if entry.at <= started => report.connections_at_signal += 1,
                Event::Recorded { .. } if entry.at < started => report.connections_at_signal -= 1,
                Event::Recorded { record } => *report.ended_by.entry(record.reason.name()).or_default() += 1,
                Event::CancelSent { .. } if entry.at >= started => report.cancels += 1,
                Event::FatalRead { code, .. } if code == "57P03" => report.refused += 1,
                _ => {}
            }
        }
        Some(report)
    }

    /// Asks something of the finished run: one millisecond a tick, and a day of grace.
    pub(super) fn run<T>(&self, ask: impl FnOnce(&Judged) -> T) -> T {
        let (day, tick) = (Duration::from_secs(86_400), Duration::from_millis(1));
        let mut run = Judged::new(&self.reports, &self.history, &self.settings, day, tick);
        run.killed = self.killed.iter().map(String::as_str).collect();
        ask(&run)
    }

    /// What a checker says about it, in words.
    pub(super) fn judge(&self, check: impl FnOnce(&Judged) -> Vec<Violation>) -> Vec<String> {
        self.run(|run| check(run).into_iter().map(|violation| violation.what).collect())
    }
}

/// An error with this SQLSTATE, as a client sees it.
pub(super) fn error(code: &str) -> Outcome {
    Outcome::Error(code.to_owned())
}
