//! The vocabulary of scenario files, as types.
//!
//! What a file can say, and nothing else. The JSON Schema and the help in error messages are made from these types and
//! their doc comments; a word that is not here is an error in a file. How a file is read into them is in the other modules.

mod choice;
mod deployment;
mod event;
mod milestone;
mod need;
pub(super) mod step;

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;

pub use self::choice::*;
pub use self::deployment::*;
pub use self::event::{Action, Event};
pub use self::milestone::{BadMilestone, Does, Milestone, Reached, When};
pub use self::need::Need;
pub use self::step::*;
use super::define::{Draw, choices, last, maybe, table, text};
use super::error::Problem;
pub use super::overrides::Overrides;
pub use super::units::{
    Answered, BadRate, BadReading, BadSpan, BadSqlState, Patience, RUN_LIMIT, Rate, Reading, Span, SqlState, Times,
};
use super::values::{AboveZero, Name, NotEmpty, WayToEnd, check_end};

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
    #[schemars(default = "one_seed", range(min = 1, max = Scenario::MAX_SEEDS))]
    pub seeds: u32,
    /// The pod that runs the control plane.
    #[schemars(default)]
    pub pod: Pod,
    /// Where there are several pods: how many, and how they are replaced.
    pub deployment: Option<Deployment>,
    /// The Service in front of them.
    #[schemars(default)]
    pub service: Service,
    /// Settings of the control plane that differ from their defaults.
    #[schemars(default)]
    pub drain: Overrides,
    /// The clients.
    #[schemars(default, rename = "client")]
    pub clients: Vec<Client>,
    /// The applications, which need a deployment.
    #[schemars(default, rename = "application")]
    pub applications: Vec<Application>,
    /// What happens to the pod, the workers and the network, and when.
    #[schemars(default, rename = "event")]
    pub events: Vec<Event>,
    /// What must come out. The promises are checked besides, always.
    #[schemars(default)]
    pub expect: Expect,
    /// Settings under which this file must break exactly the promises named: proof that it can fail.
    #[schemars(default)]
    pub fails_under: Vec<FailsUnder>,
    /// Deliberate defects of the control plane with which this file must break, by their names in `tests/sabotage`: proof that it
    /// can fail.
    #[schemars(default)]
    pub catches: Vec<String>,
}

fn one_seed() -> u32 {
    1
}

impl Scenario {
    /// The most seeds that one file may ask for: more are a search, not a test.
    pub const MAX_SEEDS: u32 = 1_000;
    /// The hosts of a simulation, by the names that a file uses.
    pub const HOSTS: [&str; 4] = ["clients", "pod", "worker", "kubelet"];

    /// What it can't do without, of a network.
    pub fn needs(&self) -> impl Iterator<Item = Need> + '_ {
        let steps = self.clients.iter().flat_map(|client| Step::every(&client.steps));
        let steps = steps.flat_map(|step| step.needs().iter().copied());
        steps.chain(self.events.iter().filter_map(|event| event.action.needs()))
    }
}

table! {
    /// The pod that runs the control plane, and its kubelet.
    Pod(Default), "`[pod]`" {
        /// `terminationGracePeriodSeconds`: the kubelet sends SIGKILL this long after SIGTERM. Unset: 24h; with a
        /// deployment 30s, as Kubernetes has it.
        termination_grace: Option<Span>,
        /// How often the kubelet probes `/readyz`. Unset: 10s.
        readiness_period: Option<Span> [AboveZero],
        /// Whether something (a metrics scraper) also holds a kept-alive HTTP connection to the admin port.
        admin_keepalive: bool = false,
    }
}

table! {
    /// One client, or `count` alike.
    Client, "a client" {
        /// Its name, unique in the file: letters, digits, `-` and `_`.
        name: String [CLIENT],
        /// How many clients do the same.
        count: u32 [1..=Client::MAX_COUNT] = 1 => Draw::Whole(1, 20),
        /// When the first one begins.
        start: Span = Span::default(),
        /// How much later each next one begins.
        stagger: Span = Span::default() => Draw::Millis(0, 2000),
        /// What it does, in order. When its connection is closed under it, the rest is left out, unless it connects again.
        steps: Vec<Step> [NotEmpty("step")],
        /// Connect again when the connection is closed by the other side, as a connection pool does, and go on with the
        /// steps. Unset: never.
        reconnect: Option<Reconnect>,
    }
}

impl Client {
    /// The most copies of one client: as many as the control plane accepts by default.
    pub const MAX_COUNT: u32 = 10_000;
    /// The longest name: with the copy's number it still fits into `application_name` (63 bytes).
    pub const MAX_NAME: usize = 40;
}

const CLIENT: Name = Name {
    what: "a name",
    most: Client::MAX_NAME,
    bytes: |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_',
    expected: "letters, digits, `-` or `_`",
    class: "[A-Za-z0-9_-]",
};

table! {
    /// `reconnect = { backoff = "100ms", retries = 5 }`: how a client comes back.
    Reconnect, "`reconnect`" {
        /// Pause before the first attempt. It doubles with each that fails, up to 32 times as long.
        backoff: Span = Span(Duration::from_millis(100)) => Draw::Millis(1, 2000),
        /// How many attempts may fail in a row before the client gives up.
        retries: u32 [1..=Reconnect::MAX_RETRIES] = 5 => Draw::Whole(1, 5),
    }
    check |fields| {
        if backoff == Some(Span::default()) {
            let problem = Problem::new(fields.place("backoff"), "nobody comes back at once", "expected at least 1ms");
            fields.problems().push(problem);
        }
    }
}

