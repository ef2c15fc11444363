//! Conversations in a few letters: `Q` is a Query, `Z:T` a ReadyForQuery in a transaction, `>` goes to the worker and `<` to
//! the client.

use lastcall_core::tracker::{Gate, Tracker};
use lastcall_core::{Activity, TransactionStatus};

/// The worker's answer to a startup packet.
pub(crate) const WELCOME: &str = "R S K:worker's Z:I";

/// Messages by their types, with a body of four bytes or the one behind the colon: `P B E S`, `C Z:I`.
pub(crate) fn messages(types: &str) -> Vec<u8> {
    types.split_whitespace().flat_map(message).collect()
}

fn message(word: &str) -> Vec<u8> {
    let (kind, body) = word.split_once(':').unwrap_or((word, "body"));
    let mut message = kind.as_bytes().to_vec();
    assert_eq!(message.len(), 1, "a type is one letter: {word}");
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body.as_bytes());
    message
}

/// A tracker before the worker's first word.
pub(crate) fn fresh() -> Tracker {
    Tracker::new()
}

/// A tracker behind the first ReadyForQuery.
pub(crate) fn connected() -> Tracker {
    let mut tracker = fresh();
    worker(&mut tracker, WELCOME);
    tracker
}

/// All of these messages come from the client and go to the worker.
pub(crate) fn client(tracker: &mut Tracker, types: &str) {
    let bytes = messages(types);
    assert_eq!(tracker.forward(&bytes, Gate::Open), Ok(bytes.len()), "> {types}");
}

/// All of these messages come from the worker.
pub(crate) fn worker(tracker: &mut Tracker, types: &str) {
    let bytes = messages(types);
    assert_eq!(tracker.observe(&bytes), Ok(bytes.len()), "< {types}");
}

/// How many of these messages pass while the connection is due.
pub(crate) fn passing_when_due(tracker: &mut Tracker, types: &str) -> usize {
    let forwarded = tracker.forward(&messages(types), Gate::Due).expect("well-formed");
    let mut end = 0;
    let mut passing = 0;
    for word in types.split_whitespace() {
        end += message(word).len();
        passing += usize::from(end <= forwarded);
    }
    passing
}

/// Plays a script on a connection and returns how it ends. Each line is `> types | activity` or `< types | activity`; a
/// number behind the activity is how many sync points are outstanding, 0 if there is none.
pub(crate) fn talk(script: &str) -> Tracker {
    talk_on(connected(), script)
}

/// The same on a tracker that has got somewhere already.
pub(crate) fn talk_on(mut tracker: Tracker, script: &str) -> Tracker {
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (said, shows) = line.split_once('|').expect("a bar between what is said and what it shows");
        match said.split_at(1) {
            (">", types) => client(&mut tracker, types),
            ("<", types) => worker(&mut tracker, types),
            _ => panic!("who says this? {line}"),
        }
        let mut words = shows.split_whitespace();
        let activity = words.next().expect("an activity");
        let outstanding: usize = words.next().unwrap_or("0").parse().expect("a number");
        assert_eq!((tracker.activity().name(), tracker.outstanding()), (activity, outstanding), "after {line:?}");
    }
    tracker
}

/// What an observer of a tracker can see.
pub(crate) fn seen(tracker: &Tracker) -> (Activity, usize, TransactionStatus, u64) {
    (tracker.activity(), tracker.outstanding(), tracker.status(), tracker.answered())
}
