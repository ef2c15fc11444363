//! The promises that take several pods. Each pod by itself is judged by all the others besides.

mod losses;
mod paced;
mod settles;

use std::time::Duration;

use lastcall_core::Settings;

use super::{Unmet, Violation, indices, words};
use crate::scenario::{Deployment, Scenario};
use crate::story::rollout::{Job, Rollout};

/// How long a trouble of the network, or a machine that is gone, is felt: a kernel gives up on it in a quarter of an hour.
pub(super) const FELT: Duration = Duration::from_secs(20 * 60);

/// A run with several pods, ready to be judged.
#[derive(Debug)]
pub struct JudgedRollout<'a> {
    /// What happened.
    pub story: Rollout<'a>,
    /// The scenario, which has a deployment.
    pub scenario: &'a Scenario,
    /// How its pods are replaced.
    pub rules: &'a Deployment,
    /// The settings that the pods ran with.
    pub settings: &'a Settings,
    /// The engine's tick.
    pub resolution: Duration,
}

/// Judges such a run by every promise that is about all pods together.
pub fn check(run: &JudgedRollout) -> Vec<Violation> {
    [losses::check, settles::check, paced::check].into_iter().flat_map(|check| check(run)).collect()
}

/// Judges it by what its scenario expects of the rollout and of applications.
pub fn check_expectations(run: &JudgedRollout) -> Vec<Unmet> {
    let mut unmet = Vec::new();
    let mut missed = |key: String, what: String, evidence| unmet.push(Unmet { key, what, evidence: indices(evidence) });
    let story = &run.story;
    if let Some(expect) = &run.scenario.expect.rollout {
        let began = story.told.first().map(|(moment, ..)| moment.at).unwrap_or_default();
        let mut within = |key: &str, most: Option<Duration>, came: Option<lastcall_core::Time>| {
            let Some(most) = most else { return };
            match came {
                Some(at) if at <= began + most + run.resolution => {}
                Some(at) => {
                    let what = format!("expected within {}, and it took {}", words(most), words(at.since(began)));
                    missed(format!("rollout.{key}"), what, story.settled);
                }
                None => missed(format!("rollout.{key}"), "it never came to that".to_owned(), None),
            }
        };
        within("within", expect.within.map(|within| within.0), story.settled.map(|settled| settled.at));
        within("ready_within", expect.ready_within.map(|within| within.0), story.ready());
        if let (Some(most), (held, at)) = (expect.held, story.held())
            && held > most as usize
        {
            missed("rollout.held".to_owned(), format!("{held} pods that were to go were there at a time"), at);
        }
    }
    for (name, expect) in &run.scenario.expect.client {
        let jobs = || story.jobs.iter().filter(|job| job.application == name);
        if let Some(most) = expect.failed {
            let failed: Vec<&Job> = jobs().filter(|job| job.told.is_some()).collect();
            if jobs().next().is_none() {
                missed(format!("client.{name}.failed"), "it never did a job".to_owned(), None);
            } else if failed.len() > most as usize {
                let all = jobs().count();
                let what =
                    format!("{} of {all} jobs failed, first with {}", failed.len(), failed[0].told.unwrap_or("?"));
                missed(format!("client.{name}.failed"), what, Some(failed[0].ended));
            }
        }
        if let Some(most) = expect.slowest
            && let Some(slowest) = jobs().max_by_key(|job| job.ended.at.since(job.began))
            && slowest.ended.at.since(slowest.began) > most.0 + run.resolution
        {
            let what = format!("a job took {}", words(slowest.ended.at.since(slowest.began)));
            missed(format!("client.{name}.slowest"), what, Some(slowest.ended));
        }
    }
    unmet
}

#[cfg(test)]
mod fixture {
    use std::time::Duration;

    use lastcall_core::{Settings, Time};

    use super::JudgedRollout;
    use crate::cast::history::{Conn, Entry, Event, History};
    use crate::judge::Violation;
    use crate::scenario::{self, Purpose};
    use crate::story::rollout::Rollout;

    /// A history of several pods in the making. Times are seconds of the run.
    #[derive(Clone, Default)]
    pub(super) struct Log {
        entries: Vec<Entry>,
        settings: Settings,
    }

    /// A connection of an application `shop`.
    pub(super) fn conn(copy: u32, attempt: u32) -> Conn {
        Conn { client: "shop".to_owned(), copy, attempt }
    }

    impl Log {
        /// Two pods of the first revision and a rollout at 60 s, whose first step lets pod 1 go.
        pub(super) fn rollout() -> Log {
            let log = Log::default()
                .pod(0.0, 1, Event::PodCreated { revision: 1 })
                .pod(0.0, 2, Event::PodCreated { revision: 1 })
                .pod(1.0, 1, Event::PodReady)
                .pod(1.0, 2, Event::PodReady);
            log.event(60.0, Event::DeploymentTold { what: "rollout", replicas: 2 })
        }

        pub(super) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Log {
            change(&mut self.settings);
            self
        }

        pub(super) fn event(self, at: f64, event: Event) -> Log {
            self.entry(at, None, event)
        }

        pub(super) fn pod(self, at: f64, pod: u32, event: Event) -> Log {
            self.entry(at, Some(pod), event)
        }

        fn entry(mut self, at: f64, pod: Option<u32>, event: Event) -> Log {
            let at = Time::from_epoch(Duration::from_secs_f64(at));
            assert!(self.entries.last().is_none_or(|last| last.at <= at), "times must not go back: {event:?}");
            self.entries.push(Entry { at, pod, event });
            self
        }

        /// The DETAIL is one of a drain.
        pub(super) fn let_go(self, at: f64, pod: u32, conn: Conn) -> Log {
            let detail = Some("The idle_grace is over.".to_owned());
            let (code, message) = ("57P01".to_owned(), String::new());
            self.pod(at, pod, Event::FatalRead { conn, code, message, detail, mid_message: false })
        }

        pub(super) fn failed(self, at: f64, told: &str, tags: &[&str]) -> Log {
            let began = Time::from_epoch(Duration::from_secs_f64(at));
            let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            let (application, told) = ("shop".to_owned(), Some(told.to_owned()));
            self.event(at, Event::JobEnded { application, began, attempts: 1, told, tags })
        }

        pub(super) fn judge(&self, check: impl Fn(&JudgedRollout) -> Vec<Violation>) -> Vec<String> {
            let text = "title = 't'\n[pod]\nreadiness_period = '1s'\n[deployment]\nreplicas = 2\nmax_surge = 1\n\
                        max_unavailable = 0\n[[event]]\nat = '1m'\ndo = 'rollout'\n";
            let scenario = scenario::parse_for(Purpose::Tried, "t.toml", text).unwrap();
            let history = History { entries: self.entries.clone() };
            let run = JudgedRollout {
                story: Rollout::of(&history),
                scenario: &scenario,
                rules: scenario.deployment.as_ref().unwrap(),
                settings: &self.settings,
                resolution: Duration::from_millis(1),
            };
            check(&run).into_iter().map(|violation| violation.what).collect()
        }
    }
}
