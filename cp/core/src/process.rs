//! The process that drains: who is here, what it was told, and when it may exit.
//!
//! Beside it each connection has a value of its own ([`Connection`](super::Connection), or [`Session`](super::Session) where
//! the host keeps the bytes). The process does not know them: it knows their numbers and what they are doing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::activity::Activity;
use super::bound::{Bound, Progress};
use super::drain::{Drain, Pace, Phase};
use super::end::EndReason;
use super::settings::{DrainPolicy, Settings};
use super::time::Time;

/// The exit code of a process that has drained.
pub const EXIT_DRAINED: u8 = 0;
/// The exit code of a process whose drain met its wall: statements were cancelled, or sessions ended.
pub const EXIT_WALL: u8 = 3;
/// The exit code of a process that was told to exit at once: 128 and SIGQUIT's number.
pub const EXIT_QUIT: u8 = 131;

/// One process, with something of the host's own (`T`) kept for each connection.
///
/// # The order of calls
///
/// 1. [`Process::handle_accepted`] in the same step in which a connection is accepted, so that none slips past the count. It
///    gives the connection's number and pace. `None`: it comes too late; it may bring a cancel request, and is to be told
///    [`EndReason::ShuttingDown`] otherwise. Nobody waits for it.
/// 2. [`Process::handle_startup`] when its startup packet is complete: whether it may be a session is decided there, because
///    the drain may have begun meanwhile.
/// 3. [`Process::handle_activity`] whenever what it does has changed, and [`Process::handle_cut`] when the wall cancels it.
/// 4. [`Process::handle_decided`] when it is known why it ends, and [`Process::handle_gone`] when its client was told and
///    both its sockets are closed. Once each, for every connection that was let in.
/// 5. Whenever something of it has changed, and at [`Process::next_timeout`]: [`Process::poll_exit`]. Behind an exit nobody is
///    let in any more.
///
/// At any time: [`Process::handle_term`], [`Process::handle_interrupt`], [`Process::handle_request`],
/// [`Process::handle_recall`]. After each of them every connection is to be given the new [`Process::drain`]; after a recall
/// that succeeded, to be told besides ([`Connection::handle_recall`](super::Connection::handle_recall)).
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use lastcall_core::{Connection, EndReason, Process, Settings, Time, Verdict};
///
/// let at = |seconds| Time::from_epoch(Duration::from_secs(seconds));
/// let mut process = Process::new(Arc::new(Settings::default()), 0);
///
/// // A client connects, and is idle in its handshake.
/// let entered = process.handle_accepted((), at(0)).expect("the process serves");
/// let mut connection = Connection::new(entered.pace, process.drain(), at(0));
///
/// // SIGTERM: whoever comes within the lame duck is let in, and behind it nobody.
/// process.handle_term(at(10));
/// assert!(process.accepts(at(14)) && !process.accepts(at(15)));
/// assert_eq!(process.poll_exit(at(20)), None, "somebody is here");
///
/// // Its clock runs: it is closed at the end of the grace, 30 s behind the signal.
/// assert_eq!(connection.next_timeout(process.drain(), at(20)), Some(at(40)));
/// assert_eq!(connection.poll_verdict(process.drain(), at(40)), Verdict::CloseNow(EndReason::ShuttingDown));
/// connection.close(EndReason::ShuttingDown, "worker:5432", process.drain(), at(40));
/// process.handle_decided(entered.number, EndReason::ShuttingDown);
/// process.handle_gone(entered.number);
/// assert_eq!(process.poll_exit(at(40)), Some(0));
/// ```
#[derive(Clone, Debug)]
pub struct Process<T> {
    drain: Drain,
    /// By how much its due times differ from another process's.
    offset: u32,
    last_number: u32,
    members: BTreeMap<u32, Member<T>>,
    /// Those of them whose startup packet is complete.
    sessions: usize,
    /// Those of them whose end is not decided.
    undecided: usize,
    /// SIGINTs so far.
    interrupts: u32,
    /// A signal has come: its drain is not taken back any more.
    is_signalled: bool,
    /// Nobody is let in any more: it exits.
    is_closed: bool,
    tally: Tally,
}

/// A connection that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Its number, unique among those that are here.
    pub number: u32,
    /// Its place among the due times, for [`Connection::new`](super::Connection::new).
    pub pace: Pace,
}

/// A connection that is here.
#[derive(Clone, Debug)]
pub struct Member<T> {
    /// What it is doing.
    pub activity: Activity,
    /// Since when.
    pub since: Time,
    /// The host's own.
    pub data: T,
    is_session: bool,
    is_decided: bool,
    is_cut: bool,
}

