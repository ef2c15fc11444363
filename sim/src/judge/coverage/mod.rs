//! What of the contract the suite has been through: a fixed list of states and transitions, and how often each was reached.
//!
//! A promise that holds in a state that no run was ever in has not been tested there. So the list is not made from what
//! happens to be reached; it is written down, and the gate is red while anything on it was never reached:
//!
//! - each activity in each phase of a drain in which it is possible ([`impossible`] says which are not, and why);
//! - each reason for which a session can end;
//! - each SQLSTATE of the contract's table, as a client reads it;
//! - each clock that can fire ([`Clock`]);
//! - each order in which two things can happen at nearly the same time ([`Race`]).
//!
//! It asks the story of a run. Nothing here judges whether what happened was right.

use std::collections::{BTreeMap, BTreeSet};

use lastcall_core::Phase;

use crate::cast::history::Outcome;
use crate::cast::pod::report::{Activity, EndReason};
use crate::story::{Stay, Story};

mod clock;
mod print;
mod race;

pub use clock::Clock;
pub use print::{Json, json, orders, text};
pub use race::Race;

/// Something that the suite must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// A connection did this in this phase.
    Doing(Activity, Phase),
    /// A connection ended for this reason.
    Ended(EndReason),
    /// A client read this SQLSTATE.
    Told(&'static str),
    /// A clock fired.
    Fired(Clock),
    /// Of two things this one was first.
    Race(Race),
}

/// The phases in which there are connections.
pub const PHASES: [Phase; 5] = [Phase::Serving, Phase::LameDuck, Phase::Grace, Phase::Boundary, Phase::Wall];

/// The contract's table of answers.
const SQLSTATES: [&str; 7] = ["57P01", "57P03", "57P05", "57014", "53300", "08006", "08P01"];

/// Why no connection is ever seen to do this in this phase; `None` if one can be.
pub const fn impossible(activity: Activity, phase: Phase) -> Option<&'static str> {
    match (phase, activity) {
        (Phase::Boundary, Activity::Idle) => Some("everyone is due: whoever becomes idle is closed at once"),
        (
            Phase::Wall,
            Activity::Handshake
            | Activity::Acquiring
            | Activity::Idle
            | Activity::IdleInTransaction
            | Activity::StreamingOut
            | Activity::CopyIn
            | Activity::OpenBatch,
        ) => Some("at the wall everything is closed at once but a statement that runs, which is cancelled first"),
        _ => None,
    }
}

impl Mark {
    /// Everything that must be reached.
    pub fn all() -> Vec<Mark> {
        let doing = Activity::ALL.into_iter().flat_map(|activity| {
            let possible = PHASES.into_iter().filter(move |phase| impossible(activity, *phase).is_none());
            possible.map(move |phase| Mark::Doing(activity, phase))
        });
        let mut all: Vec<Mark> = doing.collect();
        // A panic is a defect of the control plane's own: where one is reached, the run has failed. And no scenario has an
        // administrator who ends one session.
        let unreachable = [EndReason::Panicked, EndReason::Administrator];
        all.extend(EndReason::ALL.into_iter().filter(|reason| !unreachable.contains(reason)).map(Mark::Ended));
        all.extend(SQLSTATES.map(Mark::Told));
        all.extend(Clock::ALL.map(Mark::Fired));
        all.extend(Race::ALL.map(Mark::Race));
        all
    }

    /// What it is, in a few words.
    pub fn name(self) -> String {
        match self {
            Mark::Doing(activity, phase) => format!("{activity} in {}", phase.name()),
            Mark::Ended(reason) => format!("ended: {reason}"),
            Mark::Told(code) => format!("read: {code}"),
            Mark::Fired(clock) => format!("fired: {}", clock.name()),
            Mark::Race(race) => format!("race: {}", race.name()),
        }
    }
}

/// What came together in one run, which reached `whole`: of each connection all pairs of what it did and why it ended, and of the
/// run all pairs of what was read, fired and raced.
pub fn together(story: &Story, whole: &Coverage) -> BTreeSet<(Mark, Mark)> {
    let of_the_run = whole.counts.keys().copied().filter(|mark| !matches!(mark, Mark::Doing(..) | Mark::Ended(_)));
    let stays = story.stays.iter().map(|stay| {
        let mut stayed = Coverage::default();
        stayed.count_stay(story, stay);
        stayed.counts.into_keys().collect()
    });
    let sets = stays.chain([of_the_run.collect::<Vec<Mark>>()]);
    sets.flat_map(|marks| {
        let pairs = |i: usize| marks[i..].iter().map(move |other| (i, *other));
        (0..marks.len()).flat_map(pairs).map(|(i, other)| (marks[i], other)).collect::<Vec<_>>()
    })
    .collect()
}

