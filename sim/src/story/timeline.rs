//! A run in words, for people: what a failure shows of it, and what a reviewer of a whole run reads.
//!
//! One line for each event: time of the run, time from the signal, who, what. In a whole run, lines that differ only in which
//! copy of a client they are about, or in which of many requests, become one with the number and the last time, so its
//! length depends on how many different things happened and not on how often. No colours. Between what happened stand the
//! phases of the drain and who fell due.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use lastcall_core::{Phase, Time};

use crate::cast::history::{Entry, Event, Fault, History, Outcome, RequestKind, StatementEnd, Tag};
use crate::cast::pod::log::LogLine;
use crate::cast::pod::report::{Activity, EndReason};
use crate::story::{Connection, Story};

/// A whole run, like things together. Every line ends with a newline.
pub fn whole(story: &Story) -> String {
    columns(&rows(story))
}

/// A whole run, like things together: time of the run, time from the signal, who, what.
pub(crate) fn rows(story: &Story) -> Vec<[String; 4]> {
    let speaker = Speaker::new(story);
    let mut lines = speaker.grouped(story.history);
    lines.extend(phases(story));
    lines.extend(speaker.due(story));
    // Stable: what happened at the same time stays in the log's order, and the phase that follows from it comes behind.
    lines.sort_by_key(|line| line.first);
    told(story, &lines)
}

/// Every entry of a run, each as it is, and between them what the pod's process logged and the phases of the drain.
pub fn with_log(story: &Story, log: &[LogLine]) -> String {
    let speaker = Speaker::new(story);
    let mut log = log.iter().peekable();
    let mut lines: Vec<Line> = Vec::new();
    let logged = |LogLine { at, text, .. }: &LogLine| Line {
        first: *at,
        last: *at,
        who: Who::Stranger("pod (log)".to_owned()),
        what: text.clone(),
        count: 1,
    };
    for (index, entry) in story.history.entries.iter().enumerate() {
        lines.extend(std::iter::from_fn(|| log.next_if(|line| line.behind <= index)).map(logged));
        lines.push(speaker.line(entry));
    }
    lines.extend(log.map(logged));
    lines.extend(phases(story));
    // Stable, as for a whole run.
    lines.sort_by_key(|line| line.first);
    columns(&told(story, &lines))
}

/// Some entries of a run, each as it is, in the order given. An index that the log does not have is left out.
pub fn of(story: &Story, indices: &[usize]) -> String {
    let speaker = Speaker::new(story);
    let entries = indices.iter().filter_map(|index| story.history.entries.get(*index));
    let lines: Vec<Line> = entries.map(|entry| speaker.line(entry)).collect();
    columns(&told(story, &lines))
}

/// One event in words, its requests with their full names.
pub(crate) fn words(event: &Event) -> String {
    what(event, |tag| format!("{tag} "))
}

/// A time of the run, from the signal: `+1m30.001s`. Empty without a signal.
pub(crate) fn relative(story: &Story, at: Time) -> String {
    match story.zero() {
        Some(zero) if at < zero => format!("-{}", clock(zero - at)),
        Some(zero) => format!("+{}", clock(at - zero)),
        None => String::new(),
    }
}

/// A time in words, relative to the first signal: `30s after the signal`; without a signal, of the run.
pub fn since_signal(story: &Story, at: Time) -> String {
    let words = |duration: Duration| humantime::format_duration(Duration::from_millis(duration.as_millis() as u64));
    match story.zero() {
        Some(signal) if at == signal => "at the signal".to_owned(),
        Some(signal) if at > signal => format!("{} after the signal", words(at - signal)),
        Some(signal) => format!("{} before the signal", words(signal - at)),
        None => format!("at {} of the run", words(at.since_epoch())),
    }
}

