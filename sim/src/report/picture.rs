//! The picture of a run, as values: an axis, lanes, and what is marked in them. Nothing here knows how it is drawn.
//!
//! A lane is the pod, a client, the worker or the network. A client of few copies has a lane for each copy; the copies of a
//! larger one share a lane that shows how many do what, and only those that broke something, or held the pod longest, have
//! one of their own. Whoever held the pod or broke something comes first. Limits: [`MOST_LANES`], [`COPIES_APART`],
//! [`LONGEST`].

pub(crate) mod axis;
mod lanes;
pub(crate) mod owners;

use std::collections::BTreeSet;
use std::time::Duration;

use lastcall_core::{Phase, Time};

use self::axis::Axis;
use crate::cast::pod::report::Activity;
use crate::judge::bounded_exit::Bound;
use crate::story::Story;
use crate::story::timeline::{self, Speaker, Who};

/// The most lanes of clients. The rest share one.
pub(crate) const MOST_LANES: usize = 24;
/// A client with so many copies has a lane for each.
pub(crate) const COPIES_APART: usize = 3;
/// How many copies of a larger client have a lane of their own beside it.
pub(crate) const LONGEST: usize = 3;

/// The picture of a run.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) axis: Axis,
    /// Phases of the drain, the time before it, and the time behind the process.
    pub(crate) phases: Vec<Span>,
    /// Moments that concern every lane.
    pub(crate) rules: Vec<Rule>,
    pub(crate) lanes: Vec<Lane>,
}

/// A stretch of time with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Time,
    pub(crate) to: Time,
    pub(crate) phase: Phase,
    pub(crate) what: &'static str,
}

/// A moment that concerns every lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) at: Time,
    pub(crate) kind: RuleKind,
    /// What stands above the line.
    pub(crate) label: String,
    pub(crate) note: Note,
}

/// What kind of moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RuleKind {
    /// The process was told to go.
    Signal,
    /// It went by itself.
    Exit,
    /// It was killed.
    Killed,
    /// The wall.
    Wall,
    /// By then it has to be gone.
    Bound,
    /// From here to the end of the grace, connections fall due.
    Due,
    /// A promise or an expectation is broken.
    Broken,
}

impl RuleKind {
    /// Whether its line lies over the lanes. What only begins lies behind them.
    pub(crate) fn is_over(self) -> bool {
        self != RuleKind::Due
    }
}

/// A line of the picture.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Whose it is.
    pub(crate) name: String,
    /// In a few words what became of it.
    pub(crate) note: String,
    pub(crate) body: Body,
    /// When its worker ran its statements.
    pub(crate) work: Vec<(Time, Time, Note)>,
    /// What happened in its life.
    pub(crate) life: Vec<Mark>,
    /// Its requests and their answers.
    pub(crate) traffic: Vec<Mark>,
    /// It has its part in something that broke.
    pub(crate) is_broken: bool,
    /// Its owner left last.
    pub(crate) held: Option<Held>,
}

impl Lane {
    /// One without statements and requests of its own, and without a part in anything yet.
    fn plain(name: String, note: String, body: Body, life: Vec<Mark>) -> Lane {
        Lane { name, note, body, work: Vec::new(), life, traffic: Vec::new(), is_broken: false, held: None }
    }
}

/// For how long the one that left last was waited for, since the process was told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) from: Time,
    pub(crate) to: Time,
    /// Whether that was longer than an idle client may stay.
    pub(crate) words: &'static str,
}

/// What a lane shows over time.
#[derive(Debug)]
pub(crate) enum Body {
    /// One thing after the other.
    Bands(Vec<Band>),
    /// How many do what.
    Crowd { bands: Vec<Band>, what: &'static str },
}

/// Something that lasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Band {
    pub(crate) from: Time,
    pub(crate) to: Time,
    pub(crate) paint: Paint,
}

/// In which colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Paint {
    /// What a connection does.
    Doing(Activity),
    /// The process is there, and ready.
    Ready,
    /// The process is there, and not ready.
    NotReady,
    /// Statements that run.
    Work,
}

impl Paint {
    /// Every one that a picture can have, in the order of a legend.
    pub(crate) const ALL: [Paint; 12] = [
        Paint::Ready,
        Paint::NotReady,
        Paint::Doing(Activity::Handshake),
        Paint::Doing(Activity::Acquiring),
        Paint::Doing(Activity::Idle),
        Paint::Doing(Activity::IdleInTransaction),
        Paint::Doing(Activity::Executing),
        Paint::Doing(Activity::StreamingOut),
        Paint::Doing(Activity::CopyIn),
        Paint::Doing(Activity::OpenBatch),
        Paint::Doing(Activity::Closing),
        Paint::Work,
    ];

