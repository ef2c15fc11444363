//! What happens to the pod, its workers and the network, and when.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Rate, Span};

/// Something that happens at a stated time.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Event {
    /// Time of the run, from its beginning.
    pub at: Span,
    /// What happens: a signal or a request to the control plane, or a fault of the network or the worker.
    #[schemars(rename = "do")]
    pub action: Action,
    /// For what happens to the network, between whom: two of `clients`, `pod`, `worker` and `kubelet`, or a client's name and
    /// `pod`.
    pub between: Option<[String; 2]>,
    /// With `latency`: how long a packet takes from then on, one way.
    pub latency: Option<Span>,
    /// With `rate`: how many bytes a second go each way from then on, headers included.
    pub rate: Option<Rate>,
    /// For what happens to the worker: how long it lasts. Unset: 1s for a crash or shutdown, else to the end of the run.
    pub back_after: Option<Span>,
    /// With `notify`, `terminate` and `garbage`: which client's sessions.
    pub client: Option<String>,
    /// With `notify`: how many notifications to send at a time.
    #[schemars(range(min = 1, max = Event::MAX_NOTIFICATIONS))]
    pub count: Option<u32>,
    /// With `notify`: bytes of each payload. Unset: 16.
    #[schemars(range(min = 1, max = Event::MAX_PAYLOAD))]
    pub bytes: Option<u32>,
    /// With `terminate`: after its FATAL the worker does not close the connection. Default false.
    #[schemars(default)]
    pub stays_open: bool,
}

impl Event {
    /// How long a worker needs to start again, if its scenario doesn't say.
    pub const RESTART: Duration = Duration::from_secs(1);
    /// The most notifications at a time.
    pub const MAX_NOTIFICATIONS: u32 = 1_000_000;
    /// Bytes of a payload, if its scenario doesn't say.
    pub const PAYLOAD: u32 = 16;
    /// The longest payload of a notification: PostgreSQL's own limit.
    pub const MAX_PAYLOAD: u32 = 7999;

    /// How long what befell the worker lasts; without end if that is what the file says.
    pub fn lasts(&self) -> Option<Duration> {
        let starts_again = matches!(self.action, Action::WorkerCrash | Action::WorkerShutdown);
        let restart = starts_again.then_some(Event::RESTART);
        self.back_after.map(|Span(lasts)| lasts).or(restart)
    }
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The kubelet terminates the pod: SIGTERM now, SIGKILL when its termination grace has passed.
    Sigterm,
    /// SIGINT to the control plane.
    Sigint,
    /// SIGQUIT to the control plane.
    Sigquit,
    /// SIGKILL to the control plane, at once.
    Sigkill,
    /// SIGSTOP to the control plane: its process stands still until `sigcont`; its machine goes on.
    Sigstop,
    /// SIGCONT to the control plane.
    Sigcont,
    /// `POST /drain` to the admin port, as a preStop hook does.
    Drain,
    /// `DELETE /drain` to the admin port.
    Undrain,
    /// Packets are lost until `heal`. What TCP still wants to say then comes through at its next retransmission.
    Partition,
    /// The end of a partition.
    Heal,
    /// Packets wait until `release`.
    Hold,
    /// The end of a hold: what waited arrives, in its order.
    Release,
    /// Packets take so long from then on.
    Latency,
    /// No more than so much gets through from then on, all connections together; packets wait for their turn, and none is lost.
    Rate,
    /// SIGKILL to the worker's process, which starts again after `back_after`.
    WorkerCrash,
    /// SIGSTOP to the worker's process: connections are taken, but nothing is answered and no statement goes on.
    WorkerHang,
    /// PostgreSQL's smart shutdown: sessions go on, new ones get FATAL 57P03.
    WorkerDrain,
    /// PostgreSQL's fast shutdown: every session gets FATAL 57P01 and is closed, new ones get FATAL 57P03 until it is back.
    WorkerShutdown,
    /// `pg_terminate_backend` of a client's sessions: FATAL 57P01, whatever they are doing.
    Terminate,
    /// NOTIFY by somebody else: notifications for a client's sessions that LISTEN.
    Notify,
    /// Bytes that are no PostgreSQL message to a client's sessions, by their worker, which says nothing more.
    Garbage,
}

impl Action {
    /// Every one.
    pub const ALL: [Action; 21] = [
        Action::Sigterm,
        Action::Sigint,
        Action::Sigquit,
        Action::Sigkill,
        Action::Sigstop,
        Action::Sigcont,
        Action::Drain,
        Action::Undrain,
        Action::Partition,
        Action::Heal,
        Action::Hold,
        Action::Release,
        Action::Latency,
        Action::Rate,
        Action::WorkerCrash,
        Action::WorkerHang,
        Action::WorkerDrain,
        Action::WorkerShutdown,
        Action::Terminate,
        Action::Notify,
        Action::Garbage,
    ];

    /// The word in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Sigterm => "sigterm",
            Action::Sigint => "sigint",
            Action::Sigquit => "sigquit",
            Action::Sigkill => "sigkill",
            Action::Sigstop => "sigstop",
            Action::Sigcont => "sigcont",
            Action::Drain => "drain",
            Action::Undrain => "undrain",
            Action::Partition => "partition",
            Action::Heal => "heal",
            Action::Hold => "hold",
            Action::Release => "release",
            Action::Latency => "latency",
            Action::Rate => "rate",
            Action::WorkerCrash => "worker_crash",
            Action::WorkerHang => "worker_hang",
            Action::WorkerDrain => "worker_drain",
            Action::WorkerShutdown => "worker_shutdown",
            Action::Terminate => "terminate",
            Action::Notify => "notify",
            Action::Garbage => "garbage",
        }
    }

    /// Whether it is a signal that the process can see: expectations count from the first of them.
    pub const fn is_signal(self) -> bool {
        matches!(self, Action::Sigterm | Action::Sigint | Action::Sigquit)
    }

    /// Whether the process is gone in the end.
    pub const fn ends_pod(self) -> bool {
        self.is_signal() || matches!(self, Action::Sigkill)
    }

    /// Whether it happens between two hosts.
    pub const fn is_network(self) -> bool {
        matches!(
            self,
            Action::Partition | Action::Heal | Action::Hold | Action::Release | Action::Latency | Action::Rate
        )
    }

    /// Whether it happens to the worker.
    pub const fn is_worker(self) -> bool {
        matches!(self, Action::WorkerCrash | Action::WorkerHang | Action::WorkerDrain | Action::WorkerShutdown)
    }

    /// Whether it happens to the sessions of a client.
    pub const fn is_of_client(self) -> bool {
        matches!(self, Action::Terminate | Action::Notify | Action::Garbage)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
