//! Why was this pod still terminating? A run in so few words that they fit a screen: what told the process to go, who waited
//! for whom and which clock let it go, how it ended and by when it had to, and what does not hold.
//!
//! It says what the story knows, in the words of the page, and judges nothing itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use lastcall_core::{DrainPolicy, Time};
use serde::Serialize;

use super::counted;
use super::picture::{Broken, owners};
use super::run_page::Shown;
use super::summary::{Summary, cause, heard, mostly, span, why};
use crate::cast::pod::Pod;
use crate::cast::pod::report::{Activity, EndReason};
use crate::cast::run::{EngineName, Run};
use crate::scenario::ScenarioFile;
use crate::story::stays::Stay;
use crate::story::{Connection, Story, timeline};

/// The most kinds of connections that are told, each by the one that left last. Of the others the sum is told.
const MOST_HELD: usize = 5;
/// The most broken promises that are told, and lines of evidence for each. How many more there are is said.
const MOST_BROKEN: usize = 4;
const MOST_EVIDENCE: usize = 6;
/// What a connection did last is told beside what it mostly did if it did that for so long.
const WORTH_TELLING_MS: i64 = 1_000;

/// A run, explained. Times are milliseconds from when the process was told to go; before that they are negative.
#[derive(Debug, Serialize)]
pub struct Explained {
    file: String,
    title: String,
    seed: u64,
    engine: &'static str,
    holds: bool,
    verdict: String,
    course: Vec<String>,
    /// What told the process to go; none if nothing did.
    told_by: Option<String>,
    /// The last to leave first.
    held_by: Vec<Held>,
    others: Option<Others>,
    exit_code: Option<u8>,
    gone_ms: Option<i64>,
    bound_ms: Option<i64>,
    bound_why: Option<String>,
    broken: Vec<ExplainedBreak>,
    again: String,
}

/// A connection that the pod waited for.
#[derive(Debug, Serialize)]
struct Held {
    who: String,
    /// How many of its client's copies did the same, ended for the same reason, and left no later.
    alike: usize,
    until_ms: i64,
    /// What it did for most of the time.
    doing: &'static str,
    since_ms: i64,
    for_ms: i64,
    /// In how many stretches.
    times: usize,
    waits_on: &'static str,
    clock: Clock,
    /// What it did when it was closed, if that is something else.
    at_last: Option<AtLast>,
    /// The end record's word; none if it was there when the process was gone.
    ended: Option<&'static str>,
    /// The clock that ended it.
    ended_by_clock: Option<&'static str>,
    because: &'static str,
    /// What its client heard.
    told: Option<String>,
    /// The same in a word, where there is one: the SQLSTATE.
    #[serde(skip)]
    told_briefly: Option<String>,
}

#[derive(Debug, Serialize)]
struct AtLast {
    doing: &'static str,
    since_ms: i64,
    waits_on: &'static str,
}

