//! The orders in which two things can happen at nearly the same time, each of which must end well.

use std::time::Duration;

use lastcall_core::Time;

use crate::cast::history::{NOT_EXECUTED, Outcome};
use crate::cast::pod::report::{Activity, EndReason, Left};
use crate::story::stays::Stay;
use crate::story::{Connection, Story};

/// Two moments as near as this race each other: some packets' way.
const NEAR: Duration = Duration::from_millis(10);

/// Which of two things was first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Race {
    /// A request was running at its connection's due time: answered, then closed.
    RequestBeforeDueTime,
    /// The due time was first: told that the request was not executed.
    DueTimeBeforeRequest,
    /// A client connected right before the end of the lame duck: served.
    ConnectBeforeLameDuckEnd,
    /// Right after it: refused.
    LameDuckEndBeforeConnect,
    /// A connection was accepted in the lame duck and its startup packet came behind it: refused.
    LameDuckEndBeforeStartup,
    /// A client connected right before the signal.
    ConnectBeforeSignal,
    /// Right after it.
    SignalBeforeConnect,
    /// A session that waited for its worker at the signal got it.
    SignalBeforeWorker,
    /// The signal fell into a request of which the rest came later: answered.
    SignalInsideRequest,
    /// The rest never came: closed.
    SignalInsideHalfARequest,
    /// A client left by itself while it was about to be closed.
    DisconnectBeforeFatal,
    /// A client left by itself when its FATAL was on the way.
    FatalBeforeDisconnect,
    /// A cancel request hit its statement.
    CancelBeforeCompletion,
    /// It came too late.
    CompletionBeforeCancel,
    /// The last session left in the lame duck: the exit is at its end.
    LastLeftBeforeLameDuckEnd,
    /// The lame duck was over: the exit is when it leaves.
    LameDuckEndBeforeLastLeft,
    /// A drain was taken back before it had closed anybody.
    RecallBeforeDueTimes,
    /// It had closed some.
    DueTimesBeforeRecall,
}

impl Race {
    /// Every order.
    pub const ALL: [Race; 18] = [
        Race::RequestBeforeDueTime,
        Race::DueTimeBeforeRequest,
        Race::ConnectBeforeLameDuckEnd,
        Race::LameDuckEndBeforeConnect,
        Race::LameDuckEndBeforeStartup,
        Race::ConnectBeforeSignal,
        Race::SignalBeforeConnect,
        Race::SignalBeforeWorker,
        Race::SignalInsideRequest,
        Race::SignalInsideHalfARequest,
        Race::DisconnectBeforeFatal,
        Race::FatalBeforeDisconnect,
        Race::CancelBeforeCompletion,
        Race::CompletionBeforeCancel,
        Race::LastLeftBeforeLameDuckEnd,
        Race::LameDuckEndBeforeLastLeft,
        Race::RecallBeforeDueTimes,
        Race::DueTimesBeforeRecall,
    ];

    /// What it is called in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Race::RequestBeforeDueTime => "request, due time: answered",
            Race::DueTimeBeforeRequest => "due time, request: not executed",
            Race::ConnectBeforeLameDuckEnd => "connect, end of lame duck: served",
            Race::LameDuckEndBeforeConnect => "end of lame duck, connect: 57P03",
            Race::LameDuckEndBeforeStartup => "accept, end of lame duck, startup packet: 57P03",
            Race::ConnectBeforeSignal => "connect, signal: served",
            Race::SignalBeforeConnect => "signal, connect: served",
            Race::SignalBeforeWorker => "signal, worker found: served",
            Race::SignalInsideRequest => "half a request, signal, the rest: answered",
            Race::SignalInsideHalfARequest => "half a request, signal, no more: closed",
            Race::DisconnectBeforeFatal => "disconnect, due time",
            Race::FatalBeforeDisconnect => "due time, disconnect",
            Race::CancelBeforeCompletion => "cancel, completion: 57014",
            Race::CompletionBeforeCancel => "completion, cancel: complete",
            Race::LastLeftBeforeLameDuckEnd => "last one leaves, end of lame duck",
            Race::LameDuckEndBeforeLastLeft => "end of lame duck, last one leaves",
            Race::RecallBeforeDueTimes => "drain taken back, due times",
            Race::DueTimesBeforeRecall => "due times, drain taken back",
        }
    }
}

/// Counts the races of a run.
pub(super) fn count(story: &Story, count: &mut impl FnMut(Race)) {
    at_due_time(story, count);
    at_signal(story, count);
    at_lame_duck_end(story, count);
    with_cancels(story, count);
    with_recalls(story, count);
}

