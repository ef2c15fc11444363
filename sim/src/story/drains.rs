//! The drains of a run: since when, until when, where their walls stand, and which phase that makes it at a given time.

use std::time::Duration;

use lastcall_core::{DrainPolicy, Phase, Settings, Time};
use lastcall_world::Signal;

use super::Moment;
use crate::cast::history::{Event, Fault};
use crate::cast::pod::report::Cause;

/// A drain.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    /// Its t = 0, as far as the kubelet knows.
    pub(crate) began: Moment,
    /// When it may have begun: a request is obeyed before its answer comes.
    pub(crate) asked: Moment,
    /// What began it.
    pub(crate) cause: Cause,
    /// What came in the same instant, and may have been heard of first.
    pub(crate) perhaps: Option<Cause>,
    /// When it was taken back, if it was.
    pub(crate) recalled: Option<Moment>,
    /// What walls there are, each with its time. A second SIGINT is one under every policy.
    walls: Vec<(Time, Wall)>,
}

/// A request for a drain, or to take one back: the process did so between the two moments, if at all.
#[derive(Clone, Debug)]
pub(crate) struct DrainRequest {
    /// For a drain.
    pub(crate) begin: bool,
    /// When it was sent.
    pub(crate) asked: Moment,
    /// When an answer came, or none would come any more.
    pub(crate) answered: Option<Moment>,
}

impl DrainRequest {
    /// Whether the process may have done what it asks for at this time, give or take the slack.
    pub(crate) fn may_be_done_at(&self, at: Time, slack: Duration) -> bool {
        self.asked.at <= at + slack && self.answered.is_none_or(|answered| answered.at + slack >= at)
    }
}

/// Why a wall stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wall {
    /// `handover_drain_timeout`.
    Timeout,
    /// `termination_grace`, less `teardown_budget`.
    TerminationGrace,
    /// A second SIGINT.
    SecondInterrupt,
    /// A second SIGINT in the instant of the first: a process that had not heard of that one hears of one only.
    PerhapsSecondInterrupt,
}

impl Wall {
    /// What set it, for people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Wall::Timeout => "handover_drain_timeout",
            Wall::TerminationGrace => "termination_grace",
            Wall::SecondInterrupt | Wall::PerhapsSecondInterrupt => "a second SIGINT",
        }
    }
}

impl Drain {
    fn begun(began: Moment, cause: Cause, settings: &Settings) -> Drain {
        let aware = settings.drain_policy == DrainPolicy::IdleAware;
        let timeout = Some(settings.handover_drain_timeout).filter(|timeout| aware && !timeout.is_zero());
        let grace = settings.termination_grace.filter(|_| aware);
        let grace = grace.map(|grace| grace.saturating_sub(settings.teardown_budget));
        let walls = [timeout.map(|wall| (wall, Wall::Timeout)), grace.map(|wall| (wall, Wall::TerminationGrace))];
        let walls = walls.into_iter().flatten().map(|(after, wall)| (began.at + after, wall)).collect();
        Drain { began, asked: began, cause, perhaps: None, recalled: None, walls }
    }

    /// The wall that must fall first.
    pub(crate) fn certain_wall(&self) -> Option<(Time, Wall)> {
        self.walls.iter().filter(|(_, wall)| *wall != Wall::PerhapsSecondInterrupt).min().copied()
    }

    /// How much earlier than its t = 0 it may have begun.
    pub(crate) fn heard_late(&self) -> Duration {
        self.began.at.since(self.asked.at)
    }

    /// Until when new sessions are served: to the end of the lame duck, or to a wall in it.
    pub(crate) fn serves_until(&self, settings: &Settings) -> Time {
        let lame_duck = self.asked.at + settings.lame_duck;
        let wall = self.walls().min().map(|wall| self.asked.at + wall.since(self.began.at));
        wall.map_or(lame_duck, |wall| wall.min(lame_duck))
    }

    /// When walls stand.
    pub(crate) fn walls(&self) -> impl Iterator<Item = Time> {
        self.walls.iter().map(|(wall, _)| *wall)
    }

