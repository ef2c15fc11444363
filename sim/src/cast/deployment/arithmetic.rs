//! Which pods a Deployment creates and deletes next: a value in, a value out.
//!
//! As Kubernetes' deployment controller does in `pkg/controller/deployment/rolling.go`: it scales the new revision up to
//! `replicas + maxSurge` in all, and the old ones down as long as `replicas − maxUnavailable` stay ready, those that are not ready
//! first. Of ready pods, the one that has been so for the shortest time goes first, as in `ActivePodsWithRanks`.

use lastcall_core::Time;

use crate::scenario::{Deployment, PodReplacementPolicy};

/// A pod that is not gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) number: u32,
    pub(super) revision: u32,
    /// Since when it is ready.
    pub(super) ready: Option<Time>,
    /// It has been deleted.
    pub(super) terminating: bool,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) replicas: u32,
    pub(super) revision: u32,
}

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// So many pods of the wanted revision.
    pub(super) create: u32,
    /// These pods.
    pub(super) delete: Vec<u32>,
}

/// What to do next with these pods.
pub(super) fn next(rules: &Deployment, wanted: Wanted, pods: &[Pod]) -> Step {
    let Wanted { replicas, revision } = wanted;
    let surge = rules.max_surge.rounded_up(replicas);
    let mut unavailable = rules.max_unavailable.rounded_down(replicas);
    // Neither more nor fewer would be for ever.
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    let count = |of: &dyn Fn(&&Pod) -> bool| pods.iter().filter(of).count() as u32;
    let is_new = |pod: &Pod| pod.revision == revision && !pod.terminating;
    let is_old = |pod: &Pod| pod.revision != revision && !pod.terminating;
    let (new, old) = (count(&|pod| is_new(pod)), count(&|pod| is_old(pod)));
    let terminating = match rules.pod_replacement_policy {
        PodReplacementPolicy::TerminationStarted => 0,
        PodReplacementPolicy::TerminationComplete => count(&|pod| pod.terminating),
    };
    // Without another revision there is nothing to surge for.
    let most = if old == 0 { replicas } else { replicas + surge };
    let create = replicas.saturating_sub(new).min(most.saturating_sub(new + old + terminating));

    let ready = count(&|pod| !pod.terminating && pod.ready.is_some());
    let spare = ready.saturating_sub(replicas.saturating_sub(unavailable));
    let mut delete = surplus(pods, is_new, new.saturating_sub(replicas));
    // Old pods that are not ready are worth nothing.
    delete.extend(pods.iter().filter(|pod| is_old(pod) && pod.ready.is_none()).map(|pod| pod.number));
    let old_ready = |pod: &Pod| is_old(pod) && pod.ready.is_some();
    let old_ready_count = count(&|pod| old_ready(pod));
    delete.extend(surplus(pods, old_ready, spare.min(old_ready_count)));
    Step { create, delete }
}

/// So many of these pods, in the order in which they go.
fn surplus(pods: &[Pod], of: impl Fn(&Pod) -> bool, count: u32) -> Vec<u32> {
    let mut of: Vec<&Pod> = pods.iter().filter(|pod| of(pod)).collect();
    of.sort_by_key(|pod| (pod.ready.is_some(), std::cmp::Reverse((pod.ready, pod.number))));
    of.into_iter().take(count as usize).map(|pod| pod.number).collect()
}

