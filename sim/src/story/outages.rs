//! When hosts could not reach each other, and why: the precondition of every rule about what one host learns of another.

use std::time::Duration;

use lastcall_core::Time;

use crate::cast::history::{Conn, Fault};

/// After that much time even the slowest sender has tried again, whatever it had lost (Linux: `TCP_RTO_MAX`).
const LAST_RETRY: Duration = Duration::from_secs(120);

/// The first retransmission of a SYN, which is the slowest.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Every time in which something was cut off, in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Outages<'a>(Vec<Outage<'a>>);

#[derive(Debug)]
struct Outage<'a> {
    what: What<'a>,
    from: Time,
    to: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What<'a> {
    /// Packets were lost between these two.
    Lost(&'a [String; 2]),
    /// Packets waited between these two.
    Held(&'a [String; 2]),
    /// The worker hung.
    WorkerHung,
    /// There was no worker.
    WorkerGone,
    /// The pod's process was stopped.
    PodStopped,
}

impl<'a> Outages<'a> {
    pub(crate) fn add(&mut self, at: Time, fault: &'a Fault) {
        match fault {
            Fault::Partition { between } => self.begin(at, What::Lost(between)),
            Fault::Hold { between } => self.begin(at, What::Held(between)),
            Fault::WorkerHang => self.begin(at, What::WorkerHung),
            Fault::WorkerCrash | Fault::WorkerShutdown => self.begin(at, What::WorkerGone),
            Fault::PodStopped => self.begin(at, What::PodStopped),
            Fault::PodGoesOn => self.end(at, |what| what == What::PodStopped),
            Fault::Heal { between } => self.end(at, |what| matches!(what, What::Lost(other) if same(between, other))),
            Fault::Release { between } => {
                self.end(at, |what| matches!(what, What::Held(other) if same(between, other)))
            }
            Fault::WorkerBack => self.end(at, |what| matches!(what, What::WorkerHung | What::WorkerGone)),
            Fault::Latency { .. }
            | Fault::Rate { .. }
            | Fault::WorkerDrain
            | Fault::Terminate { .. }
            | Fault::Notify { .. }
            | Fault::Garbage { .. } => {}
        }
    }

    fn begin(&mut self, from: Time, what: What<'a>) {
        self.0.push(Outage { what, from, to: None });
    }

    fn end(&mut self, at: Time, ends: impl Fn(What) -> bool) {
        for outage in self.0.iter_mut().filter(|outage| outage.to.is_none() && ends(outage.what)) {
            outage.to = Some(at);
        }
    }

    /// Whether the pod and its worker could not reach each other for some of this time, or one of them not answer: whatever
    /// was said in it may have arrived late, or never.
    pub(crate) fn of_worker(&self, from: Time, to: Time) -> bool {
        self.0.iter().any(|outage| outage.is_of_worker() && outage.touches(from, to))
    }

    /// Whether packets between the pod and its worker were lost, or there was no worker, for some of this time.
    pub(crate) fn worker_lost(&self, from: Time, to: Time) -> bool {
        let lost = |what| matches!(what, What::Lost(_) | What::WorkerGone);
        self.0.iter().any(|outage| lost(outage.what) && outage.is_of_worker() && outage.touches(from, to))
    }

    /// Whether the pod and this client could not reach each other for some of this time.
    pub(crate) fn of_client(&self, conn: &Conn, from: Time, to: Time) -> bool {
        self.0.iter().any(|outage| outage.is_of_client(conn) && outage.touches(from, to))
    }

    /// The same, where it was the network.
    pub(crate) fn between(&self, conn: &Conn, from: Time, to: Time) -> bool {
        self.network_of(conn).any(|outage| outage.touches(from, to))
    }

    /// When packets between the pod and this client began to be lost, or to wait, and when the last of them came through.
    pub(crate) fn client_cut_off(&self, conn: &Conn) -> impl Iterator<Item = Time> {
        self.network_of(conn).flat_map(|outage| [Some(outage.from), outage.felt()]).flatten()
    }

    /// When the pod's process could hear of what happened at this time or `slack` later: then, or when it went on. None: never.
    pub(crate) fn heard(&self, at: Time, slack: Duration) -> Option<Time> {
        let mut stops = self.stops().filter(|stop| stop.from <= at + slack && stop.to.is_none_or(|to| to > at));
        stops.try_fold(at, |heard, stop| Some(heard.max(stop.to?)))
    }

    /// When the process could hear at the latest of what this client sent at this time, whatever lost or held it. None: never.
    pub(crate) fn arrived(&self, conn: &Conn, at: Time, slack: Duration) -> Option<Time> {
        let mut outages = self.network_of(conn).filter(|outage| outage.touches(at, at + slack));
        let latest = outages.try_fold(at, |latest, outage| Some(latest.max(outage.felt()?)))?;
        self.heard(latest, slack)
    }

    /// Whether what the pod said to its kubelet, or heard of it, may have been said some of this time before it came.
    pub(crate) fn of_kubelet(&self, from: Time, to: Time) -> bool {
        let its = |between: &[String; 2]| between.iter().any(|end| end == "kubelet");
        let lost = |what| matches!(what, What::Lost(between) | What::Held(between) if its(between));
        self.0.iter().any(|outage| lost(outage.what) && outage.touches(from, to))
    }

    /// How long the pod's process was stopped, of the time from then on.
    pub(crate) fn stopped_since(&self, from: Time, end: Time) -> Duration {
        self.stops().map(|outage| outage.to.unwrap_or(end).since(outage.from.max(from))).sum()
    }

    /// Since when the pod's process was stopped at this time, if it was.
    pub(crate) fn stopped_at(&self, at: Time) -> Option<Time> {
        self.stops().find(|stop| stop.lasts_at(at)).map(|stop| stop.from)
    }

    /// How long the pod and this client had not been able to reach each other at this time.
    pub(crate) fn client_away_for(&self, conn: &Conn, at: Time) -> Duration {
        let away = self.network_of(conn).filter(|outage| outage.lasts_at(at));
        away.map(|outage| at.since(outage.from)).max().unwrap_or_default()
    }

    /// The longest time, up to the end of this one, for which the pod and this client could not reach each other that reached into it.
    pub(crate) fn client_away_in(&self, conn: &Conn, from: Time, to: Time) -> Duration {
        let away = self.network_of(conn).filter(|outage| outage.touches(from, to));
        away.map(|outage| outage.to.unwrap_or(to).min(to).since(outage.from)).max().unwrap_or_default()
    }

    /// The same, or until what was lost meanwhile came again.
    pub(crate) fn client_unheard_for(&self, conn: &Conn, at: Time) -> Duration {
        let away = self.network_of(conn).filter(|outage| outage.touches(at, at));
        away.map(|outage| at.since(outage.from)).max().unwrap_or_default()
    }

    /// What was the network's, between the pod and this client.
    fn network_of(&self, conn: &Conn) -> impl Iterator<Item = &Outage<'a>> {
        self.0.iter().filter(|outage| outage.what != What::PodStopped && outage.is_of_client(conn))
    }

    /// When the pod's process was stopped.
    fn stops(&self) -> impl Iterator<Item = &Outage<'a>> {
        self.0.iter().filter(|outage| outage.what == What::PodStopped)
    }
}

