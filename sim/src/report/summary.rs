//! What came of a run, in words: what holds, who held the pod and until when, what each client was told, how it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use lastcall_core::Time;

use super::picture::{Break, Broken, owners, when};
use crate::cast::history::Event;
use crate::cast::pod::report::{Activity, EndReason};
use crate::judge::bounded_exit::{self, Bound};
use crate::judge::{Judged, check_expectations, check_promises};
use crate::scenario::{Promise, Scenario};
use crate::story::stays::Stay;
use crate::story::{Connection, Drain, Ending, Story};

/// The most clients that are named, and the most different things that one of them was told.
const MOST_CLIENTS: usize = 40;
const MOST_TOLD: usize = 5;

/// The words above the picture.
#[derive(Debug)]
pub(crate) struct Summary {
    /// What does not hold.
    pub(crate) broken: Vec<Broken>,
    /// Everything holds, or how much does not.
    pub(crate) verdict: String,
    /// How it went, who held it, and how near it came to its bound: a short sentence each.
    pub(crate) banner: Vec<String>,
    /// What happened to the process: a few sentences.
    pub(crate) course: Vec<String>,
    /// Each client, the last to leave first.
    pub(crate) guests: Vec<Guest>,
    /// How many clients are not named.
    pub(crate) unnamed: usize,
    /// By when it had to be gone.
    pub(crate) bound: Option<Bound>,
}

/// All copies of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) name: String,
    /// How many connections it made.
    pub(crate) connections: usize,
    /// When the last of them was gone; `None` where the pod does not say.
    pub(crate) until: Option<Time>,
    /// Which of the story's connections that was.
    last: Option<usize>,
    /// What that one did for most of its time since the process was told to go.
    pub(crate) doing: Option<Activity>,
    /// Why it ended; `None` if it was there to the end of the process.
    pub(crate) reason: Option<EndReason>,
    /// What its clients were told, the most frequent first.
    pub(crate) told: Vec<(String, usize)>,
    /// Whether it was there when the process was told to go, or came later.
    pub(crate) is_at_signal: bool,
}

impl Summary {
    /// That of a run of this file. `more` is what does not hold and no single run shows.
    pub(crate) fn of(scenario: &Scenario, judged: &Judged, more: &[(String, Break)]) -> Summary {
        let story = &judged.story;
        let promises = check_promises(judged).into_iter().map(|violation| {
            let once = Break { sentence: violation.what, evidence: violation.evidence };
            (violation.promise.to_string(), once)
        });
        let expectations = check_expectations(scenario, judged).into_iter().map(|unmet| {
            let once = Break { sentence: unmet.what, evidence: unmet.evidence };
            (format!("expect.{}", unmet.key), once)
        });
        let mut broken: Vec<Broken> = Vec::new();
        for (what, once) in promises.chain(expectations).chain(more.iter().cloned()) {
            match broken.iter_mut().find(|broken| broken.what == what) {
                Some(broken) => broken.times.push(once),
                None => broken.push(Broken { what, times: vec![once] }),
            }
        }
        let names: Vec<&str> = broken.iter().map(|broken| broken.what.as_str()).collect();
        let verdict = match names.as_slice() {
            [] => {
                format!("Everything holds: {} promises, and all that the file expects.", Promise::of_one_run().count())
            }
            [one] => format!("One thing does not hold: {one}."),
            many => format!("{} things do not hold: {}.", many.len(), many.join(", ")),
        };
        let mut guests = guests(story);
        let bound = bounded_exit::bound(judged);
        let is_late = broken.iter().any(|broken| broken.what == Promise::BoundedExit.name());
        let course = course(story, holder(story, &guests), bound.as_ref(), is_late);
        let banner = banner(story, holder(story, &guests), bound.as_ref(), is_late);
        let unnamed = guests.len().saturating_sub(MOST_CLIENTS);
        guests.truncate(MOST_CLIENTS);
        Summary { broken, verdict, banner, course, guests, unnamed, bound }
    }
}

/// Who left last since the process was told to go, and when.
fn holder<'g>(story: &Story, guests: &'g [Guest]) -> Option<(&'g Guest, Time)> {
    let told = story.told()?.at;
    let last = guests.iter().find(|guest| guest.is_at_signal)?;
    last.until.filter(|until| *until > told).map(|until| (last, until))
}

