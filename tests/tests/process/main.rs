//! The real binary, in front of a real PostgreSQL, over real sockets.
//!
//! One file per question. The acceptance criteria of the drain are `idle`, `running` and `transaction`; `policy` shows
//! that these tests would have caught what was wrong before.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "these tests run on the real machine")]
#![allow(clippy::unwrap_used, reason = "all of it is tests, their helpers too")]

mod batch;
mod bench;
mod cancel;
mod clients;
mod configuration;
mod control;
mod copy;
mod copy_batch;
mod crowd;
mod data;
mod delivery;
mod embedded;
mod end;
mod examples;
mod handover;
mod hostile;
mod idle;
mod key;
mod killed;
mod kubernetes;
mod log;
mod login;
mod lost;
mod policy;
mod probe;
mod record;
mod records;
mod refusal;
mod request;
mod rollout;
mod running;
mod signal;
mod stall;
mod steady;
mod stopped;
mod stream;
mod tls;
mod torn;
mod transaction;
mod vanish;
mod worker;
mod workers;

use std::time::Duration;

use process_tests::control_plane::Exit;
use process_tests::raw::{Message, Raw};
use process_tests::{SLACK, within};
use tokio_postgres::error::DbError;

/// The FATAL of a session that the drain has closed.
const ADMIN_SHUTDOWN: (&str, &str) = ("57P01", "terminating connection due to administrator command");

/// How soon a worker is rid of a client that is gone: at once, but on a machine that does much else.
const SOON: Duration = Duration::from_secs(2).saturating_add(SLACK);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// SQLSTATE and text of what a session ended with.
fn told(fatal: &DbError) -> (&str, &str) {
    (fatal.code().code(), fatal.message())
}

/// The process ended with `code`, not much later than `by` after the signal.
#[track_caller]
fn assert_exit(exit: Exit, code: i32, by: Duration) {
    assert_eq!(exit.code, Some(code), "{exit:?}");
    assert!(exit.after < by + SLACK, "{exit:?}, which is too late: it was due after {by:?}");
}

/// The statement that this client has sent is answered, and its end at the boundary behind it told.
async fn is_answered_and_told(client: &mut Raw) {
    let rest = within(millis(10_000), "an answer", client.messages.rest()).await.unwrap();
    let tags: String = rest.iter().map(|message| char::from(message.tag)).collect();
    assert_eq!(tags, "CZE", "{rest:?}");
    let fatal = rest.last().and_then(Message::error).unwrap();
    assert_eq!((fatal[&'C'].as_str(), fatal[&'M'].as_str()), ADMIN_SHUTDOWN);
}
