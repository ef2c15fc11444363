//! One connection from accept to close, stage by stage.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::cancel;
use crate::connection::{Connection, Front};
use crate::goodbye;
use crate::line::Line;
use crate::pending::Stand;
use crate::records::{EndRecord, Meter};
use crate::registry::Slot;
use crate::relay;
use crate::startup::{self, NoOpening, Opening, Startup};
use crate::supervisor::LATE_LAST;
use crate::throttle::Kind;
use crate::tls::{Link, Wire};
use crate::who::Who;
use crate::worker;
use lastcall_core::fatal::Fatal;
use lastcall_core::wire::Side;
use lastcall_core::{EndReason, Transmit};
use lastcall_world::World;
use lastcall_world::alarm::{Alarm, within};
use lastcall_world::peer::Peer;

/// How long a worker that is let go of may take to end what a cancel request has ended, before the next request goes out: it
/// may have begun another statement meanwhile.
const CANCEL_AGAIN: Duration = Duration::from_millis(250);

/// Serves a connection that has a place in the registry.
///
/// The way in and each way out are on the heap, and only while they are gone: a session does not carry the sizes of all of them
/// all its life.
/// Nor is this an `async fn`: that has room for its arguments twice.
pub(crate) fn serve<W: World, M: Meter>(
    front: Front<W, M>,
    client: W::Stream,
    slot: Slot,
    stand: Stand,
) -> impl Future<Output = ()> + Send {
    let mut client = Peer::new(Wire::Clear(client));
    let mut connection = Connection::new(&front, slot);
    async move {
        let opening = Box::pin(startup::read(&mut client, &front.tls, |cx| match stand.poll_gone(cx) {
            Poll::Ready(()) => Poll::Ready(EndReason::TooManyConnections),
            Poll::Pending => connection.poll_end(cx),
        }))
        .await;
        drop(stand);
        let startup = match opening {
            Ok(Opening::Session(startup)) => startup,
            Ok(Opening::Cancel(key)) => {
                connection.slot.vacate();
                return Box::pin(cancel::serve(&front, client.into_stream(), &key)).await;
            }
            Err(why) => return Box::pin(turn_away(&front, connection, client, why)).await,
        };
        let mut about = About { startup, worker: None };
        let reason = {
            let mut session = pin!(session(&front, &mut connection, &mut client, &mut about));
            // A fault of this program's costs the session, and neither its record nor its count.
            std::future::poll_fn(|cx| {
                catch_unwind(AssertUnwindSafe(|| session.as_mut().poll(cx))).unwrap_or(Poll::Ready(EndReason::Panicked))
            })
            .await
        };
        Box::pin(end(&front, connection, client, about, reason)).await;
    }
}

/// Serves a connection that came too late to be a session: it may cancel, and is refused otherwise. Nobody waits for it.
pub(crate) async fn refuse<W: World, M: Meter>(front: Front<W, M>, client: W::Stream, peer: SocketAddr, stand: Stand) {
    let mut client = Peer::new(Wire::Clear(client));
    let accepted = front.world.now();
    let deadline = accepted + front.drain().settings().close_linger;
    let mut alarm = Alarm::new(front.world.clone());
    let mut lifecycle = front.lifecycle.subscribe();
    let opening = startup::read(&mut client, &front.tls, |cx| {
        let closing = lifecycle.poll_until(|lifecycle| lifecycle.closing, cx).is_ready();
        let deadline = if closing { deadline.min(accepted + LATE_LAST) } else { deadline };
        let exiting = lifecycle.poll_until(|lifecycle| lifecycle.exiting, cx).is_ready();
        let over = stand.poll_gone(cx).is_ready() || exiting || alarm.poll_at(deadline, cx);
        if over { Poll::Ready(EndReason::ShuttingDown) } else { Poll::Pending }
    })
    .await;
    drop(stand);
    match opening {
        Ok(Opening::Cancel(key)) => cancel::serve(&front, client.into_stream(), &key).await,
        Ok(Opening::Session(startup)) => {
            front.registry.count_refused();
            let (who, reason) = (Who { peer, names: Some(startup.names) }, EndReason::ShuttingDown);
            front.throttle.no_session(Kind::NoSession(reason), &who, reason, None, front.world.now());
            front.pending.enter().while_here(refuse_with(&front, client, reason.fatal(None))).await;
        }
        Err(why) => say_why(&front, &Who::unnamed(peer), &why),
    }
}

