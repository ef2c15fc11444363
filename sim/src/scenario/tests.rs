//! The file format as a whole, from texts to scenarios and mistakes.

mod deployment;
mod events;

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::cast::statement::{self, Statement, Work};

/// A client `c` that does `steps`.
pub(super) fn client(steps: &str) -> String {
    format!("title = \"t\"\n[[client]]\nname = \"c\"\nsteps = [{steps}]\n")
}

const SIGNAL: &str = "[[event]]\nat = \"1m\"\ndo = \"sigterm\"\n";

/// What is wrong with a text: message, label and help of each mistake, and the text under its mark.
#[track_caller]
fn wrong(text: &str) -> Vec<String> {
    let bad = parse("t.toml", text).expect_err("a mistake");
    let told = |problem: &Problem| {
        let help = problem.remedy().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("<{}> {}: {}{help}", &text[problem.span()], problem.message(), problem.label())
    };
    bad.problems().iter().map(told).collect()
}

/// The only thing that is wrong with a text.
#[track_caller]
fn only(text: &str) -> String {
    match <[String; 1]>::try_from(wrong(text)) {
        Ok([only]) => only,
        Err(many) => panic!("expected one mistake: {many:#?}"),
    }
}

#[track_caller]
fn right(text: &str) -> Scenario {
    parse("t.toml", &with_a_purpose(text)).unwrap_or_else(|bad| panic!("{}", bad.render(false)))
}

/// The same file, in which something happens and of which something is expected.
pub(super) fn with_a_purpose(text: &str) -> String {
    let event = if text.contains("[[event]]") { "" } else { "[[event]]\nat = \"6d\"\ndo = \"sigkill\"\n" };
    let expects = text.contains("expect") || text.contains("fails_under");
    let expect = if expects { "" } else { "[expect]\ntimeline = [\"killed\"]\n" };
    format!("{text}\n{event}{expect}")
}

pub(super) fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios"))
}

#[test]
fn the_acceptance_scenarios_say_what_they_look_like() {
    let of = |name: &str| match load(&root().join("acceptance").join(name)) {
        Ok(file) => file.scenario,
        Err(error) => panic!("{}", error.render(false)),
    };
    let idle = of("idle-clients-cannot-hold-the-pod.toml");
    assert_eq!(idle.clients[0].count, 40);
    assert_eq!(idle.clients[0].steps[2], Step::Idle(Idle { idle: Patience::Forever }));
    assert_eq!(idle.expect.exit.as_ref().unwrap().code, Some(0));
    assert_eq!(idle.expect.client["dashboard"].ends.as_deref(), Some("57P01"));
    assert_eq!(idle.fails_under[0].breaks, [Promise::BoundedExit]);
    assert_eq!(idle.fails_under[0].settings.to_string(), "drain_policy = \"unbounded\"");

    let long = of("long-query-is-not-cut.toml");
    assert!(
        matches!(&long.clients[0].steps[1], Step::Query(q) if q.query.0 == Duration::from_secs(3 * 3600) && q.rows == 1000)
    );
    assert_eq!(long.expect.client["late"].answered, Some(Answered::All));

    let opened = of("transaction-opened-during-the-drain-commits.toml");
    assert_eq!(opened.why, "");
    assert_eq!(opened.expect.client["checkout"].committed, Some(2));
}

#[test]
fn every_file_in_the_repository_is_found_and_read() {
    let found = find(&root()).unwrap();
    assert!(found.len() >= 3 && found.is_sorted(), "{found:?}");
    for path in found {
        load(&path).unwrap_or_else(|error| panic!("{}", error.render(false)));
    }
}

#[test]
fn a_file_that_is_not_there_says_which() {
    let error = load(Path::new("/nowhere/a.toml")).unwrap_err();
    assert!(error.render(false).starts_with("/nowhere/a.toml: "), "{error}");
}

#[test]
fn a_file_that_tests_nothing_is_a_mistake() {
    assert_eq!(
        wrong("title = \"t\""),
        [
            "<\"t\"> nothing happens in this file: it has no `[[event]]` (add one: [[event]] with at = \"1m\" and do = \
             \"sigterm\")",
            "<\"t\"> nothing is expected in this file: it has no `[expect]` (what must come out, such as `exit = { within = \
             \"31s\", code = 0 }`, or in a `[[fails_under]]` what must break)",
        ]
    );
    assert_eq!(wrong(&format!("title = \"t\"\n{SIGNAL}")).len(), 1);
    // It can be tried all the same.
    let tried = parse_for(Purpose::Tried, "t.toml", "title = \"t\"").expect("it says nothing wrong");
    assert_eq!(warnings(&tried).len(), 2);
    right(&format!("title = \"t\"\n{SIGNAL}[[fails_under]]\nlame_duck = \"0s\"\nbreaks = [\"never-cut\"]\n"));
}

