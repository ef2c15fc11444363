//! Whether a client's steps can be done in the order in which they stand.
//!
//! The steps are walked once as the client would do them if nothing came between; the body of a `repeat` twice, so that its
//! second time begins where its first ended. In the second time of a repeat those inside it are walked once: they have had
//! their second time, and repeats in repeats are not walked for ever. Only what is certain to be wrong is a problem: what the control plane may do
//! to a connection is not foreseen here.

use std::ops::Range;
use std::time::Duration;

use super::error::Problem;
use super::model::*;
use super::most::Most;
use super::read::Value;
use super::suggest::did_you_mean;

/// No client has more steps to do than this, counting repeats that end: fifteen a second for all of
/// [`RUN_LIMIT`], and few enough to be done without a pause.
pub(super) const MAX_STEPS: u64 = 10_000_000;

/// Adds what is wrong with the order of a client's steps. `values` are the same steps as TOML, for their places.
pub(super) fn check(client: &Client, values: Option<&Value<'_>>, at: Range<usize>, problems: &mut Vec<Problem>) {
    let first = problems.len();
    let (now, reading) = (client.start.0, Reading::Resume);
    let (link, cursors) = (Link::None, Vec::new());
    let mut walk = Walk { link, reading, cursors, in_block: false, now, problems, first, again: false };
    walk.steps(&client.steps, values);
    if Most::of(&client.steps).steps.is_some_and(|steps| steps > MAX_STEPS) {
        let label = format!("expected at most {MAX_STEPS} steps in all");
        walk.problems.push(
            Problem::new(at, "too many steps, with every repeat counted", label).help("\"forever\" has no such limit"),
        );
    }
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// None yet.
    None,
    /// Opened, but no session: the connect step stopped early.
    Stopped,
    /// A session. `open_batch`: something was sent since the last sync point.
    Session { open_batch: bool },
    /// A session that waits for the rest of a message which never comes, or was sent something else.
    HalfMessage,
    /// The client has sent its FIN, and reads on.
    HalfClosed,
    /// Left by the client.
    Left,
}

struct Walk<'p> {
    link: Link,
    /// How the client reads.
    reading: Reading,
    /// The cursors that this connection has declared.
    cursors: Vec<String>,
    /// Behind a BEGIN, whatever became of it.
    in_block: bool,
    /// The earliest time at which the next step can begin, counting pauses only.
    now: Duration,
    problems: &'p mut Vec<Problem>,
    /// Number of the first problem of this walk.
    first: usize,
    /// In the second time of a repeat.
    again: bool,
}

/// Whether a step comes to an end by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    GoesOn,
    Endless,
}

