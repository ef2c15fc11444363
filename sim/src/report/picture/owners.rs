//! Which client each of the pod's connections belongs to.
//!
//! The pod numbers its connections, and the clients theirs; what they share is the name in the startup packet, which the pod
//! tells when a connection has left. Of one that was there to the end, or never named itself, nothing is known but when it came
//! and what it did: it belongs to the client that did the same, and of several to the first to come.

use std::time::Duration;

use lastcall_core::Time;

use crate::cast::pod::report::Activity;
use crate::story::stays::Stay;
use crate::story::{Connection, Story};

/// How much later than a client sends something the pod may say so, besides the latency that the scenario asks for.
const LATE: Duration = Duration::from_millis(100);

/// So many stages and requests of a connection are looked at.
const MOST_COMPARED: usize = 500;

/// For each of the story's stays the index of its connection, if it has one.
pub(crate) fn of(story: &Story) -> Vec<Option<usize>> {
    let mut owners = vec![None; story.stays.len()];
    let mut is_taken = vec![false; story.connections.len()];
    let accepted = |stay: usize| story.stays[stay].stages.first().map(|first| first.from);
    for (stay, owner) in owners.iter_mut().enumerate() {
        let (Some(left), Some(accepted)) = (story.stays[stay].left, accepted(stay)) else { continue };
        let its = |index: &usize| {
            let connection = &story.connections[*index];
            !is_taken[*index] && connection.connecting.at <= accepted && is_called(connection.conn, &left.who)
        };
        *owner = (0..story.connections.len()).rfind(its);
        if let Some(index) = *owner {
            is_taken[index] = true;
        }
    }
    let mut free: Vec<usize> = (0..is_taken.len()).filter(|index| !is_taken[*index]).collect();
    free.retain(|index| story.connections[*index].failed.is_none());
    let late = LATE + story.latency;
    let mut sent: Vec<Sent> = free.iter().map(|index| Sent::of(story, &story.connections[*index])).collect();
    for (stay, owner) in owners.iter_mut().enumerate().filter(|(_, owner)| owner.is_none()) {
        let (Some(accepted), Some(end)) = (accepted(stay), story.stays[stay].stages.last().map(|last| last.to)) else {
            continue;
        };
        // Who named itself when it left is none of these, unless the name is an address: it never sent a startup packet.
        let is_named = story.stays[stay].left.is_some_and(|left| !left.who.contains(':'));
        let fits = |index: &usize| {
            let connection = &story.connections[*index];
            let over = connection.ending().map(|(moment, _)| moment.at);
            connection.connecting.at <= accepted
                && over.is_none_or(|over| over >= accepted && over <= end || end <= over)
        };
        if is_named {
            continue;
        }
        let heard = Heard::of(&story.stays[stay]);
        let mut nearest: Option<(usize, usize)> = None;
        for (place, _) in free.iter().enumerate().filter(|(_, index)| fits(index)) {
            let unlike = heard.unlike(&sent[place], late);
            // Of several that are as like it, the first.
            if nearest.is_none_or(|(_, least)| unlike < least) {
                nearest = Some((place, unlike));
            }
            if unlike == 0 {
                break;
            }
        }
        if let Some((place, _)) = nearest {
            *owner = Some(free.remove(place));
            sent.remove(place);
        }
    }
    owners
}

/// What a client did on a connection.
struct Sent {
    /// Its session began.
    began: bool,
    requests: Vec<Time>,
    /// These, and what is no whole request, in order.
    anything: Vec<Time>,
}

impl Sent {
    fn of(story: &Story, connection: &Connection) -> Sent {
        let requests: Vec<Time> =
            story.requests_of(connection).map(|request| request.sent.at).take(MOST_COMPARED).collect();
        let fed = connection.fed.iter().map(|moment| moment.at).take(MOST_COMPARED);
        let mut anything: Vec<Time> = requests.iter().copied().chain(fed).collect();
        anything.sort_unstable();
        Sent { began: connection.began.is_some(), requests, anything }
    }
}

/// What the pod says of a connection.
struct Heard {
    /// It has logged in.
    began: bool,
    /// From when to when it did what a client must have asked for.
    busy: Vec<(Time, Time)>,
}