/// The clock that runs for what a connection does, or why none does.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Clock {
    Runs { setting: &'static str, limit_ms: u64 },
    None { why: &'static str },
}

/// All connections that have no line of their own.
#[derive(Debug, Serialize)]
struct Others {
    connections: usize,
    /// When the last of them was gone.
    until_ms: i64,
    /// Why they ended, by the end record's word.
    ended: BTreeMap<&'static str, usize>,
}

/// A promise or an expectation that does not hold.
#[derive(Debug, Serialize)]
struct ExplainedBreak {
    what: String,
    sentence: String,
    evidence: Vec<String>,
    /// How often it is broken besides.
    more: usize,
}

impl Explained {
    /// This run of that file. `again` is the command that repeats it, if it is not `sim run` with the file.
    pub fn of(
        pod: &Arc<dyn Pod>,
        file: &ScenarioFile,
        run: &Run,
        (seed, engine): (u64, EngineName),
        again: Option<String>,
    ) -> Explained {
        let shown = Shown::of(pod, file, run, seed, engine);
        let Summary { broken, verdict, course, bound, .. } = Summary::of(&file.scenario, &shown.judged, &[]);
        let story = &shown.judged.story;
        let told = story.told().map(|told| told.at);
        let zero = told.unwrap_or(Time::EPOCH);
        let (held_by, others) = told.map_or((Vec::new(), None), |told| held(story, told));
        Explained {
            file: shown.path(),
            title: file.scenario.title.clone(),
            seed,
            engine: engine.name(),
            holds: broken.is_empty(),
            verdict,
            course,
            told_by: told.map(|_| cause(story)),
            held_by,
            others,
            exit_code: story.exit.map(|(_, code)| code),
            gone_ms: story.gone().map(|gone| millis(zero, gone.at)),
            bound_ms: bound.as_ref().map(|bound| millis(zero, bound.at)),
            bound_why: bound.map(|bound| bound.why),
            broken: broken.iter().map(|broken| ExplainedBreak::of(story, broken)).collect(),
            again: again.unwrap_or_else(|| shown.again()),
        }
    }

    /// Whether every promise holds, and all that the file expects.
    pub const fn holds(&self) -> bool {
        self.holds
    }

    /// For machines: one JSON document.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("it holds only strings and numbers") + "\n"
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let Explained { file, title, seed, engine, .. } = self;
        let _ = writeln!(out, "{title}\n  {file}, seed {seed}, engine {engine}\n");
        for sentence in &self.course {
            let _ = writeln!(out, "{sentence}");
        }
        if let Some(cause) = &self.told_by
            && !self.held_by.is_empty()
        {
            let _ = writeln!(out, "\nWho waited for whom, the last to leave first; times from {cause}");
            let width = |of: fn(&Held) -> String| self.held_by.iter().map(|held| of(held).chars().count()).max();
            let [until, who] =
                [|held: &Held| relative(held.until_ms), Held::name].map(|of| width(of).unwrap_or_default());
            for held in &self.held_by {
                let (doing, end) = held.words();
                let _ = writeln!(out, "  {:>until$}  {:<who$}  {doing}", relative(held.until_ms), held.name());
                let _ = writeln!(out, "  {:until$}  {:who$}  {end}", "", "");
            }
            if let Some(others) = &self.others {
                let _ = writeln!(out, "  {}", others.words());
            }
        }
        let _ = write!(out, "\n{}", self.judgement());
        out
    }

    /// What does not hold, with its evidence and the command that repeats it; or that everything does.
    pub fn judgement(&self) -> String {
        let mut out = format!("{}  {}\n", if self.holds { "pass" } else { "FAIL" }, self.verdict);
        for broken in self.broken.iter().take(MOST_BROKEN) {
            let more = if broken.more > 0 { format!(" (and {} more)", broken.more) } else { String::new() };
            let _ = writeln!(out, "  {}: {}{more}", broken.what, broken.sentence);
            for line in broken.evidence.iter().take(MOST_EVIDENCE) {
                let _ = writeln!(out, "    {line}");
            }
            if let Some(hidden) = broken.evidence.len().checked_sub(MOST_EVIDENCE + 1) {
                let _ = writeln!(out, "    and {}", counted(hidden + 1, "more event"));
            }
        }
        if let Some(hidden) = self.broken.len().checked_sub(MOST_BROKEN + 1) {
            let _ = writeln!(out, "  and {} broken", counted(hidden + 1, "more"));
        }
        let _ = writeln!(out, "again: {}", self.again);
        out
    }
}

/// The connections that were there when the process was told to go or came later: those that left last, with those that are like
/// them, and the sum of the others.
fn held(story: &Story, told: Time) -> (Vec<Held>, Option<Others>) {
    let end = |stay: &Stay| stay.stages.last().map_or(Time::EPOCH, |last| last.to);
    let owners = owners::of(story);
    let mut stays: Vec<(&Stay, Option<usize>)> =
        story.stays.iter().zip(owners).filter(|(stay, _)| end(stay) >= told).collect();
    // Stable: of those that left together, the first to come.
    stays.sort_by_key(|(stay, _)| std::cmp::Reverse(end(stay)));
    let mut kinds: Vec<(Option<&str>, Activity, Option<EndReason>)> = Vec::new();
    let mut held: Vec<Held> = Vec::new();
    let mut others: Option<Others> = None;
    for (stay, owner) in stays {
        let connection = owner.map(|owner| &story.connections[owner]);
        let client = connection.map(|connection| connection.conn.client.as_str());
        let kind = (client, mostly(stay, told).map_or(Activity::Closing, |(doing, _)| doing), stay.reason());
        if let Some(known) = kinds.iter().position(|known| *known == kind) {
            held[known].alike += 1;
        } else if held.len() < MOST_HELD {
            kinds.push(kind);
            held.push(Held::of(story, stay, connection, told));
        } else {
            let until_ms = millis(told, end(stay));
            let others = others.get_or_insert_with(|| Others { connections: 0, until_ms, ended: BTreeMap::new() });
            others.connections += 1;
            *others.ended.entry(stay.reason().map_or("still there", EndReason::name)).or_default() += 1;
        }
    }
    (held, others)
}

