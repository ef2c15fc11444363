//! What a scenario says of the links between hosts. Which connection is on which link is the engine's business.

use std::sync::Arc;
use std::time::Duration;

use super::Link;

/// What lies between two ends.
pub(super) struct Rule {
    pub(super) between: [End; 2],
    pub(super) lost: bool,
    pub(super) held: bool,
    /// One way, at least.
    pub(super) latency: Duration,
    /// Bytes a second; zero for no limit.
    rate: u64,
    /// Until when what has left takes up the link, in its first direction and in the other.
    busy: [Duration; 2],
}

/// A host, or what the connections of some host go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Host(usize),
    Alias(Arc<str>),
}

impl Rule {
    /// When so many bytes have left that want to leave in this direction at `at`.
    pub(super) fn leave(&mut self, direction: usize, bytes: u64, at: Duration) -> Duration {
        let Some(nanos) = (bytes * 1_000_000_000).checked_div(self.rate) else { return at };
        let busy = &mut self.busy[direction];
        *busy = at.max(*busy) + Duration::from_nanos(nanos);
        *busy
    }
}

/// Changes what lies between two ends. There is at most one rule for each two that a scenario names.
pub(super) fn set(rules: &mut Vec<Rule>, between: [End; 2], link: Link, now: Duration) {
    let [one, other] = &between;
    let same = |rule: &Rule| rule.between == between || rule.between == [other.clone(), one.clone()];
    let index = rules.iter().position(same).unwrap_or_else(|| {
        let busy = [Duration::ZERO; 2];
        rules.push(Rule { between, lost: false, held: false, latency: Duration::ZERO, rate: 0, busy });
        rules.len() - 1
    });
    let rule = &mut rules[index];
    match link {
        Link::Partition => rule.lost = true,
        Link::Heal => rule.lost = false,
        Link::Hold => rule.held = true,
        Link::Release => rule.held = false,
        Link::Latency(latency) => rule.latency = latency,
        Link::Rate(rate) => (rule.rate, rule.busy) = (rate, [now; 2]),
    }
}