fn at_due_time(story: &Story, count: &mut impl FnMut(Race)) {
    let by_itself = |connection: &&Connection| matches!(connection.left, Some((_, "disconnect" | "close")));
    let leaving: Vec<&Connection> = story.connections.iter().filter(by_itself).collect();
    for stay in &story.stays {
        let before = stay.before_close().map(|stage| stage.activity);
        let busy = matches!(before, Some(Activity::Executing | Activity::StreamingOut));
        let Some(left) = stay.left else { continue };
        match left.reason {
            EndReason::Boundary => {
                if busy {
                    count(Race::RequestBeforeDueTime);
                }
                if is_leaving(&leaving, stay, left) {
                    count(Race::FatalBeforeDisconnect);
                }
            }
            EndReason::Terminate | EndReason::ClientClosed if may_be_due(story, left.at) => {
                count(Race::DisconnectBeforeFatal);
            }
            _ => {}
        }
    }
    let fatals = story.connections.iter().flat_map(|connection| &connection.fatals);
    fatals.filter(|fatal| fatal.detail == Some(NOT_EXECUTED)).for_each(|_| count(Race::DueTimeBeforeRequest));
}

/// Whether the client of this connection had left by itself before the pod let it go.
fn is_leaving(leaving: &[&Connection], stay: &Stay, left: &Left) -> bool {
    let since = stay.stages.first().map_or(Time::EPOCH, |first| first.from);
    leaving.iter().any(|connection| {
        let within = connection.left.is_some_and(|(moment, _)| since <= moment.at && moment.at <= left.at);
        within && connection.conn.application() == left.who
    })
}

/// Whether due times fall around this time.
fn may_be_due(story: &Story, at: Time) -> bool {
    let (lame_duck, grace) = (story.settings.lame_duck, story.settings.idle_grace);
    let signal = story.phases.lame_duck_end().map(|end| end.since_epoch().saturating_sub(lame_duck));
    signal.map(Time::from_epoch).is_some_and(|signal| {
        at >= signal + (grace / 2).max(lame_duck).saturating_sub(NEAR) && at <= signal + grace + NEAR
    })
}

fn at_signal(story: &Story, count: &mut impl FnMut(Race)) {
    let Some(signal) = story.signal().map(|signal| signal.at) else { return };
    for connection in &story.connections {
        let at = connection.connecting.at;
        if connection.began.is_some() && at <= signal && at + NEAR >= signal {
            count(Race::ConnectBeforeSignal);
        }
        if connection.began.is_some() && at > signal && at <= signal + NEAR {
            count(Race::SignalBeforeConnect);
        }
        // A request of which a part was sent before the signal, and the rest behind it or never.
        let Some(half) = connection.parts.iter().rev().find(|part| part.at <= signal) else { continue };
        match story.requests_of(connection).find(|request| request.sent > *half) {
            Some(request) if request.sent.at > signal && request.complete() => count(Race::SignalInsideRequest),
            None if connection.fatals.iter().any(|fatal| fatal.code == "57P01") => {
                count(Race::SignalInsideHalfARequest);
            }
            _ => {}
        }
    }
    for stay in &story.stays {
        let waits = stay.stages.windows(2).find(|stages| {
            stages[0].activity == Activity::Acquiring && stages[0].from <= signal && stages[0].to > signal
        });
        if waits.is_some_and(|stages| stages[1].activity != Activity::Closing) {
            count(Race::SignalBeforeWorker);
        }
    }
}

fn at_lame_duck_end(story: &Story, count: &mut impl FnMut(Race)) {
    let Some(end) = story.phases.lame_duck_end() else { return };
    for connection in &story.connections {
        let (at, refused) = (connection.connecting.at, connection.fatals.iter().any(|fatal| fatal.code == "57P03"));
        let came_late = connection.startup.is_some_and(|startup| startup.at > end);
        if connection.began.is_some() && at < end && at + NEAR >= end {
            count(Race::ConnectBeforeLameDuckEnd);
        }
        if refused && at + NEAR < end && came_late {
            count(Race::LameDuckEndBeforeStartup);
        }
        if refused && at + NEAR >= end && at <= end + NEAR {
            count(Race::LameDuckEndBeforeConnect);
        }
    }
    let lasts = story.stays.iter().filter_map(|stay| stay.left.map(|left| left.at)).max();
    if let Some(last) = lasts.filter(|_| story.exit.is_some()) {
        count(if last > end { Race::LameDuckEndBeforeLastLeft } else { Race::LastLeftBeforeLameDuckEnd });
    }
}

fn with_cancels(story: &Story, count: &mut impl FnMut(Race)) {
    for request in &story.requests {
        match request.cancels.first().zip(request.end()) {
            Some((cancel, (end, Outcome::Complete))) if *cancel < end => count(Race::CompletionBeforeCancel),
            Some((cancel, (end, Outcome::Error(code)))) if *cancel < end && code == "57014" => {
                count(Race::CancelBeforeCompletion);
            }
            _ => {}
        }
    }
}

