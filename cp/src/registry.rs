//! Who is here: every connection from the moment it is accepted, and how it left.
//!
//! A connection is entered in the same step in which it is accepted, before anything is awaited, so none can slip past the
//! count. The process may exit when the registry is empty, and closes it in the same step. Connections that come too late to
//! be served (they wait for their 57P03 or bring a cancel request) are not entered: nobody waits for them.
//!
//! The count, and what it means for the exit, is [`lastcall_core::Process`]'s; here it is shared by the tasks, with what
//! people want to know of each connection.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::line::Line;
use crate::records::{EndRecord, Left};
use crate::sync::{Arc, Mutex, MutexGuard};
use crate::who::{Names, Who};
use lastcall_core::drain::Pace;
use lastcall_core::process::{Effect, Entered, Member, NotRecalled};
use lastcall_core::wire::CancelKey;
use lastcall_core::{Activity, Bound, Drain, EndReason, Process, Settings, Time, process};

/// The process and its live connections. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Registry(Arc<Mutex<Book>>);

#[derive(Debug)]
struct Book {
    /// What it keeps of each connection lies on the heap: a map that is filled in order has nearly as much room again.
    process: Process<Box<Entry>>,
    /// Process id at its worker and number of each connection whose key is known. Two workers may choose the same id.
    process_ids: BTreeSet<(u32, u32)>,
    /// Where each connection is told that an administrator ends it, as long as nothing else has.
    ends: BTreeMap<u32, oneshot::Sender<()>>,
    /// Sessions refused because they came too late, and cancel requests that were served, since the drain began.
    refused: u64,
    cancels: u64,
    /// What happened before it began, and what the sessions did that have ended.
    before: Totals,
    /// The last to leave.
    last: Option<Left>,
    /// Whoever waits for the registry to be empty: one at a time.
    waiter: Option<Waker>,
}

/// What is known of one live connection from outside its task, besides what it is doing.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) who: Who,
    /// The clock that runs for it, and when that ends it if nothing happens before.
    pub(crate) clock: Option<(Time, &'static str)>,
    /// Where a cancel request for it goes, with its worker's key, which is its client's too.
    line: Option<Line>,
}

/// A live connection, with what it is doing.
pub(crate) type Known = Member<Box<Entry>>;

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

/// Why an administrator can't end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotEnded {
    /// It ends already.
    Ending,
    /// It is not here.
    NotHere,
}

/// The name under which a connection is counted that brought a cancel request and was no session.
pub(crate) const CANCEL_REQUEST: &str = "cancel_request";

/// How many were here and came since the drain began, how many ended and why, and who left last.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Connections that were here when it began.
    pub(crate) here: usize,
    /// Connections that were entered since.
    pub(crate) came: u64,
    /// Connections whose end was decided since, by reason; cancel requests among them, as [`CANCEL_REQUEST`].
    pub(crate) ended_by: BTreeMap<&'static str, u64>,
    /// Sessions refused because they came too late.
    pub(crate) refused: u64,
    /// Cancel requests that were served.
    pub(crate) cancels: u64,
    /// The last to leave.
    pub(crate) last: Option<Left>,
}

/// What has happened since the process started. Never goes down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Connections that were let in.
    pub(crate) came: u64,
    /// Connections whose end was decided, by reason; cancel requests among them, as [`CANCEL_REQUEST`].
    pub(crate) ended_by: BTreeMap<&'static str, u64>,
    /// Sessions refused because they came too late.
    pub(crate) refused: u64,
    /// Cancel requests that were served.
    pub(crate) cancels: u64,
    /// Sessions whose statement was cancelled at a wall.
    pub(crate) cut: u64,
    /// Statements answered, of sessions that have ended, as in the rest.
    pub(crate) statements: u64,
    /// Bytes passed on to workers.
    pub(crate) received: u64,
    /// Bytes passed on to clients.
    pub(crate) sent: u64,
    /// For how long workers executed.
    pub(crate) executing: Duration,
}

