//! What the scenario itself expects of its run.
//!
//! Every copy of a client must meet what is expected of the client. Times are relative to the first signal, and one tick of
//! the engine is allowed. An expectation that can't be evaluated (no exit, no signal, a copy that never connected, `all` of
//! no requests) is not met: it never passes.

mod timeline;

use std::collections::BTreeMap;
use std::time::Duration;

use lastcall_core::Time;

use super::{Judged, indices, words};
use crate::cast::history::Outcome;
use crate::scenario::model::{Answered, ExpectClient, ExpectExit, Scenario, Span};
use crate::story::{Connection, Ending, Moment, Request};

/// An expectation that was not met, or could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// Its key in the scenario file, below `expect`: `exit.within`, `client.etl.ends`.
    pub key: String,
    /// What was expected and what came: one sentence.
    pub what: String,
    /// The few entries of the log that show it, in order.
    pub evidence: Vec<usize>,
}

/// Judges a run by the expectations of its scenario: at most one [`Unmet`] for each key.
pub fn check_expectations(scenario: &Scenario, run: &Judged) -> Vec<Unmet> {
    let exit = scenario.expect.exit.iter().flat_map(|expect| check_exit(expect, run));
    let is_application = |name: &str| scenario.applications.iter().any(|application| application.name == name);
    let clients = scenario.expect.client.iter().filter(|(name, _)| !is_application(name));
    let clients = clients.flat_map(|(name, expect)| {
        let copies = scenario.clients.iter().find(|client| client.name == *name).map_or(0, |client| client.count);
        check_client(name, copies, expect, run)
    });
    let timeline = timeline::check(&scenario.expect.timeline, run);
    exit.chain(timeline).chain(clients).collect()
}

/// Why something is not as expected, and what shows it.
type Reason = (String, Vec<Moment>);

fn unmet(key: String, (what, evidence): Reason) -> Unmet {
    Unmet { key, what, evidence: indices(evidence) }
}

/// When the process was told to go.
fn signal(run: &Judged) -> Result<Moment, Reason> {
    run.story.told().ok_or_else(|| ("can't be evaluated: no signal was sent".to_owned(), Vec::new()))
}

fn check_exit(expect: &ExpectExit, run: &Judged) -> Vec<Unmet> {
    let exit = run.story.exit.ok_or_else(|| {
        let shown: Vec<Moment> = run.story.killed.or(run.story.last).into_iter().collect();
        let how =
            if run.story.killed.is_some() { "it was SIGKILLed" } else { "it was still there at the end of the run" };
        (format!("the process never exited: {how}"), shown)
    });
    let time = |fits: &dyn Fn(Time) -> bool, expected: String| -> Result<(), Reason> {
        let (exit, _) = exit.clone()?;
        signal(run)?;
        if fits(exit.at) {
            Ok(())
        } else {
            Err((format!("the process exited {}, expected {expected}", run.when(exit.at)), vec![exit]))
        }
    };
    let since_signal = |at: Time| signal(run).map_or(Duration::ZERO, |signal| at.since(signal.at));
    let within = expect.within.map(|Span(within)| {
        time(&|at| since_signal(at) <= within + run.resolution, format!("within {}", words(within)))
    });
    let after = expect.after.map(|Span(after)| {
        time(&|at| since_signal(at) + run.resolution >= after, format!("not before {}", words(after)))
    });
    let code = expect.code.map(|code| match exit.clone()? {
        (_, said) if said == code => Ok(()),
        (moment, said) => Err((format!("exit code {said}, expected {code}"), vec![moment])),
    });
    let keys = [("within", within), ("after", after), ("code", code)];
    keys.into_iter().filter_map(|(key, met)| Some(unmet(format!("exit.{key}"), met?.err()?))).collect()
}

