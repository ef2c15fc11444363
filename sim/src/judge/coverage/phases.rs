//! In which phase of its drain a process was when, read from the log of a run and its settings: the contract's phases.

use lastcall_core::{DrainPolicy, Phase, Settings, Time};
use lastcall_world::Signal;

use crate::cast::history::{Event, History};

/// The phases of one run, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phases {
    /// Each and when it begins. The first begins at the epoch; begins don't go back.
    begins: Vec<(Time, Phase)>,
    /// What walls there are, each with its time.
    pub(super) walls: Vec<(Time, Wall)>,
}

/// Why a wall stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wall {
    /// `handover_drain_timeout`.
    Timeout,
    /// `termination_grace`, less `teardown_budget`.
    TerminationGrace,
    /// A second SIGINT.
    SecondInterrupt,
}

impl Phases {
    /// The phases of a run. Under the old policies there is only one: they have no rules of their own for a drain.
    pub(super) fn of(history: &History, settings: &Settings) -> Phases {
        let mut phases = Phases { begins: vec![(Time::EPOCH, Phase::Serving)], walls: Vec::new() };
        if settings.drain_policy != DrainPolicy::IdleAware {
            return phases;
        }
        let (mut interrupts, mut draining) = (0, false);
        for entry in &history.entries {
            match entry.event {
                Event::SignalSent { signal: signal @ (Signal::Term | Signal::Int) } => {
                    interrupts += u32::from(signal == Signal::Int);
                    if !draining {
                        phases.drain(entry.at, settings);
                        draining = true;
                    } else if interrupts == 2 {
                        phases.cut(entry.at, Phase::Wall);
                        phases.walls.push((entry.at, Wall::SecondInterrupt));
                    }
                }
                Event::DrainAsked { begin: true, status: Some(202) } if !draining => {
                    phases.drain(entry.at, settings);
                    draining = true;
                }
                Event::DrainAsked { begin: false, status: Some(200) } if draining => {
                    phases.cut(entry.at, Phase::Serving);
                    phases.walls.clear();
                    draining = false;
                }
                _ => {}
            }
        }
        phases
    }

    /// A drain begins.
    fn drain(&mut self, at: Time, settings: &Settings) {
        let timeout = Some(settings.handover_drain_timeout).filter(|timeout| !timeout.is_zero());
        let grace = settings.termination_grace.map(|grace| grace.saturating_sub(settings.teardown_budget));
        self.walls.extend(timeout.map(|timeout| (at + timeout, Wall::Timeout)));
        self.walls.extend(grace.map(|grace| (at + grace, Wall::TerminationGrace)));
        self.begins.extend([
            (at, Phase::LameDuck),
            (at + settings.lame_duck, Phase::Grace),
            (at + settings.idle_grace, Phase::Boundary),
        ]);
        if let Some((wall, _)) = self.wall() {
            self.cut(wall, Phase::Wall);
        }
    }

    /// From `at` on it is this phase, and no later one.
    fn cut(&mut self, at: Time, phase: Phase) {
        self.begins.retain(|(begin, _)| *begin < at);
        self.begins.push((at, phase));
    }

    /// The wall that falls first.
    pub(super) fn wall(&self) -> Option<(Time, Wall)> {
        self.walls.iter().min().copied()
    }

    /// When the last lame duck ended, or was to end.
    pub(super) fn lame_duck_end(&self) -> Option<Time> {
        let grace = self.begins.iter().rev().find(|(_, phase)| *phase == Phase::Grace);
        grace.map(|(begin, _)| *begin)
    }

    /// The phase at this time.
    pub(super) fn at(&self, time: Time) -> Phase {
        self.begins.iter().rev().find(|(begin, _)| *begin <= time).map_or(Phase::Serving, |(_, phase)| *phase)
    }

    /// The phases that something that lasted from `from` until before `to` was in: the one in which it began at least.
    pub(super) fn between(&self, from: Time, to: Time) -> Vec<Phase> {
        let mut phases = vec![self.at(from)];
        for (index, (begin, phase)) in self.begins.iter().enumerate() {
            let lasted = self.begins.get(index + 1).is_none_or(|(next, _)| next > begin);
            if *begin > from && *begin < to && lasted && !phases.contains(phase) {
                phases.push(*phase);
            }
        }
        phases
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cast::history::Entry;

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    fn phases(events: &[(u64, Event)], change: impl FnOnce(&mut Settings)) -> Phases {
        let entries = events.iter().map(|(seconds, event)| Entry { at: at(*seconds), event: event.clone() });
        let mut settings = Settings::default();
        change(&mut settings);
        Phases::of(&History { entries: entries.collect() }, &settings)
    }

    fn signal(signal: Signal) -> Event {
        Event::SignalSent { signal }
    }

    fn asked(begin: bool, status: u16) -> Event {
        Event::DrainAsked { begin, status: Some(status) }
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
        let walled = phases(&term, |settings| {
            settings.handover_drain_timeout = Duration::from_secs(100);
            settings.termination_grace = Some(Duration::from_secs(60));
        });
        assert_eq!(walled.wall(), Some((at(100), Wall::TerminationGrace)));
        assert_eq!((walled.at(at(99)), walled.at(at(100))), (Phase::Boundary, Phase::Wall));
        let interrupted = phases(&[(60, signal(Signal::Int)), (62, signal(Signal::Int))], |_| {});
        assert_eq!((interrupted.at(at(61)), interrupted.at(at(70))), (Phase::LameDuck, Phase::Wall));
    }

    #[test]
    fn a_drain_that_is_taken_back_leaves_no_phase() {
        let phases = phases(&[(10, asked(true, 202)), (20, asked(false, 200)), (60, signal(Signal::Term))], |_| {});
        let all: Vec<Phase> = [9, 10, 16, 20, 50, 60].map(|seconds| phases.at(at(seconds))).to_vec();
        use Phase::*;
        assert_eq!(all, [Serving, LameDuck, Grace, Serving, Serving, LameDuck]);
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
