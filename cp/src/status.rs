//! What every connection is doing, and what a drain waits for: for whoever asks why the process is still there, or whose
//! connection it is. One line a connection, as text or as JSON.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lifecycle::{Lifecycle, Listening};
use crate::records::Rounded;
use crate::registry::{Entry, Known, Registry};
use lastcall_core::process::Member;
use lastcall_core::{Activity, Time};

/// Who is here, and where a drain stands. Times are relative to the moment of the question.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Status {
    /// [`Phase`](lastcall_core::Phase) by its name.
    pub(crate) phase: Cow<'static, str>,
    /// What began the drain; none while there is none.
    pub(crate) cause: Option<String>,
    /// Whether it can't be taken back: a signal has come, or the next process has the listening sockets.
    pub(crate) signalled: bool,
    pub(crate) draining_for_ms: u64,
    /// Whether a worker executes: that has no bound.
    pub(crate) executing: bool,
    /// When the process is gone at the latest, from when no worker executes any more; none while no drain runs, or where an old
    /// policy knows no bound.
    pub(crate) gone_in_ms: Option<u64>,
    /// All that are here, whether they are named or not.
    pub(crate) connections: usize,
    /// Those that have been doing what they do for longest come first.
    pub(crate) clients: Vec<Client>,
}

/// Who is here, whether it drains or not: what `GET /sessions` answers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sessions {
    /// All that are here.
    pub(crate) connections: usize,
    /// Those of them that are not among `sessions`, because there are too many.
    pub(crate) left_out: usize,
    /// Those that have been doing what they do for longest come first.
    pub(crate) sessions: Vec<Client>,
}

/// One connection.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Client {
    pub(crate) who: String,
    /// Its number, as records and the log have it.
    pub(crate) session: u32,
    pub(crate) user: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) application: Option<String>,
    pub(crate) peer: String,
    pub(crate) worker: Option<String>,
    pub(crate) worker_pid: Option<u32>,
    pub(crate) activity: Cow<'static, str>,
    pub(crate) for_ms: u64,
    /// The setting whose clock ends it; none while it waits for its worker.
    pub(crate) clock: Option<Cow<'static, str>>,
    /// In how long at the latest, unless the connection moves on before.
    pub(crate) ends_in_ms: Option<u64>,
}

impl Status {
    /// At `now`, naming `limit` connections at most.
    pub(crate) fn new(lifecycle: &Lifecycle, registry: &Registry, now: Time, limit: usize) -> Status {
        let Sessions { connections, sessions: clients, .. } = Sessions::new(registry, now, limit);
        Status {
            phase: lifecycle.drain.phase(now).name().into(),
            cause: lifecycle.cause.map(|cause| cause.to_string()),
            signalled: lifecycle.signal.is_some() || lifecycle.listening != Listening::Here,
            draining_for_ms: lifecycle.drain.signal().map_or(0, |since| millis(now, since)),
            executing: registry.executes(),
            gone_in_ms: registry.bound(now).map(|bound| millis(bound.at, now)),
            connections,
            clients,
        }
    }

    /// The connections that are named, in one line.
    pub(crate) fn in_one_line(&self) -> String {
        let lines: Vec<String> = self.clients.iter().map(ToString::to_string).collect();
        lines.join(", ")
    }
}

impl Sessions {
    /// At `now`, naming `limit` connections at most.
    pub(crate) fn new(registry: &Registry, now: Time, limit: usize) -> Sessions {
        let (connections, longest) = registry.longest(limit);
        let sessions: Vec<Client> =
            longest.into_iter().map(|(number, member)| Client::new(number, member, now)).collect();
        Sessions { connections, left_out: connections.saturating_sub(sessions.len()), sessions }
    }
}

impl Client {
    fn new(session: u32, member: Known, now: Time) -> Client {
        let Member { activity, since, data: entry, .. } = &member;
        let Entry { who, clock, .. } = &**entry;
        let names = who.names.as_deref();
        Client {
            who: who.to_string(),
            session,
            user: names.map(|names| names.user.clone()),
            database: names.map(|names| names.database.clone()),
            application: names.map(|names| names.application.clone()),
            peer: who.peer.to_string(),
            worker: entry.worker(),
            worker_pid: entry.worker_pid(),
            activity: activity.name().into(),
            for_ms: millis(now, *since),
            clock: clock.map(|(_, clock)| clock.into()),
            ends_in_ms: clock.map(|(at, _)| millis(at, now)),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            None => writeln!(f, "no drain; connections: {}", self.connections)?,
            Some(cause) => {
                let back =
                    if self.signalled { "a signal has come: it can't be taken back" } else { "it can be taken back" };
                let for_ = Rounded::from_millis(self.draining_for_ms);
                writeln!(f, "draining for {for_}, begun by {cause}; {back}")?;
                writeln!(f, "phase: {}; connections: {}", self.phase, self.connections)?;
                if let Some(gone) = self.gone_in_ms.map(Rounded::from_millis) {
                    let from = if self.executing { " from when no worker executes any more" } else { "" };
                    writeln!(f, "gone in {gone} at the latest{from}")?;
                }
            }
        }
        for client in &self.clients {
            writeln!(f, "{client}")?;
        }
        match self.connections.saturating_sub(self.clients.len()) {
            0 => Ok(()),
            more => writeln!(f, "and {more} more"),
        }
    }
}