fn check_client(name: &str, copies: u32, expect: &ExpectClient, run: &Judged) -> Vec<Unmet> {
    let copies: Vec<Copy> = (1..=copies).map(|copy| Copy::new(name, copy, run)).collect();
    let met = |expected: bool, check: &dyn Fn(&Copy) -> Result<(), Reason>| expected.then(|| all(&copies, check));
    let keys = [
        ("answered", met(expect.answered.is_some(), &|copy| copy.answered(expect.answered.expect("it is expected")))),
        (
            "committed",
            met(expect.committed.is_some(), &|copy| copy.committed(expect.committed.expect("it is expected"))),
        ),
        ("ends", met(expect.ends.is_some(), &|copy| copy.ends(expect.ends.as_deref().expect("it is expected")))),
        ("told", expect.told.as_ref().map(|told| check_told(name, told, run))),
        ("between", met(expect.between.is_some(), &|copy| copy.between(expect.between.expect("it is expected")))),
        (
            "errors",
            met(expect.errors.is_some(), &|copy| {
                let codes: Vec<&str> = expect.errors.iter().flatten().map(|code| code.0.as_str()).collect();
                copy.errors(&codes)
            }),
        ),
        ("killed", met(expect.killed, &|copy| copy.killed())),
    ];
    keys.into_iter().filter_map(|(key, met)| Some(unmet(format!("client.{name}.{key}"), met?.err()?))).collect()
}

/// Meets a client's expectation if every copy does: the first that does not is told, and how many more there are.
fn all(copies: &[Copy], check: &dyn Fn(&Copy) -> Result<(), Reason>) -> Result<(), Reason> {
    if copies.is_empty() {
        return Err(("can't be evaluated: there is no such client".to_owned(), Vec::new()));
    }
    let mut failed = copies.iter().filter_map(|copy| {
        let here = || copy.last.map(|_| ()).ok_or_else(|| ("never started to connect".to_owned(), Vec::new()));
        let (what, shown) = here().and_then(|()| check(copy)).err()?;
        Some((format!("{}.{} {what}", copy.name, copy.copy), shown))
    });
    let Some((what, shown)) = failed.next() else {
        return Ok(());
    };
    match failed.count() {
        0 => Err((what, shown)),
        more => Err((format!("{what} (and {more} more of {})", copies.len()), shown)),
    }
}

/// Meets the numbers in which the connections of all copies ended in each way.
fn check_told(name: &str, expected: &BTreeMap<String, u32>, run: &Judged) -> Result<(), Reason> {
    let mut counted: BTreeMap<&str, u32> = BTreeMap::new();
    let mut shown: BTreeMap<&str, Moment> = BTreeMap::new();
    for connection in run.story.connections.iter().filter(|connection| connection.conn.client == name) {
        let ending = connection.ending();
        let how = word(ending.map(|(_, ending)| ending));
        *counted.entry(how).or_default() += 1;
        shown.insert(how, ending.map_or(connection.connecting, |(moment, _)| moment));
    }
    if counted.iter().map(|(how, count)| (*how, *count)).eq(expected.iter().map(|(how, count)| (how.as_str(), *count)))
    {
        return Ok(());
    }
    let list = |counts: Vec<(&str, u32)>| {
        counts.into_iter().map(|(how, count)| format!("{count} with \"{how}\"")).collect::<Vec<_>>().join(", ")
    };
    let came = list(counted.iter().map(|(how, count)| (*how, *count)).collect());
    let wanted = list(expected.iter().map(|(how, count)| (how.as_str(), *count)).collect());
    let of_unexpected = |(how, moment): (&str, Moment)| (expected.get(how) != counted.get(how)).then_some(moment);
    Err((
        format!("its connections ended {came}, expected {wanted}"),
        shown.into_iter().filter_map(of_unexpected).collect(),
    ))
}

/// How a connection ended, in the words of `ends`.
fn word(ending: Option<Ending<'_>>) -> &str {
    match ending {
        None => "open",
        Some(Ending::Fatal(code)) => code,
        Some(Ending::Left(how)) => how,
        Some(Ending::Eof) => "eof",
        Some(Ending::Reset) => "reset",
        Some(Ending::ConnectFailed) => "connect failed",
    }
}

/// One copy of a client.
struct Copy<'r> {
    name: &'r str,
    copy: u32,
    run: &'r Judged<'r>,
    requests: Vec<&'r Request<'r>>,
    /// Its last connection.
    last: Option<&'r Connection<'r>>,
}

