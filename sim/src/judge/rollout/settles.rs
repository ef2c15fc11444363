//! `rollout-ends`: the new pods are ready and the old ones gone within the bound, and nobody is sent back to the pod that let it
//! go.
//!
//! **The bound.** A rollout of `n` pods goes in waves of `maxSurge + maxUnavailable`, and each takes a pod's start and the time
//! until a probe finds it ready; where a terminating pod still takes its place, it takes the grace of the pod before, too. A node
//! drain evicts one after the other as far as the disruption budget asks for it. How long one pod may take to go is
//! `bounded-exit`'s.
//!
//! **Back.** A client that is let go while nodes still route to the pod that did it comes back there, and is let go again. A drain
//! that begins to let go before an endpoint change has arrived does that to everybody. Where no other pod is there, nodes have
//! nowhere else to route to.

use std::time::Duration;

use super::JudgedRollout;
use crate::cast::deployment::{EVICTION_PAUSE, endpoint_lag};
use crate::cast::kubelet;
use crate::judge::{Violation, words};
use crate::scenario::{Action, PodReplacementPolicy, Promise};

/// What the chain from one pod to the next takes besides.
const SLACK: Duration = Duration::from_secs(1);

pub(super) fn check(run: &JudgedRollout) -> Vec<Violation> {
    let mut violations = Vec::new();
    let story = &run.story;
    let Some((first, ..)) = story.told.first() else { return violations };
    let (last, what, _) = story.told.last().expect("there is a first");
    // A pod that is lost is replaced, too.
    let last = &story.crashes().chain([*last]).max().unwrap_or(*last);
    let bound = bound(run);
    let mut broken = |what: String, evidence: Vec<_>| {
        violations.push(Violation::new(Promise::RolloutEnds, what, evidence));
    };
    match story.ready() {
        Some(ready) if ready <= last.at + bound => {}
        Some(ready) => {
            let took = words(ready.since(last.at));
            broken(
                format!("all was ready {took} after the {what}, and should have been within {}", words(bound)),
                vec![*last],
            );
        }
        None => broken(format!("the {what} never came to its end: not enough pods are ready"), vec![*last]),
    }
    if let (None, Some(end)) = (story.settled, story.out_of_time) {
        let there: Vec<String> = story
            .pods
            .iter()
            .filter(|(_, pod)| pod.deleted.is_some() && pod.gone.is_none())
            .map(|(number, _)| format!("pod-{number}"))
            .collect();
        broken(format!("at the end of the run there still was {}", there.join(", ")), vec![*first, end]);
    }
    violations.extend(sent_back(run));
    violations
}

/// From the last that the deployment was told to the moment when all is ready: what was told before may still be on its way.
fn bound(run: &JudgedRollout) -> Duration {
    let (rules, pod) = (run.rules, &run.scenario.pod);
    let probe = kubelet::readiness_period(pod);
    let mut wave = rules.startup.0 + probe + SLACK;
    if rules.pod_replacement_policy == PodReplacementPolicy::TerminationComplete {
        wave += kubelet::termination_grace(run.scenario);
    }
    let mut waves = 0;
    let mut replicas = rules.replicas;
    for event in &run.scenario.events {
        waves += match event.action {
            Action::Rollout => {
                let at_once = rules.max_surge.rounded_up(replicas) + rules.max_unavailable.rounded_down(replicas);
                replicas.div_ceil(at_once.max(1)) + 1
            }
            Action::Scale => {
                replicas = event.replicas.unwrap_or(replicas);
                1
            }
            Action::NodeDrain => event.pods.unwrap_or_default() + 1,
            Action::PodCrash => 1,
            _ => 0,
        };
        if event.action == Action::NodeDrain {
            wave += EVICTION_PAUSE;
        }
    }
    wave * waves
}

/// The first whom a drain let go that came back to the same pod, and how many there are.
fn sent_back(run: &JudgedRollout) -> Option<Violation> {
    let story = &run.story;
    let mut last: std::collections::BTreeMap<(&str, u32), usize> = std::collections::BTreeMap::new();
    let mut back = Vec::new();
    for (index, visit) in story.connections.iter().enumerate() {
        let before = last.insert((visit.conn.client.as_str(), visit.conn.copy), index);
        let Some(before) = before.map(|before| &story.connections[before]) else { continue };
        let draining = story.pods.get(&visit.pod).and_then(|pod| pod.deleted).is_some_and(|at| at < visit.connecting);
        if let Some((told, "57P01", _)) = before.fatal
            && draining
            && before.pod == visit.pod
            && story.has_room(visit.connecting.at)
        {
            back.push((told, visit));
        }
    }
    let (told, visit) = back.first()?;
    let lag = endpoint_lag(run.scenario);
    let more = if back.len() > 1 { format!(", as were {} more", back.len() - 1) } else { String::new() };
    let what = format!(
        "{} was let go by pod-{} while nodes still routed to it (they learn of it after {}), and came back there{more}",
        visit.conn.application(),
        visit.pod,
        words(lag)
    );
    Some(Violation::new(Promise::RolloutEnds, what, [*told, visit.connecting]))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Log, conn};
    use super::check;
    use crate::cast::history::Event;

    /// Both are replaced, the second pod ready at this time.
    fn replaced(at: f64) -> Log {
        let log = Log::rollout()
            .pod(60.0, 3, Event::PodCreated { revision: 2 })
            .pod(63.0, 3, Event::PodReady)
            .pod(63.0, 1, Event::PodDeleted)
            .pod(63.0, 4, Event::PodCreated { revision: 2 });
        log.pod(at, 4, Event::PodReady).pod(at, 2, Event::PodDeleted)
    }

    #[test]
    fn a_rollout_takes_a_start_and_a_probe_for_each_wave() {
        let gone = |log: Log| {
            let exit = || Event::PodExited { code: 0, tasks: Vec::new() };
            log.pod(90.0, 1, exit()).pod(90.0, 2, exit()).event(90.0, Event::DeploymentSettled)
        };
        assert_eq!(gone(replaced(66.0)).judge(check), [""; 0]);
        let late = gone(replaced(80.0)).judge(check);
        assert_eq!(late, ["all was ready 20s after the rollout, and should have been within 12s"]);
    }

    #[test]
    fn pods_that_never_go_are_named() {
        let log = replaced(66.0).event(9000.0, Event::OutOfTime);
        assert_eq!(log.judge(check), ["at the end of the run there still was pod-1, pod-2"]);
        assert_eq!(Log::rollout().judge(check), ["the rollout never came to its end: not enough pods are ready"]);
    }

    #[test]
    fn who_comes_back_to_the_pod_that_let_it_go_was_let_go_too_early() {
        let routed = replaced(66.0).pod(66.0, 3, Event::PodRouted { to: true });
        let log = routed.pod(66.0, 1, Event::Connecting { conn: conn(1, 1) }).let_go(67.0, 1, conn(1, 1));
        let elsewhere = log.clone().pod(67.1, 3, Event::Connecting { conn: conn(1, 2) });
        let settled = |log: Log| log.event(90.0, Event::DeploymentSettled).judge(check);
        assert_eq!(settled(elsewhere), [""; 0]);
        let back = settled(log.pod(67.1, 1, Event::Connecting { conn: conn(1, 2) }));
        let expected = "shop.1 was let go by pod-1 while nodes still routed to it (they learn of it after 1s), and came back \
                        there";
        assert_eq!(back, [expected]);
    }
}
