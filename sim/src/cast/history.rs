//! The typed event log of one run: what the judge reads, and the only thing it reads.
//!
//! Every host of the simulation appends what it saw, stamped with simulated time, in the order in which it happened. Nothing
//! here knows which control plane ran. Two runs of the same scenario and seed write the same bytes ([`History::to_lines`]).

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use lastcall_core::Time;
use lastcall_world::Signal;
use lastcall_world::watched::Watched;
use serde::Serialize;

use crate::cast::pod::report::{Activity, DrainReport, EndRecord, Left, Listed};
use crate::scenario::{Rate, Span};

/// The contract's DETAIL of a FATAL behind which a request was left.
pub const NOT_EXECUTED: &str = "The last request was not executed.";

/// One connection attempt of one simulated client: `name.copy#attempt`, such as `dashboard.3#1`.
///
/// `name.copy` is what the client sends as `application_name`, so end records and worker sessions can be told apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Conn {
    /// The scenario's name of the client, such as `dashboard`.
    pub client: String,
    /// Which of the client's `count` copies, from 1.
    pub copy: u32,
    /// Which connection of this copy, from 1.
    pub attempt: u32,
}

impl Conn {
    /// `name.copy`: the `application_name` that the client sends.
    pub fn application(&self) -> String {
        format!("{}.{}", self.client, self.copy)
    }
}

impl std::fmt::Display for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}#{}", self.client, self.copy, self.attempt)
    }
}

/// One request of one client, unique in a run: the tag that the client writes into the statement's text as a comment and the
/// worker reads from it, such as `etl.1/2` (second request of `etl`'s first copy).
pub type Tag = String;

/// As whom a client comes: `user` and `database` of its startup packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The database.
    pub database: String,
}

/// The rows that one request inserted, by INSERT or by COPY.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Inserted {
    /// The request.
    pub tag: Tag,
    /// How many; not 0.
    pub rows: u32,
}

/// What kind of request it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestKind {
    /// A statement that only works for some time and returns rows.
    Query,
    /// A statement that writes rows.
    Insert,
    /// An Execute in a batch, which returns rows.
    Execute,
    /// An Execute in a batch, which writes rows: they are promised with the answer to the batch's Sync.
    ExecuteInsert,
    /// BEGIN.
    Begin,
    /// COMMIT.
    Commit,
    /// ROLLBACK.
    Rollback,
}

/// How a request ended, as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Complete: everything up to its CommandComplete and, for simple requests and batches, ReadyForQuery.
    Complete,
    /// An error with this SQLSTATE (a FATAL that ended the connection included).
    Error(String),
    /// The connection ended without any answer to it.
    Lost,
}

/// How a worker's statement ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StatementEnd {
    /// It ran to its end and its answer was written.
    Complete,
    /// It failed by itself with this SQLSTATE, as the scenario asked.
    Failed(String),
    /// A cancel request stopped it.
    Cancelled,
    /// Its session's connection was closed under it.
    Aborted,
}

/// What happens to the network or the worker. `between`: two hosts, or the name of a client and a host.
#[expect(missing_docs, reason = "the variants say what their fields are")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// Packets are lost.
    Partition { between: [String; 2] },
    /// They are not lost any more.
    Heal { between: [String; 2] },
    /// Packets wait.
    Hold { between: [String; 2] },
    /// Those that waited go on.
    Release { between: [String; 2] },
    /// Packets take so long, one way.
    Latency { between: [String; 2], latency: Span },
    /// No more gets through, each way.
    Rate { between: [String; 2], rate: Rate },
    /// The worker's process is SIGKILLed: its sessions are gone, and what they had not committed.
    WorkerCrash,
    /// The worker's process is stopped.
    WorkerHang,
    /// The worker takes no new sessions.
    WorkerDrain,
    /// PostgreSQL's fast shutdown: every session gets FATAL 57P01 and is closed, and there are no new ones.
    WorkerShutdown,
    /// The sessions of a client get FATAL 57P01, as by `pg_terminate_backend`; `stays_open`: and no end of the stream.
    Terminate { client: String, stays_open: bool },
    /// So many notifications, with so many bytes each, for each session of a client that listens.
    Notify { client: String, count: u32, bytes: u32 },
    /// The worker sends bytes that are no message to the sessions of a client.
    Garbage { client: String },
    /// SIGSTOP to the pod's process.
    PodStopped,
    /// SIGCONT to it.
    PodGoesOn,
    /// What befell the worker is over.
    WorkerBack,
}

