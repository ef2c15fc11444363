//! What lies between the hosts: which segments are lost, held or slow. What the kernels make of it is [`super::connection`]'s.

use std::time::Duration;

use super::{LATENCY, connection::Connection};
use crate::stage::Link;
use crate::stage::rules::{self, End, Rule};

/// All links of a run.
#[derive(Default)]
pub(super) struct Links {
    /// At most one for each two ends that a scenario names.
    rules: Vec<Rule>,
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
        rules::set(&mut self.rules, between, link, now);
    }

    /// What happens to what one side of a connection sends, or the other.
    pub(super) fn path(&self, connection: &Connection) -> Path {
        let mut path = Path::Open;
        for rule in self.rules.iter().filter(|rule| direction(rule, connection, 0).is_some()) {
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
            let Some(direction) = direction(rule, connection, from) else { continue };
            latency = latency.max(rule.latency);
            sent = rule.leave(direction, bytes, sent);
        }
        sent - now + latency
    }
}

/// Whether the rule is about this connection: then in which of its directions this side sends.
fn direction(rule: &Rule, connection: &Connection, from: usize) -> Option<usize> {
    let [one, other] = &rule.between;
    let joins = |from: usize| connection.is_at(one, from) && connection.is_at(other, 1 - from);
    if joins(from) {
        return Some(0);
    }
    joins(1 - from).then_some(1)
}
