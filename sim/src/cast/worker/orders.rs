//! What reaches a worker's session from outside its connection, as PostgreSQL's interrupts do: cancel requests, the order to
//! end, and notifications.
//!
//! An order is given at any time and looked at when the session can: [`Orders`] remembers what it has seen. Orders are never
//! taken back.

use std::task::{Context, Poll};

use lastcall_world::watched::Watcher;

/// How a session that is told to end does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// FATAL 57P01, and the connection is closed: `pg_terminate_backend`, a fast shutdown.
    Closes,
    /// FATAL 57P01, and the connection stays open until the other side closes it: what a broken pooler in between does.
    Stays,
    /// Bytes that are no message, and the connection stays open as well.
    Garbage,
}

/// Notifications that are sent at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Burst {
    /// How many.
    pub(super) count: u32,
    /// Bytes of each payload.
    pub(super) bytes: u32,
}

/// Everything that a session was ever told.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// How many cancel requests came.
    pub(super) cancels: u64,
    /// That it is to end.
    pub(super) end: Option<Farewell>,
    /// What it was notified of. As many as the scenario has such events.
    pub(super) bursts: Vec<Burst>,
}

/// The session's side.
#[derive(Debug)]
pub(super) struct Orders {
    reader: Watcher<Told>,
    cancels: u64,
    bursts: usize,
}

impl Orders {
    /// Of a session that has seen nothing yet.
    pub(super) fn new(reader: Watcher<Told>) -> Orders {
        Orders { reader, cancels: 0, bursts: 0 }
    }

    /// Ready once for all cancel requests that came since the last time.
    pub(super) fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.look(cx);
        let cancels = self.reader.value().cancels;
        if std::mem::replace(&mut self.cancels, cancels) == cancels { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Ready when the session is to end.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Farewell> {
        self.look(cx);
        self.reader.value().end.map_or(Poll::Pending, Poll::Ready)
    }

    /// The next notifications that were not sent.
    pub(super) fn poll_burst(&mut self, cx: &mut Context<'_>) -> Poll<Burst> {
        self.look(cx);
        let burst = self.reader.value().bursts.get(self.bursts).copied();
        self.bursts += usize::from(burst.is_some());
        burst.map_or(Poll::Pending, Poll::Ready)
    }

    /// Whoever gives the next order wakes the task.
    fn look(&mut self, cx: &mut Context<'_>) {
        while self.reader.poll_changed(cx).is_ready() {}
    }
}
