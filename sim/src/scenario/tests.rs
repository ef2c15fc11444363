use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, SchemaGenerator};

use super::read::{Fields, Table};
use super::*;

/// A client `c` that does `steps`.
fn client(steps: &str) -> String {
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
    parse("t.toml", text).unwrap_or_else(|bad| panic!("{}", bad.render(false)))
}

fn root() -> PathBuf {
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
    assert!(matches!(&long.clients[0].steps[1], Step::Query(q) if q.query.0 == Duration::from_secs(3 * 3600) && q.rows == 1000));
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
