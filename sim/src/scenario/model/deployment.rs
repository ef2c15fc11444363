//! Several pods behind a Service, and the applications that work through it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::super::define::{choices, last, maybe, table, text};
use super::super::error::Problem;
use super::super::values::{AboveZero, NotEmpty};
use super::{CLIENT, Client, Span, Step};

table! {
    /// Several pods, as a Deployment keeps them behind a Service. Words and defaults are Kubernetes' own.
    Deployment, "`[deployment]`" {
        /// How many pods.
        replicas: u32 [1..=Deployment::MAX_REPLICAS],
        /// `maxSurge`: how many pods more than `replicas` there may be during a rollout, those that terminate not counted.
        max_surge: Share = Share::Percent(25),
        /// `maxUnavailable`: how many pods fewer than `replicas` may be ready during a rollout.
        max_unavailable: Share = Share::Percent(25),
        /// `podReplacementPolicy`: whether a pod that terminates still takes its place.
        pod_replacement_policy: PodReplacementPolicy = PodReplacementPolicy::TerminationStarted,
        /// From a pod's creation to the start of its process: scheduling, image, containers.
        startup: Span = Span(Duration::from_secs(2)),
        /// `lifecycle.preStop.sleep`: how long the kubelet waits before SIGTERM. It counts against the termination grace.
        pre_stop_sleep: Span = Span::default(),
        /// Whether a preStop hook asks for the drain (`POST /drain`) before that sleep begins.
        pre_stop_drain: bool = false,
        /// `minAvailable` of a PodDisruptionBudget, which a node drain heeds. Unset: there is none.
        min_available: Option<u32>,
    }
}

impl Deployment {
    /// The most pods that one file may ask for at a time.
    pub const MAX_REPLICAS: u32 = 100;
}

table! {
    /// The Service in front of the pods: clients and applications connect to it, and to no pod.
    Service(Default), "`[service]`" {
        /// From a pod's becoming ready, or its deletion, to the moment from which nodes route new connections accordingly. Unset:
        /// 1s. A connection stays where it is.
        endpoint_lag: Option<Span>,
        /// `sessionAffinity`: whether who comes back is sent to the same pod, as long as it is routed to.
        session_affinity: SessionAffinity = SessionAffinity::None,
    }
}

choices! {
    /// `sessionAffinity` of a Service.
    SessionAffinity(Default), "session affinity" {
        /// Each new connection goes to a pod drawn at random.
        None = "None" default,
        /// Those of one client or instance of an application go to the same pod.
        ClientIp = "ClientIP",
    }
}

choices! {
    /// `podReplacementPolicy` of a Deployment.
    PodReplacementPolicy, "pod replacement policy" {
        /// A pod is replaced as soon as it is told to terminate: pods that are held pile up.
        TerminationStarted = "TerminationStarted",
        /// A pod is replaced when it is gone.
        TerminationComplete = "TerminationComplete",
    }
}

table! {
    /// An application: instances that each have a pool of connections, and callers that do one job after the other through it.
    Application, "an application" {
        /// Its name, unique in the file: letters, digits, `-` and `_`.
        name: String [CLIENT],
        /// Which pool each instance has.
        pool: PoolKind,
        /// How many processes of it there are.
        instances: u32 [1..=Application::MAX] = 1,
        /// The most connections of a pool.
        size: u32 [1..=Application::MAX] = 10,
        /// How many jobs an instance does at a time at most.
        callers: u32 [1..=Application::MAX] = 10,
        /// How long a caller pauses between two jobs: drawn evenly up to twice as long.
        think: Span [AboveZero] = Span(std::time::Duration::from_millis(100)),
        /// What a job is, one of these at random: a step that is a request, or several as `{ repeat = 1, steps = [ … ] }`.
        jobs: Vec<Step> [NotEmpty("job")],
        /// When it begins.
        start: Span = Span(Duration::from_secs(1)),
        /// When it begins no more jobs. Unset: when everything else has happened, and at the latest two minutes after the last event.
        until: Option<Span>,
        /// How old a connection may become before the pool replaces it. Unset: as the pool has it by default.
        max_lifetime: Option<Span> [AboveZero],
        /// How often a job is done again of which it is certain that it never ran.
        retries: u32 [0..=Application::MAX_RETRIES] = 0,
    }
}