/// Whether all is as wanted, and nobody else there.
pub(super) fn is_settled(wanted: Wanted, pods: &[Pod]) -> bool {
    let right = |pod: &Pod| !pod.terminating && pod.revision == wanted.revision && pod.ready.is_some();
    pods.len() == wanted.replicas as usize && pods.iter().all(right)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::Share;

    fn rules(max_surge: Share, max_unavailable: Share, pod_replacement_policy: PodReplacementPolicy) -> Deployment {
        Deployment {
            replicas: 0,
            max_surge,
            max_unavailable,
            pod_replacement_policy,
            startup: Default::default(),
            pre_stop_sleep: Default::default(),
            pre_stop_drain: false,
            min_available: None,
        }
    }

    fn surge_of_one() -> Deployment {
        rules(Share::Pods(1), Share::Pods(0), PodReplacementPolicy::TerminationStarted)
    }

    fn pod(number: u32, revision: u32) -> Pod {
        let ready = Some(Time::from_epoch(Duration::from_secs(number.into())));
        Pod { number, revision, ready, terminating: false }
    }

    const WANTED: Wanted = Wanted { replicas: 3, revision: 2 };

    #[test]
    fn with_a_surge_of_one_a_new_pod_comes_before_an_old_one_goes() {
        let old = [pod(1, 1), pod(2, 1), pod(3, 1)];
        assert_eq!(next(&surge_of_one(), WANTED, &old), Step { create: 1, delete: vec![] });
        let starting = Pod { ready: None, ..pod(4, 2) };
        assert_eq!(next(&surge_of_one(), WANTED, &[old.as_slice(), &[starting]].concat()), Step::default());
        let ready = [old.as_slice(), &[pod(4, 2)]].concat();
        assert_eq!(next(&surge_of_one(), WANTED, &ready), Step { create: 0, delete: vec![3] });
    }

    #[test]
    fn a_pod_that_terminates_takes_no_place_unless_the_policy_says_so() {
        let pods = [pod(1, 1), pod(2, 1), Pod { terminating: true, ..pod(3, 1) }, pod(4, 2)];
        assert_eq!(next(&surge_of_one(), WANTED, &pods).create, 1);
        let waits = rules(Share::Pods(1), Share::Pods(0), PodReplacementPolicy::TerminationComplete);
        assert_eq!(next(&waits, WANTED, &pods), Step::default());
    }

    #[test]
    fn without_a_surge_one_goes_before_the_next_comes_and_neither_is_read_as_one_unavailable() {
        let pods = [pod(1, 1), pod(2, 1), pod(3, 1)];
        for unavailable in [0, 1] {
            let rules = rules(Share::Pods(0), Share::Pods(unavailable), PodReplacementPolicy::TerminationStarted);
            assert_eq!(next(&rules, WANTED, &pods), Step { create: 0, delete: vec![3] });
        }
    }

    #[test]
    fn a_quarter_of_ten_surges_by_three_and_lacks_two() {
        let quarter = rules(Share::Percent(25), Share::Percent(25), PodReplacementPolicy::TerminationStarted);
        let pods: Vec<Pod> = (1..=10).map(|number| pod(number, 1)).collect();
        let step = next(&quarter, Wanted { replicas: 10, revision: 2 }, &pods);
        assert_eq!((step.create, step.delete), (3, vec![10, 9]));
    }

    #[test]
    fn fewer_replicas_let_the_newest_go_and_what_is_not_ready_before() {
        let starting = Pod { ready: None, ..pod(1, 2) };
        let step = next(&surge_of_one(), Wanted { replicas: 1, revision: 2 }, &[starting, pod(2, 2), pod(3, 2)]);
        assert_eq!((step.create, step.delete), (0, vec![1, 3]));
        let none = next(&surge_of_one(), Wanted { replicas: 0, revision: 2 }, &[pod(2, 2)]);
        assert_eq!((none.create, none.delete), (0, vec![2]));
    }

    #[test]
    fn it_is_settled_when_only_the_wanted_pods_are_there_and_ready() {
        assert!(is_settled(WANTED, &[pod(1, 2), pod(2, 2), pod(3, 2)]));
        assert!(!is_settled(WANTED, &[pod(1, 2), pod(2, 2), Pod { ready: None, ..pod(3, 2) }]));
        assert!(!is_settled(WANTED, &[pod(1, 2), pod(2, 2), pod(3, 2), Pod { terminating: true, ..pod(4, 1) }]));
    }
}
