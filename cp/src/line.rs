//! Where a worker is, and how a cancel request finds the session there.

use std::fmt;
use std::sync::Arc;

use lastcall_core::wire::CancelKey;

/// One address of a worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The name under which it is known, `host:port`: its certificate must be for that.
    pub(crate) name: Arc<str>,
    /// Where it is, `host:port`.
    pub(crate) address: Arc<str>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name == self.address { f.write_str(&self.name) } else { write!(f, "{} ({})", self.name, self.address) }
    }
}

/// Where a cancel request for a session goes: to the very worker that has it, with that worker's key.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) worker: Arc<Place>,
    pub(crate) key: CancelKey,
}

#[cfg(test)]
impl Line {
    /// To the worker of this name.
    pub(crate) fn to(worker: &str, key: &CancelKey) -> Line {
        let worker = Place { name: worker.into(), address: worker.into() };
        Line { worker: Arc::new(worker), key: key.clone() }
    }
}