    /// The wall that may fall first.
    pub(crate) fn wall(&self) -> Option<(Time, Wall)> {
        self.walls.iter().min().copied()
    }
}

/// All drains, in their order: each from the first SIGTERM or SIGINT, or from a request for a drain before it. Only the last one
/// can be one that was not taken back.
#[derive(Debug, Default)]
pub(super) struct Drains {
    pub(super) all: Vec<Drain>,
    /// The process is stopped: signals wait until it goes on, each once.
    waiting: Option<Vec<Signal>>,
    interrupts: u32,
    /// When the first SIGINT came.
    interrupted: Option<Moment>,
    /// When a drain was last asked for.
    asked: Option<Moment>,
    /// The first SIGTERM or SIGINT that it heard of: nothing is taken back behind it.
    signalled: Option<(Moment, Signal)>,
}

impl Drains {
    pub(super) fn add(&mut self, moment: Moment, event: &Event, settings: &Settings) {
        match (event, &mut self.waiting) {
            (Event::Fault { what: Fault::PodStopped }, waiting) => {
                // What came in this very instant it has not heard either.
                let by_signal = |drain: &mut Drain| match drain.cause {
                    Cause::Signal(signal) if drain.began.at == moment.at => Some(signal),
                    _ => None,
                };
                let unheard = self.all.last_mut().and_then(by_signal);
                if unheard.is_some() {
                    self.all.pop();
                    self.interrupts = 0;
                    self.interrupted = None;
                    self.signalled = None;
                }
                *waiting = Some(unheard.into_iter().collect());
            }
            (Event::Fault { what: Fault::PodGoesOn }, waiting) => {
                for signal in waiting.take().unwrap_or_default() {
                    self.signal(moment, signal, settings);
                }
            }
            (Event::SignalSent { signal }, Some(waiting)) if !waiting.contains(signal) => waiting.push(*signal),
            (Event::SignalSent { signal }, None) => self.signal(moment, *signal, settings),
            _ => {}
        }
        let signalled = self.signalled;
        match (event, self.open()) {
            (Event::DrainAnswered { begin: true, status: Some(200..300) }, None) => {
                let asked = self.asked.unwrap_or(moment);
                self.all.push(Drain { asked, ..Drain::begun(moment, Cause::Request, settings) });
            }
            (Event::DrainAsked { begin: true }, _) => self.asked = Some(moment),
            (Event::DrainAnswered { begin: false, status: Some(200..300) }, Some(drain)) => {
                // Behind a signal it would have been refused: it was before, and only its answer came later.
                drain.recalled = Some(signalled.map_or(moment, |(moment, _)| moment));
                if let Some((moment, signal)) = signalled {
                    self.all.push(Drain::begun(moment, Cause::Signal(signal), settings));
                }
            }
            _ => {}
        }
    }

    /// The process has heard of this signal.
    fn signal(&mut self, moment: Moment, signal: Signal, settings: &Settings) {
        if !matches!(signal, Signal::Term | Signal::Int) {
            return;
        }
        self.signalled.get_or_insert((moment, signal));
        self.interrupts += u32::from(signal == Signal::Int);
        let first = (signal == Signal::Int).then(|| *self.interrupted.get_or_insert(moment));
        // A SIGINT after a SIGTERM is a first one.
        let second = signal == Signal::Int && self.interrupts == 2;
        match self.open() {
            None => self.all.push(Drain::begun(moment, Cause::Signal(signal), settings)),
            // Two at once are one to the process, if it has not heard of the first yet.
            Some(drain) if second && first.is_some_and(|first| first.at == moment.at) => {
                drain.walls.push((moment.at, Wall::PerhapsSecondInterrupt));
            }
            Some(drain) if second => drain.walls.push((moment.at, Wall::SecondInterrupt)),
            Some(drain) if drain.began.at == moment.at => drain.perhaps = Some(Cause::Signal(signal)),
            Some(_) => {}
        }
    }

    /// The drain that runs, if there is one.
    fn open(&mut self) -> Option<&mut Drain> {
        self.all.last_mut().filter(|drain| drain.recalled.is_none())
    }
}

