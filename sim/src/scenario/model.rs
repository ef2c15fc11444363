//! The vocabulary of scenario files, as types.
//!
//! What a file can say, and nothing else. The JSON Schema and the help in error messages are made from these types and
//! their doc comments; a word that is not here is an error in a file. How a file is read into them is in the other modules.

mod event;
mod milestone;
pub(super) mod step;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

pub use self::event::{Action, Event};
pub use self::milestone::{BadMilestone, Does, Milestone, Reached, When};
pub use self::step::*;
pub use super::overrides::Overrides;
pub use super::units::{
    Answered, BadRate, BadReading, BadSpan, BadSqlState, Patience, RUN_LIMIT, Rate, Reading, Span, SqlState, Times,
};

/// A scenario: who connects, what each client does, what happens to the pod, and what must come out.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Scenario {
    /// One sentence: what holds. It is the name of the test.
    pub title: String,
    /// Why this file exists: what went wrong, for whom. Default: empty.
    #[schemars(default)]
    pub why: String,
    /// The file is run under each seed from 1 to this one. Default 1.
    #[schemars(default = "step::one", range(min = 1, max = Scenario::MAX_SEEDS))]
    pub seeds: u32,
    /// The pod that runs the control plane.
    #[schemars(default)]
    pub pod: Pod,
    /// Settings of the control plane that differ from their defaults.
    #[schemars(default)]
    pub drain: Overrides,
    /// The clients.
    #[schemars(default, rename = "client")]
    pub clients: Vec<Client>,
    /// What happens to the pod, the workers and the network, and when.
    #[schemars(default, rename = "event")]
    pub events: Vec<Event>,
    /// What must come out. The promises are checked besides, always.
    #[schemars(default)]
    pub expect: Expect,
    /// Settings under which this file must break exactly the promises named: proof that it can fail.
    #[schemars(default)]
    pub fails_under: Vec<FailsUnder>,
    /// Deliberate defects of the control plane with which this file must break, by their names in `sim/sabotage`: proof that it
    /// can fail.
    #[schemars(default)]
    pub catches: Vec<String>,
}

impl Scenario {
    /// The most seeds that one file may ask for: more are a search, not a test.
    pub const MAX_SEEDS: u32 = 1_000;
    /// The hosts of a simulation, by the names that a file uses.
    pub const HOSTS: [&str; 4] = ["clients", "pod", "worker", "kubelet"];
}

/// The pod that runs the control plane, and its kubelet.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Pod {
    /// `terminationGracePeriodSeconds`: the kubelet sends SIGKILL this long after SIGTERM. Unset: 24h.
    pub termination_grace: Option<Span>,
    /// How often the kubelet probes `/readyz`. Unset: 10s.
    pub readiness_period: Option<Span>,
    /// Whether something (a metrics scraper) also holds a kept-alive HTTP connection to the admin port.
    #[schemars(default)]
    pub admin_keepalive: bool,
}

/// One client, or `count` alike.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Client {
    /// Its name, unique in the file: letters, digits, `-` and `_`.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,40}$"))]
    pub name: String,
    /// How many clients do the same. Default 1.
    #[schemars(default = "step::one", range(min = 1, max = Client::MAX_COUNT))]
    pub count: u32,
    /// When the first one begins. Default 0s.
    #[schemars(default)]
    pub start: Span,
    /// How much later each next one begins. Default 0s.
    #[schemars(default)]
    pub stagger: Span,
    /// What it does, in order. When its connection is closed under it, the rest is left out, unless it connects again.
    pub steps: Vec<Step>,
    /// Connect again when the connection is closed by the other side, as a connection pool does, and go on with the
    /// steps. Unset: never.
    pub reconnect: Option<Reconnect>,
}

impl Client {
    /// The most copies of one client: as many as the control plane accepts by default.
    pub const MAX_COUNT: u32 = 10_000;
    /// The longest name: with the copy's number it still fits into `application_name` (63 bytes).
    pub const MAX_NAME: usize = 40;
}

/// `reconnect = { backoff = "100ms", retries = 5 }`: how a client comes back.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Reconnect {
    /// Pause before the first attempt. It doubles with each that fails, up to 32 times as long. Default 100ms.
    #[schemars(default = "Reconnect::backoff")]
    pub backoff: Span,
    /// How many attempts may fail in a row before the client gives up. Default 5.
    #[schemars(default = "Reconnect::retries", range(min = 1, max = Reconnect::MAX_RETRIES))]
    pub retries: u32,
}

impl Reconnect {
    /// How often the backoff doubles.
    pub const DOUBLINGS: u32 = 5;
    /// The most attempts in a row.
    pub const MAX_RETRIES: u32 = 1000;

    pub(super) fn backoff() -> Span {
        Span(Duration::from_millis(100))
    }

    pub(super) fn retries() -> u32 {
        5
    }
}

