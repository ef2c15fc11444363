//! The table of everything that can be configured: what is asked of the settings' definition by the command line, the
//! help text and the README.

use serde_json::json;

use lastcall_core::settings::{Kind, SETTINGS};

/// One thing that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name: the key in the file.
    pub name: &'static str,
    /// The default, as a file would have it.
    pub default: &'static str,
    /// What it means, in one line of Markdown.
    pub help: &'static str,
    /// What would be valid, as the end of a sentence.
    pub valid: String,
    /// What the help text puts in the place of the value.
    pub value_name: &'static str,
}

impl Entry {
    /// The flag: `--idle-grace`.
    pub fn flag(&self) -> String {
        flag(self.name)
    }

    /// The environment variable: `LASTCALL_IDLE_GRACE`.
    pub fn variable(&self) -> String {
        variable(self.name)
    }
}

/// The flag for a name.
pub(super) fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// The environment variable for a name.
pub(super) fn variable(name: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", name.to_uppercase())
}

/// What every environment variable of ours begins with.
pub(super) const VARIABLE_PREFIX: &str = "LASTCALL_";

/// What a place must look like.
pub(super) const ADDRESS: &str = "host:port, such as 127.0.0.1:6432, [::1]:6432 or workers.internal:5432";

/// What the kernel takes as a time.
pub(super) const TCP_TIME: &str = "0, or a duration from 1s to 8h";

/// What a log filter must look like.
pub(super) const FILTER: &str = "a level (error, warn, info, debug, trace, off), or levels of modules such as \
                                 info,cp::relay=debug";

/// Where the process is and what it writes: what is not a setting of the drain.
fn places() -> [Entry; 17] {
    let entry = |name, value_name, default, help, valid: &str| Entry {
        name,
        value_name,
        default,
        help,
        valid: valid.to_owned(),
    };
    let address = |name, default, help, valid: &str| entry(name, "HOST:PORT", default, help, valid);
    let worker = "where the worker is, as `host:port`; several with commas, or the flag several times, or a name with several \
                  addresses: a session goes to the one with the fewest sessions that takes it. `embedded` is a small SQL engine in \
                  this process, for trying out; in a pod it must be asked for";
    let pem = |name, help| entry(name, "FILE", "unset", help, "a file, or unset");
    let sslmode = "encryption towards the worker, as libpq's `sslmode`: `disable`, `prefer`, `require`, `verify-ca` or \
                   `verify-full`; `prefer` takes a worker that has none";
    let keepalive = "a peer that has been silent for so long is probed, every 10s from then on, and gone after 3 lost \
                     probes; so is a worker that acknowledges nothing for as long; 0 = the kernel's default";
    let user_timeout = "a client that has taken none of what was sent to it for so long is gone; never short: it ends a \
                        living reader that has paused too, and replaces the 3 lost probes; 0 = the kernel's default";
    let records = "where the records of sessions go: `log`, `stdout`, or a file, as JSON lines (`lastcall records sum` adds them up)";
    let checkpoint = "how often a session that goes on is recorded, in a file or on stdout: a SIGKILL loses no more than that; 0 = never";
    let log = "which lines are logged: a level, or levels of modules; `RUST_LOG` if this is not set";
    [
        address("listen", "127.0.0.1:6432", "where clients connect, as `host:port`", ADDRESS),
        address("worker", "embedded", worker, &format!("{ADDRESS}, or several with commas, or embedded")),
        address(
            "admin",
            "unset",
            "where `/readyz`, `/livez`, `/metrics` and `/drain` are served, as `host:port`",
            &format!("{ADDRESS}, or unset"),
        ),
        pem(
            "admin_token_file",
            "file with a token in its first line that POST and DELETE on the admin port then take; reading takes none",
        ),
        entry(
            "handover_socket",
            "PATH",
            "unset",
            "Unix socket at which the next process on this machine takes the listening sockets over (`serve --take-over`)",
            "a path, or unset",
        ),
        pem(
            "tls_cert",
            "certificate chain for clients, PEM; without it they are offered no TLS. Read again on SIGHUP and when it changes",
        ),
        pem("tls_key", "its private key, PEM"),
        pem("tls_client_ca", "who may sign for clients, PEM; if set, a client must show a certificate"),
        entry(
            "tls_required",
            "BOOL",
            "false",
            "refuse sessions in the clear; cancel requests come as they come",
            "true or false",
        ),
        entry("worker_sslmode", "MODE", "disable", sslmode, "one of disable, prefer, require, verify-ca, verify-full"),
        pem("worker_tls_ca", "who may sign for workers, PEM"),
        entry("tcp_keepalive", "DURATION", "60s", keepalive, TCP_TIME),
        // Why it is not set: on Linux it takes the place of the three lost probes of `tcp_keepalive`, so a client that has
        // vanished while it was idle would stay for as long as this, and not for 90 seconds; it also ends a client that is
        // alive and keeps its window shut for so long, such as a pager in front of psql. And without it a client that has
        // vanished with bytes on their way to it is given up after some 15 minutes all the same (`tcp_retries2`).
        entry("tcp_user_timeout", "DURATION", "0", user_timeout, TCP_TIME),
        entry("records", "TARGET", "log", records, "log, stdout, or a file"),
        entry("records_checkpoint", "DURATION", "60s", checkpoint, "0, or a duration"),
        entry("log_format", "FORMAT", "text", "form of the log on stderr: `text` or `json`", "one of text, json"),
        entry("log", "FILTER", "info", log, FILTER),
    ]
}

