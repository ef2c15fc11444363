//! What must hold after every simulated run, whatever its scenario expects besides.
//!
//! The judge reads the story of a run and nothing else, and knows the contract, not the code that is judged. It decides by what
//! clients, workers and the kubelet saw; what the pod reports of itself is compared with that, and what can't be judged without
//! a report that this pod does not give is not judged ([`Judged::lacks`]). One file for each promise of the contract:
//!
//! | promise | holds when | file |
//! |---|---|---|
//! | `never-cut` | no statement that a worker began was ended before its answer was complete and acknowledged: by the pod, by the process's exit, or by the kubelet's SIGKILL; unless its client cancelled, vanished, half-closed or stalled past its clock, or a wall that is set was reached, or the file says that this client is killed | [`never_cut`] |
//! | `bounded-exit` | the process exited within the contract's bound | [`bounded_exit`] |
//! | `answered-or-not-run` | every request was answered, or refused with a SQLSTATE and never began at a worker; none ran twice; a COMMIT is told done exactly if it was done | [`answered_or_not_run`] |
//! | `clean-goodbye` | every closed client that was reading got a well-formed FATAL and then EOF, at a message boundary, exactly one | [`clean_goodbye`] |
//! | `no-late-session` | no session began after lame duck, and none was refused before; the refusal was 57P03 | [`no_late_session`] |
//! | `cancel-works` | every cancel request reached its statement | [`cancel_works`] |
//! | `one-record-each` | every session that began has exactly one end record, with the right reason and times; none is lost short of SIGKILL | [`one_record_each`] |
//! | `nothing-leaks` | at exit no task, socket, worker session or registry entry is left | [`nothing_leaks`] |
//! | `honest-signs` | readiness was false from the signal on; the exit code and the drain report tell what happened | [`honest_signs`] |
//! | `same-seed-same-run` | the same scenario and seed give the same event log, byte for byte | [`same_seed_same_run`] |
//!
//! And where there are several pods, of all together ([`rollout`]); each pod's log is judged by all of the above besides:
//!
//! | promise | holds when |
//! |---|---|
//! | `rollout-loses-nothing` | no job of an application fails through a drain, but one that crossed its connection's end on the way and never ran |
//! | `rollout-ends` | the new pods are ready and the old ones gone within the bound, and nobody is sent back to the pod that let it go |
//! | `reconnects-are-paced` | a drain lets its idle connections go spread over the grace, not all at once |
//!
//! Two rules hold for all of them:
//!
//! - **A fault is reported once.** A statement that was cut is `never-cut`'s, and its missing answer is not also
//!   `answered-or-not-run`'s: whoever reads the failure should see one defect as one.
//! - **The old policies are judged by the default policy's contract.** `flat`'s cap is what the promises were written
//!   against, so it excuses nothing.
//!
//! What the scenario itself expects is judged in [`expect`].

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use lastcall_core::{Settings, Time};

use crate::cast::history::History;
use crate::cast::pod::Report;
use crate::scenario::model::{Promise, Scenario};
use crate::story::timeline;

pub mod answered_or_not_run;
pub mod bounded_exit;
pub mod cancel_works;
pub mod clean_goodbye;
pub mod compare;
pub mod coverage;
pub mod expect;
pub mod gate;
pub mod honest_signs;
pub mod never_cut;
pub mod no_late_session;
pub mod nothing_leaks;
pub mod occasions;
pub mod one_record_each;
pub mod rollout;
pub mod same_seed_same_run;
mod whole;

#[cfg(test)]
mod fixture;

pub use expect::{Unmet, check_expectations};

use crate::story::{Connection, Ending, Moment, ROUND_TRIP_BYTES, Story};

/// A finished run, ready to be judged.
#[derive(Debug)]
pub struct Judged<'a> {
    /// What happened.
    pub story: Story<'a>,
    /// What the pod reports of itself.
    pub reports: &'a [Report],
    /// The settings that the pod ran with.
    pub settings: &'a Settings,
    /// The pod's real `terminationGracePeriodSeconds`, whether the pod knew it or not.
    pub termination_grace: Duration,
    /// The engine's tick: no time in the log is finer than this.
    pub resolution: Duration,
    /// The clients of which the file says that a SIGKILL ends them.
    pub killed: BTreeSet<&'a str>,
    /// Of one of several pods: how many cancel requests any client has sent. Each may have come by any of them.
    pub strangers: Option<usize>,
}