#[test]
fn two_graces_that_differ_are_a_warning_and_no_mistake() {
    let graces = |pod: &str, told: &str| {
        warnings(&right(&format!("title = \"t\"\n[pod]\n{pod}\n[drain]\n{told}\n{SIGNAL}"))).join("")
    };
    let differ = graces("termination_grace = \"2h\"", "termination_grace = \"1h\"");
    assert!(differ.starts_with("the SIGKILL comes at `[pod] termination_grace`, 2h, and the control plane is told 1h"));
    assert_eq!(graces("termination_grace = \"2h\"", "termination_grace = \"2h\""), "");
    assert_eq!(graces("termination_grace = \"2h\"", ""), "");
}

#[test]
fn what_a_client_was_told_adds_up_to_its_connections() {
    let told =
        |told: &str| format!("{}count = 50\n{SIGNAL}[expect]\nclient.c = {{ told = {told} }}\n", client("\"connect\""));
    assert_eq!(
        right(&told("{ 57P01 = 47, \"connect failed\" = 3 }")).expect.client["c"].told.as_ref().unwrap().len(),
        2
    );
    assert!(only(&told("{ 57P01 = 47 }")).contains("`c` opens 50 connections: counts 47"));
    assert!(only(&told("{ 57p01 = 50 }")).contains("no connection ends with \"57p01\": did you mean \"57P01\"?"));
    assert!(only(&told("{}")).contains("`told` counts nothing"));
    assert!(only(&told("5")).contains("`told` is a whole number: expected a table of numbers"));
}

#[test]
fn a_pod_without_clients_is_a_scenario() {
    assert!(right("title = \"t\"").clients.is_empty());
}

#[test]
fn a_bad_file_is_shown_whole() {
    let text = include_str!("bad.toml");
    insta::assert_snapshot!(parse("scenarios/bad.toml", text).unwrap_err().render(false));
}

#[test]
fn mistakes_in_the_toml_are_shown_a_line_each() {
    let text = "title = \"t\nwhy = forever\nseeds = = 3\n[[client]]\nname = \"a\"\nname = \"b\"\n";
    insta::assert_snapshot!(parse("scenarios/bad.toml", text).unwrap_err().render(false));
}

#[test]
fn colours_come_only_when_asked_for() {
    let bad = parse("t.toml", "").unwrap_err();
    assert!(bad.render(true).contains('\u{1b}'));
    assert!(!bad.render(false).contains('\u{1b}'));
}