impl Held {
    fn of(story: &Story, stay: &Stay, connection: Option<&Connection>, told: Time) -> Held {
        let until = stay.stages.last().map_or(told, |last| last.to);
        // One that was being closed the whole time is told by that.
        let (doing, lasted) = mostly(stay, told).unwrap_or((Activity::Closing, until.since(told)));
        let its = || stay.stages.iter().filter(move |stage| stage.activity == doing && stage.to >= told);
        let at_last = stay.before_close().filter(|last| last.activity != doing).map(|last| AtLast {
            doing: last.activity.name(),
            since_ms: millis(told, last.from),
            waits_on: last.activity.waits_on().name(),
        });
        let reason = stay.reason();
        Held {
            who: connection.map_or_else(|| nameless(stay), |connection| story.name_of(connection)),
            alike: 0,
            until_ms: millis(told, until),
            doing: doing.name(),
            since_ms: millis(told, its().next().map_or(until, |first| first.from)),
            for_ms: lasted.as_millis() as u64 as i64,
            times: its().count().max(1),
            waits_on: doing.waits_on().name(),
            clock: Clock::of(doing, story),
            at_last,
            ended: reason.map(EndReason::name),
            ended_by_clock: reason.and_then(EndReason::clock),
            because: reason.map_or_else(|| gone_first(story), why),
            told: connection.map(|connection| heard(story, connection)),
            told_briefly: connection.map(|connection| match connection.fatals.first() {
                Some(fatal) => fatal.code.to_owned(),
                None => heard(story, connection),
            }),
        }
    }

    fn name(&self) -> String {
        match self.alike {
            0 => self.who.clone(),
            alike => format!("{} and {alike} like it", self.who),
        }
    }

    /// What it did, and how it ended.
    fn words(&self) -> (String, String) {
        let lasted = span(Duration::from_millis(self.for_ms as u64));
        let times = if self.times > 1 { format!(" in {} stretches", self.times) } else { String::new() };
        let mut doing = format!("{} since {}, for {lasted}{times}", self.doing, relative(self.since_ms));
        let _ = write!(doing, ": waited for its {}; ", self.waits_on);
        let _ = match &self.clock {
            Clock::Runs { setting, limit_ms } => {
                write!(doing, "{setting} runs ({})", span(Duration::from_millis(*limit_ms)))
            }
            Clock::None { why } => write!(doing, "no clock runs: {why}"),
        };
        let worth_telling = |last: &&AtLast| self.until_ms - last.since_ms >= WORTH_TELLING_MS;
        if let Some(last) = self.at_last.as_ref().filter(worth_telling) {
            let _ = write!(doing, "; at last {} since {}", last.doing, relative(last.since_ms));
        }
        let clock = self.ended_by_clock.filter(|clock| !self.because.contains(clock));
        let clock = clock.map_or(String::new(), |clock| format!(" ({clock})"));
        let told = self.told_briefly.as_deref().map_or(String::new(), |told| format!("; its client was told {told}"));
        (doing, format!("ended: {}{clock}{told}", self.because))
    }
}

impl Others {
    fn words(&self) -> String {
        let ended: Vec<String> = self.ended.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        format!(
            "{} had left by {}: {}",
            counted(self.connections, "more connection"),
            relative(self.until_ms),
            ended.join(", ")
        )
    }
}

impl Clock {
    fn of(doing: Activity, story: &Story) -> Clock {
        let settings = story.settings;
        match settings.drain_policy {
            DrainPolicy::IdleAware => {}
            DrainPolicy::Unbounded => return Clock::None { why: "the policy `unbounded` waits for every connection" },
            DrainPolicy::Flat => {
                return Clock::None {
                    why: "the policy `flat` waits for every connection, up to handover_drain_timeout",
                };
            }
        }
        let (setting, limit) = match doing {
            Activity::Handshake => ("session_init_timeout", settings.session_init_timeout),
            Activity::Acquiring => ("worker_queue_timeout", settings.worker_queue_timeout),
            Activity::Idle => ("idle_grace", settings.idle_grace),
            Activity::IdleInTransaction => ("transaction_grace", settings.transaction_grace),
            Activity::StreamingOut | Activity::CopyIn | Activity::OpenBatch => ("stall_grace", settings.stall_grace),
            Activity::Closing => ("close_linger", settings.close_linger),
            Activity::Executing if story.wall().is_some() => {
                return Clock::None { why: "running work is cut by nothing but the wall" };
            }
            Activity::Executing => return Clock::None { why: "running work is never cut" },
        };
        Clock::Runs { setting, limit_ms: limit.as_millis() as u64 }
    }
}

