//! The lanes of a picture: the pod, the clients, their workers, the network.

use std::collections::{BTreeMap, BTreeSet};

use lastcall_core::Time;

use super::{Band, Body, COPIES_APART, Held, LONGEST, Lane, MOST_LANES, Mark, Note, Paint, Sign, briefly, owners};
use crate::cast::history::{Event, Outcome, StatementEnd};
use crate::story::stays::Stay;
use crate::story::timeline::{self, Speaker, Who};
use crate::story::{Ending, Story};

/// All lanes, from top to bottom.
pub(super) fn of(story: &Story, blamed: &BTreeSet<(String, u32)>) -> Vec<Lane> {
    let cast = Cast::of(story);
    let mut lanes = vec![pod(story, &cast.pod)];
    let mut clients = clients(story, &cast.clients, blamed);
    mark_who_left_last(story, &mut clients);
    if clients.len() > MOST_LANES {
        let rest = clients.split_off(MOST_LANES - 1);
        clients.push((rest.last().and_then(|(until, _)| *until), together(rest)));
    }
    lanes.extend(clients.into_iter().map(|(_, lane)| lane));
    lanes.extend(worker(story, &cast.worker));
    lanes.extend(network(story, &cast.network));
    lanes
}

/// Which entries of the log are about whom.
#[derive(Debug, Default)]
struct Cast {
    pod: Vec<usize>,
    worker: Vec<usize>,
    network: Vec<usize>,
    /// In the order in which they came.
    clients: Vec<(String, BTreeMap<u32, Copy>)>,
    by_name: BTreeMap<String, usize>,
}

/// One copy of a client.
#[derive(Debug, Default)]
struct Copy {
    /// Entries of the log.
    entries: Vec<usize>,
    /// Indices into the story's stays.
    stays: Vec<usize>,
    /// Indices into its statements.
    statements: Vec<usize>,
    /// Indices into its connections.
    connections: Vec<usize>,
}

impl Cast {
    fn of(story: &Story) -> Cast {
        let speaker = Speaker::new(story);
        let mut cast = Cast::default();
        for (index, connection) in story.connections.iter().enumerate() {
            let name = &connection.conn.client;
            let place = *cast.by_name.entry(name.clone()).or_insert_with(|| {
                cast.clients.push((name.clone(), BTreeMap::new()));
                cast.clients.len() - 1
            });
            cast.clients[place].1.entry(connection.conn.copy).or_default().connections.push(index);
        }
        for (index, entry) in story.history.entries.iter().enumerate() {
            match speaker.who(&entry.event) {
                Who::Pod | Who::Kubelet => cast.pod.push(index),
                Who::Worker => cast.worker.push(index),
                Who::Network => cast.network.push(index),
                Who::Client { name, copy, .. } => {
                    if let Some(copy) = cast.copy(&name, copy) {
                        copy.entries.push(index);
                    }
                }
                Who::Simulator | Who::Drain | Who::Stranger(_) => {}
            }
        }
        for (stay, owner) in owners::of(story).into_iter().enumerate() {
            let conn = owner.map(|owner| story.connections[owner].conn);
            if let Some(copy) = conn.and_then(|conn| cast.copy(&conn.client, conn.copy)) {
                copy.stays.push(stay);
            }
        }
        for (index, statement) in story.statements.iter().enumerate() {
            let conn = statement.request.map(|request| story.connections[story.requests[request].connection].conn);
            if let Some(copy) = conn.and_then(|conn| cast.copy(&conn.client, conn.copy)) {
                copy.statements.push(index);
            }
        }
        cast
    }

    fn copy(&mut self, name: &str, copy: u32) -> Option<&mut Copy> {
        let place = *self.by_name.get(name)?;
        self.clients[place].1.get_mut(&copy)
    }
}

