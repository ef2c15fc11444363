//! What `lastcall` says that a connection is doing, beside what it does: the same random conversations with a real
//! PostgreSQL, and at every point where both sides rest an observer who asks the server itself.
//!
//! The seeds are fixed, and so is the number of conversations; `LASTCALL_DIFFERENTIAL` is how many more of them there are to
//! be, each with seeds of its own: `LASTCALL_DIFFERENTIAL=100 tests/run --test differential` takes an hour or more.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "these tests run on the real machine")]
#![allow(clippy::unwrap_used, reason = "all of it is tests, their helpers too")]

mod conversation;
mod random;
mod witness;

use std::time::{Duration, Instant};

use process_tests::control_plane::ControlPlane;
use process_tests::http::ask;
use process_tests::postgres::postgres;
use process_tests::{client::Client, run};
use serde_json::Value;

use crate::conversation::{Conversation, make_tables};
use crate::random::Random;
use crate::witness::Witness;

/// Rounds of one test, each with a control plane of its own, conversations of one round, and steps of one conversation.
const ROUNDS: u64 = 5;
const CONVERSATIONS: u64 = 5;
const STEPS: usize = 10;

/// How long the two may differ: longer than it takes the bytes of one step to get where they are going.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks. Both must agree, twice.
const PAUSE: Duration = Duration::from_millis(4);

/// Nothing is closed by this drain. It is there because only a drain asks for the answers in a server's buffer.
const FLAGS: [&str; 4] = ["--lame-duck", "1h", "--idle-grace", "2h"];

#[test]
fn what_a_connection_is_said_to_do_is_what_it_does() {
    compare(0x1a57_ca11);
}

#[test]
fn what_a_connection_is_said_to_do_is_what_it_does_under_a_second_seed() {
    compare(0x0dd_ba11);
}

#[test]
fn what_a_connection_is_said_to_do_is_what_it_does_under_a_third_seed() {
    compare(0xca_b1e);
}

fn compare(seed: u64) {
    let more = std::env::var("LASTCALL_DIFFERENTIAL").map_or(0, |more| more.parse().expect("how many times more"));
    for round in 0..ROUNDS * (1 + more) {
        run(async {
            let observer = postgres().connect("observer").await;
            make_tables(&observer).await;
            let mut plane = ControlPlane::start(&FLAGS).await;
            plane.drain().await;
            for number in 0..CONVERSATIONS {
                let seed = seed.wrapping_add((round * CONVERSATIONS + number).wrapping_mul(0x9e37_79b9));
                converse(&plane, &observer, seed).await;
            }
        });
    }
}

/// One conversation, on a connection of its own.
async fn converse(plane: &ControlPlane, observer: &Client, seed: u64) {
    let mut conversation = Conversation::begin(plane.port, Random::new(seed)).await;
    let witness = Witness::of(observer, conversation.process_id());
    for _ in 0..STEPS {
        let what = conversation.step().await;
        let begun = Instant::now();
        let mut agreed = 0;
        while agreed < 2 {
            let news = conversation.listen(PAUSE).await;
            // In this order: a server that reads when everything has been taken has seen everything.
            let taken = witness.everything_is_taken(&conversation).await;
            let truth = witness.look(&conversation).await;
            let told = told(plane, conversation.process_id()).await;
            let (Some(truth), Some(told)) = (truth, told) else {
                assert!(begun.elapsed() < PATIENCE, "{what}\none of them has ended\n{conversation}seed {seed:#x}");
                agreed = 0;
                continue;
            };
            conversation.rests(truth.activity);
            let rests = !news && (taken || !truth.reads);
            agreed = if truth.activity == told && rests { agreed + 1 } else { 0 };
            assert!(
                begun.elapsed() < PATIENCE,
                "the connection is {truth:?}, and said to be {told}; all is taken: {taken}\n{conversation}seed {seed:#x}"
            );
        }
    }
    conversation.end().await;
}

/// What `lastcall` says of the session with this process id.
async fn told(plane: &ControlPlane, process_id: u32) -> Option<String> {
    let (_, body) = ask(plane.admin, "GET /drain", "Accept: application/json\r\n").await.unwrap();
    let status: Value = serde_json::from_str(&body).unwrap();
    let client = status["clients"].as_array()?.iter().find(|client| client["worker_pid"] == process_id)?.clone();
    client["activity"].as_str().map(str::to_owned)
}
