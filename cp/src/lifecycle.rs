//! What the whole process is doing, as every task needs to know it.

use crate::core::Time;

/// What the process is doing. Goes one way only: serving, draining, exiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Ready for new sessions.
    Serving,
    /// Not ready; the drain runs.
    Draining {
        /// When the signal came.
        since: Time,
        /// When the wall was called for, if it was.
        wall: Option<Time>,
    },
    /// Nothing is left to wait for: every task ends now.
    Exiting,
}
