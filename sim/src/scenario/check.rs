//! What has to fit together across a file: names, signals, expectations.
//!
//! An expectation that can't be evaluated, or can't fail, is a problem of the file and not a pass.

use std::collections::BTreeMap;
use std::time::Duration;

use lastcall_core::settings::{SettingError, Settings};

use super::Purpose;
use super::deployment::{self, name_of};
use super::error::Problem;
use super::model::*;
use super::most::Most;
use super::order;
use super::parse::{Draft, Placed};
use super::suggest::did_you_mean;

/// The scenario, if nothing is wrong with it.
pub(super) fn check(draft: Draft<'_, '_>, purpose: Purpose, problems: &mut Vec<Problem>) -> Option<Scenario> {
    check_settings(&draft, problems);
    check_clients(&draft, problems);
    check_signal(&draft, problems);
    check_events(&draft, problems);
    deployment::check(&draft, problems);
    check_timeline(&draft, problems);
    for (name, seen) in &draft.seen {
        check_seen(name, seen, &draft, problems);
    }
    if let Some(exit) = &draft.exit
        && exit.read == Some(ExpectExit { within: None, after: None, code: None })
    {
        problems.push(Problem::new(exit.at.clone(), "`exit` expects nothing", "expected `within`, `after` or `code`"));
    }
    if purpose == Purpose::Kept {
        check_purpose(&draft, problems);
    }
    if !problems.is_empty() {
        return None;
    }
    let client = draft.seen.into_iter().map(|(name, seen)| Some((name.to_owned(), seen.read?)));
    Some(Scenario {
        title: draft.title?,
        why: draft.why?,
        seeds: draft.seeds?,
        pod: draft.pod?,
        deployment: optional(draft.deployment)?,
        service: optional(draft.service)?.unwrap_or_default(),
        drain: draft.drain?,
        clients: all(draft.clients)?,
        applications: all(draft.applications)?,
        events: all(draft.events)?,
        expect: Expect {
            exit: optional(draft.exit)?,
            rollout: optional(draft.rollout)?,
            timeline: all(draft.timeline)?,
            client: client.collect::<Option<_>>()?,
        },
        fails_under: all(draft.fails_under)?,
        catches: draft.catches?,
    })
}

/// A file in which nothing happens, or of which nothing is expected, tests nothing. Said only of a file that is right
/// otherwise: what is missing in another one is perhaps what could not be read.
fn check_purpose(draft: &Draft<'_, '_>, problems: &mut Vec<Problem>) {
    if !problems.is_empty() {
        return;
    }
    let title = draft.root.get("title").map_or(0..0, |title| title.span());
    if draft.events.is_empty() {
        let problem = Problem::new(title.clone(), "nothing happens in this file", "it has no `[[event]]`");
        problems.push(problem.help("add one: [[event]] with at = \"1m\" and do = \"sigterm\""));
    }
    let expects =
        draft.exit.is_some() || draft.rollout.is_some() || !draft.timeline.is_empty() || !draft.seen.is_empty();
    if !expects && draft.fails_under.is_empty() {
        let problem = Problem::new(title, "nothing is expected in this file", "it has no `[expect]`");
        problems.push(problem.help(
            "what must come out, such as `exit = { within = \"31s\", code = 0 }`, or in a `[[fails_under]]` what must break",
        ));
    }
}

fn optional<T>(entry: Option<Placed<'_, '_, T>>) -> Option<Option<T>> {
    entry.map(|entry| entry.read).map_or(Some(None), |read| read.map(Some))
}

fn all<T>(entries: Vec<Placed<'_, '_, T>>) -> Option<Vec<T>> {
    entries.into_iter().map(|entry| entry.read).collect()
}

