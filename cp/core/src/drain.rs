//! The drain: when does a given connection end?
//!
//! One question decides everything: does the connection wait on its worker, or on its client? For a worker the drain waits.
//! For a client a clock runs. That is enough for both promises: clients that do nothing can't hold the process, and nothing
//! that is executing is cut.
//!
//! Time runs from the signal, or from the request that stands for one, t = 0:
//!
//! ```text
//!        signal        lame_duck                      idle_grace
//!  Serving │  LameDuck    │             Grace              │   Boundary …              │ Wall (only where set)
//! ─────────┼──────────────┼───────────────┬────────────────┼───────────────────────────┼──────────────────────▶ t
//!          │ new sessions │ new sessions refused           │
//!          │ accepted     │               └ due times fall ┘ each in its own place in the grace's second half
//! ```
//!
//! 1. *Serving*: only the steady clocks run (`idle_timeout`, `session_init_timeout`, `worker_queue_timeout`).
//! 2. *Lame duck*: the process says that it isn't ready, and serves on: load balancers need seconds to notice.
//! 3. *Grace*: new sessions are refused. Each connection has a *due time*; until then its client may do what it likes.
//! 4. *Boundary*: a connection that is due ends at its first boundary: nothing outstanding, transaction status `I`. Until
//!    there it gets no work that would move the boundary away ([`Gate::Due`](super::tracker::Gate)).
//! 5. *Wall*, only where set: what still runs is cancelled at its worker, and what is left is ended. Better than the SIGKILL
//!    that would come anyway, and never silent.
//! 6. *Drained*: no connection left and the lame duck over.
//!
//! Whoever an administrator ends ([`Standing::condemned`]) has a wall of its own, in every phase.
//!
//! A drain that was taken back leaves no trace: the steady clocks run again, and the next drain begins at its own t = 0.
//!
//! [`Drain::verdict`] is the whole decision. It reads where a connection stands ([`Standing`]), and knows nothing of bytes,
//! sockets or tasks.

use std::sync::Arc;
use std::time::Duration;

use super::activity::Activity;
use super::end::EndReason;
use super::settings::{DrainPolicy, Pacing, Settings};
use super::time::Time;

/// Where a drain has got to. See the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No signal yet.
    Serving,
    /// Not ready, but new sessions are accepted.
    LameDuck,
    /// New sessions are refused; connections fall due one by one.
    Grace,
    /// Every connection is due.
    Boundary,
    /// The wall has fallen.
    Wall,
    /// Nothing is left to wait for.
    Drained,
}

impl Phase {
    /// The name used in logs and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Serving => "serving",
            Phase::LameDuck => "lame_duck",
            Phase::Grace => "grace",
            Phase::Boundary => "boundary",
            Phase::Wall => "wall",
            Phase::Drained => "drained",
        }
    }
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No clock runs: the worker owes the next byte.
    CarryOn,
    /// It will be closed at this time if nothing happens before.
    CloseAt(Time, EndReason),
    /// It is over.
    CloseNow(EndReason),
    /// Its statement will be cancelled at this time if it still runs.
    CancelAt(Time),
    /// Its statement is to be cancelled at its worker, now. Tell the session when that is under way.
    CancelNow,
    /// Nothing can be decided before it is known how much of its answer the client's machine has acknowledged.
    LookNow,
    /// Its client has been told, and has heard it or will not any more: its sockets are to be closed.
    LetGo,
}

/// A connection's own place in the second half of the grace, as a fraction of 2³²: 0 is its middle, the rest its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace(pub u32);

impl Pace {
    /// The place of the `n`th connection of a process. Neighbours are far apart and any run of connections is spread
    /// evenly (multiples of the golden ratio, modulo one), whatever the `offset` by which processes differ.
    pub const fn nth(n: u32, offset: u32) -> Pace {
        // 2³² divided by the golden ratio, made odd.
        Pace(n.wrapping_mul(0x9e37_79b9).wrapping_add(offset))
    }
}

