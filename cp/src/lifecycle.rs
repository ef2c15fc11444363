//! What the whole process is doing: one value, changed by the supervisor alone, read by every task.

use std::fmt;

use lastcall_core::Drain;
use lastcall_world::Signal;

/// What the process is doing.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    /// The rules, and since when it drains.
    pub drain: Drain,
    /// What began the drain; none while there is none.
    pub cause: Option<Cause>,
    /// The first signal that came, if one has: from then on the drain can't be taken back.
    pub signal: Option<Signal>,
    /// Who accepts at its listening sockets.
    pub listening: Listening,
    /// It has drained: whoever is in the listener's queue is still told, and the listener closes.
    pub closing: bool,
    /// Nothing is left to wait for: every task ends now. Nothing comes after it.
    pub exiting: bool,
}

/// Who accepts at the listening sockets of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// This process.
    Here,
    /// The next process; should it die, this one does again.
    Lent,
    /// The next process, for good.
    Left,
}

/// What began a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A signal.
    Signal(Signal),
    /// `POST /drain` on the admin port.
    Request,
    /// The next process has taken the listening sockets over.
    Handover,
}

impl Lifecycle {
    /// Ready for new sessions, under these rules.
    pub const fn serving(drain: Drain) -> Self {
        Lifecycle { drain, cause: None, signal: None, listening: Listening::Here, closing: false, exiting: false }
    }

    /// Whether new sessions are welcome.
    pub const fn is_ready(&self) -> bool {
        self.drain.signal().is_none() && !self.exiting
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Signal(signal) => signal.fmt(f),
            Cause::Request => f.write_str("request"),
            Cause::Handover => f.write_str("handover"),
        }
    }
}