impl ExplainedBreak {
    fn of(story: &Story, Broken { what, times }: &Broken) -> ExplainedBreak {
        let first = &times[0];
        let evidence = timeline::of(story, &first.evidence).lines().map(str::to_owned).collect();
        let (what, sentence) = (what.clone(), first.sentence.clone());
        ExplainedBreak { what, sentence, evidence, more: times.len() - 1 }
    }
}

fn nameless(stay: &Stay) -> String {
    stay.left.map_or_else(|| format!("connection {}", stay.connection), |left| left.who.clone())
}

/// How a connection ended that the process did not end.
const fn gone_first(story: &Story) -> &'static str {
    match (story.exit, story.killed) {
        (Some(_), _) => "it was there when the process exited",
        (None, Some(_)) => "it was there when SIGKILL came",
        (None, None) => "it was there when the run was stopped",
    }
}

fn millis(zero: Time, at: Time) -> i64 {
    let from_epoch = |time: Time| time.since_epoch().as_millis() as i64;
    from_epoch(at) - from_epoch(zero)
}

/// `+1m30.001s`, or with a minus before the zero.
fn relative(millis: i64) -> String {
    let sign = if millis < 0 { '-' } else { '+' };
    format!("{sign}{}", timeline::clock(Duration::from_millis(millis.unsigned_abs())))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cast::pod::last_call;
    use crate::cast::run;
    use crate::scenario;

    fn explained(text: &str) -> Explained {
        let file =
            ScenarioFile { path: Path::new("t.toml").to_owned(), scenario: scenario::parse("t.toml", text).unwrap() };
        let engine = EngineName::default();
        let run = run::run(&last_call(), &file.scenario, &run::settings(&file.scenario), 1, engine);
        Explained::of(&last_call(), &file, &run, (1, engine), None)
    }

    fn client(name: &str, count: u32, steps: &str) -> String {
        format!("[[client]]\nname = \"{name}\"\ncount = {count}\nsteps = [\"connect\", {steps}]\n")
    }

    fn file(drain: &str, clients: &str, expect: &str) -> String {
        format!(
            "title = \"t\"\n[drain]\n{drain}\n{clients}[[event]]\nat = \"10s\"\ndo = \"sigterm\"\n[expect]\nexit = {{ {expect} }}\n"
        )
    }

    #[test]
    fn it_says_who_waited_for_whom_and_tells_those_that_are_alike_once() {
        let clients = client("etl", 1, "{ query = \"10m\" }, { idle = \"forever\" }")
            + &client("dashboard", 25, "{ idle = \"forever\" }");
        let explained = explained(&file("", &clients, "code = 0"));
        let text = explained.text();
        for said in [
            "SIGTERM came 10s into the run; 26 clients were connected.",
            "  executing since -9.",
            " and 24 like it  idle since -9.",
            "waited for its worker; no clock runs: running work is never cut\n",
            "waited for its client; idle_grace runs (30s)\n",
            "ended: it was due, and nothing was running and no transaction was open (idle_grace); its client was told 57P01\n",
            "with code 0: drained.",
            "pass  Everything holds",
            "again: cargo run --release -p sim -- run t.toml --seed 1 --engine turmoil-net\n",
        ] {
            assert!(text.contains(said), "{said:?} is not in:\n{text}");
        }
        let told: Vec<_> = explained.held_by.iter().map(|held| (held.doing, held.alike)).collect();
        assert_eq!((told, explained.held_by[0].who.as_str()), (vec![("executing", 0), ("idle", 24)], "etl"));
    }

    #[test]
    fn running_work_has_no_clock_and_says_so_if_it_has_a_wall() {
        let clients = client("etl", 1, "{ query = \"10m\" }");
        let text = explained(&file("handover_drain_timeout = \"1m\"", &clients, "code = 3")).text();
        assert!(text.contains("no clock runs: running work is cut by nothing but the wall\n"), "{text}");
        assert!(text.contains("ended: the wall fell; its client was told 57P01\n"), "{text}");
    }

    #[test]
    fn it_fits_a_screen_however_many_there_are() {
        let idle = |number| client(&format!("client{number}"), 2, "{ idle = \"forever\" }");
        let explained = explained(&file("", &(1..=30).map(idle).collect::<String>(), "code = 0"));
        let text = explained.text();
        let alike: usize = explained.held_by.iter().map(|held| held.alike).sum();
        let others = 60 - MOST_HELD - alike;
        assert!(text.contains(&format!("  {others} more connections had left by +")), "{text}");
        assert!(text.contains(&format!(": {others} boundary\n")), "{text}");
        assert!(text.lines().count() <= 24, "it does not fit a screen:\n{text}");
    }

    #[test]
    fn what_a_killed_pod_waited_for_is_told_of_the_client_that_did_it() {
        let drain = "drain_policy = \"unbounded\"\n[pod]\ntermination_grace = \"2m\"";
        let clients = client("a", 6, "{ idle = \"forever\" }")
            + &client("etl", 1, "{ query = \"20ms\" }, \"begin\", { query = \"9m\" }");
        let explained = explained(&file(drain, &clients, "code = 0"));
        let told: Vec<_> = explained.held_by.iter().map(|held| (held.who.as_str(), held.alike, held.doing)).collect();
        assert_eq!(told, [("etl", 0, "executing"), ("a.1", 5, "idle")], "{}", explained.text());
    }

    #[test]
    fn a_pod_that_had_to_be_killed_says_for_whom_it_waited_and_what_that_breaks() {
        let drain = "drain_policy = \"unbounded\"\n[pod]\ntermination_grace = \"2m\"";
        let explained = explained(&file(drain, &client("a", 1, "{ idle = \"forever\" }"), "code = 0"));
        let text = explained.text();
        assert!(!explained.holds());
        for said in [
            "no clock runs: the policy `unbounded` waits for every connection",
            "ended: it was there when SIGKILL came",
            "FAIL  2 things do not hold: bounded-exit, expect.exit.",
            "  bounded-exit: ",
            "sends SIGKILL",
        ] {
            assert!(text.contains(said), "{said:?} is not in:\n{text}");
        }
    }

    #[test]
    fn nobody_told_it_to_go_and_so_nobody_held_it() {
        let steps = client("a", 1, "{ idle = \"20s\" }, \"disconnect\"");
        let latency = "[[event]]\nat = \"1s\"\ndo = \"latency\"\nbetween = [\"clients\", \"pod\"]\nlatency = \"5ms\"\n";
        let text =
            explained(&format!("title = \"t\"\n{steps}{latency}[expect]\nclient.a = {{ answered = \"all\" }}\n"))
                .text();
        assert!(text.contains("Nobody told the process to go"), "{text}");
        assert!(!text.contains("Who waited"), "{text}");
    }

    #[test]
    fn what_a_connection_did_last_is_told_where_it_did_that_for_a_while() {
        let clients = client("etl", 1, "\"begin\", { query = \"10m\" }, { idle = \"forever\" }");
        let text = explained(&file("", &clients, "code = 0")).text();
        assert!(text.contains("never cut; at last idle_in_transaction since +9m"), "{text}");
        assert!(
            text.contains("ended: it paused inside a transaction for transaction_grace; its client was told 57P01\n"),
            "{text}"
        );
    }

    #[test]
    fn a_drain_by_request_is_called_one() {
        let file = file("", &client("a", 1, "{ idle = \"forever\" }"), "code = 0");
        let text = explained(&file.replace("[expect]", "[[event]]\nat = \"5s\"\ndo = \"drain\"\n[expect]")).text();
        assert!(text.contains("A drain was asked for (POST /drain) 5s "), "{text}");
        assert!(text.contains("times from the request for a drain"), "{text}");
    }

    #[test]
    fn the_same_as_json() {
        let clients = client("etl", 1, "\"begin\", { idle = \"forever\" }");
        let json: serde_json::Value = serde_json::from_str(&explained(&file("", &clients, "code = 0")).json()).unwrap();
        let etl = &json["held_by"][0];
        assert_eq!((&etl["doing"], &etl["waits_on"]), (&"idle_in_transaction".into(), &"client".into()));
        assert_eq!(etl["clock"]["runs"]["setting"], "transaction_grace");
        assert_eq!((&etl["ended_by_clock"], &json["exit_code"]), (&"transaction_grace".into(), &0.into()));
        assert!(etl["until_ms"].as_i64().unwrap() >= 300_000, "{etl}");
    }
}