impl Outage<'_> {
    /// Until when it, or what was lost in it, lasted.
    fn felt(&self) -> Option<Time> {
        // A sender tries again after a pause as long as all that it has waited, at most.
        self.to.map(|to| to + (FIRST_RETRY + to.since(self.from)).min(LAST_RETRY))
    }

    /// Whether it, or what was lost in it, lasted for some of this time.
    fn touches(&self, from: Time, to: Time) -> bool {
        self.from <= to && self.felt().is_none_or(|felt| felt >= from)
    }

    fn lasts_at(&self, at: Time) -> bool {
        self.from <= at && self.to.is_none_or(|to| to >= at)
    }

    fn is_of_worker(&self) -> bool {
        match self.what {
            What::Lost(between) | What::Held(between) => between.iter().any(|end| end == "worker"),
            What::WorkerHung | What::WorkerGone | What::PodStopped => true,
        }
    }

    fn is_of_client(&self, conn: &Conn) -> bool {
        match self.what {
            What::Lost(between) | What::Held(between) => {
                between.iter().any(|end| *end == conn.client || end == "clients")
            }
            What::PodStopped => true,
            What::WorkerHung | What::WorkerGone => false,
        }
    }
}

fn same(one: &[String; 2], other: &[String; 2]) -> bool {
    one == other || [&one[1], &one[0]] == [&other[0], &other[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    fn between(one: &str, other: &str) -> [String; 2] {
        [one.to_owned(), other.to_owned()]
    }

    #[test]
    fn an_outage_is_felt_until_the_last_lost_packet_was_sent_again() {
        let (partition, heal) =
            (Fault::Partition { between: between("pod", "worker") }, Fault::Heal { between: between("worker", "pod") });
        let mut outages = Outages::default();
        outages.add(at(10), &partition);
        assert!(outages.of_worker(at(1000), at(1001)));
        outages.add(at(20), &heal);
        let touched = [(1, 9), (1, 10), (31, 40), (32, 40)].map(|(from, to)| outages.of_worker(at(from), at(to)));
        assert_eq!(touched, [false, true, true, false]);
    }

    #[test]
    fn a_clients_outage_is_its_own_or_all_clients() {
        let conn = Conn { client: "a".to_owned(), copy: 1, attempt: 1 };
        let own = Fault::Hold { between: between("a", "pod") };
        let another = Fault::Hold { between: between("pod", "b") };
        let of_all = Fault::Partition { between: between("clients", "pod") };
        for (fault, is_its) in [(&own, true), (&another, false), (&of_all, true)] {
            let mut outages = Outages::default();
            outages.add(at(10), fault);
            assert_eq!(outages.of_client(&conn, at(11), at(12)), is_its);
            assert!(!outages.of_worker(at(11), at(12)));
            assert_eq!(outages.client_away_for(&conn, at(15)) == Duration::from_secs(5), is_its);
        }
    }

    #[test]
    fn what_a_partition_lost_comes_a_while_after_it() {
        let conn = Conn { client: "a".to_owned(), copy: 1, attempt: 1 };
        let broken = Fault::Partition { between: between("a", "pod") };
        let healed = Fault::Heal { between: between("a", "pod") };
        let mut outages = Outages::default();
        outages.add(at(10), &broken);
        outages.add(at(20), &healed);
        assert_eq!([19, 25, 40].map(|now| outages.client_away_for(&conn, at(now)).as_secs()), [9, 0, 0]);
        assert_eq!([19, 25, 40].map(|now| outages.client_unheard_for(&conn, at(now)).as_secs()), [9, 15, 0]);
    }

    #[test]
    fn a_worker_that_hangs_is_not_lost() {
        let mut outages = Outages::default();
        outages.add(at(10), &Fault::WorkerHang);
        outages.add(at(20), &Fault::WorkerBack);
        assert!(outages.of_worker(at(15), at(16)) && !outages.worker_lost(at(15), at(16)));
    }
}
