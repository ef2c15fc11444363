//! Which client each of the pod's connections belongs to.
//!
//! The pod numbers its connections, and the clients theirs; what they share is the name in the startup packet, which the pod
//! tells when a connection has left. Of one that was there to the end, or never named itself, only the order of arrival is
//! known, and that decides.

use crate::story::Story;

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
        if let Some(place) = free.iter().position(fits).filter(|_| !is_named) {
            *owner = Some(free.remove(place));
        }
    }
    owners
}

/// Whether this is what the connection called itself. Asked of each pair: without a new string.
fn is_called(conn: &crate::cast::history::Conn, who: &str) -> bool {
    let copy = who.strip_prefix(conn.client.as_str()).and_then(|rest| rest.strip_prefix('.'));
    copy.is_some_and(|copy| copy.parse() == Ok(conn.copy))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lastcall_core::{Settings, Time};

    use super::*;
    use crate::cast::history::{Conn, Entry, Event, History};
    use crate::cast::pod::report::{Activity, EndReason, Left};

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
        let entries = events.into_iter().map(|(millis, event)| Entry { at: at(millis), event });
        let history = History { entries: entries.collect() };
        assert_eq!(of(&Story::of(&history, &Settings::default())), [Some(1), Some(0), Some(2)]);
    }
}
