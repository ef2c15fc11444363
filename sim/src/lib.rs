//! Deterministic simulation of the control plane, driven by scenario files.
//!
//! Room after room, each seeing only those before it:
//!
//! 1. [`scenario`]: what an engineer writes: who connects, what each client does, what happens to the pod.
//! 2. [`stage`]: the simulators that it can be played on, each behind the same interface.
//! 3. [`cast`]: who plays: the pod, its kubelet, the clients, the workers, the faults; and the typed log of what they saw.
//! 4. [`story`]: what happened, read from that log once.
//! 5. [`judge`]: what must hold: the promises, the file's expectations, what a suite has covered.
//!
//! Behind them are the commands: [`suite`], [`across`], [`explore`], [`replay`], [`pools`], [`report`].

pub mod across;
pub mod another_process;
pub mod cast;
pub mod explore;
pub mod judge;
pub mod parallel;
pub mod pools;
pub mod replay;
pub mod report;
pub mod scenario;
pub mod stage;
pub mod stopwatch;
pub mod story;
pub mod suite;

pub use cast::pod::{Config, LastCall, Pod};
pub use stage::AnyWorld;
pub use suite::Suite;