/// What is known of a session besides its connection.
struct About<S> {
    startup: Startup,
    worker: Option<Peer<S>>,
}

/// From the startup packet to the end of the session: why it ended.
async fn session<W: World, M: Meter>(
    front: &Front<W, M>,
    connection: &mut Connection<W, M>,
    client: &mut Peer<Link<W>>,
    about: &mut About<Link<W>>,
) -> EndReason {
    let packet = std::mem::take(&mut about.startup.packet);
    let (inner, drain, now) = connection.parts();
    inner.handle_startup(packet.clone(), drain, now);
    let become_session = connection.slot.become_session(about.startup.names.clone(), connection.now());
    if let Err(reason) = become_session {
        return reason;
    }
    let (seat, worker) = match Box::pin(worker::acquire(front, connection, client, &packet)).await {
        Ok(found) => found,
        Err(reason) => return reason,
    };
    drop(packet);
    connection.take_seat(seat);
    relay::run(connection, client, about.worker.insert(Peer::new(worker))).await
}

/// The end of a session: the record is written, the worker let go, the client told. The place is kept until both are done.
async fn end<W: World, M: Meter>(
    front: &Front<W, M>,
    mut connection: Connection<W, M>,
    client: Peer<Link<W>>,
    about: About<Link<W>>,
    reason: EndReason,
) {
    let runs = connection.session().worker_runs();
    connection.close(reason);
    record(front, &connection, &about.startup, reason);
    if reason == EndReason::ShuttingDown {
        front.registry.count_refused();
    }
    let line = connection.line().filter(|_| runs && reason != EndReason::Quit);
    let worker = about.worker.map(|mut worker| {
        let (inner, drain, now) = connection.parts();
        if let Some(Transmit::Bytes(goodbye)) = inner.poll_transmit(Side::Backend, drain, now) {
            // What the socket doesn't take at once is not worth waiting for: the end behind it says the same.
            worker.write(goodbye, &mut Context::from_waker(Waker::noop()));
        }
        worker
    });
    let release = async {
        if let Some(worker) = worker {
            release(front, worker, line).await;
        }
    };
    let tell = async {
        let told = goodbye::say(front, &mut connection.inner, client);
        if matches!(reason, EndReason::ShuttingDown | EndReason::TooManyConnections) {
            // It never was a session: it takes no more room than others who never were.
            return front.pending.enter().while_here(told).await;
        }
        told.await;
    };
    both(release, tell).await;
    connection.leave(reason);
}

/// Lets go of a worker whose session is over. What it still runs is cancelled over `line`, request after request, until it is
/// gone, for `close_linger` at most.
async fn release<W: World, M: Meter>(front: &Front<W, M>, mut worker: Peer<Link<W>>, line: Option<Line>) {
    match line {
        // On the heap, for connecting to a worker takes several times the room of everything else at an end, and hardly any does
        // that.
        Some(line) => Box::pin(cancel_until_gone(front, worker, line)).await,
        None => _ = worker.shut(&mut Context::from_waker(Waker::noop())),
    }
}

async fn cancel_until_gone<W: World, M: Meter>(front: &Front<W, M>, mut worker: Peer<Link<W>>, line: Line) {
    let deadline = front.world.now() + front.drain().settings().close_linger;
    loop {
        // Before the connection is closed: a pooler forgets the key with it.
        cancel::pass_on(front, &line, deadline).await;
        worker.shut(&mut Context::from_waker(Waker::noop()));
        let now = front.world.now();
        let again = deadline.min(now + CANCEL_AGAIN);
        let gone = std::future::poll_fn(|cx| if worker.poll_discard(cx) { Poll::Ready(()) } else { Poll::Pending });
        if within(&front.world, again, front.unless_exiting(gone)).await.is_some() || front.world.now() >= deadline {
            return;
        }
    }
}

