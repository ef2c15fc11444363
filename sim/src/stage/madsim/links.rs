//! What lies between the hosts: which segments are lost, held or slow. What the kernels make of it is [`super::connection`]'s.

use std::sync::Arc;
use std::time::Duration;

use super::{LATENCY, connection::Connection};
use crate::stage::Link;

/// All links of a run.
#[derive(Default)]
pub(super) struct Links {
    /// At most one for each two ends that a scenario names.
    rules: Vec<Rule>,
}

struct Rule {
    between: [End; 2],
    lost: bool,
    held: bool,
    latency: Duration,
    /// Bytes a second; zero for no limit.
    rate: u64,
    /// Until when the segments that have left take up the link, in its first direction and in the other.
    busy: [Duration; 2],
}

/// A host, or what the connections of some host go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Host(usize),
    Alias(Arc<str>),
}

/// What happens to a segment that would arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    Open,
    Held,
    Lost,
}

impl Links {
    pub(super) fn set(&mut self, between: [End; 2], link: Link, now: Duration) {
        let rule = self.rule(between);
        match link {
            Link::Partition => rule.lost = true,
            Link::Heal => rule.lost = false,
            Link::Hold => rule.held = true,
            Link::Release => rule.held = false,
            Link::Latency(latency) => rule.latency = latency,
            Link::Rate(rate) => {
                rule.rate = rate;
                rule.busy = [now; 2];
            }
        }
    }

    fn rule(&mut self, between: [End; 2]) -> &mut Rule {
        let [one, other] = &between;
        let same = |rule: &Rule| rule.between == between || rule.between == [other.clone(), one.clone()];
        let index = self.rules.iter().position(same).unwrap_or_else(|| {
            let rule = Rule { between, lost: false, held: false, latency: LATENCY, rate: 0, busy: [Duration::ZERO; 2] };
            self.rules.push(rule);
            self.rules.len() - 1
        });
        &mut self.rules[index]
    }

    /// What happens to what one side of a connection sends, or the other.
    pub(super) fn path(&self, connection: &Connection) -> Path {
        let mut path = Path::Open;
        for rule in self.rules.iter().filter(|rule| rule.direction(connection, 0).is_some()) {
            if rule.lost {
                return Path::Lost;
            }
            if rule.held {
                path = Path::Held;
            }
        }
        path
    }

    /// How long a segment of so many bytes takes at least that leaves this side of a connection now.
    pub(super) fn takes(&mut self, connection: &Connection, from: usize, bytes: u64, now: Duration) -> Duration {
        let (mut sent, mut latency) = (now, LATENCY);
        for rule in &mut self.rules {
            let Some(direction) = rule.direction(connection, from) else { continue };
            latency = latency.max(rule.latency);
            if let Some(nanos) = (bytes * 1_000_000_000).checked_div(rule.rate) {
                let busy = &mut rule.busy[direction];
                sent = sent.max(*busy) + Duration::from_nanos(nanos);
                *busy = sent;
            }
        }
        sent - now + latency
    }
}

impl Rule {
    /// Whether it is about this connection: then in which of its directions this side sends.
    fn direction(&self, connection: &Connection, from: usize) -> Option<usize> {
        let [one, other] = &self.between;
        let joins = |from: usize| connection.is_at(one, from) && connection.is_at(other, 1 - from);
        if joins(from) {
            return Some(0);
        }
        joins(1 - from).then_some(1)
    }
}
