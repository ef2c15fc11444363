//! The two sockets of a session, moved as its connection says.
//!
//! Bytes are read onto the stack, shown to the connection, and written on at once. It keeps what a destination does not take,
//! so a slow reader slows its writer and nobody else, and an idle session owns no buffer at all.
//!
//! Nothing is decided here: which bytes may pass, and when it is over, is [`lastcall_core::Connection`]'s word.

use std::task::{Poll, ready};

use crate::connection::Connection;
use crate::records::Meter;
use crate::tls::Link;
use lastcall_core::EndReason;
use lastcall_core::connection::Next;
use lastcall_world::World;
use lastcall_world::pair::Pair;
use lastcall_world::peer::Peer;

/// Relays until the session is over, and says why it is.
pub(crate) async fn run<W: World, M: Meter>(
    connection: &mut Connection<W, M>,
    client: &mut Peer<Link<W>>,
    worker: &mut Peer<Link<W>>,
) -> EndReason {
    std::future::poll_fn(|cx| {
        loop {
            match ready!(connection.poll_next(&mut Pair { client, worker: Some(worker), cx })) {
                Next::Close(reason) => return Poll::Ready(reason),
                Next::Cancel => connection.cancel(),
                next => unreachable!("a session has opened, and is not closed yet: {next:?}"),
            }
        }
    })
    .await
}