/// Whether a whole run shows it: what the clients and the workers do says the same as what the pod reports of itself.
fn tells(event: &Event) -> bool {
    !matches!(
        event,
        Event::ActivityChanged { .. }
            | Event::ConnectionLeft { .. }
            | Event::DrainReported { .. }
            | Event::StartupSent { .. }
            | Event::PartSent { .. }
            | Event::BatchFed { .. }
            | Event::CopyEnded { .. }
            | Event::LivenessProbed { live: true }
            | Event::DrainListed { listed: Some(_), .. }
            | Event::WorkerWaits { .. }
            | Event::WorkerGoesOn { .. }
    )
}

/// How many of a copy's first requests, and of its last, keep a line of their own in a whole run; those between share
/// one. A scenario that tells a story has fewer; one that loops is all middle.
const REQUESTS_SHOWN: u64 = 3;

/// One line before it is aligned.
#[derive(Debug)]
struct Line {
    first: Time,
    last: Time,
    /// The copy that it is about, if it is about one.
    who: Who,
    what: String,
    /// How many events it stands for.
    count: usize,
}

/// Whom a line is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// The pod's process.
    Pod,
    /// Who sends it signals and asks whether it is ready.
    Kubelet,
    /// The worker as a whole.
    Worker,
    /// What lies between two hosts.
    Network,
    /// The end of the run.
    Simulator,
    /// The rules of the drain.
    Drain,
    /// A client's copy (0: several), and whether it is its worker who speaks.
    Client {
        /// The client's name.
        name: String,
        /// Which of its copies.
        copy: u32,
        /// Its worker speaks.
        worker: bool,
    },
    /// An application or a tag that no client of the scenario has.
    Stranger(String),
}

/// Knows who is who in one run.
#[derive(Debug)]
pub(crate) struct Speaker<'a> {
    /// How many copies each client has.
    copies: BTreeMap<&'a str, u32>,
    /// The application of each worker session.
    applications: BTreeMap<u32, &'a str>,
    /// How many requests each copy sent.
    requests: BTreeMap<(&'a str, u32), u64>,
}

impl<'a> Speaker<'a> {
    pub(crate) fn new(story: &Story<'a>) -> Speaker<'a> {
        let sessions = story.worker_sessions.iter();
        let applications = sessions.map(|(number, session)| (*number, session.application)).collect();
        let mut speaker = Speaker { copies: BTreeMap::new(), applications, requests: BTreeMap::new() };
        for Connection { conn, requests, .. } in &story.connections {
            let copies = speaker.copies.entry(&conn.client).or_default();
            *copies = conn.copy.max(*copies);
            *speaker.requests.entry((&conn.client, conn.copy)).or_default() += requests.len() as u64;
        }
        speaker
    }

    /// One event, as it is.
    fn line(&self, Entry { at, pod, event }: &Entry) -> Line {
        let what = of_pod(*pod, what(event, |tag| format!("{tag} ")));
        Line { first: *at, last: *at, who: self.who(event), what, count: 1 }
    }

    /// The whole run, like things together, each where it first happened.
    fn grouped(&self, history: &History) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        let mut seen: BTreeMap<(Who, String), u64> = BTreeMap::new();
        let mut groups: BTreeMap<(Who, String, u64), usize> = BTreeMap::new();
        for entry in history.entries.iter().filter(|entry| tells(&entry.event)) {
            let who = self.who(&entry.event);
            let mut middle = false;
            let what = of_pod(
                entry.pod,
                what(&entry.event, |tag| {
                    let number = self.number(tag);
                    middle = number.is_none();
                    number.map_or(String::new(), |number| format!("{number} "))
                }),
            );
            // The second time that one copy does the same is another line; the second copy's first time is not.
            let time = match &who {
                Who::Client { .. } if !middle => {
                    let time = seen.entry((who.clone(), what.clone())).or_default();
                    *time += 1;
                    *time
                }
                _ => 0,
            };
            let all = match who.clone() {
                Who::Client { name, worker, .. } => Who::Client { name, copy: 0, worker },
                who => who,
            };
            let group = *groups.entry((all.clone(), what.clone(), time)).or_insert(lines.len());
            match lines.get_mut(group) {
                Some(line) => {
                    line.last = entry.at;
                    line.count += 1;
                    if line.who != who {
                        line.who = all;
                    }
                }
                None => lines.push(Line { first: entry.at, last: entry.at, who, what, count: 1 }),
            }
        }
        lines
    }