/// The phases of one run, one after the other: each and when it begins. The first begins at the epoch; begins don't go back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phases(Vec<(Time, Phase)>);

impl Phases {
    /// The phases of a run with these drains. Under the old policies there is only one: they have no rules of their own for a
    /// drain.
    pub(super) fn of(drains: &[Drain], settings: &Settings) -> Phases {
        let mut phases = Phases(vec![(Time::EPOCH, Phase::Serving)]);
        for drain in drains.iter().filter(|_| settings.drain_policy == DrainPolicy::IdleAware) {
            let began = drain.began.at;
            phases.0.extend([
                (began, Phase::LameDuck),
                (began + settings.lame_duck, Phase::Grace),
                (began + settings.idle_grace, Phase::Boundary),
            ]);
            let wall = drain.wall().map(|(wall, _)| (wall, Phase::Wall));
            let recall = drain.recalled.map(|recalled| (recalled.at, Phase::Serving));
            for (at, phase) in wall.into_iter().chain(recall) {
                phases.0.retain(|(begin, _)| *begin < at);
                phases.0.push((at, phase));
            }
        }
        phases
    }

    /// Each phase, and when it begins.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Time, Phase)> {
        self.0.iter().copied()
    }

    /// When the last lame duck ended, or was to end.
    pub(crate) fn lame_duck_end(&self) -> Option<Time> {
        let grace = self.0.iter().rev().find(|(_, phase)| *phase == Phase::Grace);
        grace.map(|(begin, _)| *begin)
    }

    /// The phase at this time.
    pub(crate) fn at(&self, time: Time) -> Phase {
        self.0.iter().rev().find(|(begin, _)| *begin <= time).map_or(Phase::Serving, |(_, phase)| *phase)
    }

    /// The phases that something that lasted from `from` until before `to` was in: the one in which it began at least.
    pub(crate) fn between(&self, from: Time, to: Time) -> Vec<Phase> {
        let mut phases = vec![self.at(from)];
        for (index, (begin, phase)) in self.0.iter().enumerate() {
            let lasted = self.0.get(index + 1).is_none_or(|(next, _)| next > begin);
            if *begin > from && *begin < to && lasted && !phases.contains(phase) {
                phases.push(*phase);
            }
        }
        phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::history::{Entry, History};
    use crate::story::Story;

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    fn told<T>(events: &[(u64, Event)], change: impl FnOnce(&mut Settings), tell: impl FnOnce(&Story) -> T) -> T {
        let entries = events.iter().map(|(seconds, event)| Entry::new(at(*seconds), event.clone()));
        let mut settings = Settings::default();
        change(&mut settings);
        tell(&Story::of(&History { entries: entries.collect() }, &settings))
    }

    fn phases(events: &[(u64, Event)], change: impl FnOnce(&mut Settings)) -> Phases {
        told(events, change, |story| story.phases.clone())
    }

    fn signal(signal: Signal) -> Event {
        Event::SignalSent { signal }
    }

    fn asked(begin: bool, status: u16) -> Event {
        Event::DrainAnswered { begin, status: Some(status) }
    }

    #[test]
    fn phases_follow_the_signal() {
        let phases = phases(&[(60, signal(Signal::Term))], |_| {});
        let all: Vec<Phase> = [0, 59, 60, 64, 65, 89, 90, 9999].map(|seconds| phases.at(at(seconds))).to_vec();
        use Phase::*;
        assert_eq!(all, [Serving, Serving, LameDuck, LameDuck, Grace, Grace, Boundary, Boundary]);
        assert_eq!(phases.lame_duck_end(), Some(at(65)));
        assert_eq!(phases.between(at(1), at(65)), [Serving, LameDuck]);
        assert_eq!(phases.between(at(64), at(91)), [LameDuck, Grace, Boundary]);
        assert_eq!(phases.between(at(90), at(90)), [Boundary]);
    }

    #[test]
    fn the_first_wall_counts_and_a_second_sigint_is_one() {
        let term = [(60, signal(Signal::Term))];
        let both = |settings: &mut Settings| {
            settings.handover_drain_timeout = Duration::from_secs(100);
            settings.termination_grace = Some(Duration::from_secs(60));
        };
        let wall = |change: fn(&mut Settings)| told(&term, change, |story| story.drain()?.wall());
        assert_eq!(wall(both), Some((at(100), Wall::TerminationGrace)));
        assert_eq!(wall(|_| {}), None);
        let walled = phases(&term, both);
        assert_eq!((walled.at(at(99)), walled.at(at(100))), (Phase::Boundary, Phase::Wall));
        let interrupted = phases(&[(60, signal(Signal::Int)), (62, signal(Signal::Int))], |_| {});
        assert_eq!((interrupted.at(at(61)), interrupted.at(at(70))), (Phase::LameDuck, Phase::Wall));
    }

    #[test]
    fn a_process_that_is_stopped_hears_of_a_signal_when_it_goes_on() {
        let fault = |what| Event::Fault { what };
        let events = [
            (10, fault(Fault::PodStopped)),
            (20, signal(Signal::Term)),
            (30, signal(Signal::Term)),
            (40, fault(Fault::PodGoesOn)),
        ];
        let began = told(&events, |_| {}, |story| story.signal().map(|signal| (signal.index, signal.at)));
        assert_eq!(began, Some((3, at(40))));
        let first = [(10, signal(Signal::Term)), (11, fault(Fault::PodStopped)), (40, fault(Fault::PodGoesOn))];
        assert_eq!(told(&first, |_| {}, |story| story.signal().map(|signal| signal.at)), Some(at(10)));
    }

    #[test]
    fn of_what_comes_in_one_instant_nobody_knows_what_is_heard_first_nor_whether_two_sigints_are_two() {
        let cause = |second| {
            let events = [(60, signal(Signal::Int)), (second, signal(Signal::Term))];
            told(&events, |_| {}, |story| story.drain().and_then(|drain| drain.perhaps))
        };
        assert_eq!([cause(60), cause(61)], [Some(Cause::Signal(Signal::Term)), None]);
        let certain = |third| {
            let events = [(60, signal(Signal::Term)), (70, signal(Signal::Int)), (third, signal(Signal::Int))];
            told(&events, |_| {}, |story| story.drain().and_then(super::Drain::certain_wall))
        };
        assert_eq!([certain(70), certain(71)], [None, Some((at(71), Wall::SecondInterrupt))]);
    }

    #[test]
    fn a_drain_that_is_taken_back_leaves_no_phase() {
        let phases = phases(&[(10, asked(true, 202)), (20, asked(false, 200)), (60, signal(Signal::Term))], |_| {});
        let all: Vec<Phase> = [9, 10, 16, 20, 50, 60].map(|seconds| phases.at(at(seconds))).to_vec();
        use Phase::*;
        assert_eq!(all, [Serving, LameDuck, Grace, Serving, Serving, LameDuck]);
    }

    #[test]
    fn an_answer_that_crosses_a_signal_tells_of_a_recall_before_it() {
        let events = [(10, asked(true, 202)), (20, signal(Signal::Term)), (20, asked(false, 200))];
        let began = told(&events, |_| {}, |story| story.drain().map(|drain| (drain.began.at, drain.cause)));
        assert_eq!(began, Some((at(20), Cause::Signal(Signal::Term))));
        let refused = [(10, asked(true, 202)), (20, signal(Signal::Term)), (20, asked(false, 409))];
        assert_eq!(told(&refused, |_| {}, |story| story.signal().map(|signal| signal.at)), Some(at(10)));
    }

    #[test]
    fn a_phase_without_length_is_not_reached() {
        let phases = phases(&[(60, signal(Signal::Term))], |settings| settings.lame_duck = Duration::ZERO);
        assert_eq!(phases.between(at(1), at(61)), [Phase::Serving, Phase::Grace]);
    }

    #[test]
    fn the_old_policies_have_no_phases() {
        let phases = phases(&[(60, signal(Signal::Term))], |settings| settings.drain_policy = DrainPolicy::Unbounded);
        assert_eq!(phases.at(at(100)), Phase::Serving);
    }
}