/// The pod: whether it is there and ready, and what its kubelet does to it.
fn pod(story: &Story, entries: &[usize]) -> Lane {
    let speaker = Speaker::new(story);
    let mut life = Vec::new();
    let mut ready = None;
    let begin = story.started.map_or(Time::EPOCH, |started| started.at);
    let end = story.gone().or(story.last).map_or(begin, |gone| gone.at);
    let mut bands = vec![Band { from: begin, to: end, paint: Paint::Ready }];
    for index in entries {
        let entry = &story.history.entries[*index];
        let (sign, label) = match &entry.event {
            Event::PodStarted => (Sign::Begins, "listens".to_owned()),
            // The signals' names stand above all lanes.
            Event::SignalSent { .. } | Event::Killed => (Sign::Signal, String::new()),
            Event::DrainAsked { begin, .. } => {
                (Sign::Signal, if *begin { "drain asked for" } else { "drain taken back" }.to_owned())
            }
            Event::ReadinessProbed { ready: now } if ready != Some(*now) => {
                // The first probe tells nothing new, if it finds it ready.
                let is_news = ready.is_some() || !now;
                ready = Some(*now);
                if !is_news {
                    continue;
                }
                let paint = if *now { Paint::Ready } else { Paint::NotReady };
                if let Some(last) = bands.last_mut() {
                    last.to = entry.at;
                }
                bands.push(Band { from: entry.at, to: end.max(entry.at), paint });
                (Sign::Small, if *now { "ready" } else { "not ready" }.to_owned())
            }
            Event::LivenessProbed { live: false } => (Sign::Lost, "dead".to_owned()),
            Event::Panicked { .. } => (Sign::Lost, "panic".to_owned()),
            Event::PodExited { .. } => (Sign::Left, String::new()),
            Event::DrainReported { .. } => (Sign::Small, String::new()),
            Event::Fault { .. } => (Sign::Fault, String::new()),
            _ => continue,
        };
        let who = if speaker.who(&entry.event) == Who::Kubelet { "kubelet" } else { "pod" };
        life.push(Mark {
            at: entry.at,
            sign,
            label,
            note: Note::at(story, entry.at, who, timeline::words(&entry.event)),
        });
    }
    bands.retain(|band| band.from < band.to);
    let note = match (story.exit, story.killed) {
        (Some((exit, code)), _) => format!("exit {code} at {}", briefly(story, exit.at)),
        (None, Some(killed)) => format!("SIGKILL at {}", briefly(story, killed.at)),
        (None, None) => "never went".to_owned(),
    };
    Lane::plain("pod".to_owned(), note, Body::Bands(bands), life)
}

/// The clients' lanes: who broke something, then who was there longest. Each with the time until which it was there.
fn clients(
    story: &Story,
    clients: &[(String, BTreeMap<u32, Copy>)],
    blamed: &BTreeSet<(String, u32)>,
) -> Vec<(Option<Time>, Lane)> {
    let mut lanes = Vec::new();
    for (name, copies) in clients {
        let of_copy = |number: u32, copy: &Copy| {
            let alone = copies.len() == 1;
            let full = if alone { name.clone() } else { format!("{name}.{number}") };
            let mut lane = alone_lane(story, full, copy);
            lane.is_broken = blamed.contains(&(name.clone(), number));
            (until(story, copy), lane)
        };
        if copies.len() <= COPIES_APART {
            lanes.extend(copies.iter().map(|(number, copy)| of_copy(*number, copy)));
            continue;
        }
        let mut apart: Vec<u32> =
            copies.keys().copied().filter(|number| blamed.contains(&(name.clone(), *number))).collect();
        apart.truncate(LONGEST);
        // Who is still there when most others have long left holds the pod; among many that leave together nobody does.
        let mut ends: Vec<(Option<Time>, u32)> =
            copies.iter().map(|(number, copy)| (until(story, copy), *number)).collect();
        ends.sort_unstable_by(|one, other| other.cmp(one));
        let over = story.grace_over();
        let late = ends.iter().filter(|(end, _)| end.zip(over).is_some_and(|(end, over)| end > over));
        let late: Vec<u32> = late.map(|(_, number)| *number).collect();
        if late.len() * 2 <= copies.len() {
            let new: Vec<u32> = late.into_iter().filter(|number| !apart.contains(number)).collect();
            apart.extend(new);
            apart.truncate(LONGEST);
        }
        lanes.extend(apart.iter().map(|number| of_copy(*number, &copies[number])));
        let mut lane = crowd(story, name, copies.values());
        lane.is_broken = blamed.iter().any(|(blamed, copy)| blamed == name && !apart.contains(copy));
        lanes.push((ends.first().and_then(|(end, _)| *end), lane));
    }
    // Stable: of equals, those first that the file names first.
    lanes.sort_by(|(one, a), (other, b)| b.is_broken.cmp(&a.is_broken).then(other.cmp(one)));
    lanes
}