    /// Whom an event is about.
    pub(crate) fn who(&self, event: &Event) -> Who {
        match event {
            Event::Connecting { conn }
            | Event::StartupSent { conn }
            | Event::PartSent { conn }
            | Event::BatchFed { conn }
            | Event::CopyEnded { conn }
            | Event::GarbageSent { conn }
            | Event::MachineHas { conn, .. }
            | Event::SessionBegan { conn }
            | Event::ConnectFailed { conn, .. }
            | Event::RequestSent { conn, .. }
            | Event::BatchAnswered { conn }
            | Event::RequestEnded { conn, .. }
            | Event::FatalRead { conn, .. }
            | Event::EofRead { conn, .. }
            | Event::ResetRead { conn }
            | Event::HalfClosed { conn }
            | Event::Replicates { conn }
            | Event::ReadingStopped { conn }
            | Event::ReadingSlowed { conn }
            | Event::ReadingResumed { conn }
            | Event::ClientLeft { conn, .. }
            | Event::CancelSent { conn, .. }
            | Event::ClientDone { conn } => Who::Client { name: conn.client.clone(), copy: conn.copy, worker: false },
            Event::WorkerSessionBegan { worker_session, .. }
            | Event::BatchBegan { worker_session }
            | Event::BatchSynced { worker_session }
            | Event::StatementBegan { worker_session, .. }
            | Event::WorkerWaits { worker_session, .. }
            | Event::WorkerGoesOn { worker_session }
            | Event::StatementEnded { worker_session, .. }
            | Event::Committed { worker_session, .. }
            | Event::RolledBack { worker_session, .. }
            | Event::WorkerSessionEnded { worker_session } => {
                self.client(self.applications.get(worker_session).copied().unwrap_or("?"), true)
            }
            Event::Recorded { record } => self.client(&record.application, false),
            Event::PodStarted
            | Event::ActivityChanged { .. }
            | Event::ConnectionLeft { .. }
            | Event::DrainReported { .. }
            | Event::PodExited { .. }
            | Event::Panicked { .. } => Who::Pod,
            Event::SignalSent { .. }
            | Event::DrainAsked { .. }
            | Event::DrainAnswered { .. }
            | Event::ReadinessProbed { .. }
            | Event::LivenessProbed { .. }
            | Event::DrainListed { .. }
            | Event::Killed => Who::Kubelet,
            Event::Fault { what } => match what {
                Fault::WorkerCrash | Fault::WorkerHang | Fault::WorkerDrain | Fault::WorkerBack => Who::Worker,
                Fault::WorkerShutdown | Fault::Terminate { .. } | Fault::Notify { .. } | Fault::Garbage { .. } => {
                    Who::Worker
                }
                Fault::PodStopped | Fault::PodGoesOn => Who::Kubelet,
                _ => Who::Network,
            },
            Event::DeploymentTold { .. }
            | Event::DeploymentSettled
            | Event::PodCreated { .. }
            | Event::PodReady
            | Event::PodDeleted
            | Event::PodRouted { .. } => Who::Stranger("deployment".to_owned()),
            Event::JobEnded { application, .. } => Who::Stranger(application.clone()),
            Event::OutOfTime | Event::OutOfBudget { .. } => Who::Simulator,
        }
    }

    fn client(&self, application: &str, worker: bool) -> Who {
        match application.rsplit_once('.').map(|(name, copy)| (name, copy.parse())) {
            Some((name, Ok(copy))) if self.copies.contains_key(name) => {
                Who::Client { name: name.to_owned(), copy, worker }
            }
            _ => Who::Stranger(application.to_owned()),
        }
    }

