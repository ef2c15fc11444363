//! What the drain knows and decides, as plain values.
//!
//! No I/O, no async, no clock: each value takes what happened (`handle_…`) together with the time, and is asked what to do
//! (`poll_…`, `next_timeout`). Read [`drain`] first: it says when a given connection ends. [`tracker`] says what a
//! connection is doing, from the headers of its messages; [`session`] puts the two together.

pub mod activity;
pub mod bound;
pub mod connection;
pub mod delivery;
pub mod drain;
pub mod end;
pub mod fatal;
pub mod goodbye;
pub mod process;
mod requests;
pub mod session;
pub mod settings;
mod severity;
pub mod startup;
pub mod time;
pub mod tracker;
pub mod wire;

pub use activity::{Activity, WaitsOn};
pub use bound::{Bound, Progress, Term};
pub use connection::{Connection, Transmit};
pub use drain::{Drain, Phase, Verdict};
pub use end::EndReason;
pub use process::Process;
pub use session::Session;
pub use settings::{DrainPolicy, Pacing, Settings};
pub use time::Time;
pub use tracker::{Tracker, TransactionStatus};
pub use wire::Malformed;