/// Where a connection stands: all that its verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// What it is doing.
    pub activity: Activity,
    /// Since when it has been doing that.
    pub since: Time,
    /// When a byte of its statement last moved, for the activities that wait on a client in the middle of a statement.
    pub moved: Time,
    /// Its place in the second half of the grace.
    pub pace: Pace,
    /// When its handshake is over time: `session_init_timeout` after it was accepted, not counting the wait for a worker.
    pub init_deadline: Time,
    /// Whether the worker's output stops inside a message: no place for a FATAL.
    pub mid_message: bool,
    /// When a worker took it; the time it was accepted until one did.
    pub acquired: Time,
    /// Time spent in pauses inside transactions and batches since the signal, without the one that is going on.
    pub paused: Duration,
    /// Its statement is being cancelled, by whatever does not wait for it any longer.
    pub cancelling: Option<Cancelling>,
    /// When its client ended its side. It is most likely a process that was killed, and waits for nothing.
    pub left: Option<Time>,
    /// Whether its session has begun. One that waits for a worker then is between two transactions.
    pub begun: bool,
    /// Whether it is a replication stream (CopyBoth), which no timeout of the steady state ends.
    pub streams: bool,
    /// Since when an administrator wants it gone: for this connection that is a wall of its own.
    pub condemned: Option<Time>,
}

/// A statement that is cancelled at its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelling {
    /// Since when.
    pub first: Time,
    /// When the next cancel request is due, if something still runs then.
    pub again: Time,
    /// Whether the wall is why.
    pub wall: bool,
}

/// The drain of one process: its rules, and whether and when it began. The same for all connections.
#[derive(Clone, Debug)]
pub struct Drain {
    settings: Arc<Settings>,
    signal: Option<Time>,
    /// The wall that was called for, whatever the settings say.
    wall_called: Option<Time>,
}

impl Drain {
    /// Not draining yet.
    pub fn new(settings: Arc<Settings>) -> Self {
        Drain { settings, signal: None, wall_called: None }
    }

    /// The signal, or the request that stands for it, came at `signal`. A later call changes nothing: a drain begins once.
    pub fn handle_signal(&mut self, signal: Time) {
        self.signal.get_or_insert(signal);
    }

    /// The drain was taken back, its wall with it. Each session must be told too
    /// ([`Session::handle_recall`](super::session::Session::handle_recall)).
    pub fn handle_recall(&mut self) {
        self.signal = None;
        self.wall_called = None;
    }

    /// The wall was called for at `now`, during the drain. A later call changes nothing.
    pub fn handle_wall(&mut self, now: Time) {
        self.wall_called.get_or_insert(now);
    }

    /// From now on these are the rules. Not during a drain: it ends by the rules with which it began.
    pub fn handle_settings(&mut self, settings: Arc<Settings>) {
        debug_assert!(self.signal.is_none(), "the rules of a drain stay as they are");
        self.settings = settings;
    }

    /// When the drain began.
    pub const fn signal(&self) -> Option<Time> {
        self.signal
    }

    /// The rules.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The phase at `now`, for a process that still has connections.
    pub fn phase(&self, now: Time) -> Phase {
        let Some(signal) = self.signal else {
            return Phase::Serving;
        };
        if self.is_walled(now) {
            Phase::Wall
        } else if now < signal + self.settings.lame_duck {
            Phase::LameDuck
        } else if now < signal + self.settings.idle_grace {
            Phase::Grace
        } else {
            Phase::Boundary
        }
    }

    /// Whether a session that arrives at `now` is served. The two old policies don't even listen any more.
    pub fn accepts(&self, now: Time) -> bool {
        match self.settings.drain_policy {
            DrainPolicy::IdleAware => self.phase(now) <= Phase::LameDuck,
            DrainPolicy::Unbounded | DrainPolicy::Flat => self.signal.is_none(),
        }
    }

    /// Before this a drained process stays all the same: for a session that a load balancer sends too late. At the wall none is
    /// served any more.
    pub fn earliest_exit(&self) -> Option<Time> {
        let lame_duck = match self.settings.drain_policy {
            DrainPolicy::IdleAware => self.settings.lame_duck,
            DrainPolicy::Unbounded | DrainPolicy::Flat => Duration::ZERO,
        };
        let over = self.signal? + lame_duck;
        Some(self.wall().map_or(over, |wall| wall.min(over)))
    }

    /// When a connection with this pace falls due. None while no drain runs, and none under the old policies.
    pub fn due(&self, pace: Pace) -> Option<Time> {
        let signal = self.signal?;
        if self.settings.drain_policy != DrainPolicy::IdleAware {
            return None;
        }
        let last = self.settings.idle_grace;
        let first = match self.settings.pacing {
            Pacing::Even => (last / 2).max(self.settings.lame_duck).min(last),
            Pacing::None => last,
        };
        let spread = (last - first).mul_f64(f64::from(pace.0) / f64::from(u32::MAX));
        Some(signal + first + spread.min(last - first))
    }

