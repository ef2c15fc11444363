//! The contract's L: the last instant at which a worker was executing or a statement's bytes moved.
//!
//! - **The signal itself**, where a transaction, a statement, a batch or an undelivered answer was open then: its clock starts
//!   there, however long its client had been silent before.
//! - **Not every statement counts**, or a hot client could move L for ever, which the contract rules out. After
//!   `idle_grace` every connection is due and gets no new work at a boundary. So a request counts if it was sent by then, or
//!   inside a transaction or a batch that was open by then and whose pauses since the signal come to no more than
//!   `transaction_budget`.
//! - **A byte that a client's machine takes moves**, and one that the client sends in a COPY or a batch. A reader that never
//!   pauses moves L to its answer's end, however slow; one that stops moves it to where it stopped.
//! - **A client that is gone waits for nothing**: its statements count to its reset, to its FIN (or the signal, where that
//!   came later: its clock starts there), or until a machine that has vanished is given up.

use std::cmp::Ordering;
use std::time::Duration;

use lastcall_core::{Settings, Time};

use crate::cast::history::{Outcome, RequestKind, StatementEnd};
use crate::judge::Judged;
use crate::story::{Batch, Connection, GIVEN_UP, Moment, Request, Statement};

/// Where bytes to it are not acknowledged, it is given up later (Linux: `tcp_retries2`).
const UNACKNOWLEDGED: Duration = Duration::from_secs(15 * 60);

pub(super) const CUT_OFF: &str = "the network cut it off";

/// The last move, and whose it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastMove<'r> {
    pub(super) moment: Moment,
    pub(super) connection: &'r Connection<'r>,
    /// What it was: goes on behind "when".
    pub(super) what: &'static str,
    /// How many other connections moved at the same time.
    pub(super) others: usize,
}

/// The last move, at the signal or after it; none if nothing was open then and nothing moved.
pub(super) fn last<'r>(run: &'r Judged, signal: Moment) -> Option<LastMove<'r>> {
    let story = &run.story;
    let pod_end = story.gone().or(story.last)?;
    let moves = story.connections.iter().flat_map(|connection| {
        let moves = moves_on(run, connection, signal, pod_end).filter(|(moment, _)| moment.at >= signal.at);
        let last = moves.max_by_key(|(moment, _)| moment.at);
        last.map(|(moment, what)| LastMove { moment, connection, what, others: 0 })
    });
    moves.reduce(|last, next| match next.moment.at.cmp(&last.moment.at) {
        Ordering::Less => last,
        Ordering::Equal => LastMove { others: last.others + 1, ..next },
        Ordering::Greater => next,
    })
}

/// When something moved on a connection, and what it was.
fn moves_on<'r>(
    run: &'r Judged,
    connection: &'r Connection,
    signal: Moment,
    pod_end: Moment,
) -> impl Iterator<Item = (Moment, &'static str)> {
    let was = |what: &'static str| move |moment: Moment| (moment, what);
    let requests = counted(run, connection).flat_map(move |request| moves_of(run, connection, request, pod_end));
    let open = is_open(run, connection, signal).then_some(signal);
    let batches = batches_of(run, connection).filter(move |batch| batch.ended.is_none_or(|ended| ended >= signal));
    let late = connection.replicates.filter(|began| run.story.outages.of_worker(began.at, began.at));
    let parts = connection.fed.iter().copied().filter(|fed| lasts(run, connection, *fed));
    requests
        .chain(open.map(was("a transaction, a statement, a batch or an answer of it was open")))
        .chain(unheard(run, connection, pod_end).map(was("its worker may still have been executing")))
        .chain(cut_off(run, connection, signal).map(was(CUT_OFF)))
        .chain(greeting(run, connection).map(was("its worker greeted it")))
        .chain(parts.map(was("it sent a part of a request")))
        .chain(late.map(was("its stream began")))
        .chain(streamed(run, connection, pod_end).map(was("it took what was streamed to it")))
        .chain(vanished(connection, signal).map(was("its machine had vanished")))
        .chain(batches.flat_map(|batch| fed(run, connection, batch)).map(was("its batch went on")))
}

/// Whether a statement that counts was running at this moment.
pub(super) fn still_executing(run: &Judged, at: Moment) -> bool {
    run.story.connections.iter().any(|connection| {
        let until = waited_for(run, connection, at);
        let running = |statement: &Statement| statement.began < at && executed(connection, statement, until) == at;
        counted(run, connection).any(|request| run.story.statements_of(request).any(running))
            || unheard(run, connection, at) == Some(at)
    })
}