impl Walk<'_> {
    fn steps(&mut self, steps: &[Step], values: Option<&Value<'_>>) -> Flow {
        let values = values.and_then(|values| values.get_ref().as_array());
        let value = |i: usize| values.and_then(|values| values.get(i));
        let mut endless: Option<Range<usize>> = None;
        for (i, step) in steps.iter().enumerate() {
            let at = value(i).map_or(0..0, |value| value.span());
            if let Some(endless) = endless {
                let problem = Problem::new(at, "this step is never reached", "not after …");
                self.report(problem.and(endless, "… this, which never ends"));
                return Flow::Endless;
            }
            let flow = self.step(step, value(i), at.clone());
            let deaf = self.reading == Reading::Stop && waits_for_an_answer(step);
            if flow == Flow::Endless || deaf {
                endless = Some(at);
            }
        }
        if endless.is_some() { Flow::Endless } else { Flow::GoesOn }
    }

    fn step(&mut self, step: &Step, value: Option<&Value<'_>>, at: Range<usize>) -> Flow {
        self.begin_or_end_block(step);
        match step {
            Step::Connect(connect) => self.connect(connect, at),
            Step::Think(think) => self.pause(think.think.0),
            Step::Idle(Idle { idle: Patience::For(length) }) => self.pause(*length),
            Step::Idle(Idle { idle: Patience::Forever }) => return Flow::Endless,
            Step::WaitUntil(WaitUntil { wait_until: Span(until) }) => {
                // A repeat may wait in its first time only.
                if *until < self.now && !self.again {
                    let message = format!("{} is over before this step begins", Span(*until));
                    let problem =
                        Problem::new(at, message, format!("the pauses before it last until {}", Span(self.now)));
                    self.report(problem.help("`wait_until` is a time of the run, counted from its beginning"));
                }
                self.now = self.now.max(*until);
            }
            Step::Repeat(repeat) => return self.repeat(repeat, value, at),
            Step::Close(Close { close: Closing::Half }) => match self.link {
                Link::None | Link::Left | Link::HalfClosed => self.needs_session(step, at),
                _ => self.link = Link::HalfClosed,
            },
            Step::Close(_) | Step::Reset | Step::Vanish => match self.link {
                Link::None | Link::Left => self.needs_session(step, at),
                _ => self.link = Link::Left,
            },
            Step::Disconnect => {
                self.needs_session(step, at);
                self.link = Link::Left;
            }
            Step::Flush | Step::Sync => {
                self.needs_session(step, at.clone());
                if self.link != (Link::Session { open_batch: true }) {
                    let message = format!("nothing has been sent that this {} could be for", step.word());
                    let problem = Problem::new(at, message, "expected a `prepare` or `execute` step before");
                    self.report(problem.help("`query` and the other statements end with a sync point of their own"));
                }
                self.link = Link::Session { open_batch: *step == Step::Flush };
            }
            Step::Partial(partial) => {
                self.needs_session(step, at);
                match partial.after {
                    Some(Span(after)) => self.pause(after),
                    None => self.link = Link::HalfMessage,
                }
            }
            Step::Garbage(_) => {
                self.needs_session(step, at);
                self.link = Link::HalfMessage;
            }
            Step::Pipeline(Pipeline { repeat, .. }) => {
                self.needs_session(step, at);
                self.link = Link::Session { open_batch: false };
                if *repeat == Times::Forever {
                    return Flow::Endless;
                }
            }
            Step::Read(ReadAt { read }) => self.read(*read, at),
            Step::CopyIn(copy) => {
                self.ask(step, at);
                if copy.stops_after.is_some() {
                    return Flow::Endless;
                }
            }
            Step::Replication(Replication { replication, .. }) => {
                if self.in_block {
                    let message = "START_REPLICATION can't run inside a transaction block";
                    let problem = Problem::new(at.clone(), message, "one is open here");
                    self.report(problem.help("put a `\"commit\"` or `\"rollback\"` before it"));
                }
                self.ask(step, at);
                match replication {
                    Patience::For(length) => self.pause(*length),
                    Patience::Forever => return Flow::Endless,
                }
            }
            Step::Declare(declare) => {
                self.ask(step, at);
                self.cursors.push(declare.declare.clone());
            }
            Step::Fetch(fetch) => {
                self.ask(step, at.clone());
                if !self.cursors.contains(&fetch.fetch) {
                    let message = format!("no cursor is called `{}` here", fetch.fetch);
                    let known = self.cursors.iter().map(String::as_str);
                    let problem = Problem::new(at, message, did_you_mean(&fetch.fetch, known));
                    self.report(problem.help("a `declare` step opens it, after `\"connect\"` and `\"begin\"`"));
                }
            }
            _ => {
                let open_batch = matches!(step.sends(), Sends::Batch { .. });
                self.needs_session(step, at);
                self.link = Link::Session { open_batch };
            }
        }
        Flow::GoesOn
    }

    fn begin_or_end_block(&mut self, step: &Step) {
        match step {
            Step::Begin => self.in_block = true,
            Step::Commit | Step::Rollback | Step::Connect(_) => self.in_block = false,
            Step::Pipeline(pipeline) => pipeline.pipeline.iter().for_each(|step| self.begin_or_end_block(step)),
            _ => {}
        }
    }

    /// A request that ends with a sync point of its own.
    fn ask(&mut self, step: &Step, at: Range<usize>) {
        self.needs_session(step, at);
        self.link = Link::Session { open_batch: false };
    }

    fn read(&mut self, reading: Reading, at: Range<usize>) {
        if matches!(self.link, Link::None | Link::Left) {
            let problem = Problem::new(at, "`read` needs a connection", "there is none");
            self.report(problem.help("put a `\"connect\"` step before it"));
        } else if reading == Reading::Resume && self.reading == Reading::Resume {
            let problem = Problem::new(at, "this client reads already", "nothing to resume");
            self.report(problem.help("`{ read = \"stop\" }` or a rate before it"));
        }
        self.reading = reading;
    }

    fn connect(&mut self, connect: &Connect, at: Range<usize>) {
        if !matches!(self.link, Link::None | Link::Left) {
            let problem = Problem::new(at, "this client is connected already", "expected no second connection");
            self.report(problem.help("`\"disconnect\"` or `\"close\"` before it, or another client"));
        }
        self.pause(connect.pause.0);
        (self.reading, self.cursors) = (Reading::Resume, Vec::new());
        self.link = match connect.until {
            Until::Ready => Link::Session { open_batch: false },
            Until::Tcp | Until::Tls | Until::Startup | Until::Password => Link::Stopped,
        };
    }

    fn repeat(&mut self, repeat: &Repeat, value: Option<&Value<'_>>, at: Range<usize>) -> Flow {
        let steps = value.and_then(|value| value.get_ref().as_table()?.get("steps"));
        if repeat.repeat == Times::Forever && !repeat.steps.iter().any(takes_time) {
            let problem = Problem::new(at, "this repeat goes round for ever and no time passes", "nothing here waits");
            self.report(problem.help("add a step that waits for an answer, or a `think`"));
            return Flow::Endless;
        }
        let mut flow = self.steps(&repeat.steps, steps);
        if repeat.repeat != Times::Count(1) && flow == Flow::GoesOn && !self.again {
            self.again = true;
            flow = self.steps(&repeat.steps, steps);
            self.again = false;
        }
        if repeat.repeat == Times::Forever { Flow::Endless } else { flow }
    }

    /// Says so if there is no session that this step could use; after that there is one, so that it's said once.
    fn needs_session(&mut self, step: &Step, at: Range<usize>) {
        let word = step.word();
        let (label, help) = match self.link {
            Link::Session { .. } => return,
            Link::None => ("not connected yet", "put a `\"connect\"` step before it"),
            Link::HalfClosed => ("this client has closed its side", "after it, a client can only wait, read and leave"),
            Link::Left => ("the connection is closed", "`\"connect\"` opens another one"),
            Link::Stopped => ("no session", "the `connect` step stops early: `close` it, or leave its `until` out"),
            Link::HalfMessage => (
                "inside a message",
                "give the `partial` step before it an `after`; behind `garbage` only `close` can stand",
            ),
        };
        self.report(Problem::new(at, format!("`{word}` needs a session"), label).help(help));
        self.link = Link::Session { open_batch: true };
    }

    fn pause(&mut self, length: Duration) {
        self.now = self.now.saturating_add(length);
    }

    /// A place is reported once, although a repeat is walked twice.
    fn report(&mut self, problem: Problem) {
        if self.problems[self.first..].iter().all(|reported| reported.span() != problem.span()) {
            self.problems.push(problem);
        }
    }
}

