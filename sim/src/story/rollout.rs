//! What happened where there are several pods: the life of each, what the deployment was told, the applications' jobs, and who
//! was let go by whom. What happened inside one pod is a [`Story`](super::Story) of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lastcall_core::Time;

use super::Moment;
use crate::cast::history::{Conn, Event, Fault, History, StatementEnd};
use crate::scenario::Action;

/// A run with several pods.
#[derive(Debug, Default)]
pub struct Rollout<'a> {
    /// What the deployment was told, and for how many replicas.
    pub(crate) told: Vec<(Moment, &'static str, u32)>,
    /// When all was as it was to be, after all that happened.
    pub(crate) settled: Option<Moment>,
    /// The pods, by their numbers.
    pub(crate) pods: BTreeMap<u32, PodLife>,
    /// The jobs of all applications.
    pub(crate) jobs: Vec<Job<'a>>,
    /// The connections that came to a pod.
    pub(crate) connections: Vec<Visit<'a>>,
    /// Which statements a worker began, by their requests.
    pub(crate) began: BTreeMap<&'a str, Moment>,
    /// Requests whose statements failed by themselves.
    pub(crate) failed: BTreeSet<&'a str>,
    /// When something befell the network.
    pub(crate) faults: Vec<Moment>,
    /// The run was stopped at its limit.
    pub(crate) out_of_time: Option<Moment>,
}

/// The life of a pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodLife {
    pub(crate) revision: u32,
    pub(crate) ready: Option<Moment>,
    pub(crate) deleted: Option<Moment>,
    pub(crate) signalled: Option<Moment>,
    pub(crate) gone: Option<Moment>,
    pub(crate) killed: bool,
    /// From when on nodes route to it.
    pub(crate) routed: Option<Moment>,
}

impl PodLife {
    fn crashed(&self) -> bool {
        self.killed && self.deleted.is_none()
    }
}

/// One job.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) application: &'a str,
    pub(crate) began: Time,
    pub(crate) ended: Moment,
    /// What its caller was told, if it failed.
    pub(crate) told: Option<&'a str>,
    /// The requests of its last attempt, if it failed.
    pub(crate) tags: Vec<&'a str>,
}

/// A connection at a pod.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) conn: &'a Conn,
    pub(crate) pod: u32,
    pub(crate) connecting: Moment,
    /// The FATAL that it read: when, its SQLSTATE, its DETAIL.
    pub(crate) fatal: Option<(Moment, &'a str, Option<&'a str>)>,
    /// When its last request was sent.
    pub(crate) asked: Option<Moment>,
    /// When the last answer to one came.
    pub(crate) answered: Option<Moment>,
}