    /// Its name, for people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Paint::Doing(activity) => activity.name(),
            Paint::Ready => "ready",
            Paint::NotReady => "not ready",
            Paint::Work => "worker runs a statement",
        }
    }

    /// Its class in the picture.
    pub(crate) fn class(self) -> String {
        format!("b-{}", self.name().replace(' ', "-"))
    }

    /// Whom the connection waits for, where it waits for somebody.
    pub(crate) const fn waits(self) -> &'static str {
        match self {
            Paint::Doing(Activity::Handshake) => "the client has to log in",
            Paint::Doing(Activity::Acquiring) => "waits for a worker",
            Paint::Doing(Activity::Idle) => "nothing asked, no transaction open",
            Paint::Doing(Activity::IdleInTransaction) => "a transaction is open, and the client pauses",
            Paint::Doing(Activity::Executing) => "the worker owes the next byte",
            Paint::Doing(Activity::StreamingOut) => "bytes are under way, and the client has not acknowledged them",
            Paint::Doing(Activity::CopyIn) => "the client owes the data of a COPY",
            Paint::Doing(Activity::OpenBatch) => "the client owes the Sync of a batch",
            Paint::Doing(Activity::Closing) => "the last word is said, and its way to the client is waited for",
            Paint::Ready => "the process takes new sessions",
            Paint::NotReady => "the process is there, and /readyz says no",
            Paint::Work => "a statement runs at the worker",
        }
    }
}

/// Something that happened at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) at: Time,
    pub(crate) sign: Sign,
    /// A word beside it, where there is room.
    pub(crate) label: String,
    pub(crate) note: Note,
}

/// The sign of a mark; of several that lie at the same place the last of these is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sign {
    /// A request was sent.
    Sent,
    /// It was answered.
    Answered,
    /// Something small of a connection's life.
    Small,
    /// A connection, or a process, begins.
    Begins,
    /// The client ended it.
    Left,
    /// What befell the network or the worker.
    Fault,
    /// The client was told the end.
    Told,
    /// A signal to the process.
    Signal,
    /// A request got an error.
    Failed,
    /// The connection was lost without a word.
    Lost,
}

/// What the details say: when, who, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) when: String,
    pub(crate) who: String,
    pub(crate) what: String,
}

/// A promise or an expectation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The promise's name or the expectation's key.
    pub(crate) what: String,
    /// Each time that it is broken, in the order found; at least one.
    pub(crate) times: Vec<Break>,
}

/// One time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Break {
    /// What happened: one sentence.
    pub(crate) sentence: String,
    /// The entries that show it; none where no single run does.
    pub(crate) evidence: Vec<usize>,
}

impl Picture {
    /// That of a run of which this does not hold, and which had to be over by then.
    pub(crate) fn of(story: &Story, broken: &[Broken], bound: Option<&Bound>) -> Picture {
        let blamed = blamed(story, broken);
        let mut rules = rules(story, broken);
        if let Some(bound) = bound {
            rules.push(Rule {
                at: bound.at,
                kind: RuleKind::Bound,
                label: format!("bound {}", briefly(story, bound.at)),
                note: Note::at(
                    story,
                    bound.at,
                    "contract",
                    format!("the process has to be gone by now: {}", bound.why),
                ),
            });
        }
        rules.sort_by_key(|rule| (rule.at, rule.kind));
        let lanes = lanes::of(story, &blamed);
        let axis = axis(story, &lanes, &rules);
        let phases = phases(story, axis.begin(), axis.end());
        Picture { axis, phases, rules, lanes }
    }
}

impl Note {
    pub(crate) fn at(story: &Story, at: Time, who: impl Into<String>, what: impl Into<String>) -> Note {
        Note { when: when(story, at), who: who.into(), what: what.into() }
    }
}

/// A time, from the signal if there is one.
pub(crate) fn when(story: &Story, at: Time) -> String {
    match story.zero() {
        Some(_) => timeline::relative(story, at),
        None => timeline::clock(at.since_epoch()),
    }
}

/// The same in few characters, for a label.
fn briefly(story: &Story, at: Time) -> String {
    brief_from(story.zero(), at)
}

/// A time in few characters, from the signal if there is one.
pub(crate) fn brief_from(zero: Option<Time>, at: Time) -> String {
    match zero {
        Some(zero) if at < zero => format!("−{}", brief(zero.since(at))),
        Some(zero) => format!("+{}", brief(at.since(zero))),
        None => brief(at.since_epoch()),
    }
}