/// A promise, broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// What happened: one sentence, with names and with times relative to the signal.
    pub what: String,
    /// The few entries of the log that show it, in order.
    pub evidence: Vec<usize>,
}

/// Judges a run by every promise that one run alone can break, in the contract's order.
///
/// [`same_seed_same_run`] takes two runs; call it yourself.
pub fn check_promises(run: &Judged) -> Vec<Violation> {
    [
        never_cut::check,
        bounded_exit::check,
        answered_or_not_run::check,
        clean_goodbye::check,
        no_late_session::check,
        cancel_works::check,
        one_record_each::check,
        nothing_leaks::check,
        honest_signs::check,
    ]
    .into_iter()
    .flat_map(|check| check(run))
    .collect()
}

/// What the path between two hosts and the scheduling on them may add to a moment, besides the engine's ticks.
const LATENCY: Duration = Duration::from_millis(100);

/// How many ways between two hosts such a chain may have: there and back, twice.
const WAYS: u32 = 4;

/// How many of the engine's ticks a round trip takes that moves [`ROUND_TRIP_BYTES`]: two each way, and one in which the reader
/// is busy.
const ROUND_TRIP_TICKS: u32 = 5;

/// How many of the engine's ticks a chain of messages may take on top: four there, four back.
const LATENCY_TICKS: u32 = 8;

/// Who came too late is not waited for, but may be told so: for that long, when all others are gone.
const LATE_ONES: Duration = Duration::from_millis(500);

/// A cancel request that needs longer to its worker is given up: it opens a connection, and is sent over it.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);
const CANCEL_WAYS: u32 = 3;

/// A machine opens its window again when half of its buffer is free: of 128 KiB, read at 5 KB/s.
const BETWEEN_WINDOWS: Duration = Duration::from_secs(15);

/// Accepted is who has been there, and back, and there again: two ticks each.
const ACCEPT_WAYS: u32 = 3;
const ACCEPT_TICKS: u32 = 6;

impl<'a> Judged<'a> {
    /// Reads the log, once for all checks.
    pub fn new(
        reports: &'a [Report],
        history: &'a History,
        settings: &'a Settings,
        termination_grace: Duration,
        resolution: Duration,
    ) -> Judged<'a> {
        let (story, killed) = (Story::of(history, settings), BTreeSet::new());
        Judged { story, reports, settings, termination_grace, resolution, killed, strangers: None }
    }

    /// The same, of a file that says so much of its clients.
    pub fn of_file(self, scenario: &'a Scenario) -> Judged<'a> {
        let killed = scenario.expect.client.iter().filter(|(_, expect)| expect.killed);
        Judged { killed: killed.map(|(name, _)| name.as_str()).collect(), ..self }
    }

    /// The reports that this promise is about and this pod does not give: without them it is not judged, or not all of it.
    pub fn lacks(promise: Promise, reports: &[Report]) -> Vec<Report> {
        let about: &[Report] = match promise {
            Promise::OneRecordEach => &[Report::EndRecords],
            Promise::HonestSigns => &[Report::Readiness, Report::Status, Report::DrainReport],
            _ => &[],
        };
        about.iter().copied().filter(|report| !reports.contains(report)).collect()
    }

    fn has(&self, report: Report) -> bool {
        self.reports.contains(&report)
    }

    /// How far what one host did and what another saw of it may lie apart; also the time to flush the meter.
    fn slack(&self) -> Duration {
        LATENCY + LATENCY_TICKS * self.resolution + WAYS * self.story.latency
    }

    /// Whether a goodbye, which takes a way there and one back, has no time for that.
    fn is_hasty(&self) -> bool {
        self.settings.close_linger < self.slack()
    }

    /// Whether `stall_grace` has no time for a way there and one back: who reads may be given up as if it did not.
    fn is_impatient(&self) -> bool {
        self.settings.stall_grace <= self.slack()
    }

    /// Whether `stall_grace` may pass between two windows that a client's machine opens which reads slowly.
    fn is_too_slow(&self, connection: &Connection) -> bool {
        connection.reads_late() && self.settings.stall_grace <= BETWEEN_WINDOWS
    }

    /// Until when a connection may have been there at most, its linger included: its end has its way, what a client leaves
    /// running is waited for, and so is the news of that. `None`: nobody can say.
    fn there_until(&self, connection: &Connection) -> Option<Time> {
        let story = &self.story;
        let (end, ending) = story.visible_end(connection)?;
        // A process that is stopped sees an end when it goes on.
        let heard = story.outages.heard(end.at, self.slack())?;
        let told = |over: &Moment| !story.outages.of_worker(over.at, over.at + self.slack());
        // What a client runs that is gone is cancelled at once.
        let given_up = heard + CANCEL_PATIENCE;
        let is_gone = ending == Ending::Left("reset") && !self.is_far() && !story.outages.of_worker(end.at, given_up);
        let worked = match story.worker_session_of(connection) {
            Some(_) if is_gone => given_up,
            Some(session) => session.ended.filter(told)?.at,
            None => heard,
        };
        Some(heard.max(worked) + self.settings.close_linger)
    }

    /// Whether the worker is too far away for a cancel request.
    fn is_far(&self) -> bool {
        CANCEL_WAYS * self.story.latency >= CANCEL_PATIENCE
    }

    /// How long it takes at most until the process has accepted who connects.
    fn accepting(&self) -> Duration {
        ACCEPT_TICKS * self.resolution + ACCEPT_WAYS * self.story.latency
    }

    /// How long so many bytes of one connection are on their way between two hosts.
    fn transit(&self, bytes: u64) -> Duration {
        let round_trips = u32::try_from(bytes / ROUND_TRIP_BYTES).unwrap_or(u32::MAX);
        (ROUND_TRIP_TICKS * self.resolution + 2 * self.story.latency).saturating_mul(round_trips)
    }

    /// Whether a wall stood at this moment, or one had fallen just before its drain was taken back.
    fn at_wall(&self, moment: Moment) -> bool {
        self.story.drains.iter().any(|drain| {
            let stood = |wall: Time| {
                moment.at + self.resolution + drain.heard_late() >= wall
                    && drain
                        .recalled
                        .is_none_or(|recalled| wall <= recalled.at && moment.at <= recalled.at + self.slack())
            };
            drain.wall().is_some_and(|(wall, _)| stood(wall))
        })
    }

    /// From when to when the process drained: from its signal to its exit.
    pub fn drained(&self) -> Option<(Time, Time)> {
        Some((self.story.signal()?.at, self.story.exit?.0.at))
    }

    /// A time in words, relative to the signal.
    fn when(&self, at: Time) -> String {
        timeline::since_signal(&self.story, at)
    }
}

