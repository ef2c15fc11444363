//! Deterministic simulation of the control plane, driven by scenario files.
//!
//! A [`scenario`] says who connects, what each client does and what happens to the pod. [`run`] lets the control plane's own
//! code meet that under simulated time, on one of two [`engine`]s, and gives a [`history`]: a typed log of what every host
//! saw. The [`oracle`] reads the history and nothing else, and says which promises of the contract it breaks. [`gate`] is the
//! verdict on a whole file.

pub mod another_process;
pub mod coverage;
pub mod engine;
pub mod gate;
pub mod history;
pub mod holders;
pub mod host;
pub mod oracle;
pub mod parallel;
pub mod random;
pub mod report;
pub mod run;
pub mod sabotage;
pub mod scenario;
pub mod stays;
pub mod suite;
pub mod timeline;
pub mod wall;