impl Heard {
    fn of(stay: &Stay) -> Heard {
        let is_new = |activity| matches!(activity, Activity::Handshake | Activity::Acquiring);
        let is_free = |activity| is_new(activity) || matches!(activity, Activity::Idle | Activity::Closing);
        let busy = stay.stages.iter().filter(|stage| !is_free(stage.activity)).map(|stage| (stage.from, stage.to));
        Heard {
            began: stay.stages.iter().any(|stage| !is_new(stage.activity)),
            busy: busy.take(MOST_COMPARED).collect(),
        }
    }

    /// How much of it this client did not do, and the other way round.
    fn unlike(&self, sent: &Sent, late: Duration) -> usize {
        // A stage may follow from one before it. The first of some that touch is what a client asked for.
        let is_first = |index: usize, from: Time| index == 0 || self.busy[index - 1].1 < from;
        let begins = self.busy.iter().enumerate().filter(|(index, (from, _))| is_first(*index, *from));
        let unasked = begins.filter(|(_, (from, _))| {
            let first = sent.anything.partition_point(|at| *at + late < *from);
            sent.anything.get(first).is_none_or(|at| at > from)
        });
        let unheard = sent.requests.iter().filter(|at| {
            let first = self.busy.partition_point(|(_, to)| to < at);
            self.busy.get(first).is_none_or(|(from, _)| *from > **at + late)
        });
        unasked.count() + unheard.count() + usize::from(self.began != sent.began)
    }
}

/// Whether this is what the connection called itself. Asked of each pair: without a new string.
fn is_called(conn: &crate::cast::history::Conn, who: &str) -> bool {
    let copy = who.strip_prefix(conn.client.as_str()).and_then(|rest| rest.strip_prefix('.'));
    copy.is_some_and(|copy| copy.parse() == Ok(conn.copy))
}

#[cfg(test)]
mod tests {
    use lastcall_core::Settings;

    use super::*;
    use crate::cast::history::{Conn, Entry, Event, History, RequestKind};
    use crate::cast::pod::report::{EndReason, Left};

    #[test]
    fn who_was_there_to_the_end_is_told_by_what_it_did() {
        let conn = |client: &str| Conn { client: client.to_owned(), copy: 1, attempt: 1 };
        let at = |millis| Time::from_epoch(Duration::from_millis(millis));
        let doing = |connection, activity| Event::ActivityChanged { connection, activity };
        let sent = |client: &str| Event::RequestSent {
            conn: conn(client),
            tag: format!("{client}.1/1"),
            kind: RequestKind::Query,
        };
        let events = [
            (1, Event::Connecting { conn: conn("idle") }),
            (1, Event::Connecting { conn: conn("etl") }),
            (2, doing(1, Activity::Idle)),
            (2, doing(2, Activity::Idle)),
            (3, Event::SessionBegan { conn: conn("idle") }),
            (3, Event::SessionBegan { conn: conn("etl") }),
            (500, sent("etl")),
            (501, doing(1, Activity::Executing)),
            (9_000, Event::Killed),
        ];
        let entries = events.into_iter().map(|(millis, event)| Entry::new(at(millis), event));
        let history = History { entries: entries.collect() };
        assert_eq!(of(&Story::of(&history, &Settings::default())), [Some(1), Some(0)]);
    }

    #[test]
    fn names_come_first_and_then_the_order_of_arrival() {
        let connecting =
            |client: &str, copy| Event::Connecting { conn: Conn { client: client.to_owned(), copy, attempt: 1 } };
        let accepted = |connection| Event::ActivityChanged { connection, activity: Activity::Idle };
        let at = |millis| Time::from_epoch(Duration::from_millis(millis));
        let left = |session, who: &str| Event::ConnectionLeft {
            left: Left { session, who: who.to_owned(), reason: EndReason::Terminate, at: at(9) },
        };
        let events = [
            (1, connecting("a", 1)),
            (1, connecting("a", 2)),
            (1, connecting("b", 1)),
            (2, accepted(7)),
            (2, accepted(8)),
            (3, accepted(9)),
            (9, left(8, "a.1")),
        ];
        let entries = events.into_iter().map(|(millis, event)| Entry::new(at(millis), event));
        let history = History { entries: entries.collect() };
        assert_eq!(of(&Story::of(&history, &Settings::default())), [Some(1), Some(0), Some(2)]);
    }
}