    /// Whether a connection with this pace is due at `now`.
    pub fn is_due(&self, pace: Pace, now: Time) -> bool {
        self.due(pace).is_some_and(|due| due <= now)
    }

    /// What becomes of a connection that stands so, at `now`.
    pub fn verdict(&self, standing: &Standing, now: Time) -> Verdict {
        let own = match self.due(standing.pace) {
            Some(due) => self.draining_clock(standing, due),
            None => self.steady_clock(standing),
        };
        let own = own.map(|(at, reason)| Verdict::CloseAt(at, reason)).or_else(|| self.of_one_who_left(standing));
        let wall = self.wall_of(standing).map(|(wall, reason)| self.at_wall(standing, wall, reason));
        // What the wall ends now, it ends. Else whatever comes first: it makes nothing later than it would have been without.
        let falls = wall.filter(|wall| wall.at() <= now);
        let first = falls.or_else(|| wall.into_iter().chain(own).min_by_key(Verdict::at));
        match first {
            None => Verdict::CarryOn,
            Some(Verdict::CloseAt(at, reason)) if at <= now => Verdict::CloseNow(reason),
            Some(Verdict::CancelAt(at)) if at <= now => Verdict::CancelNow,
            Some(verdict) => verdict,
        }
    }

    /// What the wall, which stands at `wall` for this `reason`, does to a connection.
    fn at_wall(&self, standing: &Standing, wall: Time, reason: EndReason) -> Verdict {
        let cuts = self.settings.drain_policy == DrainPolicy::Flat && reason == EndReason::Wall;
        let patience = wall + self.settings.wall_patience();
        match (standing.activity, standing.cancelling) {
            _ if cuts => Verdict::CloseAt(wall, reason),
            (Activity::Executing, None) => Verdict::CancelAt(wall),
            // A worker that does not even cancel is not waited for: the SIGKILL would not wait either.
            (Activity::Executing, Some(cancelling)) if cancelling.again < patience => {
                Verdict::CancelAt(cancelling.again.max(wall))
            }
            (Activity::Executing, Some(_)) => Verdict::CloseAt(patience, reason),
            // A client that takes the rest of a message can be told behind it, asked for or not: a notification for example.
            _ if standing.mid_message => Verdict::CloseAt(patience, reason),
            _ => Verdict::CloseAt(wall, reason),
        }
    }

    /// What becomes of a statement whose client has ended its side: nobody may be there to read its answer, so while draining
    /// it has `stall_grace`, and is then cancelled. In the steady state it runs on, as with PostgreSQL.
    fn of_one_who_left(&self, standing: &Standing) -> Option<Verdict> {
        let (left, signal) = (standing.left?, self.signal?);
        if standing.activity != Activity::Executing || self.settings.drain_policy != DrainPolicy::IdleAware {
            return None;
        }
        let cancel = left.max(signal) + self.settings.stall_grace;
        let patience = cancel + self.settings.wall_patience();
        Some(match standing.cancelling {
            None => Verdict::CancelAt(cancel),
            Some(cancelling) if cancelling.again < patience => Verdict::CancelAt(cancelling.again.max(cancel)),
            Some(_) => Verdict::CloseAt(patience, EndReason::ClientClosed),
        })
    }

    /// The clock of a connection while the process drains.
    fn draining_clock(&self, standing: &Standing, due: Time) -> Option<(Time, EndReason)> {
        let rules = &self.settings;
        let signal = self.signal.unwrap_or_default();
        match standing.activity {
            Activity::Executing | Activity::Closing => None,
            // What was asked of a pool has not been passed on: while it waits there it is at a boundary.
            Activity::Acquiring if standing.begun => self.steady_clock(standing).min(Some((due, EndReason::Boundary))),
            Activity::Acquiring => self.steady_clock(standing),
            Activity::Handshake => {
                // One that got its worker only behind the grace, for which it could do nothing, has a moment from there.
                let grace = signal + rules.idle_grace;
                let late = standing.acquired > grace;
                let grace = if late { standing.acquired + rules.close_linger } else { grace };
                Some((grace, EndReason::ShuttingDown).min((standing.init_deadline, EndReason::HandshakeTimeout)))
            }
            Activity::Idle => Some((self.at_message_end(standing, due), EndReason::Boundary)),
            Activity::IdleInTransaction => {
                let grace = (standing.since.max(signal) + rules.transaction_grace, EndReason::TransactionGrace);
                let (at, reason) = self.budget(standing, signal).map_or(grace, |budget| budget.min(grace));
                Some((at.max(due), reason))
            }
            Activity::StreamingOut | Activity::CopyIn | Activity::OpenBatch => {
                let stalled = (standing.moved.max(signal) + rules.stall_grace, EndReason::StallGrace);
                // A batch is a transaction: one that its client never ends may not live on bytes alone.
                let budget = self.budget(standing, signal).filter(|_| standing.activity.is_pause());
                let (at, reason) = budget.map_or(stalled, |budget| budget.min(stalled));
                Some((at.max(due), reason))
            }
        }
    }