/// The three things that one wants to know first.
fn banner(story: &Story, holder: Option<(&Guest, Time)>, bound: Option<&Bound>, is_late: bool) -> Vec<String> {
    let mut said = vec![match (story.exit, story.killed) {
        (Some((exit, code)), _) => format!("Exit code {code}, {}.", moment(story, exit.at)),
        (None, Some(killed)) => format!("No exit: SIGKILL, {}.", moment(story, killed.at)),
        (None, None) => "No exit: it was still there when the run was stopped.".to_owned(),
    }];
    let Some(told) = story.told() else { return said };
    said.push(match holder {
        Some((last, until)) if story.grace_over().is_some_and(|over| until <= over) => {
            format!(
                "Nobody held it: {} was the last to leave, after {}.",
                last_of(story, last),
                span(until.since(told.at))
            )
        }
        Some((last, until)) => {
            let doing = last.doing.map_or(String::new(), |doing| format!(" ({doing})"));
            format!("Held by {}{doing}, until {}.", last_of(story, last), moment(story, until))
        }
        None => "Nobody held it.".to_owned(),
    });
    said.extend(bound.map(|bound| margin(story, bound, is_late)));
    said
}

/// How near the process came to its bound, or how far beyond it.
fn margin(story: &Story, bound: &Bound, is_late: bool) -> String {
    let by = moment(story, bound.at);
    let end = story.gone().or(story.last).map_or(bound.at, |end| end.at);
    let late = span(end.since(bound.at));
    match (story.exit, story.killed) {
        (None, None) if is_late => format!("{late} too late, and still there: it had to be gone {by}."),
        _ if is_late => format!("{late} too late: it had to be gone {by}."),
        _ if end > bound.at => format!("Not too late: its bound, {by}, moves with what still runs."),
        (Some(_), _) => format!("{} to spare: it had to be gone {by}.", span(bound.at.since(end))),
        (None, Some(_)) => format!("Not too late when it was killed: it had to be gone {by}."),
        (None, None) => format!("Not too late yet: it had to be gone {by}."),
    }
}

/// A time in words, from what told the process to go.
fn moment(story: &Story, at: Time) -> String {
    match story.told() {
        Some(told) => format!("{} after {}", span(at.since(told.at)), cause(story)),
        None => format!("{} into the run", span(at.since_epoch())),
    }
}

/// A client, and which of its copies left last.
fn last_of(story: &Story, guest: &Guest) -> String {
    guest.last.map_or_else(|| guest.name.clone(), |last| story.name_of(&story.connections[last]))
}

/// How the process was told to go, who held it, and how it went.
fn course(story: &Story, holder: Option<(&Guest, Time)>, bound: Option<&Bound>, is_late: bool) -> Vec<String> {
    let mut course: Vec<String> = story.drains.iter().filter_map(taken_back).collect();
    let Some(told) = story.told() else {
        course.push("Nobody told the process to go: there was no signal and no request for a drain.".to_owned());
        course.extend(end(story, bound, is_late));
        return course;
    };
    let how = match &story.history.entries[told.index].event {
        Event::SignalSent { signal } => format!("{signal} came"),
        Event::DrainAsked { .. } | Event::DrainAnswered { .. } => "A drain was asked for (POST /drain)".to_owned(),
        _ => "The process heard of its signal".to_owned(),
    };
    let there = story.connections.iter().filter(|connection| connection.open_at(told.at)).count();
    let there = match there {
        0 => "nobody was connected".to_owned(),
        1 => "one client was connected".to_owned(),
        many => format!("{many} clients were connected"),
    };
    course.push(format!("{how} {} into the run; {there}.", span(told.at.since_epoch())));
    course.push(holder.map_or("Nobody held the pod.".to_owned(), |(last, until)| held(story, last, until)));
    course.extend(end(story, bound, is_late));
    course
}

/// A drain that was begun in vain.
fn taken_back(drain: &Drain) -> Option<String> {
    let recalled = drain.recalled?.at;
    let began = drain.began.at;
    Some(format!(
        "A drain that was asked for {} into the run was taken back {} later.",
        span(began.since_epoch()),
        span(recalled.since(began))
    ))
}

/// Who was the last, until when, what it did, and what let it go.
fn held(story: &Story, last: &Guest, until: Time) -> String {
    let by = match last.reason {
        None => "it was still there when the process was gone".to_owned(),
        Some(reason) => why(reason).to_owned(),
    };
    let doing = last.doing.map_or(String::new(), |doing| format!(" It was {doing} for most of that time."));
    let (who, when) = (last_of(story, last), moment(story, until));
    if story.grace_over().is_some_and(|over| until <= over) {
        return format!("Nobody held the pod beyond its grace: {who} was the last to leave, {when}: {by}.{doing}");
    }
    format!("The pod was held longest by {who}, until {when}: {by}.{doing}")
}