/// Something that happened.
#[expect(missing_docs, reason = "the variants say what their fields are")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    // Clients
    /// A client starts to connect.
    Connecting { conn: Conn },
    /// All of its startup packet was handed to the network: from here on it can be told things.
    StartupSent { conn: Conn },
    /// It got its first ReadyForQuery: the session has begun.
    SessionBegan { conn: Conn },
    /// TCP could not be opened.
    ConnectFailed { conn: Conn, error: String },
    /// Part of a request was handed to the network, and the rest is kept back.
    PartSent { conn: Conn },
    /// A message that is no request of its own (a Parse, a Flush or a Sync in a batch, START_REPLICATION, the end of its stream) was handed to the network.
    BatchFed { conn: Conn },
    /// The client has sent all rows of its COPY, and that there are no more.
    CopyEnded { conn: Conn },
    /// Bytes that are no PostgreSQL were handed to the network.
    GarbageSent { conn: Conn },
    /// A request was handed to the network.
    RequestSent { conn: Conn, tag: Tag, kind: RequestKind },
    /// The client read the answer to a batch's Sync.
    BatchAnswered { conn: Conn },
    /// A request is over, as its client sees it.
    RequestEnded { conn: Conn, tag: Tag, outcome: Outcome },
    /// The client read a FATAL. `mid_message`: the bytes before it did not end at a message boundary.
    FatalRead { conn: Conn, code: String, message: String, detail: Option<String>, mid_message: bool },
    /// The client read the end of the stream. `mid_message`: inside a message.
    EofRead { conn: Conn, mid_message: bool },
    /// The client's connection was reset.
    ResetRead { conn: Conn },
    /// The client sent its FIN, and reads on.
    HalfClosed { conn: Conn },
    /// The client read CopyBothResponse: what it asked for is a stream from now on, and no request.
    Replicates { conn: Conn },
    /// The client stopped reading.
    ReadingStopped { conn: Conn },
    /// It reads, but no more than so many bytes a second.
    ReadingSlowed { conn: Conn },
    /// It reads again.
    ReadingResumed { conn: Conn },
    /// At the end of the run, of a client that did not read to the end: what its machine has of the connection. What of its
    /// requests was answered, whether a FATAL is among it, and the end of the stream.
    MachineHas { conn: Conn, answered: Vec<(Tag, Outcome)>, fatal: Option<String>, end: bool },
    /// The client ended the connection itself: `disconnect` (Terminate), `close` (FIN without Terminate), `reset`, `vanish`
    /// (without a packet).
    ClientLeft { conn: Conn, how: &'static str },
    /// The client sends a cancel request for its running request.
    CancelSent { conn: Conn, tag: Tag },
    /// The client has done all its steps, or can't do any more of them.
    ClientDone { conn: Conn },

    // Workers
    /// A worker took a session.
    WorkerSessionBegan { worker_session: u32, application: String, login: Login },
    /// A worker got the first message of a batch of the extended protocol.
    BatchBegan { worker_session: u32 },
    /// It got the batch's Sync.
    BatchSynced { worker_session: u32 },
    /// A worker began a statement.
    StatementBegan { worker_session: u32, tag: Tag },
    /// In the middle of a statement, a worker waits for its client: to send the data of a COPY (`for_input`), or to take output.
    WorkerWaits { worker_session: u32, for_input: bool },
    /// It goes on with the statement: a byte has moved.
    WorkerGoesOn { worker_session: u32 },
    /// A worker's statement is over.
    StatementEnded { worker_session: u32, tag: Tag, end: StatementEnd },
    /// A worker made the rows of these requests durable.
    Committed { worker_session: u32, inserts: Vec<Inserted> },
    /// A worker threw the rows of these requests away.
    RolledBack { worker_session: u32, inserts: Vec<Tag> },
    /// A worker's session is over.
    WorkerSessionEnded { worker_session: u32 },

    // The pod and its kubelet
    /// The pod's process runs.
    PodStarted,
    /// The network or the worker was made to fail, or to stop failing.
    Fault { what: Fault },
    /// The pod's preStop hook asks for a drain, or takes that back.
    DrainAsked { begin: bool },
    /// What it was told. `status`: of the HTTP answer, if one came.
    DrainAnswered { begin: bool, status: Option<u16> },
    /// A signal was sent to the pod.
    SignalSent {
        #[serde(serialize_with = "display")]
        signal: Signal,
    },
    /// The kubelet asked `/readyz`.
    ReadinessProbed { ready: bool },
    /// The kubelet asked `/livez`.
    LivenessProbed { live: bool },
    /// Somebody asked `GET /drain`; without an answer, or with one that can't be read, nothing is listed.
    DrainListed {
        #[serde(serialize_with = "debug")]
        asked: Time,
        #[serde(serialize_with = "debug")]
        listed: Option<Listed>,
    },
    /// The pod wrote an end record.
    Recorded {
        #[serde(serialize_with = "debug")]
        record: EndRecord,
    },
    /// One of the pod's connections does something else now.
    ActivityChanged {
        connection: u32,
        #[serde(serialize_with = "display")]
        activity: Activity,
    },
    /// One of the pod's connections has left.
    ConnectionLeft {
        #[serde(serialize_with = "debug")]
        left: Left,
    },
    /// The pod told the story of its drain.
    DrainReported {
        #[serde(serialize_with = "debug")]
        report: Box<DrainReport>,
    },
    /// The pod's main function returned. `tasks`: names of tasks of its own that are still there.
    PodExited { code: u8, tasks: Vec<String> },
    /// SIGKILL: the kubelet's at the end of `termination_grace`, or the scenario's own.
    Killed,
    // Several pods, and who works through them
    /// The deployment is told something: `rollout`, `scale` or `node_drain`; so many replicas are wanted from then on.
    DeploymentTold { what: &'static str, replicas: u32 },
    /// A pod of this revision is created.
    PodCreated { revision: u32 },
    /// The first time that a pod is ready.
    PodReady,
    /// A pod is deleted: its preStop hooks run, and then SIGTERM comes.
    PodDeleted,
    /// From here on nodes send new connections to this pod, or no more.
    PodRouted { to: bool },
    /// All pods are as they should be, and all others are gone.
    DeploymentSettled,
    /// An application's job is over. `told`: the SQLSTATE that its caller was told, if it failed, and then `tags` are the requests
    /// of its last attempt.
    JobEnded {
        application: String,
        #[serde(serialize_with = "debug")]
        began: Time,
        attempts: u32,
        told: Option<String>,
        tags: Vec<Tag>,
    },
    /// A task of the pod panicked.
    Panicked { task: String, message: String },
    /// The run was stopped at its limit of simulated time.
    OutOfTime,
    /// The simulator stopped the run because its log was full: with so many events of this client's, the most of any.
    OutOfBudget { client: String, events: u64 },
}

fn display<T: std::fmt::Display, S: serde::Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}

