//! What the drain knows and decides, as plain values.
//!
//! No I/O, no async, no clock: each value takes what happened (`handle_…`) together with the time, and is asked what to do
//! (`poll_…`, `next_timeout`). Read [`drain`] first: it says when a given connection ends. [`tracker`] says what a
//! connection is doing, from the headers of its messages; [`session`] puts the two together.
//!
//! # Into your own proxy
//!
//! Whatever the proxy is, it has one [`Process`], which counts and says when to exit, and one value for each connection:
//!
//! | a proxy that | has for each connection | example |
//! |---|---|---|
//! | relays bytes, with tasks | a [`Connection`]: [`Connection::drive`] moves them, and says what to do next | `examples/tokio.rs` |
//! | relays bytes, with threads or a loop of its own | the same, over its own [`Sockets`](connection::Sockets) | `examples/blocking.rs` |
//! | owns messages, and shares workers between clients | a [`Session`], which hears each message | `examples/messages/` |
//!
//! Both promises, in one session:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use lastcall_core::{Drain, EndReason, Session, Settings, Time, Verdict, drain::Pace};
//!
//! let at = |seconds| Time::from_epoch(Duration::from_secs(seconds));
//! let mut drain = Drain::new(Arc::new(Settings::default()));
//! let mut session = Session::new(Pace::default(), &drain, at(0));
//! session.handle_startup(&drain, at(0));
//! session.handle_worker_found(&drain, at(0));
//! session.handle_worker(b"Z\0\0\0\x05I", &drain, at(0));
//! session.handle_output(6, 0, &drain, at(0));
//! session.handle_look(0, &drain, at(0));
//!
//! // SIGTERM. An idle client can't hold the process: its clock runs.
//! drain.handle_signal(at(10));
//! assert_eq!(session.poll_verdict(&drain, at(11)), Verdict::CloseAt(at(25), EndReason::Boundary));
//!
//! // It may still ask, and what runs is never cut: no clock runs.
//! assert!(session.handle_client_message(b"Q\0\0\0\x0dselect 1\0", &drain, at(12)));
//! assert_eq!(session.poll_verdict(&drain, at(3600)), Verdict::CarryOn);
//!
//! // Answered, and the answer has arrived: it is over, and its client is told.
//! session.handle_worker(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I", &drain, at(3600));
//! session.handle_output(20, 0, &drain, at(3600));
//! session.handle_look(0, &drain, at(3600));
//! assert_eq!(session.poll_verdict(&drain, at(3600)), Verdict::CloseNow(EndReason::Boundary));
//! session.close(EndReason::Boundary, &drain, at(3600));
//! assert_eq!(session.farewell("worker:5432").unwrap().code, "57P01");
//! ```

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