/// What a client chose is in quotes, so that it can't be taken for more than its name.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.who, self.session)?;
        if let (Some(user), Some(database)) = (&self.user, &self.database) {
            write!(f, " user {user:?} database {database:?}")?;
        }
        write!(f, " from {}", self.peer)?;
        if let Some(pid) = self.worker_pid {
            write!(f, " worker {pid}")?;
        }
        write!(f, ", {} for {}: ", self.activity, Rounded::from_millis(self.for_ms))?;
        match self.clock.as_ref().zip(self.ends_in_ms) {
            Some((clock, left)) => write!(f, "{clock} ends it in {} at the latest", Rounded::from_millis(left)),
            None if self.activity == Activity::Executing.name() => f.write_str("no clock, its worker has the turn"),
            None => f.write_str("no clock"),
        }
    }
}

/// From `earlier` to `later`, in whole milliseconds.
fn millis(later: Time, earlier: Time) -> u64 {
    later.since(earlier).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::lifecycle::Cause;
    use crate::line::Line;
    use crate::registry::{Shown, Slot};
    use crate::who::Names;
    use lastcall_core::wire::CancelKey;
    use lastcall_core::{Activity, Drain};

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    /// A session of this application's.
    fn enter(registry: &Registry, application: &str, now: Time) -> Slot {
        let slot = registry.enter("10.0.0.7:40000".parse().unwrap(), now).unwrap();
        let names = Names { application: application.to_owned(), user: "app".to_owned(), database: "sales".to_owned() };
        slot.become_session(Arc::new(names), now).unwrap();
        slot
    }

    /// At 20 s, 12 s into a drain by request, with a running statement and one or more idle clients.
    fn status(idle: u32, limit: usize) -> Status {
        let registry = Registry::default();
        let key = CancelKey::read(&[0, 0, 0x12, 0x67, 0, 0, 0, 0]).unwrap();
        let mut places = vec![enter(&registry, "etl", at(1))];
        places[0].update(Shown { activity: Activity::Executing, since: at(5), clock: None }, || {
            Some(Line::to("pg:5432", &key))
        });
        for _ in 0..idle {
            let slot = enter(&registry, "psql", at(2));
            let clock = Some((at(30), "idle_grace"));
            slot.update(Shown { activity: Activity::Idle, since: at(3), clock }, || None);
            places.push(slot);
        }
        registry.order(|process| process.handle_request(at(8)));
        let lifecycle = Lifecycle { cause: Some(Cause::Request), ..Lifecycle::serving(registry.drain()) };
        Status::new(&lifecycle, &registry, at(20), limit)
    }

    #[test]
    fn each_connection_has_a_line_that_says_which_clock_ends_it_and_when() {
        assert_eq!(
            status(1, 9).to_string(),
            "draining for 12s, begun by request; it can be taken back\n\
             phase: grace; connections: 2\n\
             gone in 5m 5s at the latest from when no worker executes any more\n\
             \"psql\" (2) user \"app\" database \"sales\" from 10.0.0.7:40000, idle for 17s: \
             idle_grace ends it in 10s at the latest\n\
             \"etl\" (1) user \"app\" database \"sales\" from 10.0.0.7:40000 worker 4711, executing for 15s: \
             no clock, its worker has the turn\n"
        );
    }

    #[test]
    fn no_more_are_named_than_the_limit_and_those_are_who_waits_longest() {
        let text = status(100, 2).to_string();
        let lines: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!((lines.len(), lines[2]), (3, "and 99 more"));
        assert!(lines[0].starts_with("\"psql\" (2) ") && lines[1].starts_with("\"psql\" (3) "), "{lines:?}");
    }

    #[test]
    fn whoever_lists_sessions_is_told_how_many_are_left_out() {
        let registry = Registry::default();
        let _here = [1, 2, 3].map(|second| enter(&registry, "psql", at(second)));
        let Sessions { connections, left_out, sessions } = Sessions::new(&registry, at(20), 2);
        let named: Vec<u32> = sessions.iter().map(|session| session.session).collect();
        assert_eq!((connections, left_out, named), (3, 1, vec![1, 2]));
    }

    #[test]
    fn programs_read_the_same() {
        let json = serde_json::to_value(status(1, 1)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "phase": "grace", "cause": "request", "signalled": false, "draining_for_ms": 12_000, "connections": 2,
                "executing": true, "gone_in_ms": 305_000,
                "clients": [{
                    "who": "psql", "session": 2, "user": "app", "database": "sales", "application": "psql",
                    "peer": "10.0.0.7:40000", "worker": null, "worker_pid": null, "activity": "idle", "for_ms": 17_000,
                    "clock": "idle_grace", "ends_in_ms": 10_000,
                }],
            })
        );
    }

    #[test]
    fn while_serving_everybody_is_named_too() {
        let registry = Registry::default();
        let _unnamed = registry.enter("[2001:db8::1]:40000".parse().unwrap(), at(1)).unwrap();
        let _place = enter(&registry, "x reason=\"boundary\"", at(2));
        let serving = Lifecycle::serving(Drain::new(Arc::default()));
        assert_eq!(
            Status::new(&serving, &registry, at(20), 9).to_string(),
            "no drain; connections: 2\n\
             \"[2001:db8::1]:40000\" (1) from [2001:db8::1]:40000, handshake for 19s: no clock\n\
             \"x reason=\\\"boundary\\\"\" (2) user \"app\" database \"sales\" from 10.0.0.7:40000, handshake for 18s: \
             no clock\n"
        );
    }
}