/// Whether a step ends with an answer, which a client that does not read never gets.
fn waits_for_an_answer(step: &Step) -> bool {
    matches!(step, Step::Replication(_)) || matches!(step.sends(), Sends::Request { waits: true, .. })
}

/// Whether time passes in a step, however often it is done.
fn takes_time(step: &Step) -> bool {
    match step {
        Step::Think(think) => !think.think.0.is_zero(),
        Step::Idle(Idle { idle }) => *idle != Patience::For(Duration::ZERO),
        Step::Repeat(repeat) => repeat.steps.iter().any(takes_time),
        Step::Connect(_) | Step::Pipeline(_) => true,
        // A `wait_until` is passed after its first time.
        _ => waits_for_an_answer(step),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    /// What is wrong with these steps: the text under each mark and its label.
    fn wrong(steps: &str) -> Vec<String> {
        let text = format!(
            "title = \"t\"\n[[client]]\nname = \"c\"\nsteps = [{steps}]\n[[event]]\nat = \"6d\"\ndo = \"sigkill\"\n[expect]\ntimeline = [\"killed\"]\n"
        );
        let bad = parse("t.toml", &text).err();
        let problems = bad.iter().flat_map(|bad| bad.problems());
        problems.map(|problem| format!("{}: {}", &text[problem.span()], problem.label())).collect()
    }

    #[test]
    fn steps_in_an_order_that_can_be_done_are_right() {
        for steps in [
            r#""connect", "begin", { insert = 1 }, "commit", "disconnect", "connect", "close""#,
            r#""connect", { prepare = "1ms" }, "flush", { execute = "1ms" }, "flush", "sync""#,
            r#"{ connect = { until = "tcp" } }, { think = "1s" }, "close", "connect""#,
            r#"{ repeat = "forever", steps = ["connect", { query = "1s" }, "disconnect"] }"#,
            r#""connect", { partial = 5, after = "1s" }, { query = "1s" }"#,
            r#""connect", { partial = 5 }, { think = "1s" }, "close""#,
            r#"{ wait_until = "10s" }, "connect", { wait_until = "10s" }"#,
            r#""connect", { repeat = 2, steps = [{ wait_until = "10s" }, { think = "1s" }] }"#,
            r#""connect", "begin", { declare = "c" }, { fetch = "c" }, "commit", "listen", { call = "1s" }"#,
            r#""connect", { copy_in = 3 }, { copy_out = 3, wait = false }, { read = "stop" }, { read = "resume" }"#,
            r#""connect", { read = "1B/s" }, { query = "1s" }, { read = "resume" }, "reset", "connect", "vanish""#,
            r#"{ connect = { until = "tls" } }, { read = "stop" }, "close""#,
            r#""connect", { read = "stop" }, { query = "1s", wait = false }, { read = "resume" }, "disconnect""#,
            r#""connect", { read = "stop" }, { query = "1s" }"#,
            r#""connect", { query = "1h", wait = false }, { close = "half" }, { think = "1s" }, "close", "connect""#,
            r#""connect", { close = "half" }, { read = "1B/s" }, { idle = "forever" }"#,
            r#""connect", { replication = "1m" }, { query = "1s" }"#,
        ] {
            assert_eq!(wrong(steps), [""; 0], "{steps}");
        }
    }

    #[test]
    fn a_step_that_needs_a_session_is_told_once_why_there_is_none() {
        assert_eq!(wrong(r#""begin", "commit""#), ["\"begin\": not connected yet"]);
        assert_eq!(
            wrong(r#""close", "connect""#),
            ["\"close\": not connected yet", "\"connect\": expected no second connection"]
        );
        assert_eq!(wrong(r#""connect", "disconnect", "begin""#), ["\"begin\": the connection is closed"]);
        assert_eq!(wrong(r#"{ connect = { until = "tcp" } }, "begin""#), ["\"begin\": no session"]);
        assert_eq!(wrong(r#""connect", { partial = 5 }, "disconnect""#), ["\"disconnect\": inside a message"]);
    }

    #[test]
    fn a_client_has_one_connection() {
        assert_eq!(wrong(r#""connect", "connect""#), ["\"connect\": expected no second connection"]);
        assert_eq!(wrong(r#"{ repeat = 2, steps = ["connect"] }"#), ["\"connect\": expected no second connection"]);
        assert_eq!(wrong(r#"{ repeat = 1, steps = ["connect"] }"#), [""; 0]);
    }

    #[test]
    fn a_sync_point_needs_something_before_it() {
        let nothing = |word: &str| format!("{word:?}: expected a `prepare` or `execute` step before");
        assert_eq!(wrong(r#""connect", "flush""#), [nothing("flush")]);
        assert_eq!(wrong(r#""connect", { execute = "1s" }, "sync", "sync""#), [nothing("sync")]);
        assert_eq!(wrong(r#""connect", { execute = "1s" }, { query = "1s" }, "sync""#), [nothing("sync")]);
    }

    #[test]
    fn a_step_after_one_without_end_is_never_reached() {
        let never = ["\"close\": not after …"];
        for endless in [
            r#"{ idle = "forever" }"#,
            r#"{ repeat = "forever", steps = [{ query = "1s" }] }"#,
            r#"{ pipeline = ["begin"], repeat = "forever" }"#,
            r#"{ replication = "forever" }"#,
            r#"{ repeat = 2, steps = [{ idle = "forever" }] }"#,
        ] {
            assert_eq!(wrong(&format!(r#""connect", {endless}, "close", "connect""#)), never, "{endless}");
        }
    }

    #[test]
    fn a_repeat_without_end_lets_time_pass() {
        for step in [r#"{ think = "0s" }"#, r#"{ wait_until = "1s" }"#, r#"{ execute = "1s" }"#] {
            let endless = format!(r#"{{ repeat = "forever", steps = [{step}] }}"#);
            assert_eq!(wrong(&format!("\"connect\", {endless}")), [format!("{endless}: nothing here waits")]);
        }
    }

    #[test]
    fn a_client_that_does_not_read_gets_no_further_than_a_step_that_waits() {
        for waits in [r#"{ query = "1s" }"#, "{ copy_out = 1 }", "{ copy_in = 1 }", r#""listen""#] {
            let steps = format!(r#""connect", {{ read = "stop" }}, {waits}, {{ read = "resume" }}"#);
            assert_eq!(wrong(&steps), [r#"{ read = "resume" }: not after …"#], "{steps}");
        }
        let stops = r#""connect", { copy_in = 3, stops_after = 1 }, "close""#;
        assert_eq!(wrong(stops), ["\"close\": not after …"]);
    }

    #[test]
    fn reading_needs_a_connection_and_something_to_resume() {
        assert_eq!(wrong(r#"{ read = "stop" }, "connect""#), [r#"{ read = "stop" }: there is none"#]);
        assert_eq!(wrong(r#""connect", "close", { read = "1B/s" }"#), [r#"{ read = "1B/s" }: there is none"#]);
        assert_eq!(wrong(r#""connect", { read = "resume" }"#), [r#"{ read = "resume" }: nothing to resume"#]);
        let again = r#""connect", { read = "stop" }, "close", "connect", { read = "resume" }"#;
        assert_eq!(wrong(again), [r#"{ read = "resume" }: nothing to resume"#]);
    }

    #[test]
    fn a_fetch_needs_its_cursor() {
        assert_eq!(wrong(r#""connect", "begin", { fetch = "c" }"#), [r#"{ fetch = "c" }: expected nothing"#]);
        let slip = r#""connect", "begin", { declare = "cursor" }, { fetch = "cursr" }"#;
        assert_eq!(wrong(slip), [r#"{ fetch = "cursr" }: did you mean `cursor`?"#]);
        let gone = r#""connect", "begin", { declare = "c" }, "close", "connect", "begin", { fetch = "c" }"#;
        assert_eq!(wrong(gone).len(), 1);
    }

    #[test]
    fn nothing_comes_after_a_reset_or_a_vanished_machine_but_another_connection() {
        for end in ["reset", "vanish"] {
            assert_eq!(wrong(&format!(r#""connect", "{end}", "begin""#)), ["\"begin\": the connection is closed"]);
            assert_eq!(wrong(&format!("{end:?}")), [format!("{end:?}: not connected yet")]);
        }
    }

    #[test]
    fn who_has_closed_its_side_asks_for_nothing_more() {
        let closed = |step: &str| wrong(&format!(r#""connect", {{ close = "half" }}, {step}"#));
        assert_eq!(closed(r#""begin""#), ["\"begin\": this client has closed its side"]);
        assert_eq!(closed(r#"{ close = "half" }"#), [r#"{ close = "half" }: this client has closed its side"#]);
        assert_eq!(closed(r#""connect""#), ["\"connect\": expected no second connection"]);
        assert_eq!(wrong(r#""connect", { close = "haf" }"#), [r#""haf": did you mean `half`?"#]);
    }

    #[test]
    fn a_pipeline_holds_statements_only() {
        let expected = "expected one of `query`, `insert`, `begin`, `commit`, `rollback`";
        let steps = r#""connect", { pipeline = ["begin", "sync", { think = "1s" }] }"#;
        assert_eq!(wrong(steps), [format!("\"sync\": {expected}"), format!("{{ think = \"1s\" }}: {expected}")]);
    }

    #[test]
    fn a_time_that_is_over_is_not_waited_for() {
        let steps = r#"{ think = "1m" }, "connect", { wait_until = "59s" }"#;
        assert_eq!(wrong(steps), ["{ wait_until = \"59s\" }: the pauses before it last until 1m"]);
    }

    #[test]
    fn no_client_has_more_steps_than_can_be_done() {
        let inner = r#"{ repeat = 1000000, steps = [{ query = "1ms" }] }"#;
        assert_eq!(wrong(&format!("\"connect\", {inner}")), [""; 0]);
        assert_eq!(wrong(&format!("\"connect\", {{ repeat = 11, steps = [{inner}] }}")).len(), 1);
    }
}
