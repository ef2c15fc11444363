//! Finding a worker for a session.
//!
//! One worker connection per session, for as long as the session lasts. A worker that can't be reached is tried again until
//! `worker_queue_timeout` (or the client) gives up.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;

use crate::accept::KEPT_BACK;
use crate::connection::{Connection, Front};
use crate::peer::Peer;
use crate::records::Meter;
use lastcall_core::EndReason;
use lastcall_core::connection::CHUNK;
use lastcall_core::wire::Side;
use lastcall_world::alarm::within;
use lastcall_world::{PeerState, World};

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
    client: &mut Peer<W::Stream>,
) -> Result<W::Stream, EndReason> {
    let mut pause = FIRST_PAUSE;
    loop {
        if front.world.spare_descriptors() <= KEPT_BACK {
            return Err(EndReason::TooManyConnections);
        }
        let attempt = within(&front.world, front.world.now() + ATTEMPT, front.world.connect(&front.worker));
        match until_end(connection, client, attempt).await?.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
            Ok(worker) => return Ok(worker),
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

/// Runs `work` to its end, or to the connection's.
async fn until_end<W: World, M: Meter, T>(
    connection: &mut Connection<W, M>,
    client: &mut Peer<W::Stream>,
    work: impl Future<Output = T> + Send,
) -> Result<T, EndReason> {
    let mut work = Box::pin(work);
    std::future::poll_fn(|cx| {
        poll_early(connection, client, cx);
        if let Poll::Ready(reason) = connection.poll_end(cx) {
            return Poll::Ready(Err(reason));
        }
        work.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// Takes what an impatient client sends, and notices when it goes.
fn poll_early<W: World, M: Meter>(
    connection: &mut Connection<W, M>,
    client: &mut Peer<W::Stream>,
    cx: &mut Context<'_>,
) {
    let (inner, drain, now) = connection.parts();
    let wanted = inner.wants(Side::Frontend, drain, now);
    if wanted > 0 {
        let mut space = [const { MaybeUninit::uninit() }; CHUNK];
        let mut bytes = ReadBuf::uninit(&mut space[..wanted]);
        match client.poll_read(cx, &mut bytes) {
            Poll::Pending => return,
            Poll::Ready(0) => connection.client_ended(client.peer()),
            Poll::Ready(_) => inner.handle_bytes(Side::Frontend, bytes.filled(), drain, now),
        }
    }
    // Bytes of it wait: that it is gone must not.
    while let Poll::Ready(peer) = client.poll_peer(cx) {
        if peer == PeerState::Gone {
            connection.client_ended(peer);
        }
    }
}