/// How the process went, and by when it had to.
fn end(story: &Story, bound: Option<&Bound>, is_late: bool) -> Vec<String> {
    let when = |at: Time| moment(story, at);
    let mut said = vec![match (story.exit, story.killed) {
        (Some((exit, code)), _) => format!("The process exited {} with code {code}: {}.", when(exit.at), meaning(code)),
        (None, Some(killed)) => format!("The process was SIGKILLed {}: it had not gone by itself.", when(killed.at)),
        (None, None) => "The process was still there when the run was stopped.".to_owned(),
    }];
    if let Some(bound) = bound {
        let had = match story.exit {
            _ if is_late => "It should have been gone",
            Some(_) => "It had to be gone, at the latest,",
            // Whoever is killed before, or rightly waits for what still runs, is not too late.
            None => "It was not late: its bound was",
        };
        said.push(format!("{had} {} ({}).", when(bound.at), bound.why));
    }
    said
}

/// What told the process to go.
pub(super) fn cause(story: &Story) -> String {
    let told = story.told().map(|told| &story.history.entries[told.index].event);
    match told {
        Some(Event::SignalSent { signal }) => signal.to_string(),
        Some(Event::DrainAsked { .. } | Event::DrainAnswered { .. }) => "the request for a drain".to_owned(),
        _ => "the signal".to_owned(),
    }
}

const fn meaning(code: u8) -> &'static str {
    match code {
        0 => "drained",
        1 => "it could not run",
        2 => "bad configuration",
        3 => "a wall ended what was left",
        131 => "SIGQUIT, at once",
        _ => "a code that the contract does not know",
    }
}

/// Why a connection ended, in words that need no manual.
pub(crate) const fn why(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Terminate => "it said goodbye itself",
        EndReason::ClientClosed => "it closed its connection itself",
        EndReason::ClientReset => "it reset its connection itself",
        EndReason::WorkerLost => "its worker ended the session",
        EndReason::WorkerUnreachable => "no worker could be reached within worker_queue_timeout",
        EndReason::LoginFailed => "its worker did not let it in",
        EndReason::Malformed => "its bytes were no PostgreSQL",
        EndReason::WorkerMalformed => "its worker's bytes were no PostgreSQL",
        EndReason::IdleTimeout => "it was idle for idle_timeout",
        EndReason::HandshakeTimeout => "it did not log in within its time",
        EndReason::Boundary => "it was due, and nothing was running and no transaction was open",
        EndReason::TransactionGrace => "it paused inside a transaction for transaction_grace",
        EndReason::TransactionBudget => "its pauses inside transactions used up transaction_budget",
        EndReason::StallGrace => "it moved no byte for stall_grace",
        EndReason::Wall => "the wall fell",
        EndReason::Administrator => "an administrator ended it",
        EndReason::ShuttingDown => "it came too late and was turned away",
        EndReason::TooManyConnections => "there were too many connections",
        EndReason::Panicked => "the task that served it panicked",
        EndReason::Quit => "the process was told to go at once",
    }
}

