//! `rollout-loses-nothing`: no job of an application fails through a drain, but one that crossed its connection's end on the way
//! and never ran.
//!
//! A job may fail with the end of its connection: the FATAL was on its way when the request was sent, and no proxy can take back
//! what it has sent. Then nothing of the job may have run, and its caller must have been told, so that doing it again is safe.
//! A new connection is never refused where a pod is there for it. Not a drain's fault is what the statement itself, the
//! network, a dying machine or a clock of the contract that ran out did.

use lastcall_core::DrainPolicy;

use super::{FELT, JudgedRollout};
use crate::judge::Violation;
use crate::scenario::Promise;
use crate::story::rollout::Job;

/// What a caller is told whose connect failed.
const NOT_LET_IN: [&str; 3] = ["08001", "57P03", "53300"];
/// Nobody told anything.
const WITHOUT_A_WORD: &str = "08006";

/// One violation for the first of each kind.
pub(super) fn check(run: &JudgedRollout) -> Vec<Violation> {
    let mut seen = Vec::new();
    let mut violations = Vec::new();
    for job in &run.story.jobs {
        let Some((kind, why)) = lost(run, job) else { continue };
        if seen.contains(&kind) {
            continue;
        }
        seen.push(kind);
        let alike =
            run.story.jobs.iter().filter(|other| lost(run, other).is_some_and(|(other, _)| other == kind)).count();
        let more = if alike > 1 { format!(", as {} more", alike - 1) } else { String::new() };
        let what = format!("a job of {} failed with {}{more}: {why}", job.application, job.told.unwrap_or("?"));
        let evidence = job.tags.iter().filter_map(|tag| run.story.began.get(tag).copied()).chain([job.ended]);
        violations.push(Violation::new(Promise::RolloutLosesNothing, what, evidence));
    }
    violations
}

/// Why a job that failed is a loss, if it is one.
fn lost(run: &JudgedRollout, job: &Job) -> Option<(&'static str, String)> {
    let told = job.told?;
    let by_itself = job.tags.iter().any(|tag| run.story.failed.contains(tag));
    if by_itself || run.story.troubled(job.ended, FELT) || ran_out(run, job) {
        return None;
    }
    if let Some(began) = job.tags.iter().find(|tag| run.story.began.contains_key(*tag)) {
        return Some(("ran", format!("{began} ran, and its caller can't know whether the job is done")));
    }
    let room = || run.story.has_room(job.began) && run.story.has_room(job.ended.at);
    if job.tags.is_empty() && NOT_LET_IN.contains(&told) && room() {
        return Some(("not let in", "no pod took its new connection".to_owned()));
    }
    if told == WITHOUT_A_WORD {
        return Some(("without a word", "its connection ended without a word".to_owned()));
    }
    None
}

/// Whether its connection was ended by a clock that runs against a client in the middle of something, or by a wall.
fn ran_out(run: &JudgedRollout, job: &Job) -> bool {
    const CLOCKS: [&str; 3] = ["transaction_grace", "transaction_budget", "stall_grace"];
    /// The old policy's cap excuses nothing.
    const WALL: &str = "its wall";
    let of_job = |application: &str| job.tags.iter().any(|tag| tag.split('/').next() == Some(application));
    run.story.connections.iter().any(|visit| {
        let walled = run.settings.drain_policy != DrainPolicy::Flat;
        let named = |detail: &str| CLOCKS.iter().any(|clock| detail.contains(clock)) || walled && detail.contains(WALL);
        visit.fatal.is_some_and(|(_, _, detail)| detail.is_some_and(named)) && of_job(&visit.conn.application())
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Log;
    use super::check;
    use crate::cast::history::Event;

    fn began(tag: &str) -> Event {
        Event::StatementBegan { worker_session: 1, tag: tag.to_owned() }
    }

    #[test]
    fn a_request_that_crosses_the_fatal_and_never_ran_is_no_loss() {
        let log = Log::rollout().failed(80.0, "57P01", &["shop.1/4"]);
        assert_eq!(log.judge(check), [""; 0]);
        assert_eq!(Log::rollout().failed(80.0, "57P01", &[]).judge(check), [""; 0], "a pool that did not look");
    }

    #[test]
    fn a_job_that_ran_in_part_and_failed_is_lost() {
        let log = Log::rollout().pod(79.0, 1, began("shop.1/4")).failed(80.0, "57P01", &["shop.1/4", "shop.1/5"]);
        let expected =
            "a job of shop failed with 57P01: shop.1/4 ran, and its caller can't know whether the job is done";
        assert_eq!(log.judge(check), [expected]);
    }

    #[test]
    fn who_is_not_let_in_or_told_nothing_is_lost_and_alike_are_told_once() {
        let log = Log::rollout()
            .pod(60.0, 2, Event::PodRouted { to: true })
            .failed(80.0, "57P03", &[])
            .failed(81.0, "08001", &[])
            .failed(82.0, "08006", &["shop.1/1"]);
        assert_eq!(
            log.judge(check),
            [
                "a job of shop failed with 57P03, as 1 more: no pod took its new connection",
                "a job of shop failed with 08006: its connection ended without a word"
            ]
        );
    }

    #[test]
    fn a_statements_own_error_and_a_dead_machine_are_no_drains_fault() {
        let failed = Event::StatementEnded {
            worker_session: 1,
            tag: "shop.1/4".to_owned(),
            end: crate::cast::history::StatementEnd::Failed("22012".to_owned()),
        };
        let log = Log::rollout().pod(79.0, 1, began("shop.1/4")).pod(79.0, 1, failed);
        assert_eq!(log.failed(80.0, "22012", &["shop.1/4"]).judge(check), [""; 0]);
        let log = Log::rollout().pod(79.0, 1, began("shop.1/4")).pod(80.0, 1, Event::Killed);
        assert_eq!(log.clone().failed(80.0, "08006", &["shop.1/4"]).judge(check), [""; 0]);
        assert_eq!(log.failed(1300.0, "08006", &["shop.1/4"]).judge(check).len(), 1, "long after it");
    }
}