/// How often what was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<Mark, u64>,
}

impl Coverage {
    /// What one run reached.
    pub fn of(story: &Story) -> Coverage {
        let mut coverage = Coverage::default();
        for stay in &story.stays {
            coverage.count_stay(story, stay);
        }
        let fatals = story.connections.iter().flat_map(|connection| &connection.fatals).map(|fatal| fatal.code);
        // What a FATAL ended is told with its code, too: that is one reading and not two.
        let cancelled =
            story.requests.iter().flat_map(|request| &request.ends).filter_map(|(_, outcome)| match outcome {
                Outcome::Error(code) if code == "57014" => Some(code.as_str()),
                _ => None,
            });
        for code in fatals.chain(cancelled) {
            if let Some(code) = SQLSTATES.into_iter().find(|known| *known == code) {
                coverage.count(Mark::Told(code));
            }
        }
        clock::count(story, &mut |clock| coverage.count(Mark::Fired(clock)));
        race::count(story, &mut |race| coverage.count(Mark::Race(race)));
        coverage
    }

    fn count_stay(&mut self, story: &Story, stay: &Stay) {
        for stage in &stay.stages {
            for phase in story.phases.between(stage.from, stage.to) {
                self.count(Mark::Doing(stage.activity, phase));
            }
        }
        if let Some(reason) = stay.reason() {
            self.count(Mark::Ended(reason));
        }
    }

    /// Adds what another run reached.
    pub fn add(&mut self, other: &Coverage) {
        for (mark, count) in &other.counts {
            *self.counts.entry(*mark).or_default() += count;
        }
    }

    /// How often this was reached.
    pub fn reached(&self, mark: Mark) -> u64 {
        self.counts.get(&mark).copied().unwrap_or_default()
    }

    /// What never was.
    pub fn missing(&self) -> Vec<Mark> {
        Mark::all().into_iter().filter(|mark| self.reached(*mark) == 0).collect()
    }

    fn count(&mut self, mark: Mark) {
        *self.counts.entry(mark).or_default() += 1;
    }
}

#[cfg(test)]
mod fixture;

#[cfg(test)]
mod tests {
    use super::fixture::Run;
    use super::*;

    #[test]
    fn what_lasts_across_a_phase_change_counts_in_both() {
        let run = Run::default().doing(1.0, 1, Activity::Idle).term(60.0).doing(66.0, 1, Activity::Executing);
        let coverage = run.left(70.0, 1, "a.1", EndReason::Boundary).coverage();
        let doing = |activity, phase| coverage.reached(Mark::Doing(activity, phase));
        assert_eq!(PHASES.map(|phase| doing(Activity::Idle, phase)), [1, 1, 1, 0, 0]);
        assert_eq!(PHASES.map(|phase| doing(Activity::Executing, phase)), [0, 0, 1, 0, 0]);
        assert_eq!(coverage.reached(Mark::Ended(EndReason::Boundary)), 1);
    }

    #[test]
    fn a_code_counts_where_a_client_reads_it() {
        let coverage = Run::default().fatal(1.0, "a.1", "57P03", None).error(2.0, "b.1/1", "57014").coverage();
        assert_eq!([1, 1, 0], ["57P03", "57014", "57P01"].map(|code| coverage.reached(Mark::Told(code))));
    }

    #[test]
    fn runs_add_up_and_what_was_never_reached_is_missing() {
        let one = Run::default().doing(1.0, 1, Activity::Idle).coverage();
        let mut both = Coverage::default();
        both.add(&one);
        both.add(&one);
        let idle = Mark::Doing(Activity::Idle, Phase::Serving);
        assert_eq!(both.reached(idle), 2);
        assert_eq!(both.missing().len(), Mark::all().len() - 1);
        assert!(!both.missing().contains(&idle));
    }

    #[test]
    fn what_is_impossible_is_not_asked_for() {
        let all = Mark::all();
        assert!(!all.contains(&Mark::Doing(Activity::Idle, Phase::Boundary)));
        assert!(all.contains(&Mark::Doing(Activity::Executing, Phase::Wall)));
    }
}