#[test]
fn an_unknown_key_is_told_with_the_one_that_was_meant() {
    assert_eq!(only("title = \"t\"\nevnt = 1"), "<evnt> a scenario has no `evnt`: unknown key (did you mean `event`?)");
    let text = client(r#""connect", { query = "1s", rowz = 3 }"#);
    assert_eq!(only(&text), "<rowz> a `query` step has no `rowz`: unknown key (did you mean `rows`?)");
    let text = client(r#""connect", { query = "1s", think = "1s" }"#);
    assert_eq!(
        only(&text),
        "<think> a `query` step has no `think`: unknown key (one step, one word: `think` is a step of its own)"
    );
}

#[test]
fn a_setting_outside_the_drain_table_is_told_where_it_belongs() {
    assert_eq!(
        only("title = \"t\"\nidle_grace = \"1m\""),
        "<idle_grace> a scenario has no `idle_grace`: unknown key \
         (`idle_grace` is a setting of the control plane: it belongs in `[drain]`)"
    );
}

#[test]
fn a_table_where_an_array_of_tables_belongs_is_told_so() {
    assert_eq!(
        only("title = \"t\"\n[client]\nname = \"c\""),
        "<[client]> `client` is a table: expected an array of tables (each begins with the line `[[client]]`)"
    );
}

#[test]
fn a_key_that_was_meant_is_not_missing_too() {
    assert_eq!(only("tittle = \"t\""), "<tittle> a scenario has no `tittle`: unknown key (did you mean `title`?)");
}

#[test]
fn a_missing_key_points_at_its_table() {
    assert_eq!(
        only("title = \"t\"\n[[event]]\nat = \"1m\""),
        "<[[event]]> an event needs `do`: `do` is missing (`do`: What happens: a signal or a request to the control plane, or a fault of the network or the worker.)"
    );
}

#[test]
fn a_client_comes_back_after_a_while_and_not_for_ever() {
    let with = |reconnect: &str| format!("{}reconnect = {reconnect}\n", client("\"connect\""));
    let backs = right(&with("{}")).clients[0].reconnect.clone().unwrap();
    assert_eq!((backs.backoff.to_string().as_str(), backs.retries), ("100ms", 5));
    assert_eq!(only(&with("{ backoff = \"0s\" }")), "<\"0s\"> nobody comes back at once: expected at least 1ms");
    assert_eq!(wrong(&with("{ retries = 0 }")).len(), 1);
    assert_eq!(wrong(&with("{ max = \"1s\" }")).len(), 1);
}

#[test]
fn a_step_is_known_by_its_word_wherever_it_stands() {
    let steps = |text: &str| right(&client(text)).clients[0].steps.clone();
    assert!(matches!(&steps(r#""connect", { rows = 2, query = "1s" }"#)[1], Step::Query(q) if q.rows == 2));
    assert!(matches!(&steps(r#""connect", { query = "1s", partial = 7 }"#)[1], Step::Partial(p) if p.partial == 7));
    assert!(matches!(&steps(r#""connect", { insert = 2, execute = "1s" }"#)[1], Step::Execute(e) if e.insert == 2));
    assert!(matches!(
        &steps(r#""connect", { repeat = "forever", pipeline = ["begin"] }"#)[1],
        Step::Pipeline(p) if p.repeat == Times::Forever
    ));
    assert!(matches!(&steps(r#"{ connect = { user = "x" } }"#)[0], Step::Connect(c) if c.user.as_deref() == Some("x")));
}

#[test]
fn every_word_is_a_step_by_itself_and_as_its_example_has_it() {
    for word in Step::WORDS {
        let forms = [Some(word.like.to_owned()), word.alone.map(|_| format!("{:?}", word.name))];
        for form in forms.into_iter().flatten() {
            let bad = parse_for(Purpose::Tried, "t.toml", &client(&form)).err();
            // What has to stand before it is not there; but it is read.
            for problem in bad.iter().flat_map(|bad| bad.problems()) {
                let early = ["not connected yet", "there is none"].contains(&problem.label());
                assert!(early || problem.label().ends_with("before"), "{form}: {}", problem.label());
            }
        }
        assert!(word.help.ends_with('.') && !word.keys.iter().any(|key| key.help().is_empty()), "{}", word.name);
    }
}

#[test]
fn what_is_no_step_is_told_what_would_be_one() {
    assert_eq!(only(&client("\"conect\"")), "<\"conect\"> there is no step `conect`: did you mean `connect`?");
    assert_eq!(
        only(&client("{ rows = 1, qurey = \"1s\" }")),
        "<qurey> there is no step `qurey`: did you mean `query`?"
    );
    assert_eq!(only(&client("\"query\"")), "<\"query\"> `query` alone is not a step: write { query = \"20ms\" }");
    assert_eq!(only(&client("{ begin = true }")), "<{ begin = true }> a `begin` step takes nothing: write \"begin\"");
    assert!(only(&client("7")).starts_with("<7> `step` is a whole number: expected a word"));
    assert!(only(&client("{}")).starts_with("<{}> an empty step: expected one of `connect`, "));
    assert!(only(&client("")).starts_with("<[]> `steps` is empty: expected at least one step"));
}

#[test]
fn a_bad_value_is_told_what_would_be_valid() {
    let query = |rest: &str| wrong(&client(&format!("\"connect\", {{ query = {rest} }}"))).join("\n");
    let form = "write it like \"250ms\", \"30s\", \"5m\" or \"1h30m\"";
    assert_eq!(
        query("\"soon\""),
        format!("<\"soon\"> `query` is \"soon\", which is not a length of time: expected a length of time ({form})")
    );
    assert_eq!(
        query("\"3 hours\""),
        format!("<\"3 hours\"> `query` is \"3 hours\", which is not a length of time: did you mean \"3h\"? ({form})")
    );
    assert_eq!(
        query("20"),
        "<20> `query` is a whole number: expected a length of time (with its unit, in quotes: \"20s\" or \"20ms\")"
    );
    assert_eq!(
        query("\"8d\""),
        "<\"8d\"> `query` is too long: a run lasts 168h at most (`query`: How long the worker works before it answers.)"
    );
    assert_eq!(
        query("\"1s\", fails = \"57p01\""),
        "<\"57p01\"> `fails`: \"57p01\" is not a SQLSTATE: did you mean \"57P01\"? \
         (`fails`: The statement fails with this SQLSTATE instead of returning rows.)"
    );
    assert_eq!(
        query("\"1s\", rows = -1"),
        "<-1> `rows` is -1: expected a whole number from 0 to 10000000 (`rows`: How many rows it returns. Default 1.)"
    );
    assert!(query("\"1s\", protocol = \"simpel\"").contains("there is no protocol \"simpel\": did you mean `simple`?"));
}

#[test]
fn a_count_is_at_least_one_and_at_most_ten_thousand() {
    let text = |count: u32| format!("title = \"t\"\n[[client]]\nname = \"c\"\ncount = {count}\nsteps = [\"connect\"]");
    right(&text(10_000));
    assert_eq!(
        only(&text(0)),
        "<0> `count` is 0: expected a whole number from 1 to 10000 (`count`: How many clients do the same. Default 1.)"
    );
    assert_eq!(
        only(&text(10_001)),
        "<10001> `count` is 10001: expected a whole number from 1 to 10000 (`count`: How many clients do the same. Default 1.)"
    );
}

#[test]
fn half_a_message_is_neither_nothing_nor_all_of_it() {
    right(&client("\"connect\", { partial = 60 }"));
    for bytes in ["0", "61"] {
        let text = client(&format!("\"connect\", {{ partial = {bytes} }}"));
        assert_eq!(
            only(&text),
            format!(
                "<{bytes}> `partial` is {bytes}: expected a whole number from 1 to 60 (`partial`: How many bytes of the Query message to send first.)"
            )
        );
    }
}

#[test]
fn the_shortest_statement_is_longer_than_half_a_message() {
    let work = Work { takes: Duration::ZERO, inserts: None, rows: 1, row_bytes: 16, fails: None };
    let shortest = Statement { tag: "c.1/1".to_owned(), action: statement::Action::Work(work) };
    // Its type, its length, and the NUL behind it.
    let bytes = 1 + 4 + shortest.to_string().len() + 1;
    assert!(bytes > Partial::MAX_BYTES as usize, "{bytes}");
}

#[test]
fn names_are_names_and_each_stands_once() {
    for name in ["", "a b", "é", "a.b"] {
        let text = format!("title = \"t\"\n[[client]]\nname = {name:?}\nsteps = [\"connect\"]");
        assert!(only(&text).contains("not a name: expected 1 to 40 letters, digits, `-` or `_`"), "{name}");
    }
    let one = "[[client]]\nname = \"a\"\nsteps = [\"connect\"]\n";
    assert_eq!(
        only(&format!("title = \"t\"\n{one}{one}")),
        "<\"a\"> two clients of one name: the name is taken (alike clients are one entry with a `count`)"
    );
}

#[test]
fn settings_are_checked_as_the_control_plane_checks_them() {
    let drain = |setting: &str| only(&format!("title = \"t\"\n[drain]\n{setting}\n"));
    assert_eq!(
        drain("idle_grase = \"1m\""),
        "<idle_grase> there is no setting `idle_grase`: did you mean `idle_grace`?"
    );
    assert!(drain("drain_policy = \"flatt\"").contains("expected one of idle-aware, unbounded, flat"));
    assert!(drain("max_connections = 0").contains("expected a whole number from 1"));
    assert!(drain("idle_grace = true").contains("expected a string or a whole number"));
    assert_eq!(
        drain("idle_grace = \"1s\""),
        "<\"1s\"> these settings don't fit together: idle_grace: 1s is below lame_duck, which is 5s; valid is 5s or more"
    );
    right("title = \"t\"\n[drain]\nmax_connections = 10\nhandover_drain_timeout = 0\nidle_grace = \"1m\"");
}

#[test]
fn what_a_file_fails_under_differs_from_it_and_breaks_something() {
    let under = |keys: &str| only(&format!("title = \"t\"\n[[fails_under]]\n{keys}\n"));
    assert!(under("drain_policy = \"unbounded\"").contains("`breaks` is missing"));
    assert!(under("drain_policy = \"unbounded\"\nbreaks = []").contains("expected at least one promise"));
    assert!(under("drain_policy = \"unbounded\"\nbreaks = [\"never-cuts\"]").contains("did you mean `never-cut`?"));
    assert!(under("breaks = [\"never-cut\"]").contains("needs at least one setting"));
    assert!(under("drain_polcy = \"flat\"\nbreaks = [\"never-cut\"]").contains("did you mean `drain_policy`?"));
    assert!(
        under("drain_policy = \"flat\"\nbreaks = [\"never-cut\"]").starts_with("<\"flat\"> these settings don't fit")
    );
    assert!(under("pacing = \"none\"\nbreaks = [\"never-cut\", \"never-cut\"]").contains("stands here twice"));
}

#[test]
fn an_expectation_is_about_a_client_that_is_there() {
    let text = client("\"connect\"") + SIGNAL + "[expect]\nclient.d = { ends = \"57P01\" }";
    assert_eq!(only(&text), "<d> no client is called `d`: expected `c`");
    let text = text.replace("\"c\"", "\"dashboard\"").replace("client.d", "client.dashbord");
    assert_eq!(only(&text), "<dashbord> no client is called `dashbord`: did you mean `dashboard`?");
}

#[test]
fn an_expectation_that_can_not_be_met_or_missed_is_a_mistake() {
    let seen = |steps: &str, expect: &str| only(&(client(steps) + SIGNAL + "[expect]\n" + expect));
    let insert = r#""connect", { repeat = 3, steps = [{ insert = 2 }] }"#;
    assert!(seen(insert, "client.c.committed = 7").contains("<7> `c` can't commit so many rows: it inserts 6 at most"));
    assert!(seen(insert, "client.c.answered = 4").contains("its steps send 3 requests at most"));
    assert!(seen(insert, "client.c.ends = \"close\"").contains("it has no \"close\" step"));
    assert!(
        seen(insert, "client.c.ends = \"57P0\"")
            .contains("no connection ends with \"57P0\": neither a SQLSTATE nor a way to leave")
    );
    assert!(seen(insert, "client.c.ends = \"Reset\"").contains("did you mean \"reset\"?"));
    assert!(seen(insert, "client.c.between = [\"30s\", \"1s\"]").contains("between = [\"1s\", \"30s\"]"));
    assert!(seen(insert, "client.c = {}").contains("nothing is expected of `c`"));
    assert!(seen("{ think = \"1s\" }", "client.c.ends = \"57P01\"").contains("`c` never connects"));
    assert!(seen("\"connect\"", "exit = {}").contains("`exit` expects nothing"));
    assert!(seen("\"connect\"", "exit = { within = \"1s\", after = \"2s\" }").contains("no exit can meet this"));
}

#[test]
fn what_has_no_end_can_commit_any_number() {
    let forever = client(r#""connect", { repeat = "forever", steps = [{ insert = 1 }] }"#);
    right(&(forever + SIGNAL + "[expect]\nclient.c.committed = 1000000"));
    let nothing = client(r#""connect", { repeat = "forever", steps = [{ query = "1s" }] }"#);
    assert!(only(&(nothing + SIGNAL + "[expect]\nclient.c.committed = 1")).contains("it inserts 0 at most"));
}

#[test]
fn what_is_counted_from_the_signal_needs_one() {
    let between = client("\"connect\"") + "[expect]\nclient.c.between = [\"0s\", \"1s\"]";
    assert!(only(&between).contains("`between` is counted from the first signal: there is no signal"));
    assert!(only("title = \"t\"\n[expect]\nexit.code = 0").contains("`exit` is counted from the first signal"));
    right(&(between + "\n" + SIGNAL));
    // No event is no signal; one that can't be read is told for itself.
    assert!(only("title = \"t\"\nevent = []\n[expect]\nexit.code = 0").contains("there is no signal"));
    assert!(only("title = \"t\"\nevent = 1\n[expect]\nexit.code = 0").contains("expected an array of tables"));
}

#[test]
fn no_event_is_later_than_a_run_can_be() {
    assert!(only("title = \"t\"\n[[event]]\nat = \"8d\"\ndo = \"sigterm\"").contains("a run lasts 168h at most"));
    let late = "title = \"t\"\n[[client]]\nname = \"c\"\ncount = 10000\nstagger = \"1h\"\nsteps = [\"connect\"]";
    assert!(only(late).contains("the last of these clients never begins"));
}
