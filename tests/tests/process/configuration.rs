//! A process that was told something wrong does not start, and says what and where.

use process_tests::control_plane::{ControlPlane, Signal, command};
use process_tests::{http, run};

use super::millis;

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

#[test]
fn settings_are_read_again_at_sighup_all_or_none_and_sessions_go_by_them() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lastcall.toml");
        let says = |text: &str| std::fs::write(&file, text).unwrap();
        says("idle_timeout = \"1h\"");
        let mut plane = ControlPlane::start(&["--config", file.to_str().unwrap()]).await;
        let mut client = plane.connect("idle").await;
        // One of them is wrong, so neither holds.
        says("idle_timeout = \"100ms\"\nidle_grace = \"soon\"");
        plane.signal(Signal::HUP);
        let refused = plane.says("configuration not reloaded").await;
        assert!(refused["errors"].as_str().unwrap().contains("idle_grace"), "{refused}");
        assert_eq!(client.value("select 'served'").await.unwrap(), "served");
        tokio::time::sleep(millis(400)).await;
        assert_eq!(client.value("select 'still'").await.unwrap(), "still");

        says("idle_timeout = \"300ms\"\ntcp_keepalive = \"30s\"");
        plane.signal(Signal::HUP);
        let taken = plane.says("configuration read again").await;
        assert_eq!(taken["changed"], "idle_timeout=300ms");
        assert_eq!(plane.says("these have changed").await["settings"], "tcp_keepalive");
        assert_eq!(client.fatal().await.code().code(), "57P05");
        assert!(plane.is_running());

        // A drain ends by the rules with which it began.
        says("lame_duck = \"0\"\nidle_grace = \"1h\"");
        assert_eq!(http::ask(plane.admin, "POST /drain", "X-Lastcall: drain\r\n").await.unwrap().0, 202);
        plane.signal(Signal::HUP);
        plane.says("the drain goes by").await;
        assert_eq!(http::ask(plane.admin, "DELETE /drain", "X-Lastcall: drain\r\n").await.unwrap().0, 200);
        let stays = plane.connect("stays").await;
        tokio::time::sleep(millis(400)).await;
        assert_eq!(stays.value("select 'an idle timeout of 15m'").await.unwrap(), "an idle timeout of 15m");
        plane.signal(Signal::QUIT);
        assert_eq!(plane.ends().await, Some(131));
    });
}

#[test]
fn a_file_that_has_become_a_pipe_is_an_error_like_another_and_not_waited_for() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lastcall.toml");
        std::fs::write(&file, "idle_timeout = \"1h\"").unwrap();
        let mut plane = ControlPlane::start(&["--config", file.to_str().unwrap()]).await;
        std::fs::remove_file(&file).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        plane.signal(Signal::HUP);
        plane.says("configuration not reloaded: the settings in use stay").await;
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, "idle_timeout = \"2h\"").unwrap();
        plane.signal(Signal::HUP);
        assert_eq!(plane.says("configuration read again").await["changed"], "idle_timeout=2h");
    });
}