    /// Who was closed at a boundary: a line for each client, and for what its connections did until then.
    fn due(&self, story: &Story) -> Vec<Line> {
        let mut lines: BTreeMap<(Who, &str), Line> = BTreeMap::new();
        for stay in story.stays.iter().filter(|stay| stay.reason() == Some(EndReason::Boundary)) {
            let (Some(left), Some(closing)) = (stay.left, stay.closing()) else { continue };
            let what = match stay.before_close().map(|before| before.activity) {
                Some(Activity::Idle) => "is due, and idle: closed",
                _ => "is due, and at its first boundary: closed",
            };
            let who = self.client(&left.who, false);
            let all = match who.clone() {
                Who::Client { name, .. } => Who::Client { name, copy: 0, worker: false },
                who => who,
            };
            let line = lines.entry((all.clone(), what)).or_insert_with(|| Line {
                first: closing.from,
                last: closing.from,
                who,
                what: what.to_owned(),
                count: 0,
            });
            line.first = line.first.min(closing.from);
            line.last = line.last.max(closing.from);
            line.count += 1;
            if line.count > 1 {
                line.who = all;
            }
        }
        lines.into_values().collect()
    }

    /// The number of a request, unless it is one of the many in the middle of its client's.
    fn number(&self, tag: &'a str) -> Option<&'a str> {
        let (application, number) = tag.split_once('/').unwrap_or(("", tag));
        let Some((name, copy)) = application.rsplit_once('.') else {
            return Some(tag);
        };
        let all = copy.parse().ok().and_then(|copy| self.requests.get(&(name, copy))).copied().unwrap_or(0);
        let count: u64 = number.parse().unwrap_or(0);
        let middle = count > REQUESTS_SHOWN && count + REQUESTS_SHOWN <= all;
        (!middle).then_some(number)
    }

    fn name(&self, line: &Line) -> String {
        match &line.who {
            Who::Pod => "pod".to_owned(),
            Who::Kubelet => "kubelet".to_owned(),
            Who::Worker => "worker".to_owned(),
            Who::Network => "network".to_owned(),
            Who::Simulator => "simulator".to_owned(),
            Who::Drain => "drain".to_owned(),
            Who::Stranger(name) => name.clone(),
            Who::Client { name, copy, worker } => {
                let alone = self.copies.get(name.as_str()).is_none_or(|copies| *copies == 1);
                let copy = if alone || *copy == 0 { String::new() } else { format!(".{copy}") };
                format!("{name}{copy}{}", if *worker { " (worker)" } else { "" })
            }
        }
    }
}

/// Where there are several pods, which.
fn of_pod(pod: Option<u32>, what: String) -> String {
    pod.map_or_else(|| what.clone(), |pod| format!("pod-{pod}: {what}"))
}

/// What happened, in words. `about` gives a request's name, with a space after it, or nothing.
fn what<'e>(event: &'e Event, about: impl FnMut(&'e str) -> String) -> String {
    let mut about = about;
    let inside = |mid_message: bool| if mid_message { " inside a message" } else { "" };
    match event {
        Event::DeploymentTold { what, replicas } => format!("is told: {what}, {replicas} replicas"),
        Event::DeploymentSettled => "is as it should be".to_owned(),
        Event::PodCreated { revision } => format!("creates a pod of revision {revision}"),
        Event::PodReady => "finds it ready".to_owned(),
        Event::PodDeleted => "deletes it".to_owned(),
        Event::PodRouted { to: true } => "routes to it".to_owned(),
        Event::PodRouted { to: false } => "routes to it no more".to_owned(),
        Event::JobEnded { told: Some(code), .. } => format!("job failed with {code}"),
        Event::JobEnded { told: None, .. } => "job done".to_owned(),
        Event::Connecting { conn } if conn.attempt > 1 => format!("connects (attempt {})", conn.attempt),
        Event::Connecting { .. } => "connects".to_owned(),
        Event::StartupSent { .. } => "startup packet sent".to_owned(),
        Event::PartSent { .. } => "part of a request sent".to_owned(),
        Event::BatchFed { .. } => "more of a batch sent".to_owned(),
        Event::CopyEnded { .. } => "all rows of its COPY sent".to_owned(),
        Event::GarbageSent { .. } => "garbage sent".to_owned(),
        Event::SessionBegan { .. } => "session began".to_owned(),
        Event::ConnectFailed { error, .. } => format!("could not connect: {error}"),
        Event::RequestSent { tag, kind, .. } => format!("{}sent: {}", about(tag), word(*kind)),
        Event::BatchAnswered { .. } => "read the end of the batch".to_owned(),
        Event::RequestEnded { tag, outcome: Outcome::Complete, .. } => format!("{}answered", about(tag)),
        Event::RequestEnded { tag, outcome: Outcome::Error(code), .. } => format!("{}got error {code}", about(tag)),
        Event::RequestEnded { tag, outcome: Outcome::Lost, .. } => format!("{}lost, without an answer", about(tag)),
        Event::FatalRead { code, message, detail, mid_message, .. } => {
            let detail = detail.as_deref().map_or(String::new(), |detail| format!(" ({detail})"));
            format!("read FATAL {code} {message}{detail}{}", inside(*mid_message))
        }
        Event::EofRead { mid_message, .. } => format!("read the end of the stream{}", inside(*mid_message)),
        Event::ResetRead { .. } => "was reset".to_owned(),
        Event::ReadingStopped { .. } => "stops reading".to_owned(),
        Event::ReadingSlowed { .. } => "reads slowly".to_owned(),
        Event::ReadingResumed { .. } => "reads again".to_owned(),
        Event::HalfClosed { .. } => "closed its side, and reads on".to_owned(),
        Event::Replicates { .. } => "replicates".to_owned(),
        Event::MachineHas { answered, fatal, end, .. } => machine_has(answered, fatal.as_deref(), *end),
        Event::ClientLeft { how, .. } => format!("left: {how}"),
        Event::CancelSent { tag, .. } => format!("{}cancel sent", about(tag)),
        Event::ClientDone { .. } => "has done all its steps".to_owned(),
        Event::WorkerSessionBegan { .. } => "took the session".to_owned(),
        Event::BatchBegan { .. } => "a batch began".to_owned(),
        Event::BatchSynced { .. } => "the batch's Sync came".to_owned(),
        Event::StatementBegan { tag, .. } => format!("{}began", about(tag)),
        Event::WorkerWaits { for_input: true, .. } => "waits for the client to send".to_owned(),
        Event::WorkerWaits { for_input: false, .. } => "waits for the client to read".to_owned(),
        Event::WorkerGoesOn { .. } => "goes on".to_owned(),
        Event::StatementEnded { tag, end, .. } => match end {
            StatementEnd::Complete => format!("{}complete", about(tag)),
            StatementEnd::Failed(code) => format!("{}failed with {code}", about(tag)),
            StatementEnd::Cancelled => format!("{}cancelled", about(tag)),
            StatementEnd::Aborted => format!("{}aborted", about(tag)),
        },
        Event::Committed { inserts, .. } => {
            format!("{}committed", all(inserts.iter().map(|insert| &insert.tag), about))
        }
        Event::RolledBack { inserts, .. } => format!("{}rolled back", all(inserts.iter(), about)),
        Event::WorkerSessionEnded { .. } => "session over".to_owned(),
        Event::PodStarted => "listens".to_owned(),
        Event::Fault { what } => fault(what),
        Event::DrainAsked { begin: true } => "asks for a drain".to_owned(),
        Event::DrainAsked { begin: false } => "takes the drain back".to_owned(),
        Event::DrainAnswered { begin, status } => {
            let asked = if *begin { "drain" } else { "end of the drain" };
            status.map_or_else(|| format!("{asked}: no answer"), |status| format!("{asked}: HTTP {status}"))
        }
        Event::SignalSent { signal } => format!("sends {signal}"),
        Event::ReadinessProbed { ready: true } => "finds it ready".to_owned(),
        Event::ReadinessProbed { ready: false } => "finds it not ready".to_owned(),
        Event::DrainListed { listed: Some(listed), .. } => format!("is told of {} connections", listed.connections),
        Event::DrainListed { listed: None, .. } => "is not told who is here".to_owned(),
        Event::LivenessProbed { live: true } => "finds it live".to_owned(),
        Event::LivenessProbed { live: false } => "finds it dead".to_owned(),
        Event::ActivityChanged { connection, activity } => format!("connection {connection} is {activity}"),
        Event::ConnectionLeft { left } => {
            format!("connection {} ({}) has left: {}", left.session, left.who, left.reason)
        }
        Event::Recorded { record } => format!("end record: {}", record.reason),
        Event::DrainReported { report } => format!("reports its drain by {}", report.cause),
        Event::PodExited { code, tasks } if tasks.is_empty() => format!("exits with code {code}"),
        Event::PodExited { code, tasks } => format!("exits with code {code}, leaving {}", tasks.join(", ")),
        Event::Killed => "sends SIGKILL".to_owned(),
        Event::Panicked { task, message } => format!("task {task} panics: {message}"),
        Event::OutOfTime => "stops the run".to_owned(),
        Event::OutOfBudget { client, .. } => {
            format!("stops the run: its log is full, most of it of {client}'s requests")
        }
    }
}

/// What a client never read, although its machine has it.
fn machine_has(answered: &[(Tag, Outcome)], fatal: Option<&str>, end: bool) -> String {
    let answers = match answered.len() {
        0 => None,
        1 => Some("1 answer".to_owned()),
        answers => Some(format!("{answers} answers")),
    };
    let fatal = fatal.map(|code| format!("FATAL {code}"));
    let end = end.then(|| "the end of the stream".to_owned());
    let has: Vec<String> = answers.into_iter().chain(fatal).chain(end).collect();
    if has.is_empty() { "has nothing unread".to_owned() } else { format!("has unread: {}", has.join(", ")) }
}

fn fault(what: &Fault) -> String {
    let ends = |[one, other]: &[String; 2]| format!("between {one} and {other}");
    match what {
        Fault::Partition { between } => format!("loses packets {}", ends(between)),
        Fault::Heal { between } => format!("loses no more packets {}", ends(between)),
        Fault::Hold { between } => format!("holds packets {}", ends(between)),
        Fault::Release { between } => format!("lets packets go {}", ends(between)),
        Fault::Latency { between, latency } => format!("takes {latency} {}", ends(between)),
        Fault::Rate { between, rate } => format!("carries {rate} {}", ends(between)),
        Fault::WorkerCrash => "is SIGKILLed".to_owned(),
        Fault::WorkerHang => "hangs".to_owned(),
        Fault::WorkerDrain => "takes no new sessions".to_owned(),
        Fault::WorkerShutdown => "shuts down, and closes every session".to_owned(),
        Fault::Terminate { client, stays_open: false } => format!("terminates the sessions of {client}"),
        Fault::Terminate { client, stays_open: true } => {
            format!("says FATAL to the sessions of {client}, and closes none")
        }
        Fault::Garbage { client } => format!("sends {client} what is no PostgreSQL message"),
        Fault::Notify { client, count, bytes } => format!("notifies {client} {count} times, with {bytes} bytes each"),
        Fault::PodStopped => "sends SIGSTOP".to_owned(),
        Fault::PodGoesOn => "sends SIGCONT".to_owned(),
        Fault::WorkerBack => "is back".to_owned(),
    }
}

fn all<'e>(tags: impl Iterator<Item = &'e Tag>, about: impl FnMut(&'e str) -> String) -> String {
    tags.map(String::as_str).map(about).collect()
}

fn word(kind: RequestKind) -> &'static str {
    match kind {
        RequestKind::Query => "query",
        RequestKind::Insert => "insert",
        RequestKind::Execute => "execute",
        RequestKind::ExecuteInsert => "execute an insert",
        RequestKind::Begin => "BEGIN",
        RequestKind::Commit => "COMMIT",
        RequestKind::Rollback => "ROLLBACK",
    }
}