fn debug<T: std::fmt::Debug, S: serde::Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("{value:?}"))
}

/// An event and when it happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Simulated time.
    pub at: Time,
    /// Where there are several pods: the number of the one that it is about, if it is about one.
    pub pod: Option<u32>,
    /// What happened.
    pub event: Event,
}

impl Entry {
    /// Of a run with one pod.
    pub fn new(at: Time, event: Event) -> Entry {
        Entry { at, pod: None, event }
    }

    fn write_to(&self, lines: &mut Vec<u8>) {
        write!(lines, "{{\"at_ns\":{},", self.at.since_epoch().as_nanos()).expect("a Vec takes everything");
        if let Some(pod) = self.pod {
            write!(lines, "\"pod\":{pod},").expect("a Vec takes everything");
        }
        let brace = lines.len();
        serde_json::to_writer(&mut *lines, &self.event).expect("events hold only strings and numbers");
        assert_eq!(lines.remove(brace), b'{', "an event is a JSON object");
        lines.push(b'\n');
    }
}

/// The event log of one finished run, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The entries. Times never go back.
    pub entries: Vec<Entry>,
}

impl History {
    /// One JSON object a line, time first, in nanoseconds: what is compared byte for byte between runs.
    pub fn to_lines(&self) -> String {
        let mut lines = Vec::new();
        self.entries.iter().for_each(|entry| entry.write_to(&mut lines));
        String::from_utf8(lines).expect("JSON is UTF-8")
    }

    /// What is about one of several pods, as if it had been the only one.
    pub fn of_pod(&self, pod: u32) -> History {
        let its = self.entries.iter().filter(|entry| entry.pod == Some(pod));
        History { entries: its.map(|entry| Entry { pod: None, ..entry.clone() }).collect() }
    }

    /// A number that two runs share if their events do; for comparing without keeping them.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.entries.hash(&mut hasher);
        hasher.finish()
    }
}

/// Events that a run may have; few in a unit test. Fifty clients that ask every thirty seconds for a day make less than a million.
pub const MAX_EVENTS: usize = if cfg!(test) { 20_000 } else { 5_000_000 };