impl<'a> Rollout<'a> {
    /// Reads the log of all pods.
    pub fn of(history: &'a History) -> Rollout<'a> {
        let mut rollout = Rollout::default();
        let mut visits: BTreeMap<&'a Conn, usize> = BTreeMap::new();
        for (index, entry) in history.entries.iter().enumerate() {
            let moment = Moment { index, at: entry.at };
            if let Some(number) = entry.pod {
                rollout.of_pod(number, moment, &entry.event);
            }
            let visit = |conn| visits.get(conn).copied();
            match &entry.event {
                Event::DeploymentTold { what, replicas } => rollout.told.push((moment, what, *replicas)),
                Event::DeploymentSettled => rollout.settled = Some(moment),
                Event::JobEnded { application, began, told, tags, .. } => rollout.jobs.push(Job {
                    application,
                    began: *began,
                    ended: moment,
                    told: told.as_deref(),
                    tags: tags.iter().map(String::as_str).collect(),
                }),
                Event::Connecting { conn } => {
                    visits.insert(conn, rollout.connections.len());
                    let pod = entry.pod.unwrap_or_default();
                    let connecting = moment;
                    rollout.connections.push(Visit { conn, pod, connecting, fatal: None, asked: None, answered: None });
                }
                Event::FatalRead { conn, code, detail, .. } => {
                    if let Some(visit) = visit(conn) {
                        rollout.connections[visit].fatal = Some((moment, code, detail.as_deref()));
                    }
                }
                Event::RequestSent { conn, .. } => {
                    if let Some(visit) = visit(conn) {
                        rollout.connections[visit].asked = Some(moment);
                    }
                }
                Event::RequestEnded { conn, .. } => {
                    if let Some(visit) = visit(conn) {
                        rollout.connections[visit].answered = Some(moment);
                    }
                }
                Event::StatementBegan { tag, .. } => _ = rollout.began.entry(tag).or_insert(moment),
                Event::StatementEnded { tag, end: StatementEnd::Failed(_) | StatementEnd::Cancelled, .. } => {
                    rollout.failed.insert(tag);
                }
                Event::Fault { what: Fault::Partition { .. } | Fault::Hold { .. } } => rollout.faults.push(moment),
                Event::OutOfTime => rollout.out_of_time = Some(moment),
                _ => {}
            }
        }
        rollout
    }

    fn of_pod(&mut self, number: u32, moment: Moment, event: &Event) {
        if let Event::PodCreated { revision } = event {
            let life = PodLife {
                revision: *revision,
                ready: None,
                deleted: None,
                signalled: None,
                gone: None,
                killed: false,
                routed: None,
            };
            self.pods.insert(number, life);
            return;
        }
        let Some(pod) = self.pods.get_mut(&number) else { return };
        match event {
            Event::PodReady => _ = pod.ready.get_or_insert(moment),
            Event::PodRouted { to: true } => _ = pod.routed.get_or_insert(moment),
            Event::PodDeleted => _ = pod.deleted.get_or_insert(moment),
            Event::SignalSent { .. } => _ = pod.signalled.get_or_insert(moment),
            Event::PodExited { .. } => _ = pod.gone.get_or_insert(moment),
            Event::Killed => {
                pod.killed |= pod.gone.is_none();
                pod.gone.get_or_insert(moment);
            }
            _ => {}
        }
    }

    /// When the machines of pods died that were not to go.
    pub(crate) fn crashes(&self) -> impl Iterator<Item = Moment> + '_ {
        self.pods.values().filter(|pod| pod.crashed()).filter_map(|pod| pod.gone)
    }

    /// Whether the machine of this pod died, and it was not to go.
    pub(crate) fn has_crashed(&self, number: u32) -> bool {
        self.pods.get(&number).is_some_and(PodLife::crashed)
    }

    /// Whether there was a pod for whoever connects at this time: one that nodes route to, and that is not to go.
    pub(crate) fn has_room(&self, at: Time) -> bool {
        let later = |moment: Option<Moment>| moment.is_none_or(|moment| moment.at > at);
        let mut pods = self.pods.values();
        pods.any(|pod| !later(pod.routed) && later(pod.deleted) && later(pod.gone))
    }

    /// Whether something befell the network, or a machine died, before this moment and as long ago as it may still be felt.
    pub(crate) fn troubled(&self, before: Moment, patience: Duration) -> bool {
        let all = self.crashes().chain(self.faults.iter().copied());
        all.into_iter().any(|trouble| trouble < before && before.at <= trouble.at + patience)
    }

    /// When enough pods of the last revision were ready for the first time after all that the deployment was told.
    pub(crate) fn ready(&self) -> Option<Time> {
        let (last, _, replicas) = self.told.last()?;
        let rollouts = self.told.iter().filter(|(_, what, _)| *what == Action::Rollout.name()).count();
        let revision = 1 + u32::try_from(rollouts).unwrap_or(u32::MAX);
        let staying = |pod: &&PodLife| pod.revision == revision && pod.gone.is_none() && pod.deleted.is_none();
        let mut ready: Vec<Time> =
            self.pods.values().filter(staying).filter_map(|pod| pod.ready).map(|ready| ready.at).collect();
        ready.sort_unstable();
        if *replicas == 0 {
            return Some(last.at);
        }
        ready.get(*replicas as usize - 1).copied().map(|ready| ready.max(last.at))
    }

    /// How many pods that were to go were there at a time at most.
    pub(crate) fn held(&self) -> (usize, Option<Moment>) {
        let leaving = self.pods.values().filter_map(|pod| pod.deleted.map(|deleted| (deleted, pod.gone)));
        let leaving: Vec<_> = leaving.collect();
        let there = |at: Moment| {
            leaving.iter().filter(|(deleted, gone)| *deleted <= at && gone.is_none_or(|gone| gone > at)).count()
        };
        let most = leaving.iter().map(|(deleted, _)| (there(*deleted), Some(*deleted)));
        most.max_by_key(|(count, _)| *count).unwrap_or_default()
    }
}
