//! What happens to the pod, its workers and the network, and when.

use std::time::Duration;

use super::super::define::{choices, last, maybe, table, text};
use super::super::error::Problem;
use super::super::read::Fields;
use super::super::values::AboveZero;
use super::{Deployment, Need, Rate, Span};

table! {
    /// Something that happens at a stated time.
    Event, "an event" {
        /// Time of the run, from its beginning.
        at: Span,
        /// What happens: a signal or a request to the control plane, or a fault of the network or the worker.
        action as "do": Action,
        /// For what happens to the network, between whom: two of `clients`, `pod`, `worker` and `kubelet`, or a client's name
        /// and `pod`.
        between: Option<[String; 2]>,
        /// With `latency`: how long a packet takes from then on, one way.
        latency: Option<Span>,
        /// With `rate`: how many bytes a second go each way from then on, headers included.
        rate: Option<Rate>,
        /// For what happens to the worker: how long it lasts. Unset: 1s for a crash or shutdown, else to the end of the run.
        back_after: Option<Span> [AboveZero],
        /// With `notify`, `terminate` and `garbage`: which client's sessions.
        client: Option<String>,
        /// With `notify`: how many notifications to send at a time.
        count: Option<u32> [1..=Event::MAX_NOTIFICATIONS],
        /// With `notify`: bytes of each payload. Unset: 16.
        bytes: Option<u32> [1..=Event::MAX_PAYLOAD],
        /// With `terminate`: after its FATAL the worker does not close the connection.
        stays_open: bool = false,
        /// With `scale`: how many pods there are to be.
        replicas: Option<u32> [0..=Deployment::MAX_REPLICAS],
        /// With `node_drain`: how many of the pods run on the node, the oldest.
        pods: Option<u32> [1..=Deployment::MAX_REPLICAS],
        /// With `pod_crash`: which pod, as `pod-2`. Unset: the oldest that is ready.
        pod: Option<String>,
    }
    check |fields| {
        if let Some(action) = action {
            check_keys(fields, action, stays_open == Some(true));
        }
    }
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

choices! {
    /// What can happen.
    Action, "event" {
        /// The kubelet terminates the pod: SIGTERM now, SIGKILL when its termination grace has passed.
        Sigterm = "sigterm",
        /// SIGINT to the control plane.
        Sigint = "sigint",
        /// SIGQUIT to the control plane.
        Sigquit = "sigquit",
        /// SIGKILL to the control plane, at once.
        Sigkill = "sigkill",
        /// SIGSTOP to the control plane: its process stands still until `sigcont`; its machine goes on.
        Sigstop = "sigstop",
        /// SIGCONT to the control plane.
        Sigcont = "sigcont",
        /// `POST /drain` to the admin port, as a preStop hook does.
        Drain = "drain",
        /// `DELETE /drain` to the admin port.
        Undrain = "undrain",
        /// Packets are lost until `heal`. What TCP still wants to say then comes through at its next retransmission.
        Partition = "partition",
        /// The end of a partition.
        Heal = "heal",
        /// Packets wait until `release`.
        Hold = "hold",
        /// The end of a hold: what waited arrives, in its order.
        Release = "release",
        /// Packets take so long from then on.
        Latency = "latency",
        /// No more than so much gets through from then on, all connections together; packets wait for their turn, and none is lost.
        Rate = "rate",
        /// SIGKILL to the worker's process, which starts again after `back_after`.
        WorkerCrash = "worker_crash",
        /// SIGSTOP to the worker's process: connections are taken, but nothing is answered and no statement goes on.
        WorkerHang = "worker_hang",
        /// PostgreSQL's smart shutdown: sessions go on, new ones get FATAL 57P03.
        WorkerDrain = "worker_drain",
        /// PostgreSQL's fast shutdown: every session gets FATAL 57P01 and is closed, new ones get FATAL 57P03 until it is back.
        WorkerShutdown = "worker_shutdown",
        /// `pg_terminate_backend` of a client's sessions: FATAL 57P01, whatever they are doing.
        Terminate = "terminate",
        /// NOTIFY by somebody else: notifications for a client's sessions that LISTEN.
        Notify = "notify",
        /// Bytes that are no PostgreSQL message to a client's sessions, by their worker, which says nothing more.
        Garbage = "garbage",
        /// The deployment's pods are replaced by those of its next revision.
        Rollout = "rollout",
        /// The deployment is told another number of replicas.
        Scale = "scale",
        /// `kubectl drain`: the pods of a node are evicted, each as soon as the disruption budget lets it, and replaced elsewhere.
        NodeDrain = "node_drain",
        /// A pod's machine dies without a word. The deployment replaces the pod.
        PodCrash = "pod_crash",
    }
}

impl Action {
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

    /// What it needs of a network.
    pub const fn needs(self) -> Option<Need> {
        Some(match self {
            Action::Partition | Action::Heal => Need::PacketLoss,
            Action::Hold | Action::Release => Need::Hold,
            Action::Latency => Need::Latency,
            Action::Rate => Need::Rate,
            Action::WorkerCrash => Need::Restart,
            Action::Sigkill => Need::DyingMachines,
            _ => return None,
        })
    }

    /// Whether it happens to a deployment.
    pub const fn is_of_deployment(self) -> bool {
        matches!(self, Action::Rollout | Action::Scale | Action::NodeDrain | Action::PodCrash)
    }

    /// Whether it happens to the sessions of a client.
    pub const fn is_of_client(self) -> bool {
        matches!(self, Action::Terminate | Action::Notify | Action::Garbage)
    }
}

/// The keys that only some events have.
fn check_keys(fields: &mut Fields<'_, '_, '_>, action: Action, stays_open: bool) {
    let notifies = action == Action::Notify;
    // The key, whether the event may have it and whether it must, and if so the question and how to answer it.
    let keys = [
        ("between", action.is_network(), true, "between whom?", "`between = [\"clients\", \"pod\"]`"),
        ("latency", action == Action::Latency, true, "how long?", "`latency = \"40ms\"`: what a packet takes, one way"),
        ("rate", action == Action::Rate, true, "how much?", "`rate = \"250KB/s\"`: what gets through, each way"),
        ("back_after", action.is_worker(), false, "", ""),
        ("client", action.is_of_client(), true, "whose sessions?", "`client = \"etl\"`"),
        ("count", notifies, true, "how many?", "`count = 1000`"),
        ("bytes", notifies, false, "", ""),
        ("stays_open", action == Action::Terminate || !stays_open, false, "", ""),
        ("replicas", action == Action::Scale, true, "to how many?", "`replicas = 5`"),
        ("pods", action == Action::NodeDrain, true, "how many pods does it run?", "`pods = 1`"),
        ("pod", action == Action::PodCrash, false, "", ""),
    ];
    for (key, may, must, question, answer) in keys {
        let problem = match (fields.has(key), may) {
            (true, false) => Problem::new(fields.place(key), format!("`{action}` has no `{key}`"), "not here"),
            (false, true) if must => {
                let problem = Problem::new(fields.place("do"), format!("`{action}` needs `{key}`"), question);
                problem.help(format!("such as {answer}"))
            }
            _ => continue,
        };
        fields.problems().push(problem);
    }
}