/// Where the hosts of a run append what they see. Clones share one log.
#[derive(Clone)]
pub struct Recorder {
    log: Arc<Mutex<Log>>,
    pod: Arc<Mutex<PodState>>,
    /// Of several pods, the one that this is about.
    number: Option<u32>,
    over: Watched<bool>,
}

#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    /// Called once, when the log is full.
    full: Option<Box<dyn FnOnce() + Send>>,
}

/// What others wait for of one pod.
#[derive(Default)]
struct PodState {
    /// It has exited or was killed.
    gone: bool,
    /// A signal was sent to it.
    signalled: bool,
    /// Called once, when it has exited or was killed.
    tell_gone: Option<Box<dyn FnOnce() + Send>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder { log: Arc::default(), pod: Arc::default(), number: None, over: Watched::new(false) }
    }
}

impl Recorder {
    /// Appends to the same log, what is about this one of several pods.
    pub fn of_pod(&self, number: u32) -> Recorder {
        Recorder { pod: Arc::default(), number: Some(number), ..self.clone() }
    }

    /// Appends one event.
    pub fn record(&self, at: Time, event: Event) {
        let gone = matches!(event, Event::PodExited { .. } | Event::Killed);
        let signalled = matches!(event, Event::SignalSent { .. });
        {
            let mut log = self.log();
            if log.entries.len() == MAX_EVENTS {
                let tell = log.full.take();
                drop(log);
                return tell.into_iter().for_each(|tell| tell());
            }
            debug_assert!(log.entries.last().is_none_or(|last| last.at <= at), "time went back");
            log.entries.push(Entry { at, pod: self.number, event });
        }
        if gone || signalled {
            let told = {
                let mut pod = self.pod();
                pod.gone |= gone;
                pod.signalled |= signalled;
                if gone { pod.tell_gone.take() } else { None }
            };
            told.into_iter().for_each(|tell| tell());
        }
    }

    /// Whether something has happened of which `is_it` is true. Looks at the whole log.
    #[cfg(test)]
    pub fn any(&self, is_it: impl Fn(&Event) -> bool) -> bool {
        self.log().entries.iter().any(|entry| is_it(&entry.event))
    }

    /// How many events it has.
    pub fn recorded(&self) -> usize {
        self.log().entries.len()
    }

    /// Whether the pod has exited or was killed.
    pub fn is_pod_gone(&self) -> bool {
        self.pod().gone
    }

    /// Whether a signal was sent to the pod.
    pub fn is_pod_signalled(&self) -> bool {
        self.pod().signalled
    }

    /// Calls `tell` when nothing more can be appended.
    pub fn on_full(&self, tell: impl FnOnce() + Send + 'static) {
        self.log().full = Some(Box::new(tell));
    }

    /// Says so, in the place of the last event, if the log is full.
    pub fn close_if_full(&self) {
        let mut log = self.log();
        if log.entries.len() < MAX_EVENTS {
            return;
        }
        let mut of_clients = BTreeMap::<&str, u64>::new();
        for entry in &log.entries {
            if let Event::RequestSent { conn, .. } | Event::RequestEnded { conn, .. } | Event::BatchFed { conn } =
                &entry.event
            {
                *of_clients.entry(conn.client.as_str()).or_default() += 1;
            }
        }
        let busiest = of_clients.into_iter().max_by_key(|(_, events)| *events);
        let (client, events) = busiest.map(|(client, events)| (client.to_owned(), events)).unwrap_or_default();
        if let Some(last) = log.entries.last_mut() {
            last.event = Event::OutOfBudget { client, events };
        }
    }

    /// Calls `tell` when the pod exits or is killed.
    pub fn on_pod_gone(&self, tell: impl FnOnce() + Send + 'static) {
        self.pod().tell_gone = Some(Box::new(tell));
    }

    /// Everything that the scenario asks for has happened: whoever waits for [`Recorder::until_over`] may log a last word.
    pub fn end(&self) {
        self.over.change(true);
    }

    /// Waits for the end of the run.
    pub async fn until_over(&self) {
        let mut over = self.over.subscribe();
        std::future::poll_fn(|cx| over.poll_until(|over| *over, cx)).await;
    }

    /// The log so far.
    pub fn history(&self) -> History {
        History { entries: self.log().entries.clone() }
    }

    /// The log, which is empty afterwards.
    pub fn take_history(&self) -> History {
        History { entries: std::mem::take(&mut self.log().entries) }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nothing panics while it appends")
    }

    fn pod(&self) -> MutexGuard<'_, PodState> {
        self.pod.lock().expect("nothing panics while it holds this")
    }
}
