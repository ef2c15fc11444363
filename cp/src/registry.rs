//! Who is here: every connection from the moment it is accepted, and how it left.
//!
//! A connection is entered in the same step in which it is accepted, before anything is awaited, so none can slip past the
//! count. The process may exit when the registry is empty, and closes it in the same step. Connections that come too late to
//! be served (they wait for their 57P03 or bring a cancel request) are not entered: nobody waits for them.
//!
//! An ending is counted when it is decided, not when the connection is gone: it belongs to the drain that decided it, however
//! long the client takes to read its FATAL.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use crate::records::Left;
use crate::sync::{Arc, Mutex, MutexGuard};
use crate::who::{Names, Who};
use lastcall_core::wire::CancelKey;
use lastcall_core::{Activity, EndReason, Time};

/// The live connections of this process. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    last_number: u32,
    entries: BTreeMap<u32, Entry>,
    /// Process id at its worker and number of each connection whose key is known. Two workers may choose the same id.
    process_ids: BTreeSet<(u32, u32)>,
    /// Those of them whose startup packet is complete.
    sessions: usize,
    /// Those of them whose end is not decided.
    undecided: usize,
    /// Nobody enters any more: the process exits.
    closed: bool,
    tally: Tally,
    /// Whoever waits for the registry to be empty: one at a time.
    waiter: Option<Waker>,
}

/// What is known of one live connection from outside its task.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) who: Who,
    pub(crate) shown: Shown,
    /// Its worker's cancel key, which is its client's too.
    key: Option<CancelKey>,
    is_session: bool,
}

/// What a connection shows to whoever asks about it from outside its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// What it is doing.
    pub(crate) activity: Activity,
    /// Since when.
    pub(crate) since: Time,
    /// The clock that runs for it, and when that ends it if nothing happens before.
    pub(crate) clock: Option<(Time, &'static str)>,
}

/// The name under which a connection is counted that brought a cancel request and was no session.
pub(crate) const CANCEL_REQUEST: &str = "cancel_request";

/// How many were here and came, how many ended and why, and who left last.
///
/// Once nobody is here any more, those who were here and those who came are as many as those who ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Connections that were here when it was begun, those not counted whose end was decided before.
    pub(crate) here: usize,
    /// Connections that were entered since.
    pub(crate) came: u64,
    /// Connections whose end was decided since, by reason; cancel requests among them, as [`CANCEL_REQUEST`].
    pub(crate) ended_by: BTreeMap<&'static str, u64>,
    /// Sessions whose statement was cancelled at the wall.
    pub(crate) cut: u64,
    /// Sessions refused because they came too late.
    pub(crate) refused: u64,
    /// Cancel requests that were served.
    pub(crate) cancels: u64,
    /// The last to leave.
    pub(crate) last: Option<Left>,
}

impl Entry {
    /// The worker's process id, once it is known.
    pub(crate) fn worker_pid(&self) -> Option<u32> {
        self.key.as_ref().map(CancelKey::process_id)
    }
}

impl Registry {
    /// Enters a connection that has just been accepted from `peer`; none once the registry is closed.
    pub(crate) fn enter(&self, peer: SocketAddr, now: Time) -> Option<Slot> {
        let mut book = self.book();
        if book.closed {
            return None;
        }
        // Numbers of connections that are still there are skipped when the count wraps round.
        loop {
            book.last_number = book.last_number.wrapping_add(1);
            if book.last_number != 0 && !book.entries.contains_key(&book.last_number) {
                break;
            }
        }
        let number = book.last_number;
        let entry = Entry {
            who: Who::unnamed(peer),
            shown: Shown { activity: Activity::Handshake, since: now, clock: None },
            key: None,
            is_session: false,
        };
        book.entries.insert(number, entry);
        book.undecided += 1;
        book.tally.came += 1;
        Some(Slot { registry: self.clone(), number, reason: None, left_at: now })
    }

    /// How many connections are here, handshakes included.
    pub(crate) fn connections(&self) -> usize {
        self.book().entries.len()
    }

    /// Whether anybody here is doing something that `is` says yes to.
    pub(crate) fn any(&self, is: impl Fn(Activity) -> bool) -> bool {
        self.book().entries.values().any(|entry| is(entry.shown.activity))
    }

    /// The `limit` live connections that have been doing what they do for longest, those first, and how many there are in
    /// all. Copies no more than it returns.
    pub(crate) fn longest(&self, limit: usize) -> (usize, Vec<(u32, Entry)>) {
        let book = self.book();
        let mut order: Vec<(Time, u32)> =
            book.entries.iter().map(|(number, entry)| (entry.shown.since, *number)).collect();
        if limit < order.len() {
            order.select_nth_unstable(limit);
            order.truncate(limit);
        }
        order.sort_unstable();
        let longest = order.into_iter().filter_map(|(_, number)| Some((number, book.entries.get(&number)?.clone())));
        (book.entries.len(), longest.collect())
    }