/// What must come out of the run.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Expect {
    /// When and how the process exits.
    pub exit: Option<ExpectExit>,
    /// What must be reached, in this order; other things may come between. A sentence each, such as `"etl answered"`; of a
    /// client with several copies, any of them will do.
    #[schemars(default)]
    pub timeline: Vec<Milestone>,
    /// What each client saw, by its name; every copy must meet it.
    #[schemars(default)]
    pub client: BTreeMap<String, ExpectClient>,
}

/// `exit = { within = "31s", code = 0 }`
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ExpectExit {
    /// At most this long after the first signal.
    pub within: Option<Span>,
    /// At least this long after the first signal.
    pub after: Option<Span>,
    /// The exit code.
    pub code: Option<u8>,
}

/// `client.etl = { answered = "all", ends = "57P01" }`
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ExpectClient {
    /// How many requests were answered without an error: a number, or `"all"` that were sent.
    pub answered: Option<Answered>,
    /// How many of the rows that it inserted or copied were committed.
    pub committed: Option<u32>,
    /// How its last connection ended: a SQLSTATE (of the FATAL it read), `"disconnect"`, `"close"`, `"vanish"` (it left by
    /// itself), `"reset"` (by itself or by the other side), `"eof"` (closed without a word), `"connect failed"`
    /// (there was none), or `"open"`.
    #[schemars(regex(pattern = "^([0-9A-Z]{5}|disconnect|close|vanish|reset|eof|connect failed|open)$"))]
    pub ends: Option<String>,
    /// How many connections of all its copies together, those before a reconnect included, ended in each way: `told = { 57P01 =
    /// 47, 57P03 = 3 }`, with the ways of `ends`. A way that is not named is one in which none ends.
    pub told: Option<BTreeMap<String, u32>>,
    /// Its last connection ended between these two times after the first signal.
    pub between: Option<[Span; 2]>,
    /// SQLSTATEs of the errors that its requests got, in order; FATALs are not among them.
    pub errors: Option<Vec<SqlState>>,
    /// It is killed: a SIGKILL of the pod ends its last connection. Without this word, what a SIGKILL cuts breaks `never-cut`.
    #[schemars(default)]
    pub killed: bool,
}

impl ExpectClient {
    /// The values of `ends` that are not SQLSTATEs.
    pub const ENDS: [&str; 7] = ["disconnect", "close", "vanish", "reset", "eof", "connect failed", "open"];
    /// The most connections that `told` may count.
    pub const MAX_TOLD: u32 = 1_000_000;
}

/// `[[fails_under]]`: other settings, and the promises that break under them.
#[derive(Clone, Debug, PartialEq)]
pub struct FailsUnder {
    /// The promises that must break, and no other.
    pub breaks: Vec<Promise>,
    /// The settings, on top of `[drain]`.
    pub settings: Overrides,
}

/// The contract's promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// No statement that a worker began was ended by the control plane before its answer was complete.
    NeverCut,
    /// The process exited within the bound.
    BoundedExit,
    /// Every request was answered, or refused with a SQLSTATE and never begun; none ran twice.
    AnsweredOrNotRun,
    /// Every closed client that was reading got one well-formed FATAL and then EOF.
    CleanGoodbye,
    /// No session began after the lame duck; the refusal was 57P03.
    NoLateSession,
    /// Every cancel request reached its statement.
    CancelWorks,
    /// Every session that began has exactly one end record.
    OneRecordEach,
    /// At exit no task, socket, worker session or registry entry is left.
    NothingLeaks,
    /// Readiness was false from the signal on; exit code and report tell what happened.
    HonestSigns,
    /// The same scenario and seed give the same event log, byte for byte, in another process.
    SameSeedSameRun,
}

impl Promise {
    /// Every promise, in the contract's order.
    pub const ALL: [Promise; 10] = [
        Promise::NeverCut,
        Promise::BoundedExit,
        Promise::AnsweredOrNotRun,
        Promise::CleanGoodbye,
        Promise::NoLateSession,
        Promise::CancelWorks,
        Promise::OneRecordEach,
        Promise::NothingLeaks,
        Promise::HonestSigns,
        Promise::SameSeedSameRun,
    ];

    /// The contract's name.
    pub const fn name(self) -> &'static str {
        match self {
            Promise::NeverCut => "never-cut",
            Promise::BoundedExit => "bounded-exit",
            Promise::AnsweredOrNotRun => "answered-or-not-run",
            Promise::CleanGoodbye => "clean-goodbye",
            Promise::NoLateSession => "no-late-session",
            Promise::CancelWorks => "cancel-works",
            Promise::OneRecordEach => "one-record-each",
            Promise::NothingLeaks => "nothing-leaks",
            Promise::HonestSigns => "honest-signs",
            Promise::SameSeedSameRun => "same-seed-same-run",
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