/// Settings that are right one by one may not fit together.
fn check_settings(draft: &Draft<'_, '_>, problems: &mut Vec<Problem>) {
    let Some(drain) = &draft.drain else { return };
    let mut settings = Settings::default();
    drain.apply(&mut settings);
    let table = draft.root.get("drain");
    let known = settings.misfits();
    for misfit in &known {
        let key = table.and_then(|table| table.get_ref().as_table()?.get(culprit(misfit, drain)));
        let at = key.or(table).map_or(0..0, |value| value.span());
        problems.push(Problem::new(at, "these settings don't fit together", misfit.to_string()));
    }
    for entry in &draft.fails_under {
        let Some(FailsUnder { settings: overrides, .. }) = &entry.read else { continue };
        let mut settings = settings.clone();
        overrides.apply(&mut settings);
        for misfit in settings.misfits().iter().filter(|misfit| !known.contains(misfit)) {
            let at = entry.place(culprit(misfit, overrides));
            problems.push(Problem::new(at, "these settings don't fit together", misfit.to_string()));
        }
    }
}

/// Which setting of a misfit the file names.
fn culprit(misfit: &SettingError, named: &Overrides) -> &'static str {
    let is_named = |setting: &str| named.iter().any(|(name, _)| name == setting);
    match misfit {
        SettingError::Misfit { setting, other, .. } if !is_named(setting) => other,
        SettingError::Misfit { setting, .. } | SettingError::Invalid { setting, .. } => setting,
        _ => "",
    }
}

fn check_clients(draft: &Draft<'_, '_>, problems: &mut Vec<Problem>) {
    let mut names = BTreeMap::new();
    for client in &draft.clients {
        let (Some(key), name) = (client.key("name"), name_of(client)) else { continue };
        if let Some(first) = name.and_then(|name| names.insert(name, key.span())) {
            let problem = Problem::new(key.span(), "two clients of one name", "the name is taken");
            problems.push(problem.and(first, "by this one").help("alike clients are one entry with a `count`"));
        }
    }
    for entry in &draft.clients {
        if let (Some(name), Some(key)) = (name_of(entry), entry.key("name"))
            && Scenario::HOSTS.contains(&name)
        {
            problems.push(Problem::new(key.span(), "this is the name of a host", "call the client otherwise"));
        }
        // A step that could not be read may be the one that the others need.
        let Some(client) = &entry.read else { continue };
        let last = client.stagger.0.saturating_mul(client.count.saturating_sub(1)).saturating_add(client.start.0);
        if last > RUN_LIMIT {
            let problem = Problem::new(entry.place("stagger"), "the last of these clients never begins", "too slow");
            let limit = Span(RUN_LIMIT);
            problems
                .push(problem.help(format!("`start` + `count` × `stagger` is over {limit}, which is the longest run")));
        }
        order::check(client, entry.key("steps"), entry.at.clone(), problems);
    }
}

/// What is counted from the signal needs one.
fn check_signal(draft: &Draft<'_, '_>, problems: &mut Vec<Problem>) {
    const HELP: &str = "add one: [[event]] with at = \"1m\" and do = \"sigterm\"";
    // A deployment's kubelets tell its pods, and what is counted from a signal is said to have no place there.
    if draft.deployment.is_some() {
        return;
    }
    // An event that could not be read was perhaps meant to be one.
    let unreadable = draft.root.get("event").is_some_and(|events| !events.get_ref().is_array());
    let signals = |event: &Placed<'_, '_, Event>| event.read.as_ref().is_none_or(|event| event.action.is_signal());
    if unreadable || draft.events.iter().any(signals) {
        return;
    }
    for milestone in &draft.timeline {
        let Some(Milestone { what, when }) = &milestone.read else { continue };
        if when.is_some() || *what == Reached::Signal {
            let problem = Problem::new(milestone.at.clone(), "there is no signal in this file", "can't be reached");
            problems.push(problem.help(HELP));
        }
    }
    if let Some(exit) = &draft.exit {
        let problem = Problem::new(exit.at.clone(), "`exit` is counted from the first signal", "there is no signal");
        problems.push(problem.help(HELP));
    }
    for (_, seen) in &draft.seen {
        if seen.key("between").is_some() {
            let problem =
                Problem::new(seen.place("between"), "`between` is counted from the first signal", "there is no signal");
            problems.push(problem.help(HELP));
        }
    }
}

