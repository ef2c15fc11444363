//! Whether a session's statement goes on: what a cancel request and the end of the connection change, and what everything
//! that takes time looks at.
//!
//! A cancel reaches only what runs at that moment: [`Interrupt::begin`] starts with a clean slate.

use std::cell::{Cell, OnceCell};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// How long a statement waits for another session's lock, in pauses; 55P03 after that.
const LOCK_WAIT: Duration = Duration::from_secs(300);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// How many instructions of SQLite's machine run between two looks: some ten microseconds.
pub(crate) const INSTRUCTIONS_PER_LOOK: i32 = 1_000;

/// How many looks a trial run lasts.
const TRIAL_LOOKS: u32 = 10;

/// One session's. Shared by its thread and by whoever may stop it.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    activity: Mutex<Activity>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Activity {
    #[default]
    Idle,
    Running,
    /// A cancel request came while it ran.
    Cancelled,
    /// The connection has ended.
    Gone,
}

impl Interrupt {
    /// Something runs from here on.
    pub(crate) fn begin(&self) {
        let mut activity = self.lock();
        if *activity == Activity::Idle {
            *activity = Activity::Running;
        }
    }

    /// Nothing runs any more; what was cancelled is forgotten.
    pub(crate) fn finish(&self) {
        let mut activity = self.lock();
        if *activity != Activity::Gone {
            *activity = Activity::Idle;
        }
    }

    /// Stops what runs. Whoever comes when nothing does has come too late.
    pub(crate) fn cancel(&self) {
        let mut activity = self.lock();
        if *activity == Activity::Running {
            *activity = Activity::Cancelled;
            self.changed.notify_all();
        }
    }

    /// Stops what runs, and everything after it.
    pub(crate) fn end(&self) {
        *self.lock() = Activity::Gone;
        self.changed.notify_all();
    }

    pub(crate) fn stopped(&self) -> bool {
        self.lock().stopped()
    }

    /// Whether it slept to the end.
    pub(crate) fn sleep(&self, duration: Duration) -> bool {
        let (activity, _) = self
            .changed
            .wait_timeout_while(self.lock(), duration, |activity| !activity.stopped())
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        !activity.stopped()
    }

    fn lock(&self) -> MutexGuard<'_, Activity> {
        // One word, never half written.
        self.activity.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Activity {
    fn stopped(self) -> bool {
        matches!(self, Activity::Cancelled | Activity::Gone)
    }
}

thread_local! {
    /// The session of this thread: SQLite's busy handler is a plain function.
    static SESSION: OnceCell<Arc<Interrupt>> = const { OnceCell::new() };
    /// The looks that are left to a trial run, where there is one.
    static TRIAL: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Makes this thread the session's.
pub(crate) fn adopt(interrupt: &Arc<Interrupt>) {
    SESSION.with(|session| session.set(interrupt.clone()).expect("a thread has one session"));
}

/// Whether this thread's session slept to the end.
pub(crate) fn sleep(duration: Duration) -> bool {
    SESSION.with(|session| session.get().is_none_or(|session| session.sleep(duration)))
}

/// SQLite's busy handler: whether to try for the lock again, after so many tries.
pub(crate) fn wait_for_lock(tries: i32) -> bool {
    let waited = LOCK_PAUSE * u32::try_from(tries).unwrap_or(u32::MAX);
    waited < LOCK_WAIT && sleep(LOCK_PAUSE)
}

/// SQLite's progress handler: whether to stop.
pub(crate) fn stops() -> bool {
    match TRIAL.get() {
        Some(0) => return true,
        Some(left) => TRIAL.set(Some(left - 1)),
        None => {}
    }
    SESSION.with(|session| session.get().is_some_and(|session| session.stopped()))
}

/// Runs `work` for a short while only, and without `pg_sleep`.
pub(crate) fn on_trial<T>(work: impl FnOnce() -> T) -> T {
    TRIAL.set(Some(TRIAL_LOOKS));
    let result = work();
    TRIAL.set(None);
    result
}

/// Whether this is a trial run.
pub(crate) fn is_trial() -> bool {
    TRIAL.get().is_some()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_cancel_wakes_what_sleeps() {
        // Whether it sleeps already when the cancel comes differs from round to round.
        for _ in 0..200 {
            let interrupt = Arc::new(Interrupt::default());
            interrupt.begin();
            let (awake, woken) = mpsc::channel();
            let sleeper = {
                let interrupt = interrupt.clone();
                std::thread::spawn(move || {
                    awake.send(true).unwrap();
                    awake.send(interrupt.sleep(LONG)).unwrap();
                })
            };
            woken.recv().unwrap();
            std::thread::yield_now();
            interrupt.cancel();
            assert!(!woken.recv_timeout(Duration::from_secs(60)).unwrap());
            sleeper.join().unwrap();
        }
    }

    #[test]
    fn a_cancel_while_idle_hits_nothing_later() {
        let interrupt = Interrupt::default();
        interrupt.cancel();
        interrupt.begin();
        assert!(!interrupt.stopped());
    }

    #[test]
    fn a_cancel_hits_one_statement_only() {
        let interrupt = Interrupt::default();
        interrupt.begin();
        interrupt.cancel();
        assert!(interrupt.stopped());
        interrupt.finish();
        interrupt.begin();
        assert!(!interrupt.stopped());
    }

    #[test]
    fn the_end_stops_everything_after_it() {
        let interrupt = Interrupt::default();
        interrupt.end();
        interrupt.begin();
        assert!(!interrupt.sleep(LONG));
        interrupt.finish();
        assert!(interrupt.stopped());
    }
}