impl Totals {
    fn add(&mut self, tally: &process::Tally, refused: u64, cancels: u64) {
        self.came += tally.came;
        self.cut += tally.cut;
        self.refused += refused;
        self.cancels += cancels;
        for (reason, count) in ended_by(tally) {
            *self.ended_by.entry(reason).or_default() += count;
        }
    }
}

/// How many ended why, by name.
fn ended_by(tally: &process::Tally) -> BTreeMap<&'static str, u64> {
    let mut ended_by: BTreeMap<_, _> = tally.ended.iter().map(|(reason, count)| (reason.name(), *count)).collect();
    if tally.cancel_requests > 0 {
        ended_by.insert(CANCEL_REQUEST, tally.cancel_requests);
    }
    ended_by
}

impl Entry {
    /// The worker, once its process id is known.
    pub(crate) fn worker(&self) -> Option<String> {
        self.line.as_ref().map(|line| line.worker.to_string())
    }

    /// The worker's process id, once it is known.
    pub(crate) fn worker_pid(&self) -> Option<u32> {
        self.line.as_ref().map(|line| line.key.process_id())
    }
}

#[cfg(test)]
impl Default for Registry {
    fn default() -> Self {
        Registry::new(std::sync::Arc::default(), 0)
    }
}

impl Registry {
    /// Nobody is here yet. `offset` is a random number: see [`Process::new`].
    pub(crate) fn new(settings: std::sync::Arc<Settings>, offset: u32) -> Self {
        Registry(Arc::new(Mutex::new(Book {
            process: Process::new(settings, offset),
            process_ids: BTreeSet::new(),
            ends: BTreeMap::new(),
            refused: 0,
            cancels: 0,
            before: Totals::default(),
            last: None,
            waiter: None,
        })))
    }

    /// Enters a connection that has just been accepted from `peer`; none if it comes too late.
    pub(crate) fn enter(&self, peer: SocketAddr, now: Time) -> Option<Slot> {
        let entry = Box::new(Entry { who: Who::unnamed(peer), clock: None, line: None });
        let mut book = self.book();
        let entered = book.process.handle_accepted(entry, now)?;
        let (end, ended) = oneshot::channel();
        book.ends.insert(entered.number, end);
        drop(book);
        Some(Slot { registry: self.clone(), entered, ended: Some(ended), reason: None, left_at: now })
    }

    /// An administrator ends this connection: its task is told.
    pub(crate) fn end(&self, number: u32) -> Result<(), NotEnded> {
        let mut book = self.book();
        match book.ends.remove(&number) {
            Some(end) => {
                drop(book);
                // One that is going at this moment hears nothing of it.
                let _ = end.send(());
                Ok(())
            }
            None if book.process.members().contains_key(&number) => Err(NotEnded::Ending),
            None => Err(NotEnded::NotHere),
        }
    }

    /// The drain as it is now.
    pub(crate) fn drain(&self) -> Drain {
        self.book().process.drain().clone()
    }

    /// Tells the process what it is ordered to do.
    pub(crate) fn order(&self, order: impl FnOnce(&mut Process<Box<Entry>>) -> Effect) -> Effect {
        let mut book = self.book();
        let tally = book.process.tally().clone();
        let effect = order(&mut book.process);
        if effect == Effect::Begun {
            let (refused, cancels) = (book.refused, book.cancels);
            book.before.add(&tally, refused, cancels);
            (book.refused, book.cancels, book.last) = (0, 0, None);
        }
        effect
    }

    /// Changes the rules, unless it drains.
    pub(crate) fn settings(&self, settings: std::sync::Arc<Settings>) -> bool {
        self.book().process.handle_settings(settings)
    }

    /// Takes the drain back.
    pub(crate) fn recall(&self) -> Result<(), NotRecalled> {
        self.book().process.handle_recall()
    }

    /// How many connections are here, handshakes included.
    pub(crate) fn connections(&self) -> usize {
        self.book().process.members().len()
    }

    /// How many were here when the drain began.
    pub(crate) fn here(&self) -> usize {
        self.book().process.tally().here
    }