impl Violation {
    /// Puts the evidence in the log's order.
    fn new(promise: Promise, what: String, evidence: impl IntoIterator<Item = Moment>) -> Violation {
        Violation { promise, what, evidence: indices(evidence) }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}

/// The indices of some entries, in the log's order, each once.
fn indices(moments: impl IntoIterator<Item = Moment>) -> Vec<usize> {
    let mut indices: Vec<usize> = moments.into_iter().map(|moment| moment.index).collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}

/// How far two times are apart.
fn apart(one: Time, other: Time) -> Duration {
    one.since(other).max(other.since(one))
}

/// A duration in words: `1m 30s`.
fn words(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use lastcall_core::DrainPolicy;

    use super::fixture::Log;
    use super::*;
    use crate::cast::history::RequestKind;

    #[test]
    fn an_ordinary_drain_keeps_every_promise() {
        let log = Log::default()
            .session(1.0, "etl.1")
            .session(1.0, "dashboard.1")
            .answered(2.0, 2.02, "dashboard.1/1", RequestKind::Query)
            .begun(5.0, "etl.1/1", RequestKind::Query)
            .term(60.0)
            .ready(60.0, false)
            .goodbye(80.0, "dashboard.1")
            .complete(3_605.0, "etl.1/1")
            .goodbye(3_605.0, "etl.1")
            .exit(3_605.0, 0);
        assert_eq!(log.judge(check_promises), [""; 0]);
    }

    #[test]
    fn the_wall_is_the_earlier_of_the_two_that_can_be_set() {
        let wall = |log: Log| log.run(|run| run.story.wall()).map(|wall| wall.since_epoch().as_secs());
        let term = Log::default().term(60.0);
        assert_eq!(wall(term.clone()), None);
        let both = term.with(|settings| {
            settings.handover_drain_timeout = Duration::from_secs(900);
            settings.termination_grace = Some(Duration::from_secs(600));
        });
        assert_eq!(wall(both.clone()), Some(60 + 580));
        assert_eq!(wall(both.with(|settings| settings.drain_policy = DrainPolicy::Flat)), None);
        assert_eq!(wall(Log::default().int(60.0).int(70.0)), Some(70));
        assert_eq!(wall(Log::default().term(60.0).int(70.0)), None);
    }
}