/// Completes when both have; neither waits for the other.
async fn both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let mut left = (true, true);
    std::future::poll_fn(|cx| {
        left.0 = left.0 && one.as_mut().poll(cx).is_pending();
        left.1 = left.1 && other.as_mut().poll(cx).is_pending();
        if left == (false, false) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn record<W: World, M: Meter>(
    front: &Front<W, M>,
    connection: &Connection<W, M>,
    startup: &Startup,
    reason: EndReason,
) {
    let Some(usage) = connection.usage() else {
        let who = Who { names: Some(startup.names.clone()), ..connection.slot.who() };
        return front.throttle.no_session(Kind::NoSession(reason), &who, reason, None, front.world.now());
    };
    let record = EndRecord { usage, ended: front.world.now(), reason };
    front.registry.count_session(&record);
    front.meter.session_ended(&record);
}

/// Ends a connection whose startup packet never came, or can't be used.
async fn turn_away<W: World, M: Meter>(
    front: &Front<W, M>,
    mut connection: Connection<W, M>,
    client: Peer<Link<W>>,
    why: NoOpening,
) {
    say_why(front, &connection.slot.who(), &why);
    let (reason, fatal) = match why {
        NoOpening::Ended(reason) => (reason, None),
        NoOpening::Gone | NoOpening::NoEncryption | NoOpening::Handshake(_) => (EndReason::ClientClosed, None),
        NoOpening::NotEncrypted => {
            let message = "this server accepts encrypted connections only".to_owned();
            let detail = Some("Connect with sslmode=require, or better verify-full.".to_owned());
            (EndReason::LoginFailed, Some(Fatal { code: "28000", message, detail }))
        }
        // Whoever sent this does not speak the protocol.
        NoOpening::Malformed(_) => (EndReason::Malformed, None),
        NoOpening::Version(major) => {
            let message = format!("unsupported frontend protocol {major}: server supports 3.0");
            (EndReason::Malformed, Some(Fatal { code: "0A000", message, detail: None }))
        }
    };
    connection.close(reason);
    if let Some(fatal) = fatal {
        front.pending.enter().while_here(refuse_with(front, client, Some(fatal))).await;
    }
    connection.leave(reason);
}

/// Lets the log say why there is no session. A connection that came and went without a word is a probe, and no event.
fn say_why<W: World, M: Meter>(front: &Front<W, M>, who: &Who, why: &NoOpening) {
    let now = front.world.now();
    let say = |kind, reason, detail: Option<&str>| front.throttle.no_session(kind, who, reason, detail, now);
    match why {
        NoOpening::Gone => {}
        NoOpening::NoEncryption => {
            say(
                Kind::NoEncryption,
                EndReason::ClientClosed,
                Some("it asked for encryption, which is not offered here"),
            );
        }
        NoOpening::Handshake(error) => {
            say(Kind::Handshake, EndReason::ClientClosed, Some(&format!("the TLS handshake failed: {error}")));
        }
        NoOpening::NotEncrypted => say(
            Kind::NoSession(EndReason::LoginFailed),
            EndReason::LoginFailed,
            Some("it is not encrypted, and tls_required is set"),
        ),
        NoOpening::Ended(reason) => say(Kind::NoSession(*reason), *reason, None),
        NoOpening::Malformed(malformed) => {
            say(Kind::NoSession(EndReason::Malformed), EndReason::Malformed, Some(&malformed.to_string()));
        }
        NoOpening::Version(major) => {
            let detail = format!("it asked for protocol {major}");
            say(Kind::NoSession(EndReason::Malformed), EndReason::Malformed, Some(&detail));
        }
    }
}

/// Tells a client that never was a session why.
async fn refuse_with<W: World, M: Meter>(front: &Front<W, M>, client: Peer<Link<W>>, fatal: Option<Fatal>) {
    if let Some(fatal) = fatal {
        let drain = front.lifecycle.value().drain;
        let mut refusal = lastcall_core::Connection::refusal(&fatal, &drain, front.world.now());
        goodbye::say(front, &mut refusal, client).await;
    }
}

#[cfg(test)]
mod tests;