/// Everything that can be configured, in the order of the README.
pub fn entries() -> Vec<Entry> {
    let settings = SETTINGS.iter().map(|setting| Entry {
        name: setting.name,
        default: setting.default,
        help: setting.help,
        valid: setting.kind.valid(),
        value_name: match setting.kind {
            Kind::Duration | Kind::OptionalDuration => "DURATION",
            Kind::Policy => "POLICY",
            Kind::Pacing => "PACING",
            Kind::Count => "COUNT",
        },
    });
    places().into_iter().chain(settings).collect()
}

/// The table as the README has it between its markers.
pub fn markdown() -> String {
    let mut table = "| setting | default | meaning |\n|---|---|---|\n".to_owned();
    for Entry { name, default, help, .. } in entries() {
        table.push_str(&format!("| `{name}` | `{default}` | {help} |\n"));
    }
    table
}

/// The table for programs.
pub fn json() -> serde_json::Value {
    entries()
        .iter()
        .map(|entry| {
            json!({
                "name": entry.name,
                "flag": entry.flag(),
                "variable": entry.variable(),
                "default": entry.default,
                "valid": entry.valid,
                "meaning": entry.help,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_the_table_that_the_code_has() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(path).expect("README.md is at the root of the workspace");
        let table = readme
            .split_once("<!-- settings -->\n")
            .and_then(|(_, rest)| rest.split_once("<!-- /settings -->"))
            .map(|(table, _)| table.trim())
            .expect("README.md has a line <!-- settings --> and a line <!-- /settings -->");
        assert_eq!(table, markdown().trim(), "put what `lastcall settings` prints between the markers of README.md");
    }

    #[test]
    fn a_name_gives_its_flag_and_its_variable() {
        let all = entries();
        let entry = all.iter().find(|entry| entry.name == "idle_grace").unwrap();
        assert_eq!((entry.flag().as_str(), entry.variable().as_str()), ("--idle-grace", "LASTCALL_IDLE_GRACE"));
        let settings = json().as_array().unwrap().len() - SETTINGS.len();
        assert_eq!(json()[settings]["variable"], "LASTCALL_DRAIN_POLICY");
    }

    #[test]
    fn no_cell_of_the_table_breaks_its_row() {
        for entry in entries() {
            assert!(!entry.help.contains(['|', '\n']), "{}", entry.name);
        }
    }
}