impl Application {
    /// The most of anything.
    pub const MAX: u32 = 1_000;
    /// How long after the last event an application works at the latest, where its file does not say.
    pub const AFTER_EVENTS: Duration = Duration::from_secs(2 * 60);
    /// The most times that a job is done again.
    pub const MAX_RETRIES: u32 = 100;

    /// How many places for connections it has, those of all instances.
    pub fn places(&self) -> u32 {
        self.instances * self.size
    }
}

const _: () = assert!(Application::MAX * Application::MAX >= Client::MAX_COUNT);

choices! {
    /// Which pool an application has. Each is described in a file of its own under `sim/src/cast/pools`.
    PoolKind(PartialOrd, Ord, Hash), "pool" {
        /// No pool: a connection for each job.
        None = "none",
        /// asyncpg's `create_pool`.
        Asyncpg = "asyncpg",
        /// HikariCP.
        Hikari = "hikaricp",
        /// node-postgres' `pg.Pool`.
        NodePostgres = "node-postgres",
        /// PgBouncer beside the application, pooling sessions.
        Pgbouncer = "pgbouncer",
        /// jackc/pgx's `pgxpool`.
        Pgx = "pgx",
        /// postgres.js.
        PostgresJs = "postgres-js",
        /// `psycopg_pool.ConnectionPool`.
        Psycopg = "psycopg-pool",
        /// The same with `check=ConnectionPool.check_connection`.
        PsycopgCheck = "psycopg-pool-check",
        /// SQLAlchemy's `QueuePool`.
        Sqlalchemy = "sqlalchemy",
        /// The same with `pool_pre_ping=True`.
        SqlalchemyPrePing = "sqlalchemy-pre-ping",
    }
}

/// A number of pods, or a share of the replicas in percent: `1` or `"25%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Pods(u32),
    /// So many of a hundred.
    Percent(u32),
}

/// Why a text is no [`Share`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a number of pods, or a share such as \"25%\"")]
pub struct BadShare;

impl Share {
    /// Of so many replicas, rounded up, as `maxSurge` is.
    pub fn rounded_up(self, replicas: u32) -> u32 {
        match self {
            Share::Pods(pods) => pods,
            Share::Percent(percent) => (replicas * percent).div_ceil(100),
        }
    }

    /// The same, rounded down, as `maxUnavailable` is.
    pub fn rounded_down(self, replicas: u32) -> u32 {
        match self {
            Share::Pods(pods) => pods,
            Share::Percent(percent) => replicas * percent / 100,
        }
    }
}

impl FromStr for Share {
    type Err = BadShare;

    fn from_str(text: &str) -> Result<Share, BadShare> {
        let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
        percent.filter(|percent| *percent <= 100).map(Share::Percent).ok_or(BadShare)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::Pods(pods) => write!(f, "{pods}"),
            Share::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Share::Pods(pods) => s.serialize_u32(*pods),
            Share::Percent(_) => s.collect_str(self),
        }
    }
}

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Share".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                { "type": "integer", "minimum": 0, "maximum": Deployment::MAX_REPLICAS },
                { "type": "string", "pattern": "^(100|[1-9]?[0-9])%$" },
            ],
            "examples": [1, "25%"],
        })
    }
}

table! {
    /// `rollout = { within = "2m" }`
    ExpectRollout, "`rollout`" {
        /// At most this long after the first `rollout`, `scale` or `node_drain` every pod is as it should be, and every other gone.
        within: Option<Span>,
        /// At most this long after it enough pods are ready, whoever else is still there.
        ready_within: Option<Span>,
        /// How many pods that should be gone were there at a time at most, beside those that should be.
        held: Option<u32>,
    }
    check |fields| {
        const EXPECTED: &str = "expected `within`, `ready_within` or `held`";
        if let (Some(None), Some(None), Some(None)) = (within, ready_within, held) {
            let problem = Problem::new(fields.place(""), "`rollout` expects nothing", EXPECTED);
            fields.problems().push(problem);
        }
    }
}
