//! The drain that a configuration makes: what happens when, from the signal on, so that the arithmetic of graces, walls and
//! probes can be read before anything is started.

use std::sync::Arc;
use std::time::Duration;

use lastcall_core::{Bound, Drain, DrainPolicy, Pacing, Progress, Settings, Time};
use serde::Serialize;

/// Something that happens in a drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// When, from the signal on.
    #[serde(rename = "at_ms", serialize_with = "as_millis")]
    pub at: Duration,
    /// What.
    pub what: String,
}

/// How the kubelet asks a pod whether it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probes {
    /// `periodSeconds`.
    pub period: Duration,
    /// `failureThreshold`.
    pub failures: u32,
}

/// The steps of a drain under these settings, in their order.
pub fn plan(settings: &Settings, probes: Probes) -> Vec<Step> {
    let mut drain = Drain::new(Arc::new(settings.clone()));
    drain.handle_signal(Time::EPOCH);
    let wall = drain.wall().map(|wall| wall.since(Time::EPOCH));
    let mut steps = match settings.drain_policy {
        DrainPolicy::IdleAware => idle_aware(settings, probes),
        DrainPolicy::Unbounded | DrainPolicy::Flat => {
            vec![step(Duration::ZERO, "the listener closes; every connection is waited for, idle ones too")]
        }
    };
    if let Some(wall) = wall {
        steps.retain(|step| step.at <= wall);
        match settings.drain_policy {
            DrainPolicy::IdleAware => {
                steps.push(step(wall, "the wall: what still runs is cancelled (57014), and the exit code is 3"));
                steps.push(step(wall + settings.teardown_budget, "gone, whatever runs"));
            }
            DrainPolicy::Unbounded | DrainPolicy::Flat => {
                steps.push(step(wall, "everything that is left is torn down, running or not; then the exit code is 3"));
            }
        }
    }
    if let Some(grace) = settings.termination_grace {
        steps.push(step(grace, "SIGKILL, if the pod's terminationGracePeriodSeconds is what termination_grace says"));
    }
    steps.sort_by_key(|step| step.at);
    steps
}

fn idle_aware(settings: &Settings, probes: Probes) -> Vec<Step> {
    let gone = |queued, moved| {
        let progress = Progress { signal: Time::EPOCH, moved, queued, wall: None };
        let Bound { at, .. } = progress.bound(settings);
        at.since(Time::EPOCH)
    };
    let mut steps = vec![
        step(Duration::ZERO, "/readyz says 503; new sessions are still served"),
        step(settings.lame_duck, "new sessions are refused (57P03); who is here is served on"),
    ];
    if settings.pacing == Pacing::Even {
        let what = "the first idle connections are closed, evenly spread from here on";
        steps.push(step((settings.idle_grace / 2).max(settings.lame_duck), what));
    }
    let noticed = probes.period.saturating_mul(probes.failures);
    if noticed > settings.lame_duck {
        let what = "a Service has taken the pod out by its probes alone, as after POST /drain; at a SIGTERM it does so at once";
        steps.push(step(noticed, what));
    }
    let (drained, queued) = (gone(false, None), gone(true, None));
    steps.push(step(settings.idle_grace, "the last idle connection is closed (57P01)"));
    steps.push(step(drained, "gone, if no transaction is open, nothing runs, and nobody waits for a worker"));
    if queued > drained {
        steps.push(step(queued, "gone, if no transaction is open and nothing runs"));
    }
    let moved = gone(true, Some(Time::EPOCH));
    steps.push(step(moved, "gone, unless a worker still executes or a client still moves bytes"));
    steps
}

fn step(at: Duration, what: &str) -> Step {
    Step { at, what: what.to_owned() }
}

fn as_millis<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBES: Probes = Probes { period: Duration::from_secs(10), failures: 3 };

    fn told(settings: &Settings, probes: Probes) -> Vec<(u64, String)> {
        let short = |step: Step| (step.at.as_secs(), step.what.split([',', ';', ':']).next().unwrap().to_owned());
        plan(settings, probes).into_iter().map(short).collect()
    }

    fn texts(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|(at, what)| (*at, (*what).to_owned())).collect()
    }

    #[test]
    fn the_default_drain_is_told_up_to_its_bounds() {
        let expected = [
            (0, "/readyz says 503"),
            (5, "new sessions are refused (57P03)"),
            (15, "the first idle connections are closed"),
            (30, "a Service has taken the pod out by its probes alone"),
            (30, "the last idle connection is closed (57P01)"),
            (35, "gone"),
            (70, "gone"),
            (305, "gone"),
        ];
        assert_eq!(told(&Settings::default(), PROBES), texts(&expected));
    }

    #[test]
    fn who_waits_for_a_worker_is_in_the_sum_and_no_probe_is_too_seldom() {
        let settings = Settings { worker_queue_timeout: Duration::from_secs(3600), ..Settings::default() };
        let seldom = Probes { period: Duration::MAX, failures: u32::MAX };
        let told = told(&settings, seldom);
        assert!(told.contains(&(3610, "gone".to_owned())) && !told.contains(&(305, "gone".to_owned())), "{told:?}");
    }

    #[test]
    fn what_would_come_behind_the_wall_does_not_come() {
        let settings = Settings { termination_grace: Some(Duration::from_secs(60)), ..Settings::default() };
        let quick = Probes { period: Duration::from_secs(1), failures: 1 };
        let expected = [
            (0, "/readyz says 503"),
            (5, "new sessions are refused (57P03)"),
            (15, "the first idle connections are closed"),
            (30, "the last idle connection is closed (57P01)"),
            (35, "gone"),
            (40, "the wall"),
            (60, "gone"),
            (60, "SIGKILL"),
        ];
        assert_eq!(told(&settings, quick), texts(&expected));
    }

    #[test]
    fn the_old_policies_wait_for_everybody_or_tear_everything_down() {
        let of = |drain_policy| {
            let handover_drain_timeout = Duration::from_secs(900);
            told(&Settings { drain_policy, handover_drain_timeout, ..Settings::default() }, PROBES)
        };
        assert_eq!(of(DrainPolicy::Unbounded), texts(&[(0, "the listener closes")]));
        assert_eq!(
            of(DrainPolicy::Flat),
            texts(&[(0, "the listener closes"), (900, "everything that is left is torn down")])
        );
    }
}