/// The phases that the process lived to see, and where the due times begin.
fn phases(story: &Story) -> Vec<Line> {
    let gone = story.gone().or(story.last).map_or(Time::EPOCH, |gone| gone.at);
    let words = |phase| match phase {
        Phase::LameDuck => Some("lame duck: not ready, and new sessions are served"),
        Phase::Grace => Some("grace: new sessions are refused"),
        Phase::Boundary => Some("boundary: every connection is due"),
        Phase::Wall => Some("wall: what still runs is cancelled"),
        Phase::Serving | Phase::Drained => None,
    };
    let phases = story.phases.all().filter_map(|(at, phase)| words(phase).map(|words| (at, words)));
    let due = story.due_times().map(|(first, _)| (first, "due times begin"));
    let line =
        |(at, words): (Time, &str)| Line { first: at, last: at, who: Who::Drain, what: words.to_owned(), count: 1 };
    phases.chain(due).filter(|(at, _)| *at < gone).map(line).collect()
}

/// Columns: time of the run, time from the signal, who, what.
fn told(story: &Story, lines: &[Line]) -> Vec<[String; 4]> {
    let speaker = Speaker::new(story);
    let row = |line: &Line| {
        let name = speaker.name(line);
        let who = if line.count > 1 { format!("{name} ×{}", line.count) } else { name };
        let what = match story.zero() {
            _ if line.first == line.last => line.what.clone(),
            Some(_) => format!("{} … until {}", line.what, relative(story, line.last)),
            None => format!("{} … until {}", line.what, clock(line.last.since_epoch())),
        };
        [clock(line.first.since_epoch()), relative(story, line.first), who, what]
    };
    lines.iter().map(row).collect()
}