    /// Whether a worker executes.
    pub(crate) fn executes(&self) -> bool {
        self.book().process.any(|activity| activity == Activity::Executing)
    }

    /// When the process is gone at the latest: see [`Process::bound`].
    pub(crate) fn bound(&self, now: Time) -> Option<Bound> {
        self.book().process.bound(now)
    }

    /// The `limit` live connections that have been doing what they do for longest, those first, and how many there are in
    /// all. Copies no more than it returns.
    pub(crate) fn longest(&self, limit: usize) -> (usize, Vec<(u32, Known)>) {
        let book = self.book();
        let members = book.process.members();
        let mut order: Vec<(Time, u32)> = members.iter().map(|(number, member)| (member.since, *number)).collect();
        if limit < order.len() {
            order.select_nth_unstable(limit);
            order.truncate(limit);
        }
        order.sort_unstable();
        let longest = order.into_iter().filter_map(|(_, number)| Some((number, members.get(&number)?.clone())));
        (members.len(), longest.collect())
    }

    /// The number of the session that has this cancel key, and where a request for it goes.
    pub(crate) fn session_of(&self, key: &CancelKey) -> Option<(u32, Line)> {
        // A lookup by process id alone, then whole comparisons: how long it takes says nothing about how near a guess was.
        let process_id = key.process_id();
        let book = self.book();
        let numbers = book.process_ids.range((process_id, 0)..=(process_id, u32::MAX));
        let is_his = |number: &u32| {
            let known = book.process.members().get(number).and_then(|member| member.data.line.as_ref());
            known.is_some_and(|known| known.key.matches(key))
        };
        let number = numbers.map(|(_, number)| *number).find(is_his)?;
        Some((number, book.process.members().get(&number)?.data.line.clone()?))
    }

    /// Ready with the exit code when nothing is left to wait for: nobody enters any more, from the same step on. One caller
    /// at a time, who also comes again at the end of the lame duck.
    pub(crate) fn poll_exit(&self, now: Time, cx: &mut Context<'_>) -> Poll<u8> {
        let mut book = self.book();
        if let Some(code) = book.process.poll_exit(now) {
            return Poll::Ready(code);
        }
        book.waiter = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What the exit code tells of the drain so far.
    pub(crate) fn exit_code(&self) -> u8 {
        self.book().process.exit_code()
    }

    /// Counts a session that came too late.
    pub(crate) fn count_refused(&self) {
        self.book().refused += 1;
    }

    /// Counts a cancel request that reached its worker.
    pub(crate) fn count_cancel(&self) {
        self.book().cancels += 1;
    }

    /// The tally since the drain began.
    pub(crate) fn tally(&self) -> Tally {
        let book = self.book();
        let tally = book.process.tally();
        let (refused, cancels, last) = (book.refused, book.cancels, book.last.clone());
        Tally { here: tally.here, came: tally.came, ended_by: ended_by(tally), refused, cancels, last }
    }

    /// What has happened since the process started.
    pub(crate) fn totals(&self) -> Totals {
        let book = self.book();
        let mut totals = book.before.clone();
        totals.add(book.process.tally(), book.refused, book.cancels);
        totals
    }

    /// Adds what a session did that has ended.
    pub(crate) fn count_session(&self, record: &EndRecord) {
        let totals = &mut self.book().before;
        totals.statements += record.statements;
        totals.received += record.received;
        totals.sent += record.sent;
        totals.executing += record.executing;
    }

    /// How many connections do what.
    pub(crate) fn activities(&self) -> BTreeMap<&'static str, u64> {
        let mut activities = BTreeMap::new();
        for member in self.book().process.members().values() {
            *activities.entry(member.activity.name()).or_default() += 1;
        }
        activities
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("nothing panics while it holds the book")
    }
}

