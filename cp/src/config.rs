//! The configuration: flag over environment over file over default, and everything that is wrong with it at once.
//!
//! Flags, environment and file speak the same language, the table of [`entries`]: a value is a text until the one place
//! that knows the setting parses it. Nothing here touches the process: the flags, the environment and the way to read a
//! file are given.
//!
//! A value that is wrong is an error even where another source overrides it: it would bite whoever takes that away.

mod address;
mod draft;
mod error;
mod file;
mod plan;
mod suggest;
mod table;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use address::reachable;
use draft::Draft;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use plan::{Probes, Step, plan};
pub use table::{Entry, entries, json, markdown};

use crate::log::{self, LogFormat};
use crate::records::Target;
use crate::tls::{SslMode, TlsFiles};
use lastcall_core::settings::{SettingError, parse_duration, print_duration};
use lastcall_core::{Drain, DrainPolicy, Settings, Time};
use lastcall_world::Tcp;

/// What the process was told, every value parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect, as `host:port`.
    pub listen: String,
    /// Where the workers are, each as `host:port`; none for the embedded engine.
    pub workers: Vec<String>,
    /// Where `/readyz`, `/livez`, `/metrics` and `/drain` are served, as `host:port`, if anywhere.
    pub admin: Option<String>,
    /// The file with the token that whoever changes something over the admin port must know, if any.
    pub admin_token_file: Option<String>,
    /// Where the next process on this machine takes the listening sockets over, if anywhere: a Unix socket.
    pub handover_socket: Option<String>,
    /// Encryption: files, and what is required.
    pub tls: TlsFiles,
    /// How dead connections are found.
    pub tcp: Tcp,
    /// Where records go.
    pub records: Target,
    /// Between two checkpoints of a session; zero for none.
    pub records_checkpoint: Duration,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Which lines are logged; parses as [`log::filter`].
    pub log: String,
    /// The settings of the drain and of the steady state. They fit together.
    pub settings: Settings,
    /// Where each value that is not a default came from, by name.
    pub origins: BTreeMap<&'static str, Origin>,
    /// What the log should say at start: what is probably a mistake, but no reason to stop.
    pub warnings: Vec<String>,
}

/// Everything that a configuration is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The file named by `--config`.
    pub file: Option<String>,
    /// The flags that were given, by the name of their setting (`idle_grace`).
    pub flags: BTreeMap<String, String>,
    /// The environment, whole.
    pub environment: BTreeMap<String, String>,
}