/// All clients: who was there at the signal and left last comes first, and who had left before it last.
fn guests(story: &Story) -> Vec<Guest> {
    let mut order: Vec<&str> = Vec::new();
    let mut guests: BTreeMap<&str, Guest> = BTreeMap::new();
    let mut told: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for connection in &story.connections {
        let name = connection.conn.client.as_str();
        let guest = guests.entry(name).or_insert_with(|| {
            order.push(name);
            Guest {
                name: name.to_owned(),
                connections: 0,
                until: None,
                last: None,
                doing: None,
                reason: None,
                told: Vec::new(),
                is_at_signal: false,
            }
        });
        guest.connections += 1;
        *told.entry(name).or_default().entry(heard(story, connection)).or_default() += 1;
        let over = connection.ending().map(|(moment, _)| moment.at);
        guest.is_at_signal |= story.told().is_some_and(|told| over.is_none_or(|over| over >= told.at));
    }
    let told_at = story.told().map_or(Time::EPOCH, |told| told.at);
    for (stay, owner) in story.stays.iter().zip(owners::of(story)) {
        let Some(owner) = owner else { continue };
        let Some(guest) = guests.get_mut(story.connections[owner].conn.client.as_str()) else { continue };
        let Some(last) = stay.stages.last().filter(|last| guest.until.is_none_or(|until| until <= last.to)) else {
            continue;
        };
        guest.until = Some(last.to);
        guest.last = Some(owner);
        guest.doing = Some(mostly(stay, told_at).map_or(Activity::Closing, |(doing, _)| doing));
        guest.reason = stay.reason();
    }
    let mut all: Vec<Guest> = order
        .into_iter()
        .filter_map(|name| {
            let mut guest = guests.remove(name)?;
            let mut heard: Vec<(String, usize)> = told.remove(name)?.into_iter().collect();
            heard.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            if heard.len() > MOST_TOLD {
                let rest = heard.split_off(MOST_TOLD - 1);
                heard.push(("something else".to_owned(), rest.iter().map(|(_, count)| count).sum()));
            }
            guest.told = heard;
            Some(guest)
        })
        .collect();
    // Stable: of equals, those first that came first.
    all.sort_by_key(|guest| std::cmp::Reverse((guest.is_at_signal, guest.until)));
    all
}

/// What it did for most of its time from then on, and for how long; of one that left before, for most of its time. `None` if it
/// only ever was closed.
pub(super) fn mostly(stay: &Stay, from: Time) -> Option<(Activity, Duration)> {
    let since = |from: Time| {
        let mut lasted: BTreeMap<Activity, Duration> = BTreeMap::new();
        for stage in stay.stages.iter().filter(|stage| stage.activity != Activity::Closing) {
            *lasted.entry(stage.activity).or_default() += stage.to.since(stage.from.max(from));
        }
        lasted.into_iter().filter(|(_, lasted)| !lasted.is_zero()).max_by_key(|(_, lasted)| *lasted)
    };
    since(from).or_else(|| since(Time::EPOCH))
}

/// What this connection's client was told at its end.
pub(super) fn heard(story: &Story, connection: &Connection) -> String {
    if let Some(fatal) = connection.fatals.first() {
        let Event::FatalRead { code, message, detail, .. } = &story.history.entries[fatal.moment.index].event else {
            return fatal.code.to_owned();
        };
        let detail = detail.as_deref().map_or(String::new(), |detail| format!(" DETAIL: {detail}"));
        return format!("{code} {message}.{detail}");
    }
    match connection.ending().map(|(_, ending)| ending) {
        Some(Ending::Fatal(code)) => code.to_owned(),
        Some(Ending::Left(how)) => format!("nothing: it left by itself ({how})"),
        Some(Ending::Eof) => "the end of the stream, without a word".to_owned(),
        Some(Ending::Reset) => "a reset, without a word".to_owned(),
        Some(Ending::ConnectFailed) => "nothing: it could not connect".to_owned(),
        None => match connection.unread.flatten() {
            Some(code) => format!("{code}, which its machine has and it never read"),
            None if connection.reads_late() => "nothing: it was not reading".to_owned(),
            None => "nothing".to_owned(),
        },
    }
}

impl Guest {
    /// Until when it was there, what it did, and why it ended, for a table.
    pub(crate) fn cells(&self, story: &Story) -> [String; 3] {
        let until = self.until.map_or("not known".to_owned(), |until| when(story, until));
        let doing = self.doing.map_or("not known", Activity::name).to_owned();
        let ended = match (self.reason, self.until) {
            (Some(reason), _) => format!("{} ({reason})", why(reason)),
            (None, Some(_)) => "the process was gone first".to_owned(),
            (None, None) => "not known".to_owned(),
        };
        [until, doing, ended]
    }
}

/// A duration in words, to the millisecond; from a minute on to the second, because `14m 41ms` reads like 14 minutes and 41
/// seconds. Exact times stand in the table.
pub(crate) fn span(duration: Duration) -> String {
    let unit = if duration < Duration::from_secs(60) { 1 } else { 1_000 };
    let units = (duration.as_millis() as u64 + unit / 2) / unit;
    humantime::format_duration(Duration::from_millis(units * unit)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_a_minute_on_a_duration_has_no_milliseconds() {
        let spans = [41, 35_147, 59_999, 60_400, 840_041, 840_500].map(|millis| span(Duration::from_millis(millis)));
        assert_eq!(spans, ["41ms", "35s 147ms", "59s 999ms", "1m", "14m", "14m 1s"]);
    }
}