impl Reconnect {
    /// How often the backoff doubles.
    pub const DOUBLINGS: u32 = 5;
    /// The most attempts in a row.
    pub const MAX_RETRIES: u32 = 1000;
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
    /// Where there are several pods: how the first rollout, scaling or node drain goes.
    pub rollout: Option<ExpectRollout>,
    /// What each client saw, by its name; every copy must meet it. What an application saw stands here too.
    #[schemars(default)]
    pub client: BTreeMap<String, ExpectClient>,
}

table! {
    /// `exit = { within = "31s", code = 0 }`
    ExpectExit, "`exit`" {
        /// At most this long after the first signal.
        within: Option<Span>,
        /// At least this long after the first signal.
        after: Option<Span>,
        /// The exit code.
        code: Option<u8>,
    }
    check |fields| {
        if let (Some(Some(most)), Some(Some(least))) = (within, after)
            && most < least
        {
            fields.clash("within", "no exit can meet this", "at most this, but …", "after", "… at least this");
        }
    }
}

table! {
    /// `client.etl = { answered = "all", ends = "57P01" }`
    ExpectClient(Default), "an expectation on a client" {
        /// How many requests were answered without an error: a number, or `"all"` that were sent.
        answered: Option<Answered>,
        /// How many of the rows that it inserted or copied were committed.
        committed: Option<u32>,
        /// How its last connection ended: a SQLSTATE (of the FATAL it read), `"disconnect"`, `"close"`, `"vanish"` (it left by
        /// itself), `"reset"` (by itself or by the other side), `"eof"` (closed without a word), `"connect failed"`
        /// (there was none), or `"open"`.
        ends: Option<String> [WayToEnd],
        /// How many connections of all its copies together, those before a reconnect included, ended in each way: `told = {
        /// 57P01 = 47, 57P03 = 3 }`, with the ways of `ends`. A way that is not named is one in which none ends.
        told: Option<BTreeMap<String, u32>>,
        /// Its last connection ended between these two times after the first signal.
        between: Option<[Span; 2]>,
        /// SQLSTATEs of the errors that its requests got, in order; FATALs are not among them.
        errors: Option<Vec<SqlState>>,
        /// It is killed: a SIGKILL of the pod ends its last connection. Without this word, what a SIGKILL cuts breaks
        /// `never-cut`.
        killed: bool = false,
        /// Of an application: how many of its jobs failed at most.
        failed: Option<u32>,
        /// Of an application: how long its longest job took at most, waiting for a connection included.
        slowest: Option<Span>,
    }
    check |fields| {
        for ends in told.iter().flatten().flat_map(BTreeMap::keys) {
            check_end(ends, fields.place("told"), fields.problems());
        }
        if told.iter().flatten().any(BTreeMap::is_empty) {
            let label = "expected at least one way to end";
            let problem = Problem::new(fields.place("told"), "`told` counts nothing", label);
            fields.problems().push(problem);
        }
        if let Some(Some([from, to])) = between
            && from > to
        {
            let label = "the first is after the second";
            let problem = Problem::new(fields.place("between"), "no end can meet this", label);
            fields.problems().push(problem.help(format!("between = [\"{to}\", \"{from}\"]")));
        }
    }
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

choices! {
    /// The contract's promises.
    Promise(PartialOrd, Ord, Hash), "promise" {
        /// No statement that a worker began was ended by the control plane before its answer was complete.
        NeverCut = "never-cut",
        /// The process exited within the bound.
        BoundedExit = "bounded-exit",
        /// Every request was answered, or refused with a SQLSTATE and never begun; none ran twice.
        AnsweredOrNotRun = "answered-or-not-run",
        /// Every closed client that was reading got one well-formed FATAL and then EOF.
        CleanGoodbye = "clean-goodbye",
        /// No session began after the lame duck; the refusal was 57P03.
        NoLateSession = "no-late-session",
        /// Every cancel request reached its statement.
        CancelWorks = "cancel-works",
        /// Every session that began has exactly one end record.
        OneRecordEach = "one-record-each",
        /// At exit no task, socket, worker session or registry entry is left.
        NothingLeaks = "nothing-leaks",
        /// Readiness was false from the signal on; who asks is told who is here; exit code and report tell what happened.
        HonestSigns = "honest-signs",
        /// The same scenario and seed give the same event log, byte for byte, in another process.
        SameSeedSameRun = "same-seed-same-run",
        /// No job of an application fails through a drain, but one that crossed its connection's end on the way and never ran.
        RolloutLosesNothing = "rollout-loses-nothing",
        /// The new pods are ready and the old ones gone within the bound, and nobody is sent back to the pod that let it go.
        RolloutEnds = "rollout-ends",
        /// A drain lets its idle connections go spread over the grace, not all at once.
        ReconnectsArePaced = "reconnects-are-paced",
    }
}

impl Promise {
    /// Those that one run of one pod can break. Of the others one takes two runs, and some several pods.
    pub fn of_one_run() -> impl Iterator<Item = Promise> {
        Promise::ALL.into_iter().filter(|promise| *promise != Promise::SameSeedSameRun && !promise.is_of_deployment())
    }

    /// Those that are at stake where there are several pods, or where there is one.
    pub fn of(scenario: &Scenario) -> impl Iterator<Item = Promise> {
        let several = scenario.deployment.is_some();
        Promise::ALL.into_iter().filter(move |promise| several || !promise.is_of_deployment())
    }

    /// Whether it takes several pods.
    pub const fn is_of_deployment(self) -> bool {
        matches!(self, Promise::RolloutLosesNothing | Promise::RolloutEnds | Promise::ReconnectsArePaced)
    }
}
