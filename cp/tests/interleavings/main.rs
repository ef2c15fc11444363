//! The wake-ups under everything, in every order in which threads can meet: no change is slept through.
//!
//! The very files of the library, with loom's locks in the place of the standard ones. Loom runs each test once for every
//! order of the locks, and says so if one ends with a task that nobody will wake. Of the orders of three threads, which are
//! millions, it runs those in which no more than [`PREEMPTIONS`] times one is held up where it could go on.
#![allow(dead_code, unreachable_pub, reason = "of the files included here only what wakes somebody is called")]

#[path = "../../src/line.rs"]
mod line;
#[path = "../../src/registry.rs"]
mod registry;
#[path = "../../world/src/tasks.rs"]
mod tasks;
#[path = "../../world/src/watched.rs"]
mod watched;
#[path = "../../src/who.rs"]
mod who;

mod sync {
    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
}

mod changes;
mod empty;
mod gone;

/// Lost wake-ups take one or two; with more than four the tests take minutes.
const PREEMPTIONS: usize = 4;

fn with_three_threads(test: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(test);
}

// Where the files included above find the rest of the library.
use cp::records;
use lastcall_world::World;