/// One connection's slot in the registry: given back when it is dropped, whatever ended the connection.
#[derive(Debug)]
pub(crate) struct Slot {
    registry: Registry,
    entered: Entered,
    /// Comes when an administrator ends it; none once that is known.
    ended: Option<oneshot::Receiver<()>>,
    /// Why it ends, once that is decided.
    reason: Option<EndReason>,
    left_at: Time,
}

impl Slot {
    /// The connection's number.
    pub(crate) const fn number(&self) -> u32 {
        self.entered.number
    }

    /// Its place among the due times.
    pub(crate) const fn pace(&self) -> Pace {
        self.entered.pace
    }

    /// Its startup packet is complete: from now on it is the session of whoever `names` names, unless it can't be one.
    pub(crate) fn become_session(&self, names: std::sync::Arc<Names>, now: Time) -> Result<(), EndReason> {
        let mut book = self.registry.book();
        book.process.handle_startup(self.number(), now)?;
        if let Some(member) = book.process.member_mut(self.number()) {
            member.data.who.names = Some(names);
        }
        Ok(())
    }

    /// Says what the connection is doing, and where a cancel request for it goes once that is known.
    pub(crate) fn update(&self, shown: Shown, line: impl FnOnce() -> Option<Line>) {
        let mut book = self.registry.book();
        let Book { process, process_ids, .. } = &mut *book;
        process.handle_activity(self.number(), shown.activity, shown.since);
        if let Some(Member { data, .. }) = process.member_mut(self.number()) {
            data.clock = shown.clock;
            if data.line.is_none()
                && let Some(line) = line()
            {
                process_ids.insert((line.key.process_id(), self.number()));
                data.line = Some(line);
            }
        }
    }

    /// Ready, once, when an administrator ends it; wakes the task then. Takes no lock: it is asked whenever the task runs.
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(ended) = &mut self.ended else { return Poll::Pending };
        let told = ready!(Pin::new(ended).poll(cx));
        self.ended = None;
        if told.is_ok() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Its statement is cancelled at the wall.
    pub(crate) fn count_cut(&self) {
        self.registry.book().process.handle_cut(self.number());
    }

    /// Its end is decided, and is counted now; the slot is kept until the client was told. A later decision changes nothing.
    pub(crate) fn decide(&mut self, reason: EndReason) {
        if self.reason.is_none() {
            self.reason = Some(reason);
            let mut book = self.registry.book();
            book.process.handle_decided(self.number(), reason);
            book.ends.remove(&self.number());
        }
    }

    /// Gives the slot back. `reason` counts if nothing was decided before.
    pub(crate) fn leave(mut self, reason: EndReason, now: Time) -> Left {
        self.decide(reason);
        self.left_at = now;
        let reason = self.reason.unwrap_or(reason);
        Left { session: self.number(), who: self.who().to_string(), reason, at: now }
    }

    /// Whose connection it is.
    pub(crate) fn who(&self) -> Who {
        let book = self.registry.book();
        let members = book.process.members();
        members.get(&self.number()).expect("a slot is in the book until it is dropped").data.who.clone()
    }

    /// Gives the slot back: it was a cancel request, not a session.
    pub(crate) fn vacate(self) {
        let mut book = self.registry.book();
        book.process.handle_cancel_request(self.number());
        book.forget(self.number());
    }
}

impl Book {
    /// Takes a connection out; it may not be there any more.
    fn forget(&mut self, number: u32) -> Option<Entry> {
        let entry = self.process.handle_gone(number)?;
        self.ends.remove(&number);
        if let Some(line) = &entry.line {
            self.process_ids.remove(&(line.key.process_id(), number));
        }
        Some(*entry)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let waiter = {
            let mut book = self.registry.book();
            // Nobody said why: its task was torn down, by a panic of its own.
            let reason = self.reason.unwrap_or(EndReason::Panicked);
            book.process.handle_decided(self.number(), reason);
            if let Some(entry) = book.forget(self.number()) {
                let left = Left { session: self.number(), who: entry.who.to_string(), reason, at: self.left_at };
                book.last = Some(left);
            }
            if book.process.members().is_empty() { book.waiter.take() } else { None }
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}
