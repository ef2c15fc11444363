//! `no-late-session`: no session began after lame duck, and none was refused in it; the refusal was 57P03.
//!
//! Late is a client that started to connect after lame duck, or whose startup packet came after it. One that was let in
//! before, and waits for its worker, may have its session afterwards. A
//! late one is told 57P03 or, if it never sent a whole startup packet, nothing; no other FATAL will do. It must reach
//! the listener: that stays open to the end, for this answer and for cancel requests, so a connection that could not be
//! opened while the process was there, had somebody to wait for, and the network was whole, breaks it too, from the signal on.
//!
//! And in the lame duck nobody is refused: load balancers need seconds to notice. Nor is anybody told at any time that there are
//! too many, where there can't have been.
//!
//! The old policies stop accepting at the signal, and promise nothing here.

use lastcall_core::DrainPolicy;

use super::{Judged, Violation};
use crate::scenario::model::Promise;
use crate::story::{Connection, Moment};

/// At most one violation for each connection.
pub fn check(run: &Judged) -> Vec<Violation> {
    let Some(signal) = run.story.signal().filter(|_| run.settings.drain_policy == DrainPolicy::IdleAware) else {
        return Vec::new();
    };
    let since_signal = run.story.connections.iter().filter(|connection| connection.connecting >= signal);
    let early = run.story.connections.iter().filter_map(|connection| turned_away(run, signal, connection));
    let crowded = run.story.connections.iter().filter_map(|connection| crowded_out(run, connection));
    since_signal.filter_map(|connection| refusal(run, signal, connection)).chain(early).chain(crowded).collect()
}

/// Somebody who was told that the process shuts down while it still had to serve new sessions.
fn turned_away(run: &Judged, signal: Moment, connection: &Connection) -> Option<Violation> {
    let told = connection.fatals.iter().find(|fatal| fatal.code == "57P03")?.moment;
    // One that was asked for may have begun, also when its answer was lost.
    let asked = run.story.drain_requests.iter().filter(|request| request.begin);
    let is_late = run.story.drains.iter().any(|drain| told.at >= drain.serves_until(run.settings))
        || asked.map(|request| request.asked.at + run.settings.lame_duck).any(|over| told.at >= over);
    let of_worker = run.story.worker_refuses_within(connection.connecting.at, told.at);
    if is_late || of_worker || run.story.shot_before(told) {
        return None;
    }
    let what = format!("{} was refused {}, before the lame duck was over", connection.conn, run.when(told.at));
    Some(Violation::new(Promise::NoLateSession, what, [signal, connection.connecting, told]))
}

/// Somebody who was told that there are too many while there were not.
fn crowded_out(run: &Judged, connection: &Connection) -> Option<Violation> {
    let told = connection.fatals.iter().find(|fatal| fatal.code == "53300")?.moment;
    let others = run.story.connections.iter().filter(|it| it.conn != connection.conn && it.failed.is_none());
    let there = others.filter(|it| it.connecting.at <= told.at).filter(|it| {
        let before = connection.connecting.at;
        run.there_until(it).is_none_or(|over| over + run.slack() >= before)
    });
    let (there, most) = (there.count(), run.settings.max_connections);
    (there < usize::try_from(most).unwrap_or(usize::MAX)).then(|| {
        let what =
            format!("{} was refused {} for {most} others, but {there} were there", connection.conn, run.when(told.at));
        Violation::new(Promise::NoLateSession, what, [connection.connecting, told])
    })
}

fn refusal(run: &Judged, signal: Moment, connection: &Connection) -> Option<Violation> {
    let lame_duck_over = signal.at + run.settings.lame_duck;
    let came_late = |moment: Moment| moment.at >= lame_duck_over + run.slack();
    let late = came_late(connection.connecting) || connection.startup.is_some_and(came_late);
    let told = connection.fatals.first().filter(|fatal| fatal.code != "57P03");
    let (what, shown) = match (connection.began, told, connection.failed) {
        (Some(began), ..) if late => ("had its session".to_owned(), began),
        (_, Some(fatal), _) if late && !run.story.shot_before(fatal.moment) => {
            (format!("was refused with {}, not 57P03,", fatal.code), fatal.moment)
        }
        (.., Some(failed))
            if run.story.gone().is_none_or(|gone| failed.at + run.slack() < gone.at)
                && somebody_is_there(run, failed)
                && !run.story.outages.of_client(connection.conn, connection.connecting.at, failed.at) =>
        {
            ("found no listener".to_owned(), failed)
        }
        _ => return None,
    };
    let what = format!(
        "{} started to connect {} and {what} {}",
        connection.conn,
        run.when(connection.connecting.at),
        run.when(shown.at)
    );
    Some(Violation::new(Promise::NoLateSession, what, [signal, connection.connecting, shown]))
}