/// Faults need somebody to befall, and what ends one needs one that it ends.
fn check_events(draft: &Draft<'_, '_>, problems: &mut Vec<Problem>) {
    let mut events: Vec<(&Event, &Placed<'_, '_, Event>)> =
        draft.events.iter().filter_map(|placed| Some((placed.read.as_ref()?, placed))).collect();
    events.sort_by_key(|(event, _)| event.at);
    let mut broken: BTreeMap<(&str, [&str; 2]), bool> = BTreeMap::new();
    let mut worker_back = None;
    let mut stopped = false;
    for (event, placed) in events {
        if let Some([one, other]) = &event.between {
            check_between(draft, one, other, placed, problems);
            let mut between = [one.as_str(), other.as_str()];
            between.sort_unstable();
            let (fault, begins) = match event.action {
                Action::Partition => ("partition", true),
                Action::Heal => ("partition", false),
                Action::Hold => ("hold", true),
                Action::Release => ("hold", false),
                _ => continue,
            };
            if broken.insert((fault, between), begins) != Some(true) && !begins {
                let label = format!("there is no `{fault}` between these two before it");
                problems.push(Problem::new(placed.place("do"), format!("`{}` ends nothing", event.action), label));
            }
        }
        if let Some(client) = &event.client {
            check_told(draft, client, event, placed, problems);
        }
        if matches!(event.action, Action::Sigstop | Action::Sigcont) {
            let stops = event.action == Action::Sigstop;
            if std::mem::replace(&mut stopped, stops) == stops {
                let label = if stops { "it stands still already" } else { "there is no `sigstop` before it" };
                problems.push(Problem::new(placed.place("do"), format!("`{}` changes nothing", event.action), label));
            }
        }
        if event.action.is_worker() {
            let up = worker_back.is_none_or(|back: Option<Duration>| back.is_some_and(|back| back < event.at.0));
            if !up {
                let label = "what befell it before is not over yet";
                problems.push(Problem::new(placed.place("do"), "the worker is not itself at this time", label));
            }
            worker_back = Some(event.lasts().map(|lasts| event.at.0 + lasts));
        }
    }
}

/// Sessions of a client are told something: the client must be there, and must listen if it is to be notified.
fn check_told(
    draft: &Draft<'_, '_>,
    name: &str,
    event: &Event,
    placed: &Placed<'_, '_, Event>,
    problems: &mut Vec<Problem>,
) {
    let names = draft.clients.iter().filter_map(name_of);
    let Some(entry) = draft.clients.iter().find(|client| name_of(client) == Some(name)) else {
        let label = did_you_mean(name, names);
        problems.push(Problem::new(placed.place("client"), format!("no client is called `{name}`"), label));
        return;
    };
    let Some(client) = &entry.read else { return };
    if event.action == Action::Notify && !Step::every(&client.steps).any(|step| *step == Step::Listen) {
        let problem = Problem::new(placed.place("client"), format!("`{name}` is never notified"), "it does not listen");
        problems.push(problem.help("a `\"listen\"` step behind its `\"connect\"`"));
    }
}

fn check_between(
    draft: &Draft<'_, '_>,
    one: &str,
    other: &str,
    placed: &Placed<'_, '_, Event>,
    problems: &mut Vec<Problem>,
) {
    if draft.deployment.is_some() {
        return deployment::check_between(one, other, placed, problems);
    }
    let clients = || draft.clients.iter().filter_map(name_of);
    let known: Vec<&str> = Scenario::HOSTS.into_iter().chain(clients()).collect();
    let mut unknown = [one, other].into_iter().filter(|end| !known.contains(end)).peekable();
    if unknown.peek().is_some() {
        for end in unknown {
            let label = did_you_mean(end, known.iter().copied());
            problems.push(Problem::new(placed.place("between"), format!("there is no host or client `{end}`"), label));
        }
    } else if (one == "pod") == (other == "pod") {
        let problem = Problem::new(placed.place("between"), "no packet passes between these two", "one must be `pod`");
        problems.push(problem.help("clients, the kubelet and the worker talk to the pod, and to nobody else"));
    }
}