/// The same, aligned.
fn columns(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [at, signal, who] = [width(0), width(1), width(2)];
    let mut text = String::new();
    for row in rows {
        let _infallible = writeln!(text, "{:>at$}  {:>signal$}  {:<who$}  {}", row[0], row[1], row[2], row[3]);
    }
    text
}

/// `30.001s`, `1m30.001s`, `3h01m30.001s`.
pub(crate) fn clock(duration: Duration) -> String {
    let (secs, millis) = (duration.as_secs(), duration.subsec_millis());
    match (secs / 3_600, secs / 60 % 60, secs % 60) {
        (0, 0, secs) => format!("{secs}.{millis:03}s"),
        (0, minutes, secs) => format!("{minutes}m{secs:02}.{millis:03}s"),
        (hours, minutes, secs) => format!("{hours}h{minutes:02}m{secs:02}.{millis:03}s"),
    }
}

#[cfg(test)]
mod tests {
    use lastcall_core::Settings;
    use lastcall_world::Signal;

    use super::*;
    use crate::cast::history::{Conn, Entry, Login};

    fn conn(client: &str, copy: u32) -> Conn {
        Conn { client: client.to_owned(), copy, attempt: 1 }
    }

    fn history(events: Vec<(u64, Event)>) -> History {
        let entry = |(millis, event)| Entry::new(Time::from_epoch(Duration::from_millis(millis)), event);
        History { entries: events.into_iter().map(entry).collect() }
    }