/// Whether somebody is there for whom the process waits: without, it may be exiting already.
fn somebody_is_there(run: &Judged, at: Moment) -> bool {
    let Some(over) = run.story.drain().map(|drain| drain.serves_until(run.settings)) else { return true };
    let waited_for = |it: &&Connection| it.connecting.at + run.accepting() < over && it.failed.is_none();
    // Of a client that does not read, its worker knows whether it was closed.
    let closed = |it: &Connection| {
        let over = run.story.worker_let_go(it);
        over.is_some_and(|over| over.at + run.settings.close_linger <= at.at + run.slack())
    };
    let mut there = run.story.connections.iter().filter(waited_for).filter(|it| it.open_at(at.at));
    at.at < over || there.any(|it| !closed(it))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Log, conn};
    use super::*;
    use crate::cast::history::{Event, Fault};

    fn signalled() -> Log {
        Log::default().term(60.0)
    }

    #[test]
    fn a_startup_packet_that_comes_late_is_refused_like_a_late_connection() {
        let startup = |at: f64| {
            let log = Log::default().term(60.0).connecting(64.0, "b.1");
            log.event(at, Event::StartupSent { conn: conn("b.1") })
                .event(70.0, Event::SessionBegan { conn: conn("b.1") })
        };
        assert_eq!(startup(64.0).judge(check), [""; 0]);
        assert_eq!(startup(69.0).judge(check).len(), 1);
    }

    fn failed(log: Log, at: f64) -> Log {
        log.event(at, Event::ConnectFailed { conn: conn("b.1"), error: "refused".to_owned() })
    }

    #[test]
    fn a_session_may_begin_during_lame_duck_and_not_after_it() {
        assert_eq!(signalled().session(64.9, "a.1").judge(check), [""; 0]);
        assert_eq!(
            signalled().session(66.0, "a.1").judge(check),
            ["a.1#1 started to connect 6s after the signal and had its session 6s after the signal"]
        );
    }

    #[test]
    fn a_drain_whose_answer_was_lost_may_have_begun_and_its_lame_duck_be_over() {
        let refused = |asked: f64| {
            let log = Log::default().event(asked, Event::DrainAsked { begin: true });
            let log = log.connecting(40.0, "a.1").fatal(40.0, "a.1", "57P03", None).eof(40.0, "a.1").term(60.0);
            log.event(90.0, Event::DrainAnswered { begin: true, status: None }).judge(check).len()
        };
        assert_eq!((refused(1.0), refused(39.0)), (0, 1));
    }

    #[test]
    fn too_many_are_as_many_as_there_may_be_and_who_has_left_is_none() {
        let refused = |at: f64| {
            let log = Log::default().with(|settings| settings.max_connections = 1);
            let log = log.session(1.0, "a.1").left(10.0, "a.1", "disconnect").goodbye(10.0, "a.1");
            log.connecting(at, "b.1").fatal(at, "b.1", "53300", None).eof(at, "b.1").term(60.0).judge(check).len()
        };
        assert_eq!((refused(12.0), refused(20.0)), (0, 1));
    }

    #[test]
    fn who_came_during_lame_duck_may_have_a_session_after_it() {
        let began = Event::SessionBegan { conn: conn("a.1") };
        assert_eq!(signalled().connecting(64.0, "a.1").event(90.0, began).judge(check), [""; 0]);
    }

    #[test]
    fn the_refusal_is_57p03_or_silence_before_startup() {
        let late = signalled().connecting(66.0, "a.1");
        assert_eq!(late.clone().fatal(66.0, "a.1", "57P03", None).judge(check), [""; 0]);
        assert_eq!(late.clone().eof(90.0, "a.1").judge(check), [""; 0]);
        assert_eq!(late.fatal(66.0, "a.1", "57P01", None).judge(check).len(), 1);
    }

    #[test]
    fn nobody_is_refused_in_the_lame_duck() {
        let refused = |at: f64| signalled().connecting(at, "a.1").fatal(at, "a.1", "57P03", None).judge(check);
        assert_eq!(refused(64.0), ["a.1#1 was refused 4s after the signal, before the lame duck was over"]);
        assert_eq!(refused(65.0), [""; 0]);
        let drained = Log::default().event(10.0, Event::Fault { what: Fault::WorkerDrain }).term(60.0);
        assert_eq!(drained.connecting(64.0, "a.1").fatal(64.0, "a.1", "57P03", None).judge(check), [""; 0]);
    }

    #[test]
    fn the_listener_is_there_until_the_process_is_not() {
        let there = || signalled().session(61.0, "a.1");
        let refused = |exit| failed(there().connecting(66.0, "b.1"), 66.0).exit(exit, 0).judge(check);
        assert_eq!(refused(66.05), [""; 0]);
        assert_eq!(failed(signalled().connecting(66.0, "b.1"), 66.0).exit(70.0, 0).judge(check), [""; 0]);
        assert_eq!(refused(70.0).len(), 1);
        let between = ["clients", "pod"].map(str::to_owned);
        let cut_off = signalled().event(65.0, Event::Fault { what: Fault::Partition { between } });
        assert_eq!(failed(cut_off.connecting(66.0, "b.1"), 66.0).exit(70.0, 0).judge(check), [""; 0]);
        assert_eq!(failed(signalled().exit(65.0, 0).connecting(66.0, "b.1"), 66.0).judge(check), [""; 0]);
    }

    #[test]
    fn the_old_policies_promise_nothing_here() {
        let unbounded = signalled().with(|settings| settings.drain_policy = DrainPolicy::Unbounded);
        assert_eq!(unbounded.session(66.0, "a.1").judge(check), [""; 0]);
    }
}
