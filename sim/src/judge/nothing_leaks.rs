//! `nothing-leaks`: at exit no task, socket, worker session or registry entry is left.
//!
//! A worker's session that is still there behind the exit may still run a statement that nobody waits for: of a pipeline, the
//! second. Seen from outside: the process's own tasks when its main function returned, and every worker's session, which must be
//! over as soon as the news of the exit can have arrived. A task that panicked leaked whatever it held. Sockets to clients
//! are `clean-goodbye`'s: each must have been closed with a word.
//!
//! After a SIGKILL there is nothing to ask of the process; a panic before it counts. A SIGQUIT is obeyed at once, without a
//! word to the workers: they find out by themselves.

use super::{Judged, Violation};
use crate::scenario::model::Promise;
use crate::story::GIVEN_UP;

/// A cancel request opens a connection, is sent over it, and its answer comes back.
const CANCELLED_WAYS: u32 = 4;

/// One violation for the tasks that are left, and one for each worker session and each panic.
pub fn check(run: &Judged) -> Vec<Violation> {
    let story = &run.story;
    let panics = story
        .panics
        .iter()
        .map(|(moment, task, message)| (format!("task {task} panicked {}: {message}", run.when(moment.at)), *moment));
    let left = story.exit.filter(|_| !story.tasks_left.is_empty()).map(|(exit, _)| {
        (format!("at the exit {} these tasks were left: {}", run.when(exit.at), story.tasks_left.join(", ")), exit)
    });
    let tasks = panics.chain(left).map(|(what, shown)| Violation::new(Promise::NothingLeaks, what, [shown]));
    tasks.chain(worker_sessions(run)).collect()
}

fn worker_sessions(run: &Judged) -> Vec<Violation> {
    let Some((exit, _)) = run.story.exit.filter(|(exit, _)| !run.story.shot_before(*exit)) else {
        return Vec::new();
    };
    let deadline = exit.at + run.slack();
    // A worker that has hung can't end anything, one that is out of reach hears of nothing, and one that is too far away hears
    // of a cancel behind its time: `close_linger`, or what a wall leaves.
    let far = run.is_hasty() || CANCELLED_WAYS * run.story.latency > run.settings.wall_patience() && run.at_wall(exit);
    if far || run.story.outages.of_worker(exit.at, deadline) {
        return Vec::new();
    }
    let left = run.story.worker_sessions.iter();
    let left =
        left.filter(|(_, session)| session.began < exit && session.ended.is_none_or(|ended| ended.at > deadline));
    // A worker that has asked for the data of a COPY and does not take it sees the end of its session behind it.
    let busy = |number: u32| {
        let mut last = run.story.statements.iter().rev();
        last.find(|statement| statement.worker_session == number && statement.began < exit)
            .is_some_and(|statement| statement.asked_in_vain().is_some())
    };
    // What a client left running is cancelled when that is known; a worker that is out of reach then does not hear of it.
    let unheard = |application: &str| {
        let mut its = run.story.connections.iter().filter(|it| it.conn.application() == application);
        its.any(|it| {
            let left = it.left.map(|(left, _)| left.at);
            left.is_some_and(|left| run.story.outages.of_worker(left, left + GIVEN_UP + run.slack()))
        })
    };
    left.filter(|(number, session)| !busy(**number) && !unheard(session.application))
        .map(|(_, session)| {
            let what =
                format!("the worker's session of {} outlived the exit {}", session.application, run.when(exit.at));
            Violation::new(
                Promise::NothingLeaks,
                what,
                [Some(session.began), Some(exit), session.ended].into_iter().flatten(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Log, conn};
    use super::*;
    use crate::cast::history::{Event, Fault};

    fn client() -> Log {
        Log::default().session(1.0, "a.1").term(60.0)
    }

    #[test]
    fn nothing_is_left_when_every_session_and_task_is_over() {
        assert_eq!(client().goodbye(80.0, "a.1").exit(80.0, 0).judge(check), [""; 0]);
    }

    #[test]
    fn a_worker_that_was_out_of_reach_when_a_client_left_did_not_hear_of_the_cancel() {
        let outlived = |held: f64| {
            let between = ["pod", "worker"].map(str::to_owned);
            let log = Log::default().session(1.0, "a.1");
            let log = log.event(held, Event::Fault { what: Fault::Partition { between: between.clone() } });
            let log = log.event(held + 9.0, Event::Fault { what: Fault::Heal { between } });
            let left = log.event(30.0, Event::ClientLeft { conn: conn("a.1"), how: "vanish" });
            left.term(130.0).exit(400.0, 0).judge(check).len()
        };
        assert_eq!((outlived(20.0), outlived(2.0)), (0, 1));
    }

    #[test]
    fn a_task_that_is_left_breaks_it() {
        let tasks = vec!["relay".to_owned(), "ticker".to_owned()];
        let exit = Event::PodExited { code: 0, tasks };
        assert_eq!(
            Log::default().term(60.0).event(61.0, exit).judge(check),
            ["at the exit 1s after the signal these tasks were left: relay, ticker"]
        );
    }

    #[test]
    fn a_worker_session_that_outlives_the_exit_breaks_it() {
        assert_eq!(
            client().exit(80.0, 0).judge(check),
            ["the worker's session of a.1 outlived the exit 20s after the signal"]
        );
        let end = |at| client().exit(80.0, 0).event(at, Event::WorkerSessionEnded { worker_session: 1 }).judge(check);
        assert_eq!(end(80.05), [""; 0]);
        assert_eq!(end(81.0).len(), 1);
    }

    #[test]
    fn a_worker_that_is_out_of_reach_at_the_exit_is_left_to_itself() {
        let cut_off = |what| client().event(75.0, Event::Fault { what }).exit(80.0, 0).judge(check).len();
        assert_eq!(cut_off(Fault::Partition { between: ["worker", "pod"].map(str::to_owned) }), 0);
        assert_eq!(cut_off(Fault::WorkerHang), 0);
        assert_eq!(cut_off(Fault::WorkerDrain), 1);
    }

    #[test]
    fn a_sigquit_leaves_the_workers_to_themselves() {
        assert_eq!(client().quit(70.0).exit(70.0, 131).judge(check), [""; 0]);
    }

    #[test]
    fn a_panic_breaks_it_even_if_the_pod_is_killed_later() {
        let panicked = Event::Panicked { task: "relay".to_owned(), message: "oh".to_owned() };
        assert_eq!(client().event(70.0, panicked).killed(80.0).judge(check).len(), 1);
        assert_eq!(client().killed(80.0).judge(check), [""; 0]);
    }
}