/// When a worker greeted a client that has not heard of it.
fn greeting(run: &Judged, connection: &Connection) -> Option<Moment> {
    let application = connection.conn.application();
    let sessions = run.story.worker_sessions.values().filter(|session| session.application == application);
    let greeted = sessions.map(|session| session.began).filter(|began| *began > connection.connecting).min();
    greeted.filter(|_| connection.began.is_none())
}

/// Until when a client that reads slowly took what its replication had streamed, which is no answer of any request.
fn streamed(run: &Judged, connection: &Connection, pod_end: Moment) -> Option<Moment> {
    connection.replicates.filter(|began| connection.reads_late() && lasts(run, connection, *began))?;
    let until = waited_for(run, connection, pod_end);
    Some(connection.deaf_at(until).unwrap_or(until))
}

/// Whether a drain had to let go on what began then: nobody was due yet, or a transaction was open.
fn lasts(run: &Judged, connection: &Connection, began: Moment) -> bool {
    let last_due = run.story.signal().map(|signal| signal.at + run.settings.idle_grace + run.slack());
    last_due.is_none_or(|due| began.at <= due) || in_transaction(run, connection, began.at)
}

/// When the clock began of what a client did not acknowledge that could not be reached (then, or at the signal), or when its
/// bytes came through.
fn cut_off(run: &Judged, connection: &Connection, signal: Moment) -> Option<Moment> {
    // What was on its way then is not acknowledged either.
    let under_way =
        |from: Time| connection.ending().is_some_and(|(end, _)| end.at <= from && from <= end.at + run.slack());
    let open = |from: &Time| connection.open_at(*from) || under_way(*from);
    let began = run.story.outages.client_cut_off(connection.conn).filter(open).max()?;
    Some(Moment { index: signal.index, at: began.max(signal.at) })
}

/// Until when a connection's worker may have executed what it was sent while it hung or was out of reach: it says nothing of it,
/// and the pod can't know that it has not begun.
fn unheard(run: &Judged, connection: &Connection, pod_end: Moment) -> Option<Moment> {
    let closed = connection.left.filter(|(_, how)| *how == "close").map(|(left, _)| left).or(connection.half_closed);
    let until = match closed {
        // Its FIN may be a half-close: what the worker does is waited for, and then cancelled, which it may not hear of either.
        Some(fin) => {
            let fin = run.story.signal().map_or(fin.at, |signal| signal.at.max(fin.at));
            let patience = run.settings.stall_grace + run.settings.wall_patience();
            Moment { index: pod_end.index, at: (fin + patience).min(pod_end.at) }
        }
        None => waited_for(run, connection, pod_end),
    };
    let requests = || run.story.requests_of(connection);
    // That its worker was lost, or the session over, is no answer of the worker's.
    let is_open = |request: &&Request| {
        let lost = request.end().is_none_or(|(_, outcome)| *outcome == Outcome::Lost);
        lost || run.story.refused_by_fatal(request).is_some()
    };
    // Behind what was sent and has its answer nothing earlier is open.
    let ended = |request: &&Request| !is_open(request) && request.end().is_some_and(|(end, _)| end < until);
    let batches = connection.batches.iter().copied().chain(connection.replicates).filter(|answered| *answered < until);
    let answered = requests().filter(ended).map(|request| request.sent).chain(batches).max();
    let fed = connection.fed.iter().copied().filter(|fed| Some(*fed) > answered);
    let sent = requests().filter(is_open).map(|request| request.sent).chain(fed);
    let last = sent.filter(|sent| *sent < until).max()?;
    run.story.outages.of_worker(last.at, until.at).then_some(until)
}

/// When the bytes of a request moved, and until when its worker executed it.
fn moves_of<'r>(
    run: &'r Judged,
    connection: &'r Connection,
    request: &'r Request,
    pod_end: Moment,
) -> impl Iterator<Item = (Moment, &'static str)> {
    let was = |what: &'static str| move |moment: Moment| (moment, what);
    let until = waited_for(run, connection, pod_end);
    let executed = run.story.statements_of(request).map(move |statement| {
        let moved = executed(connection, statement, until);
        let what = match statement.end {
            Some((end, _)) if end == moved => "its statement ended",
            _ if moved == until => "its worker was executing",
            _ => "the last byte of its statement moved",
        };
        (moved, what)
    });
    let end = request.end().map(|(end, _)| end);
    let answered = request.end().filter(|(end, outcome)| {
        // Whatever its worker said was on its way for longer, and its end was not the pod's to decide.
        let late = run.story.outages.of_worker(request.sent.at, end.at);
        let refused = run.story.refused_by_fatal(request).is_some();
        // An error in a transaction that has failed is its worker's, though no statement began.
        **outcome == Outcome::Complete
            || matches!(outcome, Outcome::Error(_)) && !refused
            || late && !request.statements.is_empty()
    });
    let read = connection.reading.iter().map(|(changed, _)| *changed);
    let read = read.filter(move |changed| *changed > request.sent && end.is_none_or(|end| end > *changed));
    let reads_on = request.end().is_none() && !request.statements.is_empty() && connection.deaf_at(until).is_none();
    let reading = connection.reads_late().then_some(until).filter(|_| reads_on);
    // Of one that needs no statement, and whose answer nobody reads, no more is known.
    let unread = (request.end().is_none() && connection.deaf_at(until).is_some()).then_some(request.sent);
    executed
        .chain(unread.map(was("it asked")))
        .chain(read.map(was("it stopped reading, or read on")))
        .chain(answered.map(|(end, _)| end).map(was("it had its answer")))
        .chain(reading.map(was("it was reading its answer")))
        .map(move |(moment, what)| (moment.min(until), what))
}