impl<'r> Copy<'r> {
    fn new(name: &'r str, copy: u32, run: &'r Judged<'r>) -> Copy<'r> {
        let mine = |connection: &&Connection| connection.conn.client == name && connection.conn.copy == copy;
        let requests = run.story.requests.iter().filter(|request| mine(&run.story.connection_of(request))).collect();
        Copy { name, copy, run, requests, last: run.story.connections.iter().rfind(mine) }
    }

    fn answered(&self, expected: Answered) -> Result<(), Reason> {
        let unanswered = || self.requests.iter().filter(|request| !request.complete());
        let answered = self.requests.len() - unanswered().count();
        let wanted = match expected {
            Answered::All if self.requests.is_empty() => {
                return Err(("sent no request, so \"all\" can't be evaluated".to_owned(), Vec::new()));
            }
            Answered::All => self.requests.len(),
            Answered::Count(count) => count as usize,
        };
        if answered == wanted {
            return Ok(());
        }
        let shown = unanswered().take(1).flat_map(|request| [Some(request.sent), request.end().map(|(end, _)| end)]);
        let what = format!("had {answered} of {} requests answered, expected {wanted}", self.requests.len());
        Err((what, shown.flatten().collect()))
    }

    fn committed(&self, expected: u32) -> Result<(), Reason> {
        let story = &self.run.story;
        let rows: u64 = self.requests.iter().filter_map(|request| story.rows.get(request.tag)).sum();
        if rows == u64::from(expected) {
            return Ok(());
        }
        let commits = self.requests.iter().flat_map(|request| story.commits.get(request.tag)).flatten();
        Err((format!("committed {rows} rows, expected {expected}"), commits.copied().collect()))
    }

    fn ends(&self, expected: &str) -> Result<(), Reason> {
        let ending = self.last.and_then(Connection::ending);
        let how = word(ending.map(|(_, ending)| ending));
        if how == expected {
            return Ok(());
        }
        let when = ending.map_or(String::new(), |(end, _)| format!(" {}", self.run.when(end.at)));
        let shown = ending.map(|(end, _)| end).or(self.last.map(|last| last.connecting));
        Err((format!("ended with \"{how}\"{when}, expected \"{expected}\""), shown.into_iter().collect()))
    }

    fn between(&self, [from, to]: [Span; 2]) -> Result<(), Reason> {
        let signal = signal(self.run)?;
        let Some((end, _)) = self.last.and_then(Connection::ending) else {
            let shown = self.last.map(|last| last.connecting);
            return Err(("never ended its connection".to_owned(), shown.into_iter().collect()));
        };
        let early = end.at + self.run.resolution < signal.at + from.0;
        let late = end.at > signal.at + to.0 + self.run.resolution;
        if !early && !late {
            return Ok(());
        }
        let expected = format!("expected between {} and {} after it", words(from.0), words(to.0));
        Err((format!("ended {}, {expected}", self.run.when(end.at)), vec![signal, end]))
    }

    fn killed(&self) -> Result<(), Reason> {
        let Some(killed) = self.run.story.killed else {
            return Err(("can't have been killed: no SIGKILL came".to_owned(), Vec::new()));
        };
        match self.last.and_then(Connection::ending) {
            Some((end, _)) if end < killed => {
                Err((format!("ended {}, before the SIGKILL", self.run.when(end.at)), vec![end, killed]))
            }
            _ => Ok(()),
        }
    }

    fn errors(&self, expected: &[&str]) -> Result<(), Reason> {
        let story = &self.run.story;
        let mut errors: Vec<(Moment, &str)> = Vec::new();
        for request in self.requests.iter().filter(|request| story.refused_by_fatal(request).is_none()) {
            if let Some((moment, Outcome::Error(code))) = request.end() {
                errors.push((moment, code));
            }
        }
        errors.sort_unstable();
        let codes: Vec<&str> = errors.iter().map(|(_, code)| *code).collect();
        if codes == expected {
            return Ok(());
        }
        let what = format!("got the errors {codes:?}, expected {expected:?}");
        Err((what, errors.into_iter().map(|(moment, _)| moment).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Log, error};
    use super::*;
    use crate::cast::history::RequestKind::{Insert, Query};
    use crate::cast::history::{Event, Inserted};
    use crate::scenario::model::{Client, Expect, Service, SqlState};

    /// A scenario with `count` copies of a client `a`, of whom this is expected.
    fn expecting(count: u32, expect: ExpectClient) -> Scenario {
        let (name, start, stagger) = ("a".to_owned(), Span::default(), Span::default());
        let client = Client { name, count, start, stagger, steps: vec![], reconnect: None };
        let expect = Expect { exit: None, rollout: None, timeline: vec![], client: [("a".to_owned(), expect)].into() };
        Scenario {
            deployment: None,
            service: Service::default(),
            applications: vec![],
            title: String::new(),
            why: String::new(),
            seeds: 1,
            pod: Default::default(),
            drain: Default::default(),
            clients: vec![client],
            events: vec![],
            expect,
            fails_under: vec![],
            catches: vec![],
        }
    }

    fn exits(exit: ExpectExit) -> Scenario {
        let mut scenario = expecting(1, ExpectClient::default());
        scenario.expect.exit = Some(exit);
        scenario
    }

    fn judge(log: &Log, scenario: &Scenario) -> Vec<String> {
        let unmet = log.run(|run| check_expectations(scenario, run));
        unmet.into_iter().map(|unmet| format!("{}: {}", unmet.key, unmet.what)).collect()
    }

    #[test]
    fn a_client_is_killed_if_its_connection_lasts_to_the_sigkill() {
        let killed = expecting(1, ExpectClient { killed: true, ..Default::default() });
        assert_eq!(judge(&one().killed(90.0), &killed), [""; 0]);
        assert_eq!(judge(&one().killed(90.0).eof(90.0, "a.1"), &killed), [""; 0]);
        assert_eq!(judge(&one(), &killed), ["client.a.killed: a.1 can't have been killed: no SIGKILL came"]);
        assert_eq!(
            judge(&one().goodbye(70.0, "a.1").killed(90.0), &killed),
            ["client.a.killed: a.1 ended 10s after the signal, before the SIGKILL"]
        );
    }

    fn secs(secs: u64) -> Span {
        Span(Duration::from_secs(secs))
    }

    fn within(within: u64, after: u64) -> Scenario {
        exits(ExpectExit { within: Some(secs(within)), after: Some(secs(after)), code: Some(0) })
    }

    #[test]
    fn an_exit_is_within_and_after_its_times_and_has_its_code() {
        let log = Log::default().term(60.0).exit(90.0, 0);
        assert_eq!(judge(&log, &within(30, 30)), [""; 0]);
        assert_eq!(
            judge(&log, &within(29, 31)),
            [
                "exit.within: the process exited 30s after the signal, expected within 29s",
                "exit.after: the process exited 30s after the signal, expected not before 31s"
            ]
        );
        assert_eq!(
            judge(&Log::default().term(60.0).exit(90.0, 3), &within(31, 1)),
            ["exit.code: exit code 3, expected 0"]
        );
    }

    #[test]
    fn an_exit_that_never_came_meets_nothing() {
        let unmet = judge(&Log::default().term(60.0).killed(90.0), &within(31, 1));
        assert_eq!(unmet.len(), 3);
        assert_eq!(unmet[0], "exit.within: the process never exited: it was SIGKILLed");
        let unsignalled = judge(&Log::default().exit(90.0, 0), &within(91, 0));
        assert_eq!(unsignalled[0], "exit.within: can't be evaluated: no signal was sent");
    }

    fn one() -> Log {
        let log = Log::default().session(1.0, "a.1").answered(2.0, 3.0, "a.1/1", Query).term(60.0);
        log.begun(61.0, "a.1/2", Query).failed(62.0, "a.1/2", "22012")
    }

    #[test]
    fn answered_counts_what_was_answered_without_an_error() {
        let answered = |answered| expecting(1, ExpectClient { answered: Some(answered), ..Default::default() });
        assert_eq!(judge(&one(), &answered(Answered::Count(1))), [""; 0]);
        assert_eq!(
            judge(&one(), &answered(Answered::All)),
            ["client.a.answered: a.1 had 1 of 2 requests answered, expected 2"]
        );
        let silent = Log::default().session(1.0, "a.1");
        assert_eq!(judge(&silent, &answered(Answered::All)).len(), 1);
        assert_eq!(judge(&silent, &answered(Answered::Count(0))), [""; 0]);
    }

    #[test]
    fn committed_counts_what_became_durable() {
        let committed = |committed| expecting(1, ExpectClient { committed: Some(committed), ..Default::default() });
        let log = Log::default().session(1.0, "a.1").begun(2.0, "a.1/1", Insert).committed(3.0, &["a.1/1"]);
        assert_eq!(judge(&log, &committed(1)), [""; 0]);
        let inserts = vec![Inserted { tag: "a.1/1".to_owned(), rows: 40 }];
        let copied = log.clone().event(4.0, Event::Committed { worker_session: 1, inserts });
        assert_eq!(judge(&copied, &committed(41)), [""; 0]);
        assert_eq!(judge(&log, &committed(2)), ["client.a.committed: a.1 committed 1 rows, expected 2"]);
    }

    #[test]
    fn ends_is_the_end_of_the_last_connection_of_every_copy() {
        let ends =
            |count, ends: &str| expecting(count, ExpectClient { ends: Some(ends.to_owned()), ..Default::default() });
        assert_eq!(judge(&one(), &ends(1, "open")), [""; 0]);
        assert_eq!(judge(&one().goodbye(70.0, "a.1"), &ends(1, "57P01")), [""; 0]);
        assert_eq!(judge(&one().left(70.0, "a.1", "disconnect").eof(70.0, "a.1"), &ends(1, "disconnect")), [""; 0]);
        assert_eq!(judge(&one().eof(70.0, "a.1"), &ends(1, "eof")), [""; 0]);
        assert_eq!(judge(&one().reset(70.0, "a.1"), &ends(1, "reset")), [""; 0]);
        assert_eq!(judge(&one().left(70.0, "a.1", "reset"), &ends(1, "reset")), [""; 0]);
        assert_eq!(judge(&one().left(70.0, "a.1", "vanish"), &ends(1, "vanish")), [""; 0]);
        assert_eq!(judge(&one().goodbye(70.0, "a.1").session(71.0, "a.1#2"), &ends(1, "open")), [""; 0]);
        let three = one().session(65.0, "a.2").session(65.0, "a.3").goodbye(70.0, "a.1");
        assert_eq!(
            judge(&three, &ends(3, "57P01")),
            ["client.a.ends: a.2 ended with \"open\", expected \"57P01\" (and 1 more of 3)"]
        );
        assert_eq!(judge(&one(), &ends(2, "open")), ["client.a.ends: a.2 never started to connect"]);
    }

    #[test]
    fn told_counts_the_connections_of_all_copies_by_their_end() {
        let told = |count, told: &[(&str, u32)]| {
            let told = told.iter().map(|(how, count)| ((*how).to_owned(), *count)).collect();
            expecting(count, ExpectClient { told: Some(told), ..Default::default() })
        };
        let two = one().session(65.0, "a.2").goodbye(70.0, "a.1");
        assert_eq!(judge(&two, &told(2, &[("57P01", 1), ("open", 1)])), [""; 0]);
        let again = two.session(71.0, "a.1#2");
        assert_eq!(judge(&again, &told(2, &[("57P01", 1), ("open", 2)])), [""; 0]);
        assert_eq!(
            judge(&again, &told(2, &[("57P01", 3)])),
            ["client.a.told: its connections ended 1 with \"57P01\", 2 with \"open\", expected 3 with \"57P01\""]
        );
    }

    #[test]
    fn between_is_measured_from_the_signal() {
        let between = expecting(1, ExpectClient { between: Some([secs(10), secs(20)]), ..Default::default() });
        let at = |at| judge(&one().goodbye(at, "a.1"), &between);
        assert_eq!((at(70.0), at(80.0)), (vec![], vec![]));
        assert_eq!(
            at(69.0),
            ["client.a.between: a.1 ended 9s after the signal, expected between 10s and 20s after it"]
        );
        assert_eq!(at(81.0).len(), 1);
        assert_eq!(judge(&one(), &between), ["client.a.between: a.1 never ended its connection"]);
        let unsignalled = Log::default().session(1.0, "a.1").goodbye(10.0, "a.1");
        assert_eq!(judge(&unsignalled, &between).len(), 1);
    }

    #[test]
    fn errors_are_those_of_requests_in_order_without_fatals() {
        let errors = |codes: &[&str]| {
            let errors = codes.iter().map(|code| SqlState((*code).to_owned())).collect();
            expecting(1, ExpectClient { errors: Some(errors), ..Default::default() })
        };
        let log =
            one().sent(70.0, "a.1/3", Query).fatal(70.0, "a.1", "57P01", None).ended(70.0, "a.1/3", error("57P01"));
        assert_eq!(judge(&log, &errors(&["22012"])), [""; 0]);
        assert_eq!(judge(&log, &errors(&[])), ["client.a.errors: a.1 got the errors [\"22012\"], expected []"]);
        assert_eq!(judge(&log, &errors(&["22012", "57P01"])).len(), 1);
    }

    #[test]
    fn an_expectation_of_a_client_that_is_not_there_is_not_met() {
        let mut scenario = expecting(1, ExpectClient { ends: Some("open".to_owned()), ..Default::default() });
        scenario.clients.clear();
        let unmet = judge(&one(), &scenario);
        assert_eq!(unmet, ["client.a.ends: can't be evaluated: there is no such client"]);
    }
}
