//! Who held the pod, and until when: what an operator asks of a drain that took long, answered from what the pod reports.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cast::pod::report::{Activity, EndReason};
use crate::story::Story;

/// The most that are named. Who left early is of least interest.
const SHOWN: usize = 12;

/// All copies of a client that were there at the signal or came later, told by the one that left last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The client's name; for connections that never said who they are, that.
    pub name: String,
    /// How many of its connections.
    pub connections: usize,
    /// What the last of them did before it was closed.
    pub doing: Activity,
    /// Why it ended; `None` if it was there to the end of the process.
    pub reason: Option<EndReason>,
    /// How long after the signal it was gone.
    pub after: Duration,
}

/// Everyone, the last to leave at the end. Nobody without a signal.
pub fn of(story: &Story) -> Vec<Holder> {
    let Some(signal) = story.signal().map(|signal| signal.at) else { return Vec::new() };
    let mut holders: BTreeMap<String, Holder> = BTreeMap::new();
    for stay in &story.stays {
        let Some(last) = stay.stages.last().filter(|last| last.to >= signal) else { continue };
        let name = stay.left.map_or("still there", |left| client(&left.who)).to_owned();
        let mut holder = Holder {
            name: name.clone(),
            connections: 1,
            doing: stay.before_close().unwrap_or(*last).activity,
            reason: stay.reason(),
            after: last.to.since(signal),
        };
        match holders.get_mut(&name) {
            Some(known) => {
                holder.connections += known.connections;
                if holder.after >= known.after { *known = holder } else { known.connections = holder.connections }
            }
            None => {
                holders.insert(name, holder);
            }
        }
    }
    let mut holders: Vec<Holder> = holders.into_values().collect();
    holders.sort_by_key(|holder| holder.after);
    holders
}

/// A client's name, of what its connection called itself: `etl` of `etl.3`.
fn client(who: &str) -> &str {
    match who.rsplit_once('.') {
        Some((name, copy)) if copy.parse::<u32>().is_ok() => name,
        // Nothing but an address is known of a connection without a startup packet.
        _ if who.contains(':') => "no startup packet",
        _ => who,
    }
}

/// In aligned lines: until when, who, what it was doing, what ended it.
pub fn text(holders: &[Holder]) -> Vec<String> {
    let hidden = holders.len().saturating_sub(if holders.len() > SHOWN { SHOWN - 1 } else { SHOWN });
    let rows: Vec<[String; 4]> = holders[hidden..].iter().map(Holder::cells).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let [after, name, doing] = [0, 1, 2].map(width);
    let more = (hidden > 0).then(|| format!("{hidden} more before these"));
    let lines = rows.iter().map(|row| format!("{:>after$}  {:<name$}  {:<doing$}  {}", row[0], row[1], row[2], row[3]));
    more.into_iter().chain(lines).collect()
}

impl Holder {
    fn cells(&self) -> [String; 4] {
        // To the millisecond: finer times don't exist in a simulation.
        let after = Duration::from_millis(self.after.as_millis() as u64);
        let name =
            if self.connections > 1 { format!("{} ×{}", self.name, self.connections) } else { self.name.clone() };
        let ended = match self.reason {
            None => "the process was gone first".to_owned(),
            Some(reason) => match reason.clock() {
                Some(clock) if clock != reason.name() => format!("{reason} ({clock})"),
                _ => reason.to_string(),
            },
        };
        let after = format!("+{}", humantime::format_duration(after).to_string().replace(' ', ""));
        [after, name, self.doing.to_string(), ended]
    }
}

#[cfg(test)]
mod tests {
    use lastcall_core::{Settings, Time};
    use lastcall_world::Signal;

    use super::*;
    use crate::cast::history::{Entry, Event, History};
    use crate::cast::pod::report::Left;

    fn held(events: Vec<(u64, Event)>) -> Vec<Holder> {
        let entry = |(seconds, event)| Entry::new(Time::from_epoch(Duration::from_secs(seconds)), event);
        let history = History { entries: events.into_iter().map(entry).collect() };
        of(&Story::of(&history, &Settings::default()))
    }

    fn doing(connection: u32, activity: Activity) -> Event {
        Event::ActivityChanged { connection, activity }
    }

    fn left(session: u32, who: &str, reason: EndReason, at: u64) -> (u64, Event) {
        let left = Left { session, who: who.to_owned(), reason, at: Time::from_epoch(Duration::from_secs(at)) };
        (at, Event::ConnectionLeft { left })
    }

    const TERM: (u64, Event) = (60, Event::SignalSent { signal: Signal::Term });

    #[test]
    fn copies_are_told_together_and_the_last_to_leave_comes_last() {
        let holders = held(vec![
            (1, doing(1, Activity::Idle)),
            (1, doing(2, Activity::Idle)),
            (1, doing(3, Activity::Executing)),
            (1, doing(4, Activity::Handshake)),
            (2, doing(5, Activity::Idle)),
            left(5, "early.1", EndReason::Terminate, 3),
            TERM,
            left(1, "dashboard.1", EndReason::Boundary, 80),
            left(2, "dashboard.2", EndReason::Boundary, 85),
            left(4, "10.0.0.1:4000", EndReason::ShuttingDown, 90),
            (3660, doing(3, Activity::Closing)),
            left(3, "etl.1", EndReason::Terminate, 3660),
        ]);
        assert_eq!(
            text(&holders),
            [
                "+25s  dashboard ×2       idle       boundary (idle_grace)",
                "+30s  no startup packet  handshake  shutting_down (idle_grace)",
                " +1h  etl                executing  terminate",
            ]
        );
    }

    #[test]
    fn whoever_was_there_to_the_end_is_told_too() {
        let killed = held(vec![(1, doing(1, Activity::Executing)), TERM, (70, Event::Killed)]);
        assert_eq!(text(&killed), ["+10s  still there  executing  the process was gone first"]);
    }

    #[test]
    fn a_file_gets_twelve_lines_at_most() {
        let mut events = vec![];
        events.extend((1..=20).map(|connection| (1, doing(connection, Activity::Idle))));
        events.push(TERM);
        events.extend((1..=20).map(|n| left(n, &format!("client{n}.1"), EndReason::Boundary, 60 + u64::from(n))));
        let lines = text(&held(events));
        assert_eq!((lines.len(), lines[0].as_str()), (12, "9 more before these"));
        assert!(lines[11].contains("client20"), "{}", lines[11]);
    }

    #[test]
    fn nobody_holds_a_pod_that_is_not_told_to_stop() {
        assert_eq!(held(vec![(1, doing(1, Activity::Idle))]), []);
    }
}
