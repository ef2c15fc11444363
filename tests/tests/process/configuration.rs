//! A process that was told something wrong does not start, and says what and where.

use process_tests::control_plane::{ControlPlane, command};
use process_tests::run;

/// Exit code and words of `lastcall serve` with these flags and this environment.
fn refused(flags: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let serve = ["serve", "--listen", "127.0.0.1:0", "--worker", "127.0.0.1:5432"];
    let output = command().args(serve).args(flags).envs(environment.iter().copied()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Flags, environment, and what must be named.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn a_value_that_does_not_parse_or_does_not_fit_stops_the_start_and_is_named_with_its_source() {
    let cases: [Case; 4] = [
        (&["--idle-grace", "soon"], &[], &["--idle-grace", "soon"]),
        (&[], &[("LASTCALL_IDLE_GRACE", "soon")], &["LASTCALL_IDLE_GRACE", "soon"]),
        (&["--idle-grace", "1s", "--lame-duck", "5s"], &[], &["idle_grace", "lame_duck"]),
        (&["--config", "/nowhere/lastcall.toml"], &[], &["--config", "/nowhere/lastcall.toml"]),
    ];
    for (flags, environment, named) in cases {
        let (code, words) = refused(flags, environment);
        assert_eq!(code, Some(2), "{words}");
        for name in named {
            assert!(words.contains(name), "{name} is not named: {words}");
        }
    }
}

#[test]
fn an_address_in_use_stops_the_start_and_is_named() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let taken = format!("127.0.0.1:{}", plane.port);
        let output = command().args(["serve", "--listen", &taken, "--worker", "127.0.0.1:5432"]).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains(&taken), "{words}");
    });
}

/// Exit code and what is printed by a subcommand that starts nothing, with these flags.
fn printed(subcommand: &str, flags: &[&str]) -> (Option<i32>, String) {
    let output = command().arg(subcommand).args(["--worker", "127.0.0.1:5432"]).args(flags).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn config_prints_each_effective_value_and_where_it_came_from() {
    let (code, text) = printed("config", &["--idle-grace", "10s"]);
    assert_eq!(code, Some(0));
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace();
    assert_eq!(line("idle_grace").collect::<Vec<_>>(), ["idle_grace", "10s", "--idle-grace"]);
    assert_eq!(line("lame_duck").collect::<Vec<_>>(), ["lame_duck", "5s", "default"]);
    let (_, json) = printed("config", &["--format", "json"]);
    assert!(json.contains(r#""from": "--worker""#), "{json}");
    let (code, json) = printed("config", &["--format", "json", "--idle-grace", "soon"]);
    assert_eq!(code, Some(2));
    assert!(json.contains(r#""settings": []"#) && json.contains("--idle-grace"), "{json}");
}

#[test]
fn check_tells_the_drain_that_a_configuration_makes_and_starts_nothing() {
    let grace = ["--termination-grace", "60s"];
    let (code, text) = printed("check", &grace);
    assert_eq!(code, Some(0));
    let wall = text.lines().find(|line| line.contains("the wall")).expect("a known grace has a wall");
    assert!(wall.trim_start().starts_with("40s"), "{text}");
    // Without it nobody knows when the SIGKILL comes.
    assert_eq!(printed("check", &["--deny-warnings"]).0, Some(1));
    assert_eq!(printed("check", &[&grace[..], &["--deny-warnings"]].concat()).0, Some(0));
    let (code, json) = printed("check", &["--format", "json", "--idle-grace", "soon"]);
    assert_eq!(code, Some(2));
    assert!(json.contains("--idle-grace: idle_grace"), "{json}");
}