/// Marks the lane of who left last since the process was told to go: its own rather than one that it shares.
fn mark_who_left_last(story: &Story, clients: &mut [(Option<Time>, Lane)]) {
    let Some(from) = story.told().map(|told| told.at) else { return };
    let is_own = |lane: &Lane| matches!(lane.body, Body::Bands(_));
    // Of equals, the first.
    let last = clients.iter_mut().rev().max_by_key(|(until, lane)| (*until, is_own(lane)));
    if let Some((Some(to), lane)) = last.filter(|(until, _)| until.is_some_and(|until| until > from)) {
        let is_ordinary = story.grace_over().is_some_and(|over| *to <= over);
        lane.held = Some(Held { from, to: *to, words: if is_ordinary { "last to leave" } else { "held the pod" } });
    }
}

/// When the last of its connections was gone.
fn until(story: &Story, copy: &Copy) -> Option<Time> {
    copy.stays.iter().filter_map(|stay| story.stays[*stay].stages.last()).map(|last| last.to).max()
}

/// One copy, with everything that it did.
fn alone_lane(story: &Story, name: String, copy: &Copy) -> Lane {
    let (life, traffic) = marks(story, &name, copy);
    let work = copy.statements.iter().map(|index| {
        let statement = &story.statements[*index];
        let (end, how) = match statement.end {
            Some((moment, end)) => (moment.at, ended(end)),
            None => (story.last.map_or(statement.began.at, |last| last.at), "never ended".to_owned()),
        };
        let lasted = timeline::clock(end.since(statement.began.at));
        let what = format!("the worker ran {} for {lasted}: {how}", statement.tag);
        (statement.began.at, end, Note::at(story, statement.began.at, &name, what))
    });
    let work = work.collect();
    let note = note(story, [copy]);
    Lane { work, traffic, ..Lane::plain(name, note, Body::Bands(bands(story, copy)), life) }
}

fn ended(end: &StatementEnd) -> String {
    match end {
        StatementEnd::Complete => "complete".to_owned(),
        StatementEnd::Failed(code) => format!("failed with {code}"),
        StatementEnd::Cancelled => "cancelled".to_owned(),
        StatementEnd::Aborted => "aborted, its session was closed under it".to_owned(),
    }
}

/// The copies of a client together.
fn crowd<'c>(story: &Story, name: &str, copies: impl Iterator<Item = &'c Copy> + Clone) -> Lane {
    let bands = copies.clone().flat_map(|copy| bands(story, copy)).collect();
    let mut life = Vec::new();
    for copy in copies.clone() {
        let (lived, asked) = marks(story, name, copy);
        life.extend(lived);
        life.extend(asked.into_iter().filter(|mark| mark.sign >= Sign::Failed));
    }
    life.sort_by_key(|mark| mark.at);
    let count = copies.clone().count();
    Lane::plain(format!("{name} ×{count}"), note(story, copies), Body::Crowd { bands, what: "connections" }, life)
}

/// Many lanes in one.
fn together(lanes: Vec<(Option<Time>, Lane)>) -> Lane {
    let count = lanes.len();
    let (mut all, mut life) = (Vec::new(), Vec::new());
    for (_, lane) in lanes {
        match lane.body {
            Body::Bands(bands) | Body::Crowd { bands, .. } => all.extend(bands),
        }
        life.extend(lane.life);
    }
    life.sort_by_key(|mark| mark.at);
    Lane::plain(
        format!("{count} more clients"),
        "who left before these".to_owned(),
        Body::Crowd { bands: all, what: "connections" },
        life,
    )
}

