//! The clocks of a session, against a watch that knows what client and worker do without looking at a byte.

use std::sync::Arc;
use std::time::Duration;

use lastcall_core::drain::Pace;
use lastcall_core::session::Session;
use lastcall_core::{Activity, Drain, EndReason, Pacing, Settings, Time, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::talk::{WELCOME, messages};

/// What can happen to a session. What can't happen just then is left out.
#[derive(Clone, Copy, Debug)]
enum Event {
    Signal,
    /// One byte of the next query, or the rest of it.
    HalfQuery,
    Query,
    /// The query is answered; the client takes the answer, or leaves it.
    Answer {
        in_transaction: bool,
        taken: bool,
    },
    CopyInResponse,
    CopyData,
    CopyDone,
    /// A Parse, a Bind, and the Sync behind them.
    Batch,
    More,
    Sync,
    /// The client takes one byte of what it left, or all.
    Take,
    TakeAll,
}

/// Milliseconds since the epoch.
type Millis = u64;

fn time(millis: Millis) -> Time {
    Time::from_epoch(Duration::from_millis(millis))
}

/// Who does what since when, and what the contract's table makes of it.
struct Watch {
    activity: Activity,
    /// What it will be when the client has taken all.
    behind: Activity,
    left: usize,
    half: bool,
    since: Millis,
    moved: Millis,
    signal: Option<Millis>,
    paused: Millis,
    /// The last instant after the signal at which the worker was executing or a statement's bytes moved.
    worked: Millis,
}

impl Watch {
    fn turns_to(&mut self, activity: Activity, now: Millis) {
        if let (Activity::IdleInTransaction | Activity::OpenBatch, Some(signal)) = (self.activity, self.signal) {
            self.paused += now - self.since.max(signal);
        }
        (self.activity, self.since) = (activity, now);
        self.moves(now);
    }

    fn moves(&mut self, now: Millis) {
        (self.moved, self.worked) = (now, now);
    }

    /// When it is over if nothing happens.
    fn ends(&self, rules: &Settings, due: Option<Time>) -> Option<(Time, EndReason)> {
        let stalls = || (time(self.moved.max(self.signal.unwrap_or(0))) + rules.stall_grace, EndReason::StallGrace);
        let (at, reason) = match (self.activity, due) {
            (Activity::Idle, Some(due)) => (due, EndReason::Boundary),
            (Activity::Idle, None) if rules.idle_timeout > Duration::ZERO => {
                (time(self.since) + rules.idle_timeout, EndReason::IdleTimeout)
            }
            (Activity::IdleInTransaction, Some(_)) => {
                let left = rules.transaction_budget.saturating_sub(Duration::from_millis(self.paused));
                let from = time(self.since.max(self.signal?));
                if rules.transaction_budget > Duration::ZERO && left < rules.transaction_grace {
                    (from + left, EndReason::TransactionBudget)
                } else {
                    (from + rules.transaction_grace, EndReason::TransactionGrace)
                }
            }
            (Activity::OpenBatch, Some(_)) => {
                let left = rules.transaction_budget.saturating_sub(Duration::from_millis(self.paused));
                let budget = time(self.since.max(self.signal?)) + left;
                if rules.transaction_budget > Duration::ZERO && budget <= stalls().0 {
                    (budget, EndReason::TransactionBudget)
                } else {
                    stalls()
                }
            }
            (Activity::StreamingOut | Activity::CopyIn, Some(_)) => stalls(),
            _ => return None,
        };
        Some((due.map_or(at, |due| at.max(due)), reason))
    }
}

/// A session beside its watch.
struct Pair {
    session: Session,
    drain: Drain,
    watch: Watch,
    now: Millis,
}

impl Pair {
    fn new(settings: Settings, pace: Pace) -> Pair {
        let drain = Drain::new(Arc::new(settings));
        let mut session = Session::new(pace, &drain, time(0));
        session.handle_startup(&drain, time(0));
        session.handle_worker_found(&drain, time(0));
        let welcome = session.handle_worker(&messages(WELCOME), &drain, time(0));
        session.handle_output(welcome, 0, &drain, time(0));
        session.handle_look(0, &drain, time(0));
        let watch = Watch {
            activity: Activity::Idle,
            behind: Activity::Idle,
            left: 0,
            half: false,
            since: 0,
            moved: 0,
            signal: None,
            paused: 0,
            worked: 0,
        };
        Pair { session, drain, watch, now: 0 }
    }

    fn happen(&mut self, event: Event) -> Result<(), TestCaseError> {
        let now = self.now;
        let at_rest = matches!(self.watch.activity, Activity::Idle | Activity::IdleInTransaction);
        match (event, self.watch.activity) {
            (Event::Signal, _) => {
                self.watch.signal.get_or_insert(now);
                self.drain.handle_signal(time(now));
            }
            (Event::HalfQuery, _) if at_rest && !self.watch.half => {
                self.watch.half = true;
                self.client(&messages("Q")[..1])?;
            }
            (Event::Query, _) if at_rest => {
                let sent = usize::from(std::mem::take(&mut self.watch.half));
                self.client(&messages("Q")[sent..])?;
                self.watch.turns_to(Activity::Executing, now);
            }
            (Event::Batch, _) if at_rest && !self.watch.half => {
                self.client(&messages("P"))?;
                self.watch.turns_to(Activity::OpenBatch, now);
            }
            (Event::More, Activity::OpenBatch) => {
                self.client(&messages("B"))?;
                self.watch.moves(now);
            }
            (Event::Sync, Activity::OpenBatch) => {
                self.client(&messages("S"))?;
                self.watch.turns_to(Activity::Executing, now);
            }
            (Event::Answer { in_transaction, taken }, Activity::Executing) => {
                let answer = self.worker(if in_transaction { "C Z:T" } else { "C Z:I" });
                let rests = if in_transaction { Activity::IdleInTransaction } else { Activity::Idle };
                (self.watch.behind, self.watch.left) = (rests, if taken { 0 } else { answer });
                self.watch.turns_to(if taken { rests } else { Activity::StreamingOut }, now);
                self.taken(answer - self.watch.left, self.watch.left);
            }
            (Event::CopyInResponse, Activity::Executing) => {
                let answer = self.worker("G");
                self.taken(answer, 0);
                self.watch.turns_to(Activity::CopyIn, now);
            }
            (Event::CopyData, Activity::CopyIn) => {
                self.client(&messages("d"))?;
                self.watch.moves(now);
            }
            (Event::CopyDone, Activity::CopyIn) => {
                self.client(&messages("c"))?;
                self.watch.turns_to(Activity::Executing, now);
            }
            (Event::Take, Activity::StreamingOut) if self.watch.left > 1 => {
                self.watch.left -= 1;
                self.watch.moves(now);
                self.taken(1, self.watch.left);
            }
            (Event::TakeAll, Activity::StreamingOut) => {
                self.taken(self.watch.left, 0);
                self.watch.turns_to(self.watch.behind, now);
            }
            _ => {}
        }
        prop_assert_eq!(self.session.activity(), self.watch.activity, "after {:?}", event);
        Ok(())
    }

    /// The client's machine takes and acknowledges so much, and not what is left.
    fn taken(&mut self, taken: usize, left: usize) {
        self.session.handle_output(taken, left, &self.drain, time(self.now));
        self.session.handle_look(0, &self.drain, time(self.now));
    }

    fn verdict(&mut self, at: Time) -> Verdict {
        if self.session.poll_verdict(&self.drain, at) == Verdict::LookNow {
            self.session.handle_look(0, &self.drain, at);
        }
        self.session.poll_verdict(&self.drain, at)
    }

    fn client(&mut self, bytes: &[u8]) -> Result<(), TestCaseError> {
        let forwarded = self.session.handle_client(bytes, &self.drain, time(self.now));
        prop_assert_eq!(forwarded, bytes.len(), "it was held");
        Ok(())
    }

    fn worker(&mut self, types: &str) -> usize {
        self.session.handle_worker(&messages(types), &self.drain, time(self.now))
    }

    /// Lets time pass, and compares the verdicts. True if the session is over by then.
    fn pass(&mut self, millis: Millis, pace: Pace) -> Result<bool, TestCaseError> {
        let end = self.watch.ends(self.drain.settings(), self.drain.due(pace));
        let until = time(self.now + millis);
        match end {
            None => {
                prop_assert_eq!(self.verdict(until), Verdict::CarryOn);
                if self.watch.activity == Activity::Executing {
                    self.watch.worked = self.now + millis;
                }
            }
            Some((at, reason)) => {
                for moment in [time(self.now), until] {
                    let due = if at <= moment { Verdict::CloseNow(reason) } else { Verdict::CloseAt(at, reason) };
                    prop_assert_eq!(self.verdict(moment), due, "at {:?}", moment);
                }
                if at <= until {
                    self.is_within_the_bound(at.max(time(self.now)))?;
                    return Ok(true);
                }
            }
        }
        self.now += millis;
        Ok(false)
    }

    /// The contract's bound, without what comes after the close.
    fn is_within_the_bound(&self, closed: Time) -> Result<(), TestCaseError> {
        let rules = self.drain.settings();
        let Some(signal) = self.drain.signal() else { return Ok(()) };
        let patience = rules.transaction_grace.max(rules.stall_grace);
        let bound = (signal + rules.idle_grace).max(time(self.watch.worked).max(signal) + patience);
        prop_assert!(closed <= bound, "closed at {:?}, behind {:?}", closed, bound);
        Ok(())
    }
}

fn event() -> impl Strategy<Value = Event> {
    let answer =
        (any::<bool>(), any::<bool>()).prop_map(|(in_transaction, taken)| Event::Answer { in_transaction, taken });
    prop_oneof![
        1 => Just(Event::Signal),
        1 => Just(Event::HalfQuery),
        6 => Just(Event::Query),
        6 => answer,
        1 => Just(Event::CopyInResponse),
        2 => Just(Event::CopyData),
        1 => Just(Event::CopyDone),
        2 => Just(Event::Batch),
        2 => Just(Event::More),
        2 => Just(Event::Sync),
        3 => Just(Event::Take),
        2 => Just(Event::TakeAll),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let seconds = |range: std::ops::Range<u64>| range.prop_map(Duration::from_secs);
    let graces = (seconds(0..60), seconds(0..100), seconds(1..60), seconds(0..60));
    (seconds(0..20), seconds(0..20), prop::sample::select(&Pacing::ALL), graces).prop_map(
        |(lame_duck, more, pacing, (transaction_grace, transaction_budget, stall_grace, idle_timeout))| Settings {
            lame_duck,
            idle_grace: lame_duck + more,
            pacing,
            transaction_grace,
            transaction_budget,
            stall_grace,
            idle_timeout,
            ..Settings::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever client and worker do, the session ends when the watch says so and not before; and once the client is
    /// silent it ends within the bound.
    #[test]
    fn the_verdicts_are_the_watchs(
        settings in settings(),
        pace in any::<u32>().prop_map(Pace),
        events in vec((0..20_000_u64, event()), 1..40),
        last in 0..1_000_000_u64,
    ) {
        let mut pair = Pair::new(settings, pace);
        for (wait, event) in events {
            if pair.pass(wait, pace)? {
                return Ok(());
            }
            pair.happen(event)?;
        }
        // From here on the client is silent, and the worker does what it has to.
        pair.happen(Event::Signal)?;
        if pair.watch.activity == Activity::Executing {
            prop_assert!(!pair.pass(last, pace)?);
            pair.happen(Event::Answer { in_transaction: last % 2 == 0, taken: last % 3 == 0 })?;
        }
        prop_assert!(pair.pass(u64::from(u32::MAX), pace)?, "it waits for a silent client");
    }
}
