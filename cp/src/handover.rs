//! On one machine a process can be followed by the next without one refused connection: both listen at the same socket.
//!
//! | the next process | the one before |
//! |---|---|
//! | comes to the meeting place | sends it the listening sockets |
//! | `ready`: it could serve | accepts no more, begins to drain, and says `yours` with what the next must know ([`Legacy`]) |
//! | serves, and holds the line | lets go of the sockets at the end of its lame duck |
//!
//! Until the last of these a line that breaks says that the next process has died: the one before accepts again, and takes its
//! drain back unless a signal has come. Whoever connected meanwhile has waited in the socket's queue. A process that was told to
//! stop, or has handed on itself, says so (`settled`): then nobody comes back.
//!
//! Newcomers thus reach the next process only, and are not told that the database shuts down. So do cancel requests: their
//! keys are the workers' own, and the next process asks the workers of the one before too.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::admin;
use crate::admin::drain::Admin;
use crate::connection::Front;
use crate::lifecycle::{Lifecycle, Listening};
use crate::orders::{Ask, Orders};
use crate::records::Meter;
use lastcall_world::alarm::within;
use lastcall_world::handover::{Handover, Line};
use lastcall_world::{Listener, World};

/// How long each answer of the other process may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long whoever has come may take until it could serve, which it nearly can when it comes; others wait behind it.
const NEARLY: Duration = Duration::from_secs(2);

const READY: &str = "ready";
const YOURS: &str = "yours ";
const SETTLED: &str = "settled";

/// What a process leaves to the next besides its sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Legacy {
    /// Where its sessions are, those of the processes before it included: cancel requests for them come to the next process.
    pub(crate) workers: Vec<String>,
    /// Its admin port from now on.
    pub(crate) admin: Option<String>,
}

/// Why the sockets were not taken over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The other process does not answer.
    #[error("{peer} does not answer within {} s", PATIENCE.as_secs())]
    Late {
        /// The other process.
        peer: String,
    },
    /// It is gone, or says what no such process says.
    #[error("{peer}: {source}")]
    Broken {
        /// The other process.
        peer: String,
        /// What happened.
        source: io::Error,
    },
}

/// This process could serve: whoever listens still is told so, and what it leaves comes back.
pub(crate) async fn take_over<W: World, L: Line>(world: &W, line: &mut L) -> Result<Legacy, HandoverError> {
    let peer = line.peer();
    let answer = async {
        line.say(READY)?;
        let said = poll_fn(|cx| line.poll_hear(cx)).await?;
        let legacy = said.strip_prefix(YOURS).and_then(|legacy| serde_json::from_str(legacy).ok());
        legacy.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it says something else than was expected"))
    };
    match within(world, world.now() + PATIENCE, answer).await {
        Some(Ok(legacy)) => Ok(legacy),
        Some(Err(source)) => Err(HandoverError::Broken { peer, source }),
        None => Err(HandoverError::Late { peer }),
    }
}

/// Keeps the line to the process before this one, as long as both are there.
pub(crate) async fn hold<W: World, M: Meter>(front: Front<W, M>, mut line: impl Line) {
    // It says nothing more: what comes is its end. Before that this one may be told to stop, or hand on.
    let mut end = front.unless(is_settled, poll_fn(|cx| line.poll_hear(cx))).await;
    if end.is_none() && line.say(SETTLED).is_ok() {
        end = front.unless(is_over, poll_fn(|cx| line.poll_hear(cx))).await;
        if end.is_none() {
            return;
        }
    }
    tracing::info!(before = line.peer(), "the process before this one is gone");
}

/// Whether this process is about to exit.
fn is_over(lifecycle: &Lifecycle) -> bool {
    lifecycle.closing || lifecycle.exiting
}

/// Whether the process before this one has no reason to come back, whatever becomes of this one.
fn is_settled(lifecycle: &Lifecycle) -> bool {
    lifecycle.signal.is_some() || is_over(lifecycle) || lifecycle.listening != Listening::Here
}

