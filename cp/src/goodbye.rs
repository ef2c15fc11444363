//! The end of a client's connection: what is left for it is sent, and it may read it.
//!
//! When that is done is not decided here but in [`lastcall_core::goodbye`].

use std::task::Poll;

use crate::connection::Front;
use crate::tls::Link;
use lastcall_core::Connection;
use lastcall_core::connection::Next;
use lastcall_world::World;
use lastcall_world::alarm::Alarm;
use lastcall_world::pair::Pair;
use lastcall_world::peer::Peer;

/// Says what the closed `connection` has still to say to its client, until that has arrived or the client's time is up.
pub(crate) async fn say<W: World, M>(front: &Front<W, M>, connection: &mut Connection, mut client: Peer<Link<W>>) {
    let mut lifecycle = front.lifecycle.subscribe();
    let mut alarm = Alarm::new(front.world.clone());
    std::future::poll_fn(|cx| {
        if lifecycle.poll_until(|lifecycle| lifecycle.exiting, cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let (drain, now) = (&lifecycle.value().drain, front.world.now());
            match connection.drive(&mut Pair { client: &mut client, worker: None, cx }, drain, now) {
                Next::LetGo => return Poll::Ready(()),
                Next::Wait(Some(at)) if alarm.poll_at(at, cx) => {}
                Next::Wait(_) => return Poll::Pending,
                Next::Again => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                next => unreachable!("it is closed, and is only told so: {next:?}"),
            }
        }
    })
    .await;
}