/// A milestone must be about a client that is there.
fn check_timeline(draft: &Draft<'_, '_>, problems: &mut Vec<Problem>) {
    for milestone in &draft.timeline {
        let Some(Milestone { what: Reached::Client { name, .. }, .. }) = &milestone.read else { continue };
        let names = draft.clients.iter().filter_map(name_of);
        if !names.clone().any(|known| known == name) {
            let label = did_you_mean(name, names);
            problems.push(Problem::new(milestone.at.clone(), format!("no client is called `{name}`"), label));
        }
    }
}

/// An expectation on a client must be about a client that is there, and about something that it can do.
fn check_seen(name: &str, seen: &Placed<'_, '_, ExpectClient>, draft: &Draft<'_, '_>, problems: &mut Vec<Problem>) {
    if deployment::check_seen(name, seen, draft, problems) {
        return;
    }
    let names = draft.clients.iter().filter_map(name_of).chain(deployment::names(draft));
    let Some(entry) = draft.clients.iter().find(|client| name_of(client) == Some(name)) else {
        let label =
            if names.clone().next().is_none() { "there are no clients".to_owned() } else { did_you_mean(name, names) };
        problems.push(Problem::new(seen.at.clone(), format!("no client is called `{name}`"), label));
        return;
    };
    let Some(expect) = &seen.read else { return };
    if *expect == ExpectClient::default() {
        let label = "expected `answered`, `committed`, `ends`, `told`, `between`, `errors` or `killed`";
        problems.push(Problem::new(seen.at.clone(), format!("nothing is expected of `{name}`"), label));
    }
    if expect.failed.is_some() || expect.slowest.is_some() {
        let key = if expect.failed.is_some() { "failed" } else { "slowest" };
        problems.push(Problem::new(seen.place(key), format!("`{name}` is a client"), "only applications have jobs"));
    }
    let Some(client) = &entry.read else { return };
    let most = Most::of(&client.steps);
    if let (Some(committed), Some(rows)) = (expect.committed, most.rows)
        && u64::from(committed) > rows
    {
        let message = format!("`{name}` can't commit so many rows");
        problems.push(Problem::new(seen.place("committed"), message, format!("it inserts {rows} at most")));
    }
    if let (Some(Answered::Count(answered)), Some(requests)) = (expect.answered, most.requests)
        && u64::from(answered) > requests
    {
        let message = format!("`{name}` can't get so many answers");
        problems.push(Problem::new(
            seen.place("answered"),
            message,
            format!("its steps send {requests} requests at most"),
        ));
    }
    let has = |word: &str| Step::every(&client.steps).any(|step| step.word() == word);
    if let Some(ends) =
        expect.ends.as_deref().filter(|ends| ["disconnect", "close", "vanish"].contains(ends) && !has(ends))
    {
        let problem = Problem::new(
            seen.place("ends"),
            format!("`{name}` never ends by itself"),
            format!("it has no {ends:?} step"),
        );
        problems.push(problem);
    }
    if let Some(told) = &expect.told
        && client.reconnect.is_none()
        && Step::every(&client.steps).filter(|step| step.word() == "connect").count() == 1
        && !Step::every(&client.steps).any(|step| matches!(step, Step::Repeat(_)))
    {
        let counted: u64 = told.values().map(|count| u64::from(*count)).sum();
        if counted != u64::from(client.count) {
            let message = format!("`{name}` opens {} connections", client.count);
            let problem = Problem::new(seen.place("told"), message, format!("counts {counted}"));
            problems.push(problem.help("each connection ends in one way: the numbers add up to all of them"));
        }
    }
    if !has("connect") && (expect.ends.is_some() || expect.between.is_some()) {
        let key = if expect.ends.is_some() { "ends" } else { "between" };
        problems.push(Problem::new(seen.place(key), format!("`{name}` never connects"), "so nothing can end"));
    }
}
