//! `reconnects-are-paced`: a drain lets its connections go spread over the second half of its grace, and not all at once: each
//! comes back at once, and what logs in at once on the pods that are left is a herd.
//!
//! Judged by what clients were told in any second, against as many as even pacing comes to by chance: `n` connections over `s`
//! seconds are `n / s` each second, and five times the deviation of that, and five more. Who was in the middle of something when
//! its time came is let go at its end, and that many end together is no drain's choice: they are not counted.

use std::time::Duration;

use lastcall_core::Time;

use super::JudgedRollout;
use crate::judge::{Violation, words};
use crate::scenario::Promise;
use crate::story::Moment;

/// Any so much time.
const WINDOW: Duration = Duration::from_secs(1);
/// What many may be by chance: so many deviations, and so many.
const DEVIATIONS: f64 = 5.0;
const FEW: f64 = 5.0;

pub(super) fn check(run: &JudgedRollout) -> Vec<Violation> {
    let (grace, lame_duck) = (run.settings.idle_grace, run.settings.lame_duck);
    let spread = grace.saturating_sub((grace / 2).max(lame_duck));
    if spread.is_zero() {
        return Vec::new();
    }
    let pods = run.story.pods.iter().filter_map(|(number, pod)| Some((*number, pod.signalled?)));
    pods.filter_map(|(number, signal)| check_pod(run, number, signal, spread)).collect()
}

fn check_pod(run: &JudgedRollout, number: u32, signal: Moment, spread: Duration) -> Option<Violation> {
    let mut told: Vec<Moment> = Vec::new();
    for visit in run.story.connections.iter().filter(|visit| visit.pod == number) {
        let Some((fatal, "57P01", _)) = visit.fatal.filter(|(fatal, ..)| *fatal > signal) else { continue };
        let recent =
            |moment: Option<Moment>| moment.is_some_and(|moment| moment < fatal && fatal.at <= moment.at + WINDOW);
        let was_busy = recent(visit.answered) && !recent(visit.asked);
        if !was_busy {
            told.push(fatal);
        }
    }
    told.sort_unstable();
    let mut most: (usize, Option<Time>) = (0, None);
    let mut from = 0;
    for to in 0..told.len() {
        while told[from].at + WINDOW <= told[to].at {
            from += 1;
        }
        most = most.max((to - from + 1, Some(told[from].at)));
    }
    let (most, at) = (most.0, most.1?);
    let expected = told.len() as f64 * WINDOW.as_secs_f64() / spread.as_secs_f64();
    let may = expected + DEVIATIONS * expected.sqrt() + FEW;
    if most as f64 <= may {
        return None;
    }
    let what = format!(
        "pod-{number} let {most} of {} connections go within {}, {} after its signal: spread over {} it would be {may:.0} at most",
        told.len(),
        words(WINDOW),
        words(at.since(signal.at)),
        words(spread)
    );
    let first = told.iter().copied().find(|moment| moment.at == at);
    Some(Violation::new(Promise::ReconnectsArePaced, what, first.into_iter().chain([signal])))
}

#[cfg(test)]
mod tests {
    use lastcall_world::Signal;

    use super::super::fixture::{Log, conn};
    use super::check;
    use crate::cast::history::{Event, RequestKind};

    /// A hundred connections of pod 1, each told at a time of its own.
    fn told(at: impl Fn(u32) -> f64, busy: bool) -> Vec<String> {
        let mut log = Log::rollout();
        for copy in 1..=100 {
            log = log.pod(61.0, 1, Event::Connecting { conn: conn(copy, 1) });
            let (conn, tag) = (conn(copy, 1), format!("shop.{copy}/1"));
            log = log.pod(61.0, 1, Event::RequestSent { conn, tag, kind: RequestKind::Query });
        }
        log = log.pod(62.0, 1, Event::SignalSent { signal: Signal::Term });
        for copy in 1..=100 {
            if busy {
                let (tag, outcome) = (format!("shop.{copy}/1"), crate::cast::history::Outcome::Complete);
                log = log.pod(at(copy), 1, Event::RequestEnded { conn: conn(copy, 1), tag, outcome });
            }
            log = log.let_go(at(copy), 1, conn(copy, 1));
        }
        log.judge(check)
    }

    #[test]
    fn a_hundred_over_fifteen_seconds_are_paced_and_at_once_they_are_a_herd() {
        assert_eq!(told(|copy| 77.0 + 0.15 * f64::from(copy), false), [""; 0]);
        let herd = told(|_| 92.0, false);
        let expected = "pod-1 let 100 of 100 connections go within 1s, 30s after its signal: spread over 15s it would be 25 at \
                        most";
        assert_eq!(herd, [expected]);
    }

    #[test]
    fn who_was_in_the_middle_of_something_is_let_go_when_that_ends() {
        assert_eq!(told(|_| 92.0, true), [""; 0]);
    }

    #[test]
    fn without_a_second_half_of_the_grace_there_is_nothing_to_spread_over() {
        let log = Log::rollout().with(|settings| settings.lame_duck = settings.idle_grace);
        assert_eq!(log.judge(check), [""; 0]);
    }
}