/// How many were here and came, and why how many ended.
///
/// An ending is counted when it is decided, not when the connection is gone: it belongs to the drain that decided it, however
/// long the client takes to read its FATAL. Once nobody is here any more, those who were here and those who came are as many
/// as those who ended and those that brought a cancel request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that were here when the drain began, those not counted whose end was decided before.
    pub here: usize,
    /// Connections that were let in since.
    pub came: u64,
    /// Connections whose end was decided since, by reason.
    pub ended: BTreeMap<EndReason, u64>,
    /// Connections that brought a cancel request.
    pub cancel_requests: u64,
    /// Sessions whose statement was cancelled at the wall.
    pub cut: u64,
}

/// What an order to stop has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// The drain begins.
    Begun,
    /// The drain that was begun by a request can't be taken back any more.
    Kept,
    /// The wall stands now.
    WallNow,
    /// Nothing: it drains already.
    None,
}

/// Why a drain was not taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotRecalled {
    /// There is none.
    NoDrain,
    /// A signal has come.
    Signalled,
    /// Under an old policy the listener is closed, and can't be opened again.
    Deaf,
}

impl<T> Process<T> {
    /// A process that serves under these rules. `offset` is a random number: replicas that are told to stop in the same
    /// second don't send their clients away in the same instants.
    pub fn new(settings: Arc<Settings>, offset: u32) -> Self {
        Process {
            drain: Drain::new(settings),
            offset,
            last_number: 0,
            members: BTreeMap::new(),
            sessions: 0,
            undecided: 0,
            interrupts: 0,
            is_signalled: false,
            is_closed: false,
            tally: Tally::default(),
        }
    }

    /// Its drain, for its connections.
    pub const fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Whether whoever comes at `now` is let in.
    pub fn accepts(&self, now: Time) -> bool {
        !self.is_closed && self.drain.accepts(now)
    }

    /// A connection was accepted. None if it came too late.
    pub fn handle_accepted(&mut self, data: T, now: Time) -> Option<Entered> {
        if !self.accepts(now) {
            return None;
        }
        // Numbers of connections that are still here are skipped when the count wraps round.
        loop {
            self.last_number = self.last_number.wrapping_add(1);
            if !self.members.contains_key(&self.last_number) {
                break;
            }
        }
        let number = self.last_number;
        let activity = Activity::Handshake;
        self.members
            .insert(number, Member { activity, since: now, data, is_session: false, is_decided: false, is_cut: false });
        self.undecided += 1;
        self.tally.came += 1;
        Some(Entered { number, pace: Pace::nth(number, self.offset) })
    }

    /// The startup packet of this connection is complete: from now on it is a session.
    ///
    /// # Errors
    /// Why it can't be one.
    pub fn handle_startup(&mut self, number: u32, now: Time) -> Result<(), EndReason> {
        if !self.drain.accepts(now) {
            return Err(EndReason::ShuttingDown);
        }
        if self.sessions >= self.drain.settings().max_connections as usize {
            return Err(EndReason::TooManyConnections);
        }
        if let Some(member) = self.member_mut(number) {
            debug_assert!(!member.is_session, "a startup packet comes once");
            member.is_session = true;
            self.sessions += 1;
        }
        Ok(())
    }

    /// What this connection is doing, and since when.
    pub fn handle_activity(&mut self, number: u32, activity: Activity, since: Time) {
        if let Some(member) = self.member_mut(number) {
            (member.activity, member.since) = (activity, since);
        }
    }

    /// The statement of this session was cancelled because of the wall ([`Session::was_cut`](super::Session::was_cut)). A
    /// session counts once.
    pub fn handle_cut(&mut self, number: u32) {
        if let Some(member) = self.member_mut(number)
            && !std::mem::replace(&mut member.is_cut, true)
        {
            self.tally.cut += 1;
        }
    }

    /// It is decided why this connection ends. A later decision changes nothing.
    pub fn handle_decided(&mut self, number: u32, reason: EndReason) {
        if self.decide(number) {
            *self.tally.ended.entry(reason).or_default() += 1;
        }
    }

    /// This connection brought a cancel request, and is no session.
    pub fn handle_cancel_request(&mut self, number: u32) {
        if self.decide(number) {
            self.tally.cancel_requests += 1;
        }
    }

    /// This connection is gone: nobody waits for it any more. Returns what the host had of it.
    pub fn handle_gone(&mut self, number: u32) -> Option<T> {
        let member = self.members.remove(&number)?;
        debug_assert!(member.is_decided, "a connection that is gone has ended for a reason");
        self.sessions -= usize::from(member.is_session);
        Some(member.data)
    }

    fn decide(&mut self, number: u32) -> bool {
        let Some(member) = self.member_mut(number) else { return false };
        let first = !std::mem::replace(&mut member.is_decided, true);
        self.undecided -= usize::from(first);
        first
    }

