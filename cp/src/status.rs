//! What a drain waits for, for whoever asks why the process is still there: one line a connection, as text or as JSON.

use std::fmt;

use serde::Serialize;

use crate::core::Time;
use crate::lifecycle::Lifecycle;
use crate::meter::Rounded;
use crate::registry::{Entry, Registry};

/// Where a drain stands. Times are relative to the moment of the question.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    /// [`Phase`](crate::core::Phase) by its name.
    phase: &'static str,
    /// What began it; none while there is no drain.
    cause: Option<String>,
    /// Whether a signal has come, so that it can't be taken back.
    signalled: bool,
    draining_for_ms: u64,
    /// All that are here, whether they are named or not.
    pub(crate) connections: usize,
    /// Those that have been doing what they do for longest come first. Empty while there is no drain.
    waiting_for: Vec<Waiting>,
}

/// One connection that the drain waits for.
#[derive(Debug, Serialize)]
struct Waiting {
    who: String,
    connection: u32,
    activity: &'static str,
    for_ms: u64,
    /// The setting whose clock ends it; none while it waits for its worker.
    clock: Option<&'static str>,
    /// In how long at the latest, unless the connection moves on before.
    ends_in_ms: Option<u64>,
}

impl Status {
    /// At `now`, naming `limit` connections at most.
    pub(crate) fn new(lifecycle: &Lifecycle, registry: &Registry, now: Time, limit: usize) -> Status {
        let phase = lifecycle.drain.phase(now).name();
        let Some(since) = lifecycle.drain.signal() else {
            return Status {
                phase,
                cause: None,
                signalled: false,
                draining_for_ms: 0,
                connections: registry.connections(),
                waiting_for: Vec::new(),
            };
        };
        let (connections, longest) = registry.longest(limit);
        Status {
            phase,
            cause: lifecycle.cause.map(|cause| cause.to_string()),
            signalled: lifecycle.signal.is_some(),
            draining_for_ms: millis(now, since),
            connections,
            waiting_for: longest.into_iter().map(|(number, entry)| Waiting::new(number, entry, now)).collect(),
        }
    }

    /// The connections that are named, in one line.
    pub(crate) fn in_one_line(&self) -> String {
        let lines: Vec<String> = self.waiting_for.iter().map(ToString::to_string).collect();
        lines.join(", ")
    }
}

impl Waiting {
    fn new(connection: u32, Entry { who, shown, .. }: Entry, now: Time) -> Waiting {
        Waiting {
            who,
            connection,
            activity: shown.activity.name(),
            for_ms: millis(now, shown.since),
            clock: shown.clock.map(|(_, clock)| clock),
            ends_in_ms: shown.clock.map(|(at, _)| millis(at, now)),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(cause) = &self.cause else {
            return writeln!(f, "no drain; connections: {}", self.connections);
        };
        let back = if self.signalled { "a signal has come: it can't be taken back" } else { "it can be taken back" };
        let for_ = Rounded::from_millis(self.draining_for_ms);
        writeln!(f, "draining for {for_}, begun by {cause}; {back}")?;
        writeln!(f, "phase: {}; connections: {}", self.phase, self.connections)?;
        for waiting in &self.waiting_for {
            writeln!(f, "{waiting}")?;
        }
        match self.connections.saturating_sub(self.waiting_for.len()) {
            0 => Ok(()),
            more => writeln!(f, "and {more} more"),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let for_ = Rounded::from_millis(self.for_ms);
        write!(f, "{} ({}) {} for {for_}: ", self.who, self.connection, self.activity)?;
        match self.clock.zip(self.ends_in_ms) {
            Some((clock, left)) => write!(f, "{clock} ends it in {} at the latest", Rounded::from_millis(left)),
            None => f.write_str("no clock, its worker has the turn"),
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
    use crate::core::{Activity, Drain};
    use crate::lifecycle::Cause;
    use crate::registry::Shown;

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    /// At 20 s, 12 s into a drain by request, with a running statement and one or more idle clients.
    fn status(idle: u32, limit: usize) -> Status {
        let mut lifecycle = Lifecycle::serving(Drain::new(Arc::default()));
        lifecycle.begin(Cause::Request, at(8));
        let registry = Registry::default();
        let mut places = vec![registry.enter("etl".to_owned(), at(1))];
        places[0].update(Shown { activity: Activity::Executing, since: at(5), clock: None }, None);
        for _ in 0..idle {
            let place = registry.enter("psql".to_owned(), at(2));
            let clock = Some((at(30), "idle_grace"));
            place.update(Shown { activity: Activity::Idle, since: at(3), clock }, None);
            places.push(place);
        }
        Status::new(&lifecycle, &registry, at(20), limit)
    }

    #[test]
    fn each_connection_has_a_line_that_says_which_clock_ends_it_and_when() {
        assert_eq!(
            status(1, 9).to_string(),
            "draining for 12s, begun by request; it can be taken back\n\
             phase: grace; connections: 2\n\
             psql (2) idle for 17s: idle_grace ends it in 10s at the latest\n\
             etl (1) executing for 15s: no clock, its worker has the turn\n"
        );
    }

    #[test]
    fn no_more_are_named_than_the_limit_and_those_are_who_waits_longest() {
        let text = status(100, 2).to_string();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        let psql = |number| format!("psql ({number}) idle for 17s: idle_grace ends it in 10s at the latest");
        assert_eq!(lines, [psql(2), psql(3), "and 99 more".to_owned()]);
    }

    #[test]
    fn programs_read_the_same() {
        let json = serde_json::to_value(status(1, 1)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "phase": "grace", "cause": "request", "signalled": false, "draining_for_ms": 12_000, "connections": 2,
                "waiting_for": [{
                    "who": "psql", "connection": 2, "activity": "idle", "for_ms": 17_000,
                    "clock": "idle_grace", "ends_in_ms": 10_000,
                }],
            })
        );
    }
}
