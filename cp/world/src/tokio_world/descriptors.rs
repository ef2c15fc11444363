//! File descriptors: how many this process may have, and how many its connections take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Those that no connection has: the standard streams, the listeners, what the runtime and the log need, looking up names.
const OTHERS: usize = 32;

/// Counts the connections' descriptors. Clones share the count.
#[derive(Clone, Debug)]
pub(super) struct Files {
    limit: usize,
    taken: Arc<AtomicUsize>,
}

impl Files {
    /// As many as the hard limit allows: the soft one is raised to it. It is low by default for the sake of programs that use
    /// `select`, which this one doesn't.
    pub(super) fn all_that_are_allowed() -> Files {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
        let limit = if raised { maximum } else { current };
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Files { limit: limit.saturating_sub(OTHERS), taken: Arc::default() }
    }

    /// One is taken, until what is returned is dropped.
    pub(super) fn take(&self) -> Taken {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Taken(self.taken.clone())
    }

    /// How many are left.
    pub(super) fn spare(&self) -> usize {
        self.limit.saturating_sub(self.taken.load(Ordering::Relaxed))
    }
}

/// A connection's descriptor.
#[derive(Debug)]
pub(super) struct Taken(Arc<AtomicUsize>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_not_spare_until_it_is_given_back() {
        let files = Files::all_that_are_allowed();
        let spare = files.spare();
        let taken = [files.take(), files.clone().take()];
        assert_eq!(files.spare(), spare - 2);
        drop(taken);
        assert_eq!(files.spare(), spare);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
