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
