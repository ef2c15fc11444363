//! Finding a worker for a session.
//!
//! One worker connection per session, for as long as the session lasts. A worker that can't be reached is tried again until
//! `worker_queue_timeout` (or the client) gives up.

use std::future::Future;
use std::io;
use std::task::Poll;
use std::time::Duration;

use crate::accept::KEPT_BACK;
use crate::connection::{Connection, Front};
use crate::records::Meter;
use crate::throttle::Kind;
use crate::tls::{Link, Wire};
use lastcall_core::EndReason;
use lastcall_core::connection::Next;
use lastcall_world::World;
use lastcall_world::alarm::within;
use lastcall_world::pair::Pair;
use lastcall_world::peer::Peer;

/// Pauses between two attempts: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long one attempt may take: Linux has asked four times by then (`tcp_syn_retries`). A connection request that nobody takes
/// notice of is resent for two minutes; the next attempt looks the name up again.
const ATTEMPT: Duration = Duration::from_secs(15);

/// Connects to the worker, again and again. What the client sends meanwhile waits, up to one chunk.
pub(crate) async fn acquire<W: World, M: Meter>(
    front: &Front<W, M>,
    connection: &mut Connection<W, M>,
    client: &mut Peer<Link<W>>,
) -> Result<Link<W>, EndReason> {
    let mut pause = FIRST_PAUSE;
    loop {
        if front.world.spare_descriptors() <= KEPT_BACK {
            return Err(EndReason::TooManyConnections);
        }
        let is_encrypted = client.stream().is_encrypted();
        let attempt = within(&front.world, front.world.now() + ATTEMPT, connect(front, &front.worker, is_encrypted));
        match until_end(connection, client, attempt).await?.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
            Ok(worker) => return Ok(worker),
            Err(error) if is_tls(&error) => {
                if let Some(left_out) = front.throttle.pass(Kind::WorkerTls, front.world.now()) {
                    tracing::error!(worker = %front.worker, %error, left_out, "worker not reached: its TLS is not as it must be");
                }
            }
            Err(error) => tracing::debug!(
                session = connection.slot.number(),
                worker = %front.worker,
                %error,
                retry_in_ms = pause.as_millis() as u64,
                "worker not reached"
            ),
        }
        let again = front.world.now() + pause;
        until_end(connection, client, front.world.sleep_until(again)).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Opens a connection to the worker at `address`, encrypted as it must be.
pub(crate) async fn connect<W: World, M>(
    front: &Front<W, M>,
    address: &str,
    client_is_encrypted: bool,
) -> io::Result<Link<W>> {
    let mut worker = Wire::Clear(front.world.connect(address).await?);
    front.tls.secure_worker(&mut worker, address, client_is_encrypted).await?;
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