fn with_recalls(story: &Story, count: &mut impl FnMut(Race)) {
    for (began, recalled) in story.drains.iter().filter_map(|drain| Some((drain.began.at, drain.recalled?.at))) {
        let closed = |left: &Left| left.reason == EndReason::Boundary && left.at >= began && left.at <= recalled;
        let closed = story.stays.iter().any(|stay| stay.left.is_some_and(closed));
        count(if closed { Race::DueTimesBeforeRecall } else { Race::RecallBeforeDueTimes });
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Run;
    use super::*;
    use crate::cast::history::Event;

    #[test]
    fn a_request_and_a_due_time() {
        let run = Run::default().doing(1.0, 1, Activity::Executing).doing(80.0, 1, Activity::Closing);
        assert_eq!(run.left(80.0, 1, "a.1", EndReason::Boundary).races(), [Race::RequestBeforeDueTime]);
        assert_eq!(
            Run::default().fatal(80.0, "a.1", "57P01", Some(NOT_EXECUTED)).races(),
            [Race::DueTimeBeforeRequest]
        );
        assert_eq!(Run::default().fatal(80.0, "a.1", "57P01", None).races(), []);
    }

    #[test]
    fn a_disconnect_and_a_due_time() {
        let run = || Run::default().connecting(1.0, "a.1").doing(1.0, 1, Activity::Idle).term(60.0);
        let crossed = run().client_left(80.0, "a.1").left(80.1, 1, "a.1", EndReason::Boundary);
        assert_eq!(crossed.races(), [Race::FatalBeforeDisconnect]);
        let first = run().client_left(80.0, "a.1").left(80.0, 1, "a.1", EndReason::Terminate);
        assert_eq!(first.races(), [Race::DisconnectBeforeFatal]);
        let early = run().client_left(61.0, "a.1").left(61.0, 1, "a.1", EndReason::Terminate);
        assert_eq!(early.races(), []);
    }

    #[test]
    fn a_connect_and_the_signal() {
        let run = |at| Run::default().connecting(at, "a.1");
        assert_eq!(run(59.995).term(60.0).session(60.0, "a.1").races(), [Race::ConnectBeforeSignal]);
        assert_eq!(
            Run::default().term(60.0).connecting(60.005, "a.1").session(60.1, "a.1").races(),
            [Race::SignalBeforeConnect]
        );
        assert_eq!(run(59.0).term(60.0).session(60.0, "a.1").races(), []);
    }

    #[test]
    fn a_connect_and_the_end_of_the_lame_duck() {
        let run = |at| Run::default().term(60.0).connecting(at, "a.1");
        assert_eq!(run(64.995).session(65.0, "a.1").races(), [Race::ConnectBeforeLameDuckEnd]);
        assert_eq!(run(65.002).fatal(65.1, "a.1", "57P03", None).races(), [Race::LameDuckEndBeforeConnect]);
        let late = run(61.0).startup(66.0, "a.1").fatal(66.0, "a.1", "57P03", None);
        assert_eq!(late.races(), [Race::LameDuckEndBeforeStartup]);
        assert_eq!(run(70.0).fatal(70.0, "a.1", "57P03", None).races(), []);
    }

    #[test]
    fn a_worker_and_the_signal() {
        let run = Run::default().doing(59.0, 1, Activity::Acquiring).term(60.0);
        assert_eq!(run.doing(61.0, 1, Activity::Idle).races(), [Race::SignalBeforeWorker]);
        let gave_up = Run::default().doing(59.0, 1, Activity::Acquiring).term(60.0).doing(61.0, 1, Activity::Closing);
        assert_eq!(gave_up.races(), []);
    }

    #[test]
    fn half_a_request_and_the_signal() {
        let part = |run: Run| run.event(59.0, Event::PartSent { conn: super::super::fixture::conn("a.1") }).term(60.0);
        let whole = part(Run::default()).sent(61.0, "a.1/1").complete(62.0, "a.1/1");
        assert_eq!(whole.races(), [Race::SignalInsideRequest]);
        assert_eq!(part(Run::default()).fatal(80.0, "a.1", "57P01", None).races(), [Race::SignalInsideHalfARequest]);
    }

    #[test]
    fn a_cancel_and_a_completion() {
        let run = || Run::default().sent(1.0, "a.1/1").cancel(2.0, "a.1/1");
        assert_eq!(run().error(3.0, "a.1/1", "57014").races(), [Race::CancelBeforeCompletion]);
        assert_eq!(run().complete(3.0, "a.1/1").races(), [Race::CompletionBeforeCancel]);
        assert_eq!(run().error(3.0, "a.1/1", "22012").races(), []);
    }

    #[test]
    fn the_last_to_leave_and_the_end_of_the_lame_duck() {
        let run = |left: f64| {
            let run = Run::default().doing(1.0, 1, Activity::Idle).term(60.0);
            run.left(left, 1, "a.1", EndReason::Boundary).exit(left.max(65.0)).races()
        };
        assert_eq!(run(61.0), [Race::LastLeftBeforeLameDuckEnd]);
        assert_eq!(run(80.0), [Race::LameDuckEndBeforeLastLeft]);
    }

    #[test]
    fn a_recall_and_the_due_times() {
        let asked = |run: Run, at, begin: bool| {
            let status = Some(if begin { 202 } else { 200 });
            run.event(at, Event::DrainAnswered { begin, status })
        };
        let begun = || asked(Run::default().doing(1.0, 1, Activity::Idle), 60.0, true);
        assert_eq!(asked(begun(), 61.0, false).races(), [Race::RecallBeforeDueTimes]);
        let closed = begun().left(80.0, 1, "a.1", EndReason::Boundary);
        assert_eq!(asked(closed, 81.0, false).races(), [Race::DueTimesBeforeRecall]);
    }
}
