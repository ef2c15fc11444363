//! Cancel requests: served in every phase, until the process exits. Whoever holds the process up must be able to let go.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::alarm::within;
use crate::core::Time;
use crate::core::wire::CancelKey;
use crate::course::Front;
use crate::meter::Meter;
use crate::throttle::Kind;
use crate::world::World;

/// How long a cancel request may take to reach its worker.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Passes the cancel request on to the worker of the session that has `key`, and closes `client` when the worker has taken
/// it: as with PostgreSQL, that is all the answer there is. An unknown key is ignored without a word, so that a guess learns
/// nothing.
pub(crate) async fn serve<W: World, M: Meter>(front: &Front<W, M>, client: W::Stream, key: &CancelKey) {
    if !front.registry.knows(key) {
        if let Some(left_out) = front.throttle.pass(Kind::WrongCancel, front.world.now()) {
            tracing::info!(?key, left_out, "cancel request for no session here");
        }
        return;
    }
    if pass_on(front, key, front.world.now() + PATIENCE).await {
        front.registry.count_cancel();
    }
    drop(client);
}

/// Cancels at the worker the statement of the session that has `key` there, until `deadline` or the process's exit. Returns
/// whether the worker has taken the request.
pub(crate) async fn pass_on<W: World, M: Meter>(front: &Front<W, M>, key: &CancelKey, deadline: Time) -> bool {
    let delivered = within(&front.world, deadline, front.unless_exiting(deliver(front, key))).await.flatten();
    match &delivered {
        Some(Ok(())) => tracing::info!(?key, "cancel request passed on"),
        Some(Err(error)) => tracing::warn!(?key, worker = %front.worker, %error, "cancel request not passed on"),
        None => tracing::warn!(?key, worker = %front.worker, "cancel request not passed on in time"),
    }
    matches!(delivered, Some(Ok(())))
}

async fn deliver<W: World, M: Meter>(front: &Front<W, M>, key: &CancelKey) -> std::io::Result<()> {
    let mut worker = front.world.connect(&front.worker).await?;
    worker.write_all(&key.request()).await?;
    worker.flush().await?;
    // The worker closes when it has signalled the session: only then has the cancel overtaken nothing. How it closes says
    // nothing.
    let _ = worker.read(&mut [0; 1]).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::core::wire::CancelKey;
    use crate::core::{Activity, Time};
    use crate::registry::{Registry, Shown};

    const SHOWN: Shown = Shown { activity: Activity::Idle, since: Time::EPOCH, clock: None };

    fn key(process_id: u32, secret: &[u8]) -> CancelKey {
        CancelKey::read(&[&process_id.to_be_bytes()[..], secret].concat()).unwrap()
    }

    #[test]
    fn a_session_is_known_by_its_workers_key_and_two_workers_may_choose_the_same_process_id() {
        let registry = Registry::default();
        let enter = |key| {
            let place = registry.enter(std::net::SocketAddr::from(([127, 0, 0, 1], 1)), Time::EPOCH).unwrap();
            place.update(SHOWN, None);
            assert!(!registry.knows(key));
            place.update(SHOWN, Some(key));
            place
        };
        let (one, other) = (key(7, b"long secret"), key(7, b"four"));
        let (place, _other_place) = (enter(&one), enter(&other));
        for wrong in [key(7, b"five"), key(8, b"four"), key(7, b"long"), key(7, b"four and more")] {
            assert!(!registry.knows(&wrong), "{wrong:?}");
        }
        assert!(registry.knows(&one) && registry.knows(&other));
        drop(place);
        assert!(!registry.knows(&one) && registry.knows(&other));
    }
}
