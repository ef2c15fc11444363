//! The end of a client's connection: what is left for it is sent, and it may read it.
//!
//! When that is done is not decided here but in [`lastcall_core::goodbye`].

use std::task::Poll;

use crate::connection::Front;
use crate::peer::Peer;
use lastcall_core::wire::Side;
use lastcall_core::{Connection, Transmit, Verdict};
use lastcall_world::alarm::Alarm;
use lastcall_world::{PeerState, World};

/// Says what the closed `connection` has still to say to its client, until that has arrived or the client's time is up.
pub(crate) async fn say<W: World, M>(front: &Front<W, M>, connection: &mut Connection, mut client: Peer<W::Stream>) {
    let mut lifecycle = front.lifecycle.subscribe();
    let mut alarm = Alarm::new(front.world.clone());
    std::future::poll_fn(|cx| {
        if lifecycle.poll_until(|lifecycle| lifecycle.exiting, cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let (drain, now) = (&lifecycle.value().drain, front.world.now());
            // A client that is itself stuck in a write reads nothing: its bytes must be taken before ours can go.
            if client.poll_discard(cx) {
                connection.handle_client_ended(now);
                // Nothing is read any more that could tell.
                let _ = client.poll_peer(cx);
            }
            while let Some(transmit) = connection.poll_transmit(Side::Frontend, drain, now) {
                let Transmit::Bytes(bytes) = transmit else {
                    if client.shut(cx) {
                        connection.handle_ended(Side::Frontend);
                    }
                    break;
                };
                let (taken, all) = (client.write(bytes, cx), bytes.len());
                connection.handle_taken(Side::Frontend, taken, drain, now);
                if taken < all {
                    break;
                }
            }
            if client.is_deaf() || client.peer() == PeerState::Gone {
                connection.handle_client_reset(now);
            }
            match connection.poll_verdict(drain, now) {
                Verdict::LetGo => return Poll::Ready(()),
                Verdict::LookNow => connection.handle_look(client.unacknowledged(), drain, now),
                _ => match connection.next_timeout(drain, now) {
                    Some(at) if alarm.poll_at(at, cx) => {}
                    _ => return Poll::Pending,
                },
            }
        }
    })
    .await;
}