    /// SIGTERM came.
    pub fn handle_term(&mut self, now: Time) -> Effect {
        self.handle_signal(now)
    }

    /// SIGINT came. The second is the wall: whoever sends it at a terminal means it.
    pub fn handle_interrupt(&mut self, now: Time) -> Effect {
        self.interrupts += 1;
        // The first one has begun a drain that is not taken back any more.
        if self.interrupts == 2 {
            self.drain.handle_wall(now);
            return Effect::WallNow;
        }
        self.handle_signal(now)
    }

    fn handle_signal(&mut self, now: Time) -> Effect {
        let known = std::mem::replace(&mut self.is_signalled, true);
        match self.begin(now) {
            Effect::None if !known => Effect::Kept,
            effect => effect,
        }
    }

    /// It was asked to drain, without a signal: the drain can be taken back.
    pub fn handle_request(&mut self, now: Time) -> Effect {
        self.begin(now)
    }

    fn begin(&mut self, now: Time) -> Effect {
        if self.drain.signal().is_some() {
            return Effect::None;
        }
        self.tally = Tally { here: self.undecided, ..Tally::default() };
        self.drain.handle_signal(now);
        Effect::Begun
    }

    /// These are to be the rules from now on. Returns whether they are: a drain that is under way keeps those with which it began.
    /// Every connection is to be given the new [`Process::drain`].
    pub fn handle_settings(&mut self, settings: Arc<Settings>) -> bool {
        let serves = self.drain.signal().is_none();
        if serves {
            self.drain.handle_settings(settings);
        }
        serves
    }

    /// The drain is to be taken back.
    ///
    /// # Errors
    /// Why it can't be.
    pub fn handle_recall(&mut self) -> Result<(), NotRecalled> {
        if self.drain.signal().is_none() {
            return Err(NotRecalled::NoDrain);
        }
        if self.is_signalled {
            return Err(NotRecalled::Signalled);
        }
        if self.drain.settings().drain_policy != DrainPolicy::IdleAware {
            return Err(NotRecalled::Deaf);
        }
        self.drain.handle_recall();
        Ok(())
    }

    /// The exit code, once nothing is left to wait for: nobody is here, and the lame duck is over.
    pub fn poll_exit(&mut self, now: Time) -> Option<u8> {
        let over = self.members.is_empty() && self.drain.earliest_exit().is_some_and(|earliest| earliest <= now);
        self.is_closed |= over;
        over.then(|| self.exit_code())
    }

    /// When [`Process::poll_exit`] must be asked although nothing has happened.
    pub fn next_timeout(&self) -> Option<Time> {
        self.drain.earliest_exit()
    }

    /// What the exit code tells of the drain so far.
    pub fn exit_code(&self) -> u8 {
        let walled = self.tally.cut > 0 || self.tally.ended.contains_key(&EndReason::Wall);
        if walled { EXIT_WALL } else { EXIT_DRAINED }
    }

    /// Where its drain has got to.
    pub fn phase(&self, now: Time) -> Phase {
        if self.is_closed { Phase::Drained } else { self.drain.phase(now) }
    }

    /// When it is gone at the latest, from when no worker executes any more; none while no drain runs, and none under an old
    /// policy, which knows no bound.
    pub fn bound(&self, now: Time) -> Option<Bound> {
        let rules = self.drain.settings();
        let progress = Progress {
            signal: self.drain.signal()?,
            moved: self.any(|activity| activity == Activity::Executing || activity.holds_worker()).then_some(now),
            queued: self.any(|activity| activity == Activity::Acquiring),
            wall: self.drain.wall(),
        };
        (rules.drain_policy == DrainPolicy::IdleAware).then(|| progress.bound(rules))
    }

    /// Whether anybody here is doing something that `is` says yes to.
    pub fn any(&self, is: impl Fn(Activity) -> bool) -> bool {
        self.members.values().any(|member| is(member.activity))
    }

    /// Whoever is here, by number.
    pub const fn members(&self) -> &BTreeMap<u32, Member<T>> {
        &self.members
    }

    /// One of them, for the host to change what is its own.
    pub fn member_mut(&mut self, number: u32) -> Option<&mut Member<T>> {
        self.members.get_mut(&number)
    }

    /// The tally of the drain, or from the start while none has begun.
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_use_are_skipped_when_the_count_wraps_round() {
        let mut process = Process::new(Arc::new(Settings::default()), 0);
        let mut enter = |last_number| {
            process.last_number = last_number;
            process.handle_accepted((), Time::EPOCH).unwrap().number
        };
        assert_eq!([enter(0), enter(u32::MAX - 1), enter(u32::MAX), enter(u32::MAX)], [1, u32::MAX, 0, 2]);
    }
}