    fn told<T>(history: &History, tell: impl FnOnce(&Story) -> T) -> T {
        tell(&Story::of(history, &Settings::default()))
    }

    fn sent(client: &str, copy: u32, number: u32) -> Event {
        let tag = format!("{client}.{copy}/{number}");
        Event::RequestSent { conn: conn(client, copy), tag, kind: RequestKind::Query }
    }

    fn began(worker_session: u32, application: &str) -> Event {
        Event::WorkerSessionBegan { worker_session, application: application.to_owned(), login: Login::default() }
    }

    /// Three dashboards that are closed one after the other, and one etl.
    fn drain() -> History {
        let fatal = |copy| Event::FatalRead {
            conn: conn("dashboard", copy),
            code: "57P01".to_owned(),
            message: "bye".to_owned(),
            detail: None,
            mid_message: false,
        };
        let mut events = vec![(0, Event::PodStarted)];
        for copy in 1..=3 {
            events.push((u64::from(copy), Event::Connecting { conn: conn("dashboard", copy) }));
            events.push((u64::from(copy), began(copy, &format!("dashboard.{copy}"))));
            events.push((u64::from(copy), sent("dashboard", copy, 1)));
        }
        events.push((5, Event::Connecting { conn: conn("etl", 1) }));
        events.push((60_000, Event::SignalSent { signal: Signal::Term }));
        events.push((75_000, fatal(2)));
        events.push((80_000, fatal(1)));
        events.push((90_000, Event::EofRead { conn: conn("dashboard", 2), mid_message: true }));
        history(events)
    }