    /// The number of the session that has this cancel key.
    pub(crate) fn session_of(&self, key: &CancelKey) -> Option<u32> {
        // A lookup by process id alone, then whole comparisons: how long it takes says nothing about how near a guess was.
        let process_id = key.process_id();
        let book = self.book();
        let numbers = book.process_ids.range((process_id, 0)..=(process_id, u32::MAX));
        let is_his = |number: &u32| {
            let known = book.entries.get(number).and_then(|entry| entry.key.as_ref());
            known.is_some_and(|known| known.matches(key))
        };
        numbers.map(|(_, number)| *number).find(is_his)
    }

    /// Ready when no connection is left: the registry is then closed, in the same step. One caller at a time.
    pub(crate) fn poll_close_if_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut book = self.book();
        if book.entries.is_empty() {
            book.closed = true;
            return Poll::Ready(());
        }
        book.waiter = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Counts a session that came too late.
    pub(crate) fn count_refused(&self) {
        self.book().tally.refused += 1;
    }

    /// Counts a cancel request that reached its worker.
    pub(crate) fn count_cancel(&self) {
        self.book().tally.cancels += 1;
    }

    /// Counts a session whose statement is cancelled at the wall.
    pub(crate) fn count_cut(&self) {
        self.book().tally.cut += 1;
    }

    /// Begins the tally anew, at the signal. Returns how many connections it has still to count.
    pub(crate) fn begin_tally(&self) -> usize {
        let mut book = self.book();
        book.tally = Tally { here: book.undecided, ..Tally::default() };
        book.tally.here
    }

    /// The tally since it was begun.
    pub(crate) fn tally(&self) -> Tally {
        self.book().tally.clone()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("nothing panics while it holds the book")
    }
}

/// One connection's place in the registry: given back when it is dropped, whatever ended the connection.
#[derive(Debug)]
pub(crate) struct Slot {
    registry: Registry,
    number: u32,
    /// Why it ends, once that is decided.
    reason: Option<EndReason>,
    left_at: Time,
}

impl Slot {
    /// The connection's number.
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    /// Its startup packet is complete: from now on it is the session of whoever `names` names, unless there are `limit`
    /// already.
    ///
    /// Returns whether it is.
    pub(crate) fn become_session(&self, names: std::sync::Arc<Names>, limit: u32) -> bool {
        let mut book = self.registry.book();
        if book.sessions >= limit as usize {
            return false;
        }
        book.sessions += 1;
        if let Some(entry) = book.entries.get_mut(&self.number) {
            entry.is_session = true;
            entry.who.names = Some(names);
        }
        true
    }

    /// Says what the connection is doing, and its worker's cancel key once that is known.
    pub(crate) fn update(&self, shown: Shown, key: Option<&CancelKey>) {
        let mut book = self.registry.book();
        let Book { entries, process_ids, .. } = &mut *book;
        if let Some(entry) = entries.get_mut(&self.number) {
            entry.shown = shown;
            if let (None, Some(key)) = (&entry.key, key) {
                entry.key = Some(key.clone());
                process_ids.insert((key.process_id(), self.number));
            }
        }
    }

    /// Its end is decided, and is counted now; the place is kept until the client was told. A later decision changes nothing.
    pub(crate) fn decide(&mut self, reason: EndReason) {
        if self.reason.is_none() {
            self.reason = Some(reason);
            self.registry.book().count(reason.name());
        }
    }

    /// Gives the place back. `reason` counts if nothing was decided before.
    pub(crate) fn leave(mut self, reason: EndReason, now: Time) -> Left {
        self.decide(reason);
        self.left_at = now;
        let reason = self.reason.unwrap_or(reason);
        Left { session: self.number, who: self.who().to_string(), reason, at: now }
    }

    /// Whose connection it is.
    pub(crate) fn who(&self) -> Who {
        let book = self.registry.book();
        book.entries.get(&self.number).expect("a place is in the book until it is dropped").who.clone()
    }

    /// Gives the place back: it was a cancel request, not a session.
    pub(crate) fn vacate(self) {
        let mut book = self.registry.book();
        book.count(CANCEL_REQUEST);
        book.forget(self.number);
    }
}

impl Book {
    /// Counts a connection whose end is decided.
    fn count(&mut self, reason: &'static str) {
        self.undecided -= 1;
        *self.tally.ended_by.entry(reason).or_default() += 1;
    }

    /// Takes a connection out; it may not be there any more.
    fn forget(&mut self, number: u32) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.sessions -= usize::from(entry.is_session);
        if let Some(key) = &entry.key {
            self.process_ids.remove(&(key.process_id(), number));
        }
        Some(entry)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let waiter = {
            let mut book = self.registry.book();
            if let Some(entry) = book.forget(self.number) {
                // Nobody said why: its task was torn down, by a panic of its own.
                let reason = self.reason.unwrap_or(EndReason::Panicked);
                if self.reason.is_none() {
                    book.count(reason.name());
                }
                book.tally.last =
                    Some(Left { session: self.number, who: entry.who.to_string(), reason, at: self.left_at });
            }
            if book.entries.is_empty() { book.waiter.take() } else { None }
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}