fn bands(story: &Story, copy: &Copy) -> Vec<Band> {
    let stages = copy.stays.iter().flat_map(|stay| &story.stays[*stay].stages);
    let bands = stages.filter(|stage| stage.from < stage.to);
    let mut bands: Vec<Band> =
        bands.map(|stage| Band { from: stage.from, to: stage.to, paint: Paint::Doing(stage.activity) }).collect();
    bands.sort_by_key(|band| (band.from, band.to));
    bands
}

/// What a lane's owner did and saw: its life, and its requests.
fn marks(story: &Story, name: &str, copy: &Copy) -> (Vec<Mark>, Vec<Mark>) {
    let (mut life, mut traffic) = (Vec::new(), Vec::new());
    for index in &copy.entries {
        let entry = &story.history.entries[*index];
        let Some((sign, label)) = sign(&entry.event) else { continue };
        let mut what = timeline::words(&entry.event);
        if let Event::Recorded { record } = &entry.event {
            let executing = timeline::clock(record.executing);
            what += &format!("; its worker executed for {executing}, {} bytes were passed on to it", record.sent);
        }
        let mark = Mark { at: entry.at, sign, label, note: Note::at(story, entry.at, name, what) };
        if matches!(entry.event, Event::RequestSent { .. } | Event::RequestEnded { .. }) {
            &mut traffic
        } else {
            &mut life
        }
        .push(mark);
    }
    life.extend(copy.stays.iter().filter_map(|stay| decided(story, name, &story.stays[*stay])));
    life.sort_by_key(|mark| mark.at);
    (life, traffic)
}

/// When the pod decided that this connection ends.
fn decided(story: &Story, name: &str, stay: &Stay) -> Option<Mark> {
    let (closing, reason) = (stay.closing()?, stay.reason()?);
    let clock = reason.clock().map_or(String::new(), |clock| format!(", by {clock}"));
    let what = format!("the pod decides that connection {} ends: {reason}{clock}", stay.connection);
    Some(Mark {
        at: closing.from,
        sign: Sign::Small,
        label: String::new(),
        note: Note::at(story, closing.from, name, what),
    })
}

/// How an event of a client's life is shown, if it is.
fn sign(event: &Event) -> Option<(Sign, String)> {
    let none = String::new();
    Some(match event {
        Event::Connecting { .. } => (Sign::Small, none),
        Event::SessionBegan { .. } => (Sign::Begins, none),
        Event::ConnectFailed { .. } => (Sign::Lost, "no connection".to_owned()),
        Event::RequestSent { .. } => (Sign::Sent, none),
        Event::RequestEnded { outcome: Outcome::Complete, .. } => (Sign::Answered, none),
        Event::RequestEnded { outcome: Outcome::Error(code), .. } => (Sign::Failed, code.clone()),
        Event::RequestEnded { outcome: Outcome::Lost, .. } => (Sign::Lost, "lost".to_owned()),
        Event::FatalRead { code, .. } => (Sign::Told, code.clone()),
        Event::EofRead { mid_message: false, .. } => (Sign::Small, none),
        Event::EofRead { mid_message: true, .. } => (Sign::Lost, "cut off".to_owned()),
        Event::ResetRead { .. } => (Sign::Lost, "reset".to_owned()),
        Event::ClientLeft { how, .. } => (Sign::Left, (*how).to_owned()),
        Event::CancelSent { .. } => (Sign::Small, "cancel".to_owned()),
        Event::ReadingStopped { .. } => (Sign::Small, "stops reading".to_owned()),
        Event::ReadingSlowed { .. } => (Sign::Small, "reads slowly".to_owned()),
        Event::ReadingResumed { .. } => (Sign::Small, "reads".to_owned()),
        Event::HalfClosed { .. } => (Sign::Small, "half-closed".to_owned()),
        Event::Replicates { .. } => (Sign::Small, "replicates".to_owned()),
        Event::GarbageSent { .. } => (Sign::Small, "garbage".to_owned()),
        Event::Committed { .. } => (Sign::Small, "committed".to_owned()),
        Event::RolledBack { .. } => (Sign::Small, "rolled back".to_owned()),
        Event::StatementEnded { end: StatementEnd::Cancelled, .. } => (Sign::Small, "cancelled".to_owned()),
        Event::StatementEnded { end: StatementEnd::Aborted, .. } => (Sign::Lost, "aborted".to_owned()),
        Event::PartSent { .. } | Event::BatchFed { .. } | Event::CopyEnded { .. } | Event::Recorded { .. } => {
            (Sign::Small, none)
        }
        _ => return None,
    })
}