/// Until when a worker executed a statement, or bytes of it moved, up to `until`.
fn executed(connection: &Connection, statement: &Statement, until: Moment) -> Moment {
    let end = statement.end.map_or(until, |(end, _)| end.min(until));
    // What it waited for had come.
    if let Some((done, StatementEnd::Complete | StatementEnd::Failed(_))) = statement.end {
        return done.min(until);
    }
    match (statement.waited_at(end), connection.deaf_at(end)) {
        (Some(wait), Some(stopped)) if !wait.for_input => wait.began.max(stopped),
        // It waits for a client that takes something all the time.
        (Some(wait), None) if !wait.for_input => end,
        (Some(wait), _) => wait.began,
        (None, _) => end,
    }
}

/// Until when the process had to wait for this connection's work: its own end, or when its client was gone.
fn waited_for(run: &Judged, connection: &Connection, pod_end: Moment) -> Moment {
    let ended = run.story.visible_end(connection).map_or(pod_end, |(end, _)| end).min(pod_end);
    let fin = |fin: Moment| fin.max(run.story.signal().unwrap_or(fin)).min(pod_end);
    let ended = connection.half_closed.map_or(ended, |closed| fin(closed).min(ended));
    let Some((left, how)) = connection.left else {
        return ended;
    };
    if is_held_back(run, connection, left) {
        return pod_end;
    }
    let late = |patience: Duration| Moment { index: pod_end.index, at: (left.at + patience).min(pod_end.at) };
    match how {
        "close" => fin(left),
        "vanish" => {
            let requests = run.story.requests_of(connection);
            let unread =
                requests.flat_map(|it| run.story.statements_of(it)).any(|it| it.end.is_some_and(|end| end.0 > left));
            late(if unread { UNACKNOWLEDGED } else { GIVEN_UP })
        }
        _ => left.min(pod_end),
    }
}

/// Whether the news that a client left was lost or held on its way.
fn is_held_back(run: &Judged, connection: &Connection, left: Moment) -> bool {
    run.story.outages.between(connection.conn, left.at, left.at + run.slack())
}

/// Whether a transaction, a statement, a batch or an undelivered answer was open at the signal.
fn is_open(run: &Judged, connection: &Connection, signal: Moment) -> bool {
    let waits = run.story.requests_of(connection).any(|request| {
        let begun = run.story.statements_of(request).any(|statement| statement.began <= signal);
        let left = connection.left.filter(|(left, how)| *left < signal && *how != "close");
        let given_up = left.is_some_and(|(left, _)| !is_held_back(run, connection, left));
        begun && !given_up && request.end().is_none_or(|(end, _)| end > signal)
    });
    let there = connection.ending().is_none_or(|(end, _)| end >= signal) || connection.left.is_some();
    waits && there
        || in_transaction(run, connection, signal.at)
        || batches_of(run, connection)
            .any(|batch| batch.began <= signal && batch.ended.is_none_or(|ended| ended >= signal))
}

/// When the clock began of what a machine that has vanished did not acknowledge, its greeting perhaps: then, or at the signal.
fn vanished(connection: &Connection, signal: Moment) -> Option<Moment> {
    let (left, how) = connection.left.filter(|_| connection.began.is_some())?;
    (how == "vanish" && left.at + UNACKNOWLEDGED > signal.at).then(|| left.max(signal))
}