    #[test]
    fn a_whole_run_puts_the_copies_of_a_client_together() {
        let text = told(&drain(), whole);
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "   0.000s  -1m00.000s  pod                    listens",
                "   0.001s    -59.999s  dashboard ×3           connects … until -59.997s",
                "   0.001s    -59.999s  dashboard (worker) ×3  took the session … until -59.997s",
                "   0.001s    -59.999s  dashboard ×3           1 sent: query … until -59.997s",
                "   0.005s    -59.995s  etl                    connects",
                "1m00.000s     +0.000s  kubelet                sends SIGTERM",
                "1m00.000s     +0.000s  drain                  lame duck: not ready, and new sessions are served",
                "1m05.000s     +5.000s  drain                  grace: new sessions are refused",
                "1m15.000s    +15.000s  dashboard ×2           read FATAL 57P01 bye … until +20.000s",
                "1m15.000s    +15.000s  drain                  due times begin",
                "1m30.000s    +30.000s  dashboard.2            read the end of the stream inside a message",
            ]
        );
    }

    #[test]
    fn evidence_is_shown_line_by_line_with_full_names() {
        let shown = told(&drain(), |story| of(story, &[3, 11, 999]));
        assert_eq!(
            shown,
            "   0.001s  -59.999s  dashboard.1  dashboard.1/1 sent: query\n1m00.000s   +0.000s  kubelet      sends SIGTERM\n"
        );
    }

    #[test]
    fn a_client_that_loops_takes_a_few_lines_only() {
        let mut events = vec![(0, Event::Connecting { conn: conn("pinger", 1) })];
        events.extend((1..=1_000).map(|number| (u64::from(number), sent("pinger", 1, number))));
        let text = told(&history(events), whole);
        assert_eq!(text.lines().count(), 8, "{text}");
        assert!(text.contains("pinger ×994  sent: query … until 0.997s"), "{text}");
        assert!(text.contains("1000 sent: query"), "{text}");
    }

    #[test]
    fn what_one_copy_does_twice_takes_two_lines() {
        let left = |copy| Event::ClientLeft { conn: conn("a", copy), how: "close" };
        let text = told(&history(vec![(1, left(1)), (2, left(2)), (3, left(1))]), whole);
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn times_are_told_from_the_signal() {
        let when = |history: &History, millis| {
            told(history, |story| since_signal(story, Time::from_epoch(Duration::from_millis(millis))))
        };
        assert_eq!(when(&drain(), 60_000), "at the signal");
        assert_eq!(when(&drain(), 90_500), "30s 500ms after the signal");
        assert_eq!(when(&drain(), 0), "1m before the signal");
        assert_eq!(when(&History::default(), 0), "at 0s of the run");
    }

    #[test]
    fn long_times_are_told_in_hours() {
        assert_eq!(clock(Duration::from_millis(10_890_001)), "3h01m30.001s");
        assert_eq!(clock(Duration::ZERO), "0.000s");
    }
}