/// Until when these were there, and what they were told.
fn note<'c>(story: &Story, copies: impl IntoIterator<Item = &'c Copy>) -> String {
    let mut last: Option<Time> = None;
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for copy in copies {
        last = last.max(until(story, copy));
        for connection in copy.connections.iter().map(|index| &story.connections[*index]) {
            let word = match connection.ending().map(|(_, ending)| ending) {
                Some(Ending::Fatal(code)) => code.to_owned(),
                Some(Ending::Left(how)) => how.to_owned(),
                Some(Ending::Eof) => "closed without a word".to_owned(),
                Some(Ending::Reset) => "reset".to_owned(),
                Some(Ending::ConnectFailed) => "no connection".to_owned(),
                None => connection.unread.flatten().map_or("told nothing".to_owned(), |code| format!("{code}, unread")),
            };
            *told.entry(word).or_default() += 1;
        }
    }
    let all: usize = told.values().sum();
    let mut told: Vec<(String, usize)> = told.into_iter().collect();
    told.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let words =
        told.iter().take(2).map(|(word, count)| if all > 1 { format!("{word} ×{count}") } else { word.clone() });
    last.map(|last| format!("until {}", briefly(story, last))).into_iter().chain(words).collect::<Vec<_>>().join(" · ")
}

/// The worker: how many statements run, and what befell it.
fn worker(story: &Story, entries: &[usize]) -> Option<Lane> {
    let end = story.last?.at;
    let bands: Vec<Band> = story
        .statements
        .iter()
        .map(|statement| Band {
            from: statement.began.at,
            to: statement.end.map_or(end, |(moment, _)| moment.at),
            paint: Paint::Work,
        })
        .filter(|band| band.from < band.to)
        .collect();
    if bands.is_empty() && entries.is_empty() {
        return None;
    }
    let note = match (story.statements.len(), at_a_time(&bands)) {
        (1, _) => "1 statement".to_owned(),
        (all, most) => format!("{all} statements · max {most}"),
    };
    let body = Body::Crowd { bands, what: "statements" };
    let life = faults(story, entries, "worker");
    Some(Lane::plain("worker".to_owned(), note, body, life))
}

/// How many of these there are at a time, at most.
fn at_a_time(bands: &[Band]) -> usize {
    let mut changes: Vec<(Time, bool)> = bands.iter().flat_map(|band| [(band.from, true), (band.to, false)]).collect();
    // Of what changes at the same time, the ends come first.
    changes.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, begins) in changes {
        if begins {
            now += 1
        } else {
            now -= 1
        }
        most = most.max(now);
    }
    most
}

/// The network, where something befell it.
fn network(story: &Story, entries: &[usize]) -> Option<Lane> {
    let life = faults(story, entries, "network");
    let body = Body::Bands(Vec::new());
    let lane = Lane::plain("network".to_owned(), String::new(), body, life);
    (!lane.life.is_empty()).then_some(lane)
}

fn faults(story: &Story, entries: &[usize], who: &str) -> Vec<Mark> {
    let mark = |index: &usize| {
        let entry = &story.history.entries[*index];
        let what = timeline::words(&entry.event);
        Mark { at: entry.at, sign: Sign::Fault, label: what.clone(), note: Note::at(story, entry.at, who, what) }
    };
    entries.iter().map(mark).collect()
}