/// The begun requests of a connection that the drain had to wait for.
fn counted<'r>(run: &'r Judged, connection: &'r Connection) -> impl Iterator<Item = &'r Request<'r>> {
    let Settings { idle_grace, transaction_budget, .. } = *run.settings;
    let signal = run.story.signal().map(|signal| signal.at);
    let last_due = signal.map(|signal| signal + idle_grace + run.slack());
    let (mut in_transaction, mut counts) = (false, true);
    let (mut paused, mut answered) = (Duration::ZERO, None);
    run.story.requests_of(connection).filter(move |request| {
        if in_transaction && let Some((answered, signal)) = answered.zip(signal) {
            paused += request.sent.at.since(std::cmp::max(answered, signal));
        }
        answered = request.end().map(|(end, _)| end.at);
        let lasts = transaction_budget.is_zero() || paused <= transaction_budget;
        let in_batch = || fed_in_batch(run, connection, request);
        counts = last_due.is_none_or(|due| request.sent.at <= due) || in_transaction && counts && lasts || in_batch();
        match request.kind {
            RequestKind::Begin => in_transaction |= !matches!(request.end(), Some((_, Outcome::Error(_)))),
            RequestKind::Commit | RequestKind::Rollback => in_transaction &= skipped(request),
            _ => {}
        }
        counts
    })
}

/// Whether a request is part of a batch that the drain had to let through to its Sync, or ends one in its place.
fn fed_in_batch(run: &Judged, connection: &Connection, request: &Request) -> bool {
    batches_of(run, connection).any(|batch| fed(run, connection, batch).contains(&request.sent))
}

/// The batches of a connection that were open when it fell due, or before.
fn batches_of<'r>(run: &'r Judged, connection: &'r Connection) -> impl Iterator<Item = &'r Batch<'r>> {
    let last_due = run.story.signal().map(|signal| signal.at + run.settings.idle_grace + run.slack());
    let application = connection.conn.application();
    run.story.batches.iter().filter(move |batch| {
        let its = batch.application == Some(application.as_str()) && batch.began > connection.connecting;
        let there = connection.ending().is_none_or(|(end, _)| batch.began < end);
        let inside = || in_transaction(run, connection, batch.began.at);
        // Its worker may have heard of it late.
        let late = || run.story.outages.of_worker(batch.began.at, batch.began.at);
        its && there && (last_due.is_none_or(|due| batch.began.at <= due) || inside() || late())
    })
}

/// When a batch began and when its client sent more of it, until its pauses since the signal came to `transaction_budget`.
fn fed(run: &Judged, connection: &Connection, batch: &Batch) -> Vec<Moment> {
    let (story, budget) = (&run.story, run.settings.transaction_budget);
    let requests = || story.requests_of(connection);
    let sent = requests().map(|request| request.sent).chain(connection.fed.iter().copied());
    let within = |moment: &Moment| *moment > batch.began && batch.ended.is_none_or(|ended| *moment < ended);
    // Its Sync is the last, unless the session ended instead.
    let over = story.worker_sessions.get(&batch.worker_session).and_then(|session| session.ended);
    let synced = batch.ended.filter(|ended| Some(*ended) != over);
    let mut fed: Vec<Moment> = sent.filter(within).chain(synced).collect();
    fed.sort_unstable();
    let signal = story.signal().map_or(Time::EPOCH, |signal| signal.at);
    let (mut paused, mut last) = (Duration::ZERO, batch.began.at);
    fed.retain(|moment| {
        let statements = requests().flat_map(|request| story.statements_of(request));
        let done =
            statements.filter_map(|statement| statement.end).filter(|(end, _)| end < moment).map(|(end, _)| end.at);
        paused += moment.at.since(done.chain([last, signal]).max().unwrap_or(last));
        last = moment.at;
        budget.is_zero() || paused <= budget
    });
    fed.insert(0, batch.began);
    fed
}

/// Whether what should end a transaction may have been skipped, as everything is behind an error in a batch: it failed.
fn skipped(request: &Request) -> bool {
    matches!(request.end(), Some((_, Outcome::Error(_))))
}

/// Whether a connection was inside a transaction at this time.
fn in_transaction(run: &Judged, connection: &Connection, at: Time) -> bool {
    // Whose client does not read its answers has its worker's word for it.
    let at_worker = |request: &Request| {
        let ended = run.story.statements_of(request).filter_map(|statement| statement.end).last();
        ended.is_some_and(|(end, how)| end.at <= at && *how == StatementEnd::Complete && request.end().is_none())
    };
    let answered = |request: &&Request| request.end().is_some_and(|(end, _)| end.at <= at) || at_worker(request);
    let state = run.story.requests_of(connection).filter(answered).fold(false, |open, request| match request.kind {
        RequestKind::Begin => open || request.complete() || at_worker(request),
        RequestKind::Commit | RequestKind::Rollback => open && skipped(request),
        _ => open,
    });
    let left = connection.left.filter(|(left, _)| left.at <= at);
    state && left.map_or(connection.open_at(at), |(left, _)| is_held_back(run, connection, left))
}