    /// When the pause that is going on has used up what the earlier ones have left of the budget; none if there is none.
    fn budget(&self, standing: &Standing, signal: Time) -> Option<(Time, EndReason)> {
        let budget = Some(self.settings.transaction_budget).filter(|budget| !budget.is_zero())?;
        let left = budget.saturating_sub(standing.paused);
        Some((standing.since.max(signal) + left, EndReason::TransactionBudget))
    }

    /// The clock of a connection in the steady state.
    fn steady_clock(&self, standing: &Standing) -> Option<(Time, EndReason)> {
        let rules = &self.settings;
        match standing.activity {
            Activity::Handshake => Some((standing.init_deadline, EndReason::HandshakeTimeout)),
            Activity::Acquiring => Some((standing.since + rules.worker_queue_timeout, EndReason::WorkerUnreachable)),
            Activity::Idle => {
                let deadline = self.idle_deadline(standing)?;
                Some((self.at_message_end(standing, deadline), EndReason::IdleTimeout))
            }
            _ => None,
        }
    }

    /// When a client that stays idle has been so for `idle_timeout`; none where nobody counts.
    fn idle_deadline(&self, standing: &Standing) -> Option<Time> {
        let timeout = self.settings.idle_timeout;
        (!timeout.is_zero() && !standing.streams).then(|| standing.since + timeout)
    }

    /// `at`, or a moment more where a message that nobody asked for is under way: behind its end there is a place for the
    /// FATAL.
    fn at_message_end(&self, standing: &Standing, at: Time) -> Time {
        if standing.mid_message { at.max(standing.since) + self.settings.close_linger } else { at }
    }

    /// How long a client may take to read its last words, from `now`: at most until this.
    pub fn farewell_deadline(&self, now: Time) -> Time {
        let rules = &self.settings;
        let longest = now + rules.stall_grace.max(rules.close_linger);
        match self.wall() {
            Some(wall) => longest.min((wall + rules.wall_patience()).max(now) + rules.close_linger),
            None => longest,
        }
    }

    /// When this connection is ended whatever it does, and why: at the drain's wall, or because an administrator wants it gone,
    /// whichever comes first.
    fn wall_of(&self, standing: &Standing) -> Option<(Time, EndReason)> {
        let wall = self.wall().map(|wall| (wall, EndReason::Wall));
        let condemned = standing.condemned.map(|since| (since, EndReason::Administrator));
        wall.into_iter().chain(condemned).min()
    }

    /// Why nothing new is begun for this connection at `now`; none as long as it may go on.
    pub fn walled(&self, standing: &Standing, now: Time) -> Option<EndReason> {
        self.wall_of(standing).filter(|(wall, _)| *wall <= now).map(|(_, reason)| reason)
    }

    /// Whether the wall has fallen at `now`.
    pub fn is_walled(&self, now: Time) -> bool {
        self.wall().is_some_and(|wall| wall <= now)
    }

    /// When everything that is left is ended: as the settings say, or when it was called for.
    pub fn wall(&self) -> Option<Time> {
        let signal = self.signal?;
        let rules = &self.settings;
        let timeout = Some(rules.handover_drain_timeout).filter(|timeout| !timeout.is_zero());
        let grace = rules.termination_grace.map(|grace| grace.saturating_sub(rules.teardown_budget));
        let set = match rules.drain_policy {
            DrainPolicy::IdleAware => timeout.into_iter().chain(grace).min(),
            DrainPolicy::Flat => timeout,
            DrainPolicy::Unbounded => None,
        };
        set.map(|after| signal + after).into_iter().chain(self.wall_called).min()
    }
}

impl Verdict {
    /// When it comes true; now, at the epoch.
    fn at(&self) -> Time {
        match self {
            Verdict::CloseAt(at, _) | Verdict::CancelAt(at) => *at,
            Verdict::CarryOn | Verdict::CloseNow(_) | Verdict::CancelNow | Verdict::LookNow | Verdict::LetGo => {
                Time::EPOCH
            }
        }
    }
}
