//! The last words to a client, so that they arrive.
//!
//! What is still to be sent goes out first, then the FATAL, then the end of our side. What the client goes on sending is
//! read and thrown away: a connection closed over unread bytes is reset by the kernel, and a reset destroys what the client
//! has not read yet. At the client's own end, or after `close_linger`, the connection is closed.

use std::pin::Pin;
use std::task::{Context, Poll};

use std::mem::MaybeUninit;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::alarm::Alarm;
use crate::core::Time;
use crate::course::poll_patience;
use crate::lifecycle::Lifecycle;
use crate::notice::Reader;
use crate::world::World;

/// Bytes thrown away in one read. A simulated socket opens its window again only after a read of 16 KiB.
const DISCARD: usize = 16 * 1024;

/// Sends `words` and the end of the stream, and waits for the client to go: until `deadline` at most, or the process's exit.
pub(crate) async fn say<W: World>(
    world: &W,
    mut client: W::Stream,
    words: &[u8],
    mut lifecycle: Reader<Lifecycle>,
    deadline: Time,
) {
    let mut alarm = Alarm::new(world.clone());
    let mut sent = 0;
    let mut shut = false;
    std::future::poll_fn(|cx| {
        if poll_patience(&mut alarm, &mut lifecycle, deadline, cx).is_ready() {
            return Poll::Ready(());
        }
        // A client that is itself stuck in a write reads nothing: its bytes must be taken before ours can go.
        let gone = poll_discard(&mut client, cx);
        while sent < words.len() {
            match Pin::new(&mut client).poll_write(cx, &words[sent..]) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(taken)) => sent += taken,
                Poll::Pending => break,
            }
        }
        if sent == words.len() && !shut {
            match Pin::new(&mut client).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        if gone && shut { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Throws away what can be read. Returns whether the client's side has ended.
fn poll_discard<S: AsyncRead + Unpin>(client: &mut S, cx: &mut Context<'_>) -> bool {
    /// Reads in one go, before a client that never stops sending must wait for the others.
    const ROUNDS: usize = 16;
    for _ in 0..ROUNDS {
        let mut space = [const { MaybeUninit::uninit() }; DISCARD];
        let mut bytes = ReadBuf::uninit(&mut space);
        match Pin::new(&mut *client).poll_read(cx, &mut bytes) {
            Poll::Ready(Ok(())) if bytes.filled().is_empty() => return true,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return true,
            Poll::Pending => return false,
        }
    }
    cx.waker().wake_by_ref();
    false
}
