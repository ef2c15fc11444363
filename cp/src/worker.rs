//! Finding a worker for a session.
//!
//! One worker connection per session, for as long as the session lasts. Where there are several workers, one that takes no
//! notice costs the others a moment, and one that says that it takes no sessions is passed over; the client learns of neither.
//! When none can be had all are tried again, until `worker_queue_timeout` (or the client) gives up.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::accept::KEPT_BACK;
use crate::connection::{Connection, Front};
use crate::line::Place;
use crate::records::Meter;
use crate::throttle::Kind;
use crate::tls::{Link, Wire};
use crate::workers::Seat;
use lastcall_core::EndReason;
use lastcall_core::connection::Next;
use lastcall_world::World;
use lastcall_world::alarm::{Alarm, within};
use lastcall_world::pair::Pair;
use lastcall_world::peer::Peer;

/// Pauses between two rounds of attempts: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long one attempt may take: Linux has asked four times by then (`tcp_syn_retries`). A connection request that nobody takes
/// notice of is resent for two minutes; the next attempt looks the name up again.
const ATTEMPT: Duration = Duration::from_secs(15);

/// The next worker is tried when the one before has not answered for so long, beside it. Source: RFC 8305, "Connection
/// Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to a worker, again and again. What the client sends meanwhile waits, up to one chunk. `packet` is its startup
/// packet.
pub(crate) async fn acquire<W: World, M: Meter>(
    front: &Front<W, M>,
    connection: &mut Connection<W, M>,
    client: &mut Peer<Link<W>>,
    packet: &[u8],
) -> Result<(Seat, Link<W>), EndReason> {
    let mut pause = FIRST_PAUSE;
    let client_is_encrypted = client.stream().is_encrypted();
    loop {
        if front.world.spare_descriptors() <= KEPT_BACK {
            return Err(EndReason::TooManyConnections);
        }
        let error = match until_end(connection, client, any(front, client_is_encrypted, packet)).await? {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let (session, retry_in_ms) = (connection.slot.number(), pause.as_millis() as u64);
        if !is_tls(&error) {
            tracing::debug!(session, workers = front.workers.names(), %error, retry_in_ms, "worker not reached");
        } else if let Some(left_out) = front.throttle.pass(Kind::WorkerTls, front.world.now()) {
            let workers = front.workers.names();
            tracing::error!(workers, %error, left_out, "worker not reached: its TLS is not as it must be");
        }
        let again = front.world.now() + pause;
        until_end(connection, client, front.world.sleep_until(again)).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The first worker that takes the session, those with the fewest sessions being asked first.
async fn any<W: World, M: Meter>(
    front: &Front<W, M>,
    client_is_encrypted: bool,
    packet: &[u8],
) -> io::Result<(Seat, Link<W>)> {
    type Attempt<'a, W> = Pin<Box<dyn Future<Output = io::Result<Link<W>>> + Send + 'a>>;
    let places = front.workers.places(&front.world).await?;
    let is_alone = places.len() == 1;
    let mut places = VecDeque::from(front.workers.rank(places, front.world.now()));
    let mut attempts: Vec<(Seat, Attempt<'_, W>)> = Vec::new();
    let (mut alarm, mut next) = (Alarm::new(front.world.clone()), front.world.now());
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    std::future::poll_fn(|cx| {
        loop {
            let mut i = 0;
            while i < attempts.len() {
                match attempts[i].1.as_mut().poll(cx) {
                    Poll::Pending => i += 1,
                    Poll::Ready(Ok(worker)) => return Poll::Ready(Ok((attempts.swap_remove(i).0, worker))),
                    Poll::Ready(Err(error)) => {
                        let (seat, _) = attempts.remove(i);
                        if !is_alone {
                            front.workers.rest(&seat.place, front.world.now());
                            tracing::debug!(worker = %seat.place, %error, "worker passed over");
                        }
                        failed = error;
                    }
                }
            }
            if !attempts.is_empty() && (places.is_empty() || !alarm.poll_at(next, cx)) {
                return Poll::Pending;
            }
            let Some(place) = places.pop_front() else {
                return Poll::Ready(Err(std::mem::replace(&mut failed, io::ErrorKind::Other.into())));
            };
            let seat = front.workers.seat(place);
            let attempt = attempt(front, seat.place.clone(), client_is_encrypted, (!is_alone).then_some(packet));
            attempts.push((seat, Box::pin(attempt)));
            next = front.world.now() + STAGGER;
        }
    })
    .await
}

/// One attempt. Who is not the only one is asked with `packet` whether it takes sessions.
async fn attempt<W: World, M: Meter>(
    front: &Front<W, M>,
    place: crate::sync::Arc<Place>,
    client_is_encrypted: bool,
    packet: Option<&[u8]>,
) -> io::Result<Link<W>> {
    let ask = async {
        let mut worker = connect(front, &place, client_is_encrypted).await?;
        if let Some(packet) = packet {
            worker.knock(packet).await?;
        }
        Ok(worker)
    };
    within(&front.world, front.world.now() + ATTEMPT, ask).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

/// Opens a connection to the worker at `place`, encrypted as it must be.
pub(crate) async fn connect<W: World, M: Meter>(
    front: &Front<W, M>,
    place: &Place,
    client_is_encrypted: bool,
) -> io::Result<Link<W>> {
    let mut worker = Wire::Clear(front.world.connect(&place.address).await?);
    front.tls.secure_worker(&mut worker, &place.name, client_is_encrypted).await?;
    Ok(worker)
}

/// Whether it will not be better the next time by itself.
fn is_tls(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Unsupported)
}

/// Runs `work` to its end, or to the connection's.
async fn until_end<W: World, M: Meter, T>(
    connection: &mut Connection<W, M>,
    client: &mut Peer<Link<W>>,
    work: impl Future<Output = T> + Send,
) -> Result<T, EndReason> {
    let mut work = Box::pin(work);
    std::future::poll_fn(|cx| {
        // What an impatient client sends waits for the worker.
        match connection.poll_next(&mut Pair { client, worker: None, cx }) {
            Poll::Pending => work.as_mut().poll(cx).map(Ok),
            Poll::Ready(Next::Close(reason)) => Poll::Ready(Err(reason)),
            Poll::Ready(next) => unreachable!("it has opened, and nothing runs at a worker yet: {next:?}"),
        }
    })
    .await
}