/// Waits for the next process, and leaves to it what this one has.
pub(crate) struct Leaving<W: World, M, H> {
    pub(crate) front: Front<W, M>,
    pub(crate) handover: H,
    pub(crate) orders: Orders,
    /// What the admin port that this process has besides is made of, and the host it is on; none if it has no admin port.
    pub(crate) admin: Option<(IpAddr, Admin<W>)>,
}

impl<W: World, M: Meter, H: Handover<W::Listener>> Leaving<W, M, H> {
    pub(crate) async fn run(self) {
        let front = self.front.clone();
        front.unless(is_over, self.leave()).await;
    }

    async fn leave(mut self) {
        let mut own_port = None;
        loop {
            let mut line = poll_fn(|cx| self.handover.poll_asked(cx)).await;
            if let Err(error) = self.convince(&mut line).await {
                // Whoever only looks whether somebody is here is gone at once.
                tracing::debug!(next = line.peer(), %error, "whoever came to take over did not");
                continue;
            }
            if own_port.is_none() {
                own_port = self.open_own_port().await;
            }
            self.orders.give(Ask::HandOver).await;
            self.handover.close();
            tracing::info!(
                next = line.peer(),
                admin = own_port.map(tracing::field::display),
                "the next process has taken over the listening sockets"
            );
            // Where another process waits for its successor the sockets are that one's.
            let is_kept = self.is_kept(&mut line, own_port).await;
            let back = if is_kept { Ok(()) } else { self.handover.open() };
            let has_heir = back.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
            if is_kept || has_heir {
                self.orders.give(Ask::Settle).await;
                self.handover.give_up();
                return hold_on(line).await;
            }
            self.orders.give(Ask::TakeBack).await;
            tracing::warn!(next = line.peer(), "the next process has died: this one accepts again");
            if let Err(error) = back {
                tracing::warn!(%error, "no other process can take over from this one");
            }
        }
    }

    /// Sends the sockets, and waits until the next process could serve.
    async fn convince(&mut self, line: &mut H::Line) -> io::Result<()> {
        self.handover.offer(line)?;
        let (world, hear) = (&self.front.world, poll_fn(|cx| line.poll_hear(cx)));
        match within(world, world.now() + NEARLY, hear).await {
            Some(said) => {
                if said? == READY {
                    Ok(())
                } else {
                    Err(io::ErrorKind::InvalidData.into())
                }
            }
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// The admin port is the next process's from now on: whoever wants to know what this one waits for asks here.
    async fn open_own_port(&mut self) -> Option<SocketAddr> {
        let (host, admin) = self.admin.as_ref()?;
        let listener = match self.front.world.bind(&SocketAddr::new(*host, 0).to_string()).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, "this process has no admin port from now on");
                return None;
            }
        };
        let address = listener.local_addr().ok();
        admin::spawn(&self.front.tasks, listener, admin.clone(), admin::Port::Own);
        address
    }

    /// Tells the next process that the sockets are its own. Whether it is still there at the end of the lame duck, or was told to stop
    /// before.
    async fn is_kept(&mut self, line: &mut H::Line, own_port: Option<SocketAddr>) -> bool {
        let legacy = Legacy { workers: self.front.workers.all(), admin: own_port.map(|address| address.to_string()) };
        let legacy = serde_json::to_string(&legacy).expect("a legacy has texts only");
        if line.say(&format!("{YOURS}{legacy}")).is_err() {
            return false;
        }
        let drain = self.front.lifecycle.value().drain;
        let settled = drain.earliest_exit().unwrap_or(self.front.world.now());
        let heard = within(&self.front.world, settled, poll_fn(|cx| line.poll_hear(cx))).await;
        heard.is_none_or(|said| said.is_ok_and(|said| said == SETTLED))
    }
}

/// The other process holds its end for as long as this one is there.
async fn hold_on(_line: impl Line) {
    std::future::pending().await
}
