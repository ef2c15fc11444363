//! The clocks that can fire, and when one did.

use crate::cast::pod::report::{Activity, Cause, EndReason};
use crate::story::{Drain, Story, Wall};

/// A clock of the contract, or an order that stands for one.
#[expect(missing_docs, reason = "their names are the settings'")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clock {
    IdleTimeout,
    SessionInitTimeout,
    WorkerQueueTimeout,
    /// The end of the grace, for a handshake.
    IdleGrace,
    /// The due time, for an idle connection.
    DueTime,
    TransactionGrace,
    TransactionBudget,
    StreamingOutStall,
    CopyInStall,
    OpenBatchStall,
    CloseLinger,
    WallByTimeout,
    WallByTerminationGrace,
    SecondInterrupt,
    DrainByRequest,
    DrainTakenBack,
}

impl Clock {
    /// Every clock, in the contract's order.
    pub const ALL: [Clock; 16] = [
        Clock::IdleTimeout,
        Clock::SessionInitTimeout,
        Clock::WorkerQueueTimeout,
        Clock::IdleGrace,
        Clock::DueTime,
        Clock::TransactionGrace,
        Clock::TransactionBudget,
        Clock::StreamingOutStall,
        Clock::CopyInStall,
        Clock::OpenBatchStall,
        Clock::CloseLinger,
        Clock::WallByTimeout,
        Clock::WallByTerminationGrace,
        Clock::SecondInterrupt,
        Clock::DrainByRequest,
        Clock::DrainTakenBack,
    ];

    /// What it is called in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Clock::IdleTimeout => "idle_timeout",
            Clock::SessionInitTimeout => "session_init_timeout",
            Clock::WorkerQueueTimeout => "worker_queue_timeout",
            Clock::IdleGrace => "idle_grace, of a handshake",
            Clock::DueTime => "due time, of an idle connection",
            Clock::TransactionGrace => "transaction_grace",
            Clock::TransactionBudget => "transaction_budget",
            Clock::StreamingOutStall => "stall_grace, streaming_out",
            Clock::CopyInStall => "stall_grace, copy_in",
            Clock::OpenBatchStall => "stall_grace, open_batch",
            Clock::CloseLinger => "close_linger",
            Clock::WallByTimeout => "wall at handover_drain_timeout",
            Clock::WallByTerminationGrace => "wall at termination_grace",
            Clock::SecondInterrupt => "wall at a second SIGINT",
            Clock::DrainByRequest => "drain by POST /drain",
            Clock::DrainTakenBack => "drain taken back by DELETE /drain",
        }
    }
}

/// Counts the clocks that fired in a run.
pub(super) fn count(story: &Story, count: &mut impl FnMut(Clock)) {
    for stay in &story.stays {
        let before = stay.before_close().map(|stage| stage.activity);
        let clock = match (stay.reason(), before) {
            (Some(EndReason::IdleTimeout), _) => Some(Clock::IdleTimeout),
            (Some(EndReason::HandshakeTimeout), _) => Some(Clock::SessionInitTimeout),
            (Some(EndReason::WorkerUnreachable), _) => Some(Clock::WorkerQueueTimeout),
            (Some(EndReason::ShuttingDown), Some(Activity::Handshake)) => Some(Clock::IdleGrace),
            (Some(EndReason::Boundary), Some(Activity::Idle)) => Some(Clock::DueTime),
            (Some(EndReason::TransactionGrace), _) => Some(Clock::TransactionGrace),
            (Some(EndReason::TransactionBudget), _) => Some(Clock::TransactionBudget),
            (Some(EndReason::StallGrace), Some(Activity::StreamingOut)) => Some(Clock::StreamingOutStall),
            (Some(EndReason::StallGrace), Some(Activity::CopyIn)) => Some(Clock::CopyInStall),
            (Some(EndReason::StallGrace), Some(Activity::OpenBatch)) => Some(Clock::OpenBatchStall),
            (Some(EndReason::Wall), _) => story.drain().and_then(Drain::wall).map(|(_, wall)| match wall {
                Wall::Timeout => Clock::WallByTimeout,
                Wall::TerminationGrace => Clock::WallByTerminationGrace,
                Wall::SecondInterrupt | Wall::PerhapsSecondInterrupt => Clock::SecondInterrupt,
            }),
            _ => None,
        };
        if let Some(clock) = clock {
            count(clock);
        }
        if stay.closing().is_some_and(|closing| closing.to.since(closing.from) >= story.settings.close_linger) {
            count(Clock::CloseLinger);
        }
    }
    for drain in &story.drains {
        if drain.cause == Cause::Request {
            count(Clock::DrainByRequest);
        }
        if drain.recalled.is_some() {
            count(Clock::DrainTakenBack);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fixture::Run;
    use super::*;
    use crate::cast::history::Event;

    #[test]
    fn a_stall_counts_for_what_stalled() {
        for (activity, clock) in [
            (Activity::StreamingOut, Clock::StreamingOutStall),
            (Activity::CopyIn, Clock::CopyInStall),
            (Activity::OpenBatch, Clock::OpenBatchStall),
        ] {
            let run = Run::default().doing(1.0, 1, activity).doing(2.0, 1, Activity::Closing);
            assert_eq!(run.left(3.0, 1, "a.1", EndReason::StallGrace).fired(), [clock]);
        }
    }

    #[test]
    fn a_connection_that_was_closed_for_as_long_as_it_may_has_used_up_its_linger() {
        let run = |left| Run::default().doing(1.0, 1, Activity::Closing).left(left, 1, "a.1", EndReason::Terminate);
        assert_eq!(run(5.9).fired(), []);
        assert_eq!(run(6.0).fired(), [Clock::CloseLinger]);
    }

    #[test]
    fn the_wall_counts_for_what_it_stands_at() {
        let run = |change: fn(&mut lastcall_core::Settings)| {
            let run = Run::default().with(change).doing(1.0, 1, Activity::Executing).term(60.0);
            run.left(70.0, 1, "a.1", EndReason::Wall).fired()
        };
        let timeout = |settings: &mut lastcall_core::Settings| settings.handover_drain_timeout = Duration::from_secs(9);
        assert_eq!(run(timeout), [Clock::WallByTimeout]);
        let grace = |settings: &mut lastcall_core::Settings| settings.termination_grace = Some(Duration::from_secs(29));
        assert_eq!(run(grace), [Clock::WallByTerminationGrace]);
    }

    #[test]
    fn a_handshake_at_the_end_of_the_grace_is_not_a_refusal() {
        let run =
            |activity| Run::default().doing(1.0, 1, activity).left(2.0, 1, "a.1", EndReason::ShuttingDown).fired();
        assert_eq!(run(Activity::Handshake), [Clock::IdleGrace]);
        assert_eq!(run(Activity::Acquiring), []);
    }

    #[test]
    fn a_drain_by_request_counts_when_it_began() {
        let asked = |run: Run, begin, status| run.event(1.0, Event::DrainAnswered { begin, status: Some(status) });
        let begun = || asked(Run::default(), true, 202);
        assert_eq!(begun().fired(), [Clock::DrainByRequest]);
        assert_eq!(asked(begun(), false, 409).fired(), [Clock::DrainByRequest]);
        assert_eq!(asked(begun(), false, 200).fired(), [Clock::DrainByRequest, Clock::DrainTakenBack]);
        assert_eq!(asked(Run::default(), true, 503).fired(), []);
    }
}