impl Config {
    /// The defaults, with this worker.
    pub fn new(worker: impl Into<String>) -> Self {
        Config {
            listen: "127.0.0.1:6432".to_owned(),
            workers: vec![worker.into()],
            admin: None,
            admin_token_file: None,
            handover_socket: None,
            tls: TlsFiles::default(),
            tcp: Tcp { keepalive: Duration::from_secs(60), user_timeout: Duration::ZERO },
            records: Target::Log,
            records_checkpoint: Duration::from_secs(60),
            log_format: LogFormat::default(),
            log: "info".to_owned(),
            settings: Settings::default(),
            origins: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// The configuration that `sources` make. `read` returns the text of a file.
    ///
    /// # Errors
    /// Everything that is wrong, in the order file, environment, flags, and last what does not fit together.
    pub fn load(sources: &Sources, read: impl FnOnce(&str) -> io::Result<String>) -> Result<Config, ConfigErrors> {
        let mut draft = Draft::new();
        draft.take_file(sources, read);
        draft.take_environment(&sources.environment);
        draft.take_flags(&sources.flags);
        let mut config = draft.finish()?;
        config.warnings.extend(early_wall(&config.settings));
        config.warnings.extend(unknown_grace(&config.settings));
        config.warnings.extend(old_policy(&config.settings));
        config.warnings.extend(itself(&config));
        Ok(config)
    }

    /// Where the value of the setting called `name` came from.
    pub fn origin(&self, name: &str) -> &Origin {
        self.origins.get(name).unwrap_or(&Origin::Default)
    }

    /// What differs from the defaults and why, as the log tells it at start: `idle_grace=10s (--idle-grace)`.
    pub fn told(&self) -> String {
        let told: Vec<String> = self
            .origins
            .iter()
            .map(|(name, origin)| format!("{name}={} ({origin})", self.value(name).unwrap_or_default()))
            .collect();
        told.join(", ")
    }

    /// The value of the setting called `name`, as a file would have it; `None` if there is no such setting.
    pub fn value(&self, name: &str) -> Option<String> {
        let path = |path: &Option<String>| Some(path.clone().unwrap_or_else(|| UNSET.to_owned()));
        match name {
            "listen" => Some(self.listen.clone()),
            "worker" if self.workers.is_empty() => Some(EMBEDDED.to_owned()),
            "worker" => Some(self.workers.join(",")),
            "admin" => Some(self.admin.clone().unwrap_or_else(|| UNSET.to_owned())),
            "admin_token_file" => path(&self.admin_token_file),
            "handover_socket" => path(&self.handover_socket),
            "tls_cert" => path(&self.tls.cert),
            "tls_key" => path(&self.tls.key),
            "tls_client_ca" => path(&self.tls.client_ca),
            "tls_required" => Some(self.tls.required.to_string()),
            "worker_sslmode" => Some(self.tls.worker_sslmode.to_string()),
            "worker_tls_ca" => path(&self.tls.worker_ca),
            "tcp_keepalive" => Some(print_duration(self.tcp.keepalive)),
            "tcp_user_timeout" => Some(print_duration(self.tcp.user_timeout)),
            "records" => Some(match &self.records {
                Target::Log => "log".to_owned(),
                Target::Stdout => "stdout".to_owned(),
                Target::File(path) => path.display().to_string(),
            }),
            "records_checkpoint" => Some(print_duration(self.records_checkpoint)),
            "log_format" => Some(self.log_format.to_string()),
            "log" => Some(self.log.clone()),
            _ => self.settings.setting(name),
        }
    }

    fn set(&mut self, entry: &Entry, value: &str) -> Result<(), SettingError> {
        let invalid = || SettingError::Invalid {
            setting: entry.name,
            value: address::without_credentials(value),
            valid: entry.valid.clone(),
        };
        let file = |value: &str| (value != UNSET).then(|| value.to_owned());
        match entry.name {
            "listen" => self.listen = address::bindable(value).ok_or_else(invalid)?,
            "worker" if value == EMBEDDED && cfg!(feature = "embedded") => self.workers.clear(),
            "worker" => self.workers = workers(value).ok_or_else(invalid)?,
            "admin" if value == UNSET => self.admin = None,
            "admin" => self.admin = Some(address::bindable(value).ok_or_else(invalid)?),
            "admin_token_file" => self.admin_token_file = file(value),
            "handover_socket" => self.handover_socket = file(value),
            "tls_cert" => self.tls.cert = file(value),
            "tls_key" => self.tls.key = file(value),
            "tls_client_ca" => self.tls.client_ca = file(value),
            "tls_required" => self.tls.required = value.parse().map_err(|_| invalid())?,
            "worker_sslmode" => self.tls.worker_sslmode = SslMode::named(value).ok_or_else(invalid)?,
            "worker_tls_ca" => self.tls.worker_ca = file(value),
            "tcp_keepalive" => self.tcp.keepalive = tcp_time(value).ok_or_else(invalid)?,
            "tcp_user_timeout" => self.tcp.user_timeout = tcp_time(value).ok_or_else(invalid)?,
            "records" => {
                self.records = match value {
                    "" => return Err(invalid()),
                    "log" => Target::Log,
                    "stdout" => Target::Stdout,
                    path => Target::File(path.into()),
                }
            }
            "records_checkpoint" => self.records_checkpoint = parse_duration(value).ok_or_else(invalid)?,
            "log_format" => self.log_format = LogFormat::named(value).ok_or_else(invalid)?,
            "log" => {
                log::filter(value).ok_or_else(invalid)?;
                self.log = value.to_owned();
            }
            name => self.settings.set(name, value)?,
        }
        Ok(())
    }
}

/// The longest time that is asked of the kernel; it takes no more than nine hours before the first probe.
const LONGEST_TCP_TIME: Duration = Duration::from_secs(8 * 60 * 60);

/// Names of workers that may be given.
const MAX_WORKERS: usize = 16;

/// One, or several with commas between them.
fn workers(text: &str) -> Option<Vec<String>> {
    let workers: Vec<String> =
        text.split(',').map(|worker| address::reachable(worker.trim())).collect::<Option<_>>()?;
    (workers.len() <= MAX_WORKERS).then_some(workers)
}

/// Zero, or what the kernel takes: it counts in whole seconds.
fn tcp_time(text: &str) -> Option<Duration> {
    let valid = |time: &Duration| time.is_zero() || (Duration::from_secs(1)..=LONGEST_TCP_TIME).contains(time);
    parse_duration(text).filter(valid)
}

/// How a file says that the embedded engine is the worker.
const EMBEDDED: &str = "embedded";

/// How a file says that there is no value.
const UNSET: &str = "unset";

/// A wall that stands before the grace is over ends what the grace is there for: allowed, and hardly ever meant.
fn early_wall(settings: &Settings) -> Option<String> {
    let mut drain = Drain::new(Arc::new(settings.clone()));
    drain.handle_signal(Time::EPOCH);
    let before = settings.idle_grace.saturating_sub(Duration::from_nanos(1));
    let early = settings.drain_policy == DrainPolicy::IdleAware && drain.is_walled(Time::from_epoch(before));
    early.then(|| {
        format!(
            "the wall stands before idle_grace, which is {}, is over: every drain will cancel what runs then and exit with \
             code 3. Lower idle_grace, or raise handover_drain_timeout, or termination_grace less teardown_budget",
            print_duration(settings.idle_grace)
        )
    })
}

/// Without the pod's grace nobody knows when the SIGKILL comes, and no wall stands before it.
fn unknown_grace(settings: &Settings) -> Option<String> {
    let is_missed = settings.termination_grace.is_none() && settings.drain_policy == DrainPolicy::IdleAware;
    is_missed.then(|| {
        "termination_grace is not told: what still runs at the pod's SIGKILL is cut without a word. Tell the pod's \
         terminationGracePeriodSeconds (--termination-grace), and a wall stands before it"
            .to_owned()
    })
}

/// What the policies do that are there to be compared with.
fn old_policy(settings: &Settings) -> Option<String> {
    let Settings { drain_policy, handover_drain_timeout: timeout, termination_grace, .. } = settings;
    match drain_policy {
        DrainPolicy::IdleAware => None,
        DrainPolicy::Unbounded => Some(
            "drain_policy unbounded has no wall: one idle client holds the process to its SIGKILL, which cuts what runs then \
             without a word, whatever handover_drain_timeout and termination_grace say"
                .to_owned(),
        ),
        DrainPolicy::Flat => Some(match termination_grace.filter(|grace| timeout.is_zero() || grace <= timeout) {
            Some(grace) => format!(
                "drain_policy flat waits for idle clients, and the SIGKILL at termination_grace, {}, comes before \
                 handover_drain_timeout, {}: it cuts what runs then without a word",
                print_duration(grace),
                print_duration(*timeout)
            ),
            None => "drain_policy flat waits for idle clients, and cuts what runs at handover_drain_timeout".to_owned(),
        }),
    }
}

/// Addresses that can't be right together.
fn itself(config: &Config) -> Option<String> {
    let listen = &config.listen;
    if config.admin.as_ref() == Some(listen) {
        return Some(format!("admin and listen are the same address, {listen}: only one of them can be served there"));
    }
    (config.workers.contains(listen))
        .then(|| format!("worker and listen are the same address, {listen}: it would be its own worker"))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn map(pairs: Pairs<'_>) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Loads these flags, this environment and this text of `lastcall.toml`.
    fn load(flags: Pairs<'_>, environment: Pairs<'_>, file: &str) -> Result<Config, ConfigErrors> {
        let sources =
            Sources { file: Some("lastcall.toml".to_owned()), flags: map(flags), environment: map(environment) };
        Config::load(&sources, |path| {
            assert_eq!(path, "lastcall.toml");
            Ok(file.to_owned())
        })
    }

    #[test]
    fn a_wall_before_the_end_of_the_grace_is_a_warning() {
        let warnings = |flags: Pairs<'_>| load(&[&[WORKER], flags].concat(), &[], "").unwrap().warnings;
        let [warning] = &warnings(&[("termination_grace", "30s")])[..] else { panic!("one warning") };
        assert!(warning.starts_with("the wall stands before idle_grace, which is 30s, is over"), "{warning}");
        assert_eq!(warnings(&[("termination_grace", "50s")]), [""; 0]);
        assert_eq!(warnings(&[("termination_grace", "30s"), ("idle_grace", "10s")]), [""; 0]);
        let flat = [("drain_policy", "flat"), ("handover_drain_timeout", "10s"), ("termination_grace", "1h")];
        let [warning] = &warnings(&flat)[..] else { panic!("one warning") };
        assert!(warning.starts_with("drain_policy flat waits for idle clients, and cuts"), "{warning}");
    }

    #[test]
    fn an_old_policy_is_a_warning_and_so_are_addresses_that_exclude_each_other() {
        let warned = |flags: Pairs<'_>, word: &str| {
            let warnings = load(&[&[WORKER, ("termination_grace", "1h")], flags].concat(), &[], "").unwrap().warnings;
            let [warning] = &warnings[..] else { panic!("one warning: {warnings:?}") };
            assert!(warning.contains(word), "{warning}");
        };
        warned(&[("drain_policy", "unbounded")], "has no wall");
        warned(
            &[("drain_policy", "flat"), ("handover_drain_timeout", "2h")],
            "the SIGKILL at termination_grace, 1h, comes before",
        );
        warned(&[("admin", "127.0.0.1:6432")], "admin and listen are the same address");
        warned(&[("listen", "pg:5432")], "it would be its own worker");
    }

    #[test]
    fn a_grace_that_was_not_told_is_a_warning() {
        let [warning] = &load(&[WORKER], &[], "").unwrap().warnings[..] else { panic!("one warning") };
        assert!(warning.starts_with("termination_grace is not told") && warning.contains("SIGKILL"), "{warning}");
        assert_eq!(load(&[WORKER], &[("LASTCALL_TERMINATION_GRACE", "24h")], "").unwrap().warnings, [""; 0]);
    }

    fn errors(flags: Pairs<'_>, environment: Pairs<'_>, file: &str) -> Vec<String> {
        load(flags, environment, file).unwrap_err().0.iter().map(ToString::to_string).collect()
    }

    const WORKER: (&str, &str) = ("worker", "pg:5432");
    const DURATION: &str = "a duration with units such as 250ms, 30s, 5m or 1h30m, or 0, at most 365d";

    #[test]
    fn a_flag_wins_over_the_environment_that_over_the_file_and_that_over_the_default() {
        let file = "idle_grace = \"20s\"\nidle_timeout = \"2m\"\nlame_duck = 0\nmax_connections = 10_000";
        let environment = [("LASTCALL_IDLE_GRACE", "40s"), ("LASTCALL_IDLE_TIMEOUT", "4m")];
        let config = load(&[WORKER, ("idle_grace", "10s")], &environment, file).unwrap();
        let settings = Settings {
            idle_grace: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(4 * 60),
            lame_duck: Duration::ZERO,
            ..Settings::default()
        };
        assert_eq!(config.settings, settings);
        assert_eq!(
            config.told(),
            "idle_grace=10s (--idle-grace), idle_timeout=4m (LASTCALL_IDLE_TIMEOUT), lame_duck=0 (lastcall.toml:3), \
             max_connections=10000 (lastcall.toml:4), worker=pg:5432 (--worker)"
        );
        assert_eq!(config.origin("pacing").to_string(), "default");
    }

    #[test]
    fn without_anything_but_a_worker_all_is_as_the_table_says() {
        let config = load(&[WORKER], &[], "").unwrap();
        let told = Config { origins: BTreeMap::new(), warnings: Vec::new(), ..config.clone() };
        assert_eq!(told, Config::new("pg:5432"));
        for entry in entries().iter().filter(|entry| entry.name != "worker") {
            let mut set = config.clone();
            set.set(entry, entry.default).unwrap();
            assert_eq!(set, config, "{}", entry.name);
        }
    }

    #[test]
    fn every_entry_can_be_given_in_every_way() {
        for entry in entries() {
            let value = if entry.name == "worker" { "pg:5432" } else { entry.default };
            let worker = [("LASTCALL_WORKER", "pg:5432")];
            assert!(load(&[(entry.name, value)], &worker, "").is_ok(), "{}", entry.name);
            assert!(load(&[], &[worker[0], (&entry.variable(), value)], "").is_ok(), "{}", entry.name);
            assert!(load(&[], &worker, &format!("{} = {value:?}", entry.name)).is_ok(), "{}", entry.name);
        }
    }

    #[test]
    fn the_file_is_named_by_the_flag_or_else_by_the_environment() {
        let environment = map(&[("LASTCALL_CONFIG", "env.toml"), ("LASTCALL_WORKER", "pg:5432")]);
        for (file, read) in [(None, "env.toml"), (Some("flag.toml"), "flag.toml")] {
            let sources =
                Sources { file: file.map(str::to_owned), environment: environment.clone(), ..Sources::default() };
            let config = Config::load(&sources, |path| {
                assert_eq!(path, read);
                Ok("pacing = \"none\"".to_owned())
            });
            assert_eq!(config.unwrap().origin("pacing").to_string(), format!("{read}:1"));
        }
        let sources = Sources { file: Some("gone.toml".to_owned()), ..Sources::default() };
        let errors = Config::load(&sources, |_| Err(io::Error::other("no such file"))).unwrap_err();
        assert_eq!(
            errors.to_string(),
            "1 error in the configuration, nothing was started\n  \
             --config: can't read gone.toml: no such file; valid is a readable TOML file"
        );
    }

    #[test]
    fn an_error_names_the_setting_where_it_came_from_and_what_would_be_valid_and_all_come_at_once() {
        let file = "# Grace\nidle_grce = \"1s\"\nport = 6432\npacing = false\n\n[proxy]\nidle_grace = \"1s\"";
        let environment = [("LASTCALL_STALL_GRACE", "30"), ("LASTCALL_LOG", "cp=loud")];
        let flags = [WORKER, ("idle_grace", "4s"), ("max_connections", "many")];
        assert_eq!(
            errors(&flags, &environment, file),
            [
                "lastcall.toml:2: no setting is called idle_grce; did you mean idle_grace?",
                "lastcall.toml:3: no setting is called port; `lastcall settings` lists them all",
                "lastcall.toml:4: pacing: a value of type boolean is not valid; valid is text in quotes or a number: one of even, none",
                "lastcall.toml:6: no setting is called proxy; `lastcall settings` lists them all",
                "LASTCALL_LOG: log: \"cp=loud\" is not valid; valid is a level (error, warn, info, debug, trace, off), \
                 or levels of modules such as info,cp::relay=debug",
                &format!("LASTCALL_STALL_GRACE: stall_grace: \"30\" is not valid; valid is {DURATION}"),
                "--max-connections: max_connections: \"many\" is not valid; valid is a whole number from 1 to 4294967295",
                "--idle-grace: idle_grace: 4s is below lame_duck, which is 5s; valid is 5s or more \
                 (lame_duck has its default)",
            ]
        );
    }

    #[test]
    fn a_setting_that_did_not_parse_is_not_held_against_another() {
        let environment = [("LASTCALL_LAME_DUCK", "1x")];
        assert_eq!(
            errors(&[WORKER, ("idle_grace", "1s")], &environment, ""),
            [format!("LASTCALL_LAME_DUCK: lame_duck: \"1x\" is not valid; valid is {DURATION}")]
        );
    }

    #[test]
    fn a_misfit_names_both_origins() {
        assert_eq!(
            errors(&[WORKER, ("drain_policy", "flat")], &[], "handover_drain_timeout = 0\nstall_grace = 0"),
            [
                "lastcall.toml:1: handover_drain_timeout: 0 leaves no wall for drain_policy, which is flat; valid is a \
                 duration above 0 (drain_policy is from --drain-policy)",
                "lastcall.toml:2: stall_grace: \"0\" is not valid; valid is a duration above 0",
            ]
        );
    }

    #[test]
    fn a_wrong_value_is_an_error_even_where_another_overrides_it() {
        assert_eq!(
            errors(&[WORKER, ("pacing", "even")], &[], "pacing = \"odd\""),
            ["lastcall.toml:1: pacing: \"odd\" is not valid; valid is one of even, none"]
        );
    }

    #[test]
    fn a_file_that_is_no_toml_says_where_and_nothing_that_would_follow_from_it() {
        let errors = errors(&[], &[], "worker = \"pg:5432\"\nidle_grace 30s\n");
        assert!(errors.iter().all(|error| error.starts_with("lastcall.toml:2: ")), "{errors:?}");
        assert!(errors[0].ends_with("; valid is TOML, one `name = \"value\"` a line"), "{errors:?}");
    }

    #[test]
    fn a_worker_is_required_in_a_pod_and_the_embedded_engine_can_be_asked_for_there() {
        let pod = ("KUBERNETES_SERVICE_HOST", "10.96.0.1");
        assert_eq!(load(&[], &[], "").unwrap().workers, [] as [&str; 0]);
        assert_eq!(load(&[("worker", "embedded")], &[pod], "").unwrap().workers, [] as [&str; 0]);
        assert_eq!(load(&[("worker", "a:1, b:2")], &[pod], "").unwrap().workers, ["a:1", "b:2"]);
        assert_eq!(
            errors(&[], &[pod], ""),
            ["worker: not set; set --worker, LASTCALL_WORKER, or worker in the file to host:port, \
              such as 127.0.0.1:6432, [::1]:6432 or workers.internal:5432"]
        );
    }

    #[test]
    fn a_password_in_a_connection_string_is_not_shown() {
        let errors = errors(&[("worker", "postgres://app:hunter2@pg:5432/app")], &[], "");
        assert!(errors[0].starts_with("--worker: worker: \"…@pg:5432/app\" is not valid"), "{errors:?}");
    }

    #[test]
    fn an_unknown_variable_is_a_warning_unless_kubernetes_put_it_there() {
        let environment = [
            ("LASTCALL_IDLE_GRCE", "1s"),
            ("LASTCALL_PORT", "tcp://10.0.0.1:6432"),
            ("LASTCALL_PORT_6432_TCP_PROTO", "tcp"),
            ("LASTCALL_SERVICE_HOST", "10.0.0.1"),
            ("LASTCALL_SECRET", "hunter2"),
            ("PATH", "/bin"),
        ];
        assert_eq!(
            load(&[WORKER, ("termination_grace", "24h")], &environment, "").unwrap().warnings,
            [
                "environment variable LASTCALL_IDLE_GRCE is not a setting and is ignored; did you mean LASTCALL_IDLE_GRACE?",
                "environment variable LASTCALL_SECRET is not a setting and is ignored",
            ]
        );
    }

    #[test]
    fn the_kernel_is_asked_for_no_time_that_it_would_not_take() {
        let set = |value| load(&[WORKER, ("tcp_keepalive", value)], &[], "").map(|config| config.tcp.keepalive);
        assert_eq!((set("0").unwrap(), set("8h").unwrap()), (Duration::ZERO, Duration::from_secs(8 * 60 * 60)));
        assert!(set("999ms").is_err() && set("9h").is_err());
    }

    #[test]
    fn the_common_log_filter_is_taken_where_ours_is_not_set() {
        let common = ("RUST_LOG", "debug");
        let config = load(&[WORKER], &[common], "log = \"warn\"").unwrap();
        assert_eq!((config.log.as_str(), config.origin("log").to_string()), ("debug", "RUST_LOG".to_owned()));
        assert_eq!(load(&[WORKER], &[common, ("LASTCALL_LOG", "trace")], "").unwrap().log, "trace");
    }
}
