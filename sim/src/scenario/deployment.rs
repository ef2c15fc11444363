//! What has to fit together where there are several pods: a deployment, what befalls it, applications, and what is expected of
//! them.

use std::ops::Range;

use super::error::Problem;
use super::model::*;
use super::parse::{Draft, Placed};
use super::suggest::did_you_mean;

/// Adds what does not fit together.
pub(super) fn check(draft: &Draft<'_, '_>, problems: &mut Vec<Problem>) {
    if draft.deployment.is_some() {
        check_alone(draft, problems);
        check_applications(draft, problems);
        check_befallen(draft, problems);
        return;
    }
    let needless = |at: Range<usize>, what: &str| {
        let problem =
            Problem::new(at, format!("{what} without a deployment"), "there is one pod, and nothing before it");
        problem.help("add one: [deployment] with replicas = 3")
    };
    problems.extend(draft.service.iter().map(|service| needless(service.at.clone(), "a service")));
    problems.extend(draft.applications.iter().map(|application| needless(application.at.clone(), "an application")));
    problems.extend(draft.rollout.iter().map(|rollout| needless(rollout.at.clone(), "a rollout is expected")));
    let of_deployment =
        |event: &&Placed<'_, '_, Event>| event.read.as_ref().is_some_and(|event| event.action.is_of_deployment());
    let events = draft.events.iter().filter(of_deployment);
    problems.extend(events.map(|event| needless(event.place("do"), "this event")));
}

/// What is about the one pod of other files.
fn check_alone(draft: &Draft<'_, '_>, problems: &mut Vec<Problem>) {
    for placed in &draft.events {
        let Some(event) = &placed.read else { continue };
        if !event.action.is_of_deployment() && !event.action.is_network() {
            let message = format!("`{}` is for a file with one pod", event.action);
            let problem = Problem::new(placed.place("do"), message, "a deployment's kubelets tell its pods");
            let events = Action::ALL.into_iter().filter(|action| action.is_of_deployment());
            let events: Vec<String> = events.map(|action| format!("`{action}`")).collect();
            problems
                .push(problem.help(format!("here may stand {} and what happens to the network", events.join(", "))));
        }
    }
    let mut alone = |at: Range<usize>, what: &str| {
        let problem = Problem::new(at, format!("{what} is for a file with one pod"), "which of the pods?");
        problems.push(problem.help("`rollout` in `[expect]` says what a deployment must come to"));
    };
    draft.exit.iter().for_each(|exit| alone(exit.at.clone(), "`exit`"));
    draft.timeline.iter().for_each(|milestone| alone(milestone.at.clone(), "`timeline`"));
    for (_, seen) in &draft.seen {
        if seen.key("between").is_some() {
            alone(seen.place("between"), "`between`");
        }
    }
}

fn check_applications(draft: &Draft<'_, '_>, problems: &mut Vec<Problem>) {
    let mut names: Vec<&str> = draft.clients.iter().filter_map(|client| name_of(client)).collect();
    for placed in &draft.applications {
        if let Some(name) = name_of(placed) {
            if names.contains(&name) || Scenario::HOSTS.contains(&name) {
                problems.push(Problem::new(placed.place("name"), "two of one name", "the name is taken"));
            }
            names.push(name);
        }
        let Some(application) = &placed.read else { continue };
        if application.places() > Client::MAX_COUNT {
            let label = format!("expected at most {} connections in all", Client::MAX_COUNT);
            let message = format!("{} instances with {} connections", application.instances, application.size);
            problems.push(Problem::new(placed.place("size"), message, label));
        }
        for step in Step::every(&application.jobs) {
            let is_pause = matches!(step, Step::Think(_) | Step::Repeat(Repeat { repeat: Times::Count(_), .. }));
            let is_request = matches!(step.sends(), Sends::Request { waits: true, .. }) && !step.by_hand();
            if !is_pause && !is_request {
                let message = format!("`{}` is no part of a job", step.word());
                let problem = Problem::new(placed.place("jobs"), message, "expected requests that are answered");
                problems.push(problem.help(
                    "such as { query = \"5ms\" }, or { repeat = 1, steps = [\"begin\", { insert = 1 }, \"commit\"] }",
                ));
                break;
            }
        }
    }
}

/// Names of pods, and numbers of them.
fn check_befallen(draft: &Draft<'_, '_>, problems: &mut Vec<Problem>) {
    let replicas = draft.deployment.as_ref().and_then(|deployment| deployment.read.as_ref()).map(|read| read.replicas);
    for placed in &draft.events {
        let Some(event) = &placed.read else { continue };
        if let Some(pod) = &event.pod
            && pod_number(pod).is_none()
        {
            problems.push(Problem::new(placed.place("pod"), format!("{pod:?} is no pod"), "expected such as `pod-2`"));
        }
        if let Some((pods, replicas)) = event.pods.zip(replicas).filter(|(pods, replicas)| pods > replicas) {
            let label = format!("there are {replicas} replicas");
            problems.push(Problem::new(placed.place("pods"), format!("no node runs {pods} of the pods"), label));
        }
    }
}

/// The number of a pod by its name, such as 2 of `pod-2`.
pub(crate) fn pod_number(name: &str) -> Option<u32> {
    name.strip_prefix("pod-")?.parse().ok().filter(|number| *number > 0)
}

/// What is expected of an application. False if there is none of this name.
pub(super) fn check_seen(
    name: &str,
    seen: &Placed<'_, '_, ExpectClient>,
    draft: &Draft<'_, '_>,
    problems: &mut Vec<Problem>,
) -> bool {
    if !draft.applications.iter().any(|application| name_of(application) == Some(name)) {
        return false;
    }
    let Some(expect) = &seen.read else { return true };
    let ExpectClient { failed, slowest, .. } = expect;
    let rest = ExpectClient { failed: None, slowest: None, ..expect.clone() };
    if rest != ExpectClient::default() || failed.is_none() && slowest.is_none() {
        let message = format!("`{name}` is an application");
        problems.push(Problem::new(seen.at.clone(), message, "expected `failed` or `slowest`, and nothing else"));
    }
    true
}

/// Who is known besides clients.
pub(super) fn names<'t>(draft: &Draft<'t, '_>) -> impl Iterator<Item = &'t str> + Clone {
    let names: Vec<&'t str> = draft.applications.iter().filter_map(name_of).collect();
    names.into_iter()
}

/// Whether two ends of what befalls the network are right where there are several pods, or what is wrong with them.
pub(super) fn check_between(one: &str, other: &str, placed: &Placed<'_, '_, Event>, problems: &mut Vec<Problem>) {
    let others = ["clients", "worker", "kubelet"];
    let known = |end: &str| others.contains(&end) || pod_number(end).is_some();
    for end in [one, other].into_iter().filter(|end| !known(end)) {
        let label = if end == "pod" { "expected such as `pod-2`".to_owned() } else { did_you_mean(end, others) };
        problems.push(Problem::new(placed.place("between"), format!("there is no host `{end}`"), label));
    }
    if known(one) && known(other) && pod_number(one).is_some() == pod_number(other).is_some() {
        let message = "no packet passes between these two";
        problems.push(Problem::new(placed.place("between"), message, "one must be a pod, such as `pod-2`"));
    }
}

/// The name of a client or an application, also of one that could not be read.
pub(super) fn name_of<'t, T>(placed: &Placed<'t, '_, T>) -> Option<&'t str> {
    placed.key("name")?.get_ref().as_str()
}
