//! Lines of the log that anybody on the network can cause, without a login: one a second of each kind, and the number of
//! those that were left out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sync::{Arc, Mutex};
use crate::who::Who;
use lastcall_core::{EndReason, Time};

/// Between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// Says which of many lines are written. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throttle(Arc<Mutex<BTreeMap<Kind, Count>>>);

/// The kinds of lines. Each is counted by itself: a flood of one silences no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A cancel request whose key is no session's.
    WrongCancel,
    /// A cancel request that was dropped, because too many like it were under way.
    DroppedCancel,
    /// A connection that ended for this reason before its session began.
    NoSession(EndReason),
    /// A connection that wanted encryption or nothing.
    NoEncryption,
    /// A TLS handshake that failed.
    Handshake,
    /// A worker that could not be reached as it must be: its TLS, not its network.
    WorkerTls,
}

#[derive(Debug)]
struct Count {
    /// When the last line was written.
    last: Time,
    /// Lines since then that were not.
    left_out: u64,
}

impl Throttle {
    /// Whether a line of this kind may be written at `now`: if so, how many were left out since the one before.
    pub(crate) fn pass(&self, kind: Kind, now: Time) -> Option<u64> {
        let mut counts = self.0.lock().expect("nothing panics while it counts");
        match counts.get_mut(&kind) {
            Some(count) if now < count.last + PAUSE => {
                count.left_out += 1;
                None
            }
            count => {
                let left_out = count.map_or(0, |count| count.left_out);
                counts.insert(kind, Count { last: now, left_out: 0 });
                Some(left_out)
            }
        }
    }

    /// Says that a connection has ended before its session began: it was refused, could not log in, or never asked for one.
    pub(crate) fn no_session(&self, kind: Kind, who: &Who, reason: EndReason, detail: Option<&str>, now: Time) {
        let Some(left_out) = self.pass(kind, now) else { return };
        let names = who.names.as_deref();
        tracing::info!(
            peer = %who.peer,
            user = names.map(|names| names.user.as_str()),
            database = names.map(|names| names.database.as_str()),
            application = names.map(|names| names.application.as_str()),
            %reason,
            detail,
            left_out,
            "connection ended before its session began"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_one_line_a_second_passes_and_says_how_many_did_not() {
        let throttle = Throttle::default();
        let at = |millis| Time::from_epoch(Duration::from_millis(millis));
        assert_eq!(throttle.pass(Kind::WrongCancel, at(0)), Some(0));
        let passed: Vec<u64> =
            (1..=3500).filter_map(|millis| throttle.clone().pass(Kind::WrongCancel, at(millis))).collect();
        assert_eq!(passed, [999, 999, 999]);
        assert_eq!(throttle.pass(Kind::WrongCancel, at(100_000)), Some(500));
    }
}