/// A duration in few characters: `10m30s`, `29.8s`, `1h`.
pub(crate) fn brief(duration: Duration) -> String {
    let (secs, millis) = (duration.as_secs(), duration.subsec_millis());
    match (secs / 3_600, secs / 60 % 60, secs % 60) {
        (0, 0, 0) if millis > 0 => format!("{millis}ms"),
        (0, 0, secs) if millis < 50 => format!("{secs}s"),
        (0, 0, secs) => format!("{secs}.{}s", millis / 100),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, secs) => format!("{minutes}m{secs:02}s"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

/// The clients' copies that have a part in what is broken.
fn blamed(story: &Story, broken: &[Broken]) -> BTreeSet<(String, u32)> {
    let speaker = Speaker::new(story);
    let entries = broken.iter().flat_map(|broken| &broken.times).flat_map(|once| &once.evidence);
    let of = |index: &usize| match speaker.who(&story.history.entries.get(*index)?.event) {
        Who::Client { name, copy, .. } => Some((name, copy)),
        _ => None,
    };
    entries.filter_map(of).collect()
}

fn rules(story: &Story, broken: &[Broken]) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut add = |at: Time, kind, label: &str, who: &str, what: String| {
        rules.push(Rule { at, kind, label: label.to_owned(), note: Note::at(story, at, who, what) });
    };
    for (moment, signal) in &story.signals {
        add(moment.at, RuleKind::Signal, &signal.to_string(), "kubelet", format!("sends {signal}"));
    }
    if let Some(drain) = story.drain().filter(|_| story.signals.is_empty()) {
        add(drain.began.at, RuleKind::Signal, "drain", "kubelet", "asks for a drain: POST /drain".to_owned());
    }
    let gone = story.gone().or(story.last).map_or(Time::EPOCH, |gone| gone.at);
    if let Some((first, last)) = story.due_times().filter(|(first, _)| *first < gone) {
        let last = when(story, last);
        let what = format!(
            "from here to {last} connections fall due, each at a moment of its own: an idle one is closed then"
        );
        add(first, RuleKind::Due, "due times", "drain", what);
    }
    if let Some(wall) = story.wall().filter(|wall| *wall <= gone) {
        add(
            wall,
            RuleKind::Wall,
            &format!("wall {}", briefly(story, wall)),
            "drain",
            "what still runs is cancelled at its worker, and recorded".to_owned(),
        );
    }
    if let Some((exit, code)) = story.exit {
        let label = format!("exit {code} {}", briefly(story, exit.at));
        add(exit.at, RuleKind::Exit, &label, "pod", format!("the process exits with code {code}"));
    }
    if let Some(killed) = story.killed {
        let label = format!("SIGKILL {}", briefly(story, killed.at));
        add(killed.at, RuleKind::Killed, &label, "kubelet", "sends SIGKILL: the process is gone at once".to_owned());
    }
    for (number, broken) in broken.iter().enumerate() {
        let Some(first) = broken.times.first() else { continue };
        // What a run as a whole lacks is shown at its end.
        let last = first.evidence.iter().filter_map(|index| story.history.entries.get(*index)).next_back();
        let more = match broken.times.len() {
            1 => String::new(),
            many => format!(" (and {} more)", many - 1),
        };
        let what = format!("{} is broken: {}{more}", broken.what, first.sentence);
        add(last.map_or(gone, |entry| entry.at), RuleKind::Broken, &format!("✗ {}", number + 1), "broken", what);
    }
    rules
}

/// Everything that must keep its place.
fn axis(story: &Story, lanes: &[Lane], rules: &[Rule]) -> Axis {
    let mut moments: Vec<Time> = rules.iter().map(|rule| rule.at).collect();
    moments.extend(story.started.map(|started| started.at));
    let begin = moments.iter().chain(story.connections.first().map(|first| &first.connecting.at)).min().copied();
    for lane in lanes {
        moments.extend(lane.life.iter().map(|mark| mark.at));
        // Of a client that asks again and again, what it does first and last; its middle may be folded.
        let (first, last) = (lane.traffic.iter().take(SHOWN_REQUESTS), lane.traffic.iter().rev().take(SHOWN_REQUESTS));
        moments.extend(first.chain(last).map(|mark| mark.at));
        if let Body::Bands(bands) = &lane.body {
            moments.extend(bands.iter().take(SHOWN_REQUESTS).map(|band| band.from));
            moments.extend(bands.iter().rev().take(SHOWN_REQUESTS).flat_map(|band| [band.from, band.to]));
        }
    }
    let last = story.gone().map(|gone| gone.at).into_iter().chain(moments.iter().copied()).max();
    // A phase that nobody lived to see needs no room.
    moments.extend(story.phases.all().map(|(at, _)| at).filter(|at| last.is_some_and(|last| *at <= last)));
    moments.retain(|at| begin.is_none_or(|begin| begin <= *at));
    let main = story.signal().map(|signal| (signal.at, signal.at + story.settings.idle_grace));
    Axis { zero: story.zero(), ..Axis::of(moments, main) }
}

/// How many of a lane's first and of its last marks keep their place whatever is folded.
const SHOWN_REQUESTS: usize = 6;

fn phases(story: &Story, begin: Time, end: Time) -> Vec<Span> {
    let gone = story.gone().map_or(end, |gone| gone.at);
    let mut begins: Vec<(Time, Phase)> =
        story.phases.all().map(|(at, phase)| (at.max(begin), phase)).filter(|(at, _)| *at < gone).collect();
    begins.push((gone, Phase::Drained));
    let words = |phase| match phase {
        Phase::Serving => "serving: no drain",
        Phase::LameDuck => {
            "lame duck: not ready, and new sessions are served all the same, for load balancers need seconds to notice"
        }
        Phase::Grace => "grace: new sessions are refused with 57P03; who is here may go on until its due time",
        Phase::Boundary => {
            "boundary: every connection is due, and ends where nothing is outstanding and no transaction is open"
        }
        Phase::Wall => "wall: what still ran was cancelled",
        Phase::Drained => "the process is gone",
    };
    let ends = begins.iter().skip(1).map(|(at, _)| *at).chain([end]);
    let spans = begins.iter().zip(ends).filter(|((from, _), to)| from < to);
    spans.map(|((from, phase), to)| Span { from: *from, to, phase: *phase, what: words(*phase) }).collect()
}

#[cfg(test)]
mod tests {
    use lastcall_core::Settings;
    use lastcall_world::Signal;

    use super::*;
    use crate::cast::history::{Conn, Entry, Event, History};
    use crate::cast::pod::report::{EndReason, Left};

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    /// So many copies of a client, each idle and closed in its turn, of which the last stays for an hour.
    fn crowd(copies: u32) -> History {
        let conn = |copy| Conn { client: "dashboard".to_owned(), copy, attempt: 1 };
        let mut events = vec![(0, Event::PodStarted)];
        events.extend((1..=copies).map(|copy| (1, Event::Connecting { conn: conn(copy) })));
        events.extend(
            (1..=copies).map(|copy| (2, Event::ActivityChanged { connection: copy, activity: Activity::Idle })),
        );
        events.push((60, Event::SignalSent { signal: Signal::Term }));
        let leaves = |copy| {
            let seconds = if copy == copies { 3_660 } else { 75 };
            let (who, reason) = (format!("dashboard.{copy}"), EndReason::Boundary);
            (seconds, Event::ConnectionLeft { left: Left { session: copy, who, reason, at: at(seconds) } })
        };
        events.extend((1..=copies).map(leaves));
        events.push((3_660, Event::PodExited { code: 0, tasks: vec![] }));
        let entries = events.into_iter().map(|(seconds, event)| Entry::new(at(seconds), event));
        History { entries: entries.collect() }
    }

    fn names(history: &History, broken: &[Broken]) -> Vec<String> {
        let settings = Settings::default();
        Picture::of(&Story::of(history, &settings), broken, None).lanes.into_iter().map(|lane| lane.name).collect()
    }

    #[test]
    fn few_copies_have_a_lane_each_and_many_share_one() {
        assert_eq!(names(&crowd(2), &[]), ["pod", "dashboard.2", "dashboard.1"]);
        assert_eq!(names(&crowd(2_000), &[]), ["pod", "dashboard.2000", "dashboard ×2000"]);
    }

    #[test]
    fn whoever_broke_something_comes_first_and_alone() {
        let once = Break { sentence: "it was".to_owned(), evidence: vec![7] };
        let broken = [Broken { what: "never-cut".to_owned(), times: vec![once] }];
        assert_eq!(names(&crowd(50), &broken), ["pod", "dashboard.7", "dashboard.50", "dashboard ×50"]);
    }

    #[test]
    fn what_is_broken_is_marked_at_its_moment() {
        let history = crowd(1);
        let settings = Settings::default();
        let once = |evidence| Break { sentence: "it was".to_owned(), evidence };
        let broken = [
            Broken { what: "never-cut".to_owned(), times: vec![once(vec![1, 3]), once(vec![])] },
            Broken { what: "nothing-leaks".to_owned(), times: vec![once(vec![])] },
        ];
        let picture = Picture::of(&Story::of(&history, &settings), &broken, None);
        let marks = picture.rules.iter().filter(|rule| rule.kind == RuleKind::Broken);
        let marks: Vec<(&str, Time)> = marks.map(|rule| (rule.label.as_str(), rule.at)).collect();
        assert_eq!(marks, [("✗ 1", at(60)), ("✗ 2", at(3_660))]);
    }

    #[test]
    fn times_of_labels_are_short() {
        let brief = |millis| brief(Duration::from_millis(millis));
        assert_eq!([20, 29_800, 60_000, 630_000, 7_380_000].map(brief), ["20ms", "29.8s", "1m", "10m30s", "2h03m"]);
    }
}
