//! A worker that vanishes with a request on its way to it is given up in the time that `tcp_keepalive` promises; one that
//! reads nothing while it works is not.
//!
//! The kernel doesn't probe while something is unacknowledged, and resends for some 15 minutes. `TCP_USER_TIMEOUT` shortens
//! that. But it also ends a connection whose peer acknowledges every probe and keeps its window shut: a worker that runs a
//! statement of an hour with the next megabyte of pipelined requests behind it. So the socket is looked at from time to time
//! while it waits for its worker: the timeout is lifted where all that was sent is acknowledged and only the window is in the
//! way.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::outq;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Vigil {
    timeout: Duration,
    lifted: bool,
    /// Something was written since the last look.
    written: bool,
    /// Set while something may be unacknowledged.
    next_look: Option<Pin<Box<Sleep>>>,
}

impl Vigil {
    /// Gives the connection up after `timeout` without an acknowledgement. None for zero, which leaves that to the kernel.
    pub(super) fn over(tcp: &TcpStream, timeout: Duration) -> std::io::Result<Option<Box<Vigil>>> {
        if timeout.is_zero() {
            return Ok(None);
        }
        SockRef::from(tcp).set_tcp_user_timeout(Some(timeout))?;
        Ok(Some(Box::new(Vigil { timeout, lifted: false, written: false, next_look: None })))
    }

    /// Something was written.
    pub(super) fn handle_written(&mut self) {
        self.written = true;
    }

    /// Nothing can be read now: looks when it is time, and wakes the task for the next look as long as something is
    /// unacknowledged. Three looks in one timeout, so that none is missed by a little.
    pub(super) fn poll(&mut self, tcp: &TcpStream, cx: &mut Context<'_>) {
        while self.written {
            let look = self.next_look.get_or_insert_with(|| Box::pin(sleep(self.timeout / 3)));
            if look.as_mut().poll(cx).is_pending() {
                return;
            }
            self.next_look = None;
            let (unacknowledged, unsent) = (outq::unacknowledged(tcp).unwrap_or(0), outq::unsent(tcp).unwrap_or(0));
            self.set(tcp, unsent > 0 && unsent == unacknowledged);
            self.written = unacknowledged > 0;
        }
    }

    fn set(&mut self, tcp: &TcpStream, lifted: bool) {
        if self.lifted != lifted {
            let timeout = if lifted { None } else { Some(self.timeout) };
            // Fails for a connection that is gone, which its next read says.
            let _ = SockRef::from(tcp).set_tcp_user_timeout(timeout);
            self.lifted = lifted;
        }
    }
}
