//! What the pod's process logs while it is simulated: each line with the time of the simulation and its place among the run's
//! events.
//!
//! The process logs through `tracing` and does not know who listens. A run is on one thread, so a subscriber of that thread hears
//! all of it and nothing of other runs. Listening changes nothing: a run with it has the same events as one without.

use std::io;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use lastcall_core::Time;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::{Config, Pod, Report, Reporter};
use crate::stage::AnyWorld;

/// Who logs: the control plane's packages, and the records that it writes whatever its level is.
const SPEAKERS: [&str; 4] = ["cp", "lastcall_core", "lastcall_world", "record"];

/// Which lines are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// What an operator sees by default.
    #[default]
    Info,
    /// What there is besides for whoever looks for a defect.
    Debug,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub at: Time,
    /// How many events the run had then.
    pub behind: usize,
    /// Its level and its words, without a time.
    pub text: String,
}

/// Does `run` with this pod, and returns what the pod logged meanwhile.
pub fn listen<R>(pod: &Arc<dyn Pod>, level: LogLevel, run: impl FnOnce(&Arc<dyn Pod>) -> R) -> (R, Vec<LogLine>) {
    let ear = Ear::default();
    let level = match level {
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(ear.clone())
        .with_ansi(false)
        .with_target(false)
        // The machine's own clock has no place in a simulation.
        .without_time();
    let subscriber = tracing_subscriber::registry()
        .with(Targets::new().with_targets(SPEAKERS.map(|speaker| (speaker, level))))
        .with(lines);
    let heard: Arc<dyn Pod> = Arc::new(Heard { pod: pod.clone(), ear: ear.clone() });
    let done = tracing::subscriber::with_default(subscriber, || run(&heard));
    let lines = std::mem::take(&mut ear.0.lock().expect("nothing panics while it holds this").lines);
    (done, lines)
}

/// A pod that is listened to.
struct Heard {
    pod: Arc<dyn Pod>,
    ear: Ear,
}

impl Pod for Heard {
    fn reports(&self) -> &[Report] {
        self.pod.reports()
    }

    fn run(&self, world: AnyWorld, config: Config) -> BoxFuture<'static, u8> {
        let mut hearing = self.ear.0.lock().expect("nothing panics while it holds this");
        hearing.reporter = Some(config.reporter.clone());
        drop(hearing);
        self.pod.run(world, config)
    }
}

/// Where the lines come in. Clones are one.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Hearing>>);

#[derive(Default)]
struct Hearing {
    /// Knows where in the run it is; none before the process begins.
    reporter: Option<Reporter>,
    lines: Vec<LogLine>,
}

impl<'a> MakeWriter<'a> for Ear {
    type Writer = &'a Ear;

    fn make_writer(&'a self) -> &'a Ear {
        self
    }
}

impl io::Write for &Ear {
    /// The subscriber writes an event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut hearing = self.0.lock().expect("nothing panics while it holds this");
        if let Some((at, behind)) = hearing.reporter.as_ref().map(Reporter::place) {
            let text = String::from_utf8_lossy(line).trim().to_owned();
            hearing.lines.push(LogLine { at, behind, text });
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cast::history::Event;
    use crate::cast::pod::last_call;
    use crate::cast::run::{self, EngineName};
    use crate::scenario;

    const FILE: &str = "title = \"t\"\n[[client]]\nname = \"a\"\nsteps = [\"connect\", { idle = \"forever\" }]\n\
                        [[event]]\nat = \"10s\"\ndo = \"sigterm\"\n[expect]\nexit = { code = 0 }\n";

    #[test]
    fn lines_have_the_time_of_the_run_and_their_place_in_it_on_every_engine() {
        let scenario = scenario::parse("t.toml", FILE).unwrap();
        let settings = run::settings(&scenario);
        for engine in EngineName::ALL.into_iter().filter(|engine| engine.missing().is_none()) {
            let (run, lines) =
                listen(&last_call(), LogLevel::Info, |pod| run::run(pod, &scenario, &settings, 1, engine));
            let alone = run::run(&last_call(), &scenario, &settings, 1, engine);
            assert_eq!(run.history, alone.history, "listening changed the run on {}", engine.name());
            let entries = &run.history.entries;
            let signal = entries.iter().position(|entry| matches!(entry.event, Event::SignalSent { .. })).unwrap();
            let behind = lines.iter().find(|line| line.behind > signal).expect("the drain is logged");
            assert_eq!(behind.at.since_epoch().as_secs(), 10, "{behind:?} on {}", engine.name());
            assert!(lines.is_sorted_by_key(|line| (line.at, line.behind)), "{lines:#?}");
            let last = lines.last().unwrap();
            assert!(last.at > entries[signal].at + Duration::from_secs(10), "the exit is logged: {last:?}");
        }
    }

    #[test]
    fn a_lower_level_has_more_lines() {
        let crash = "[[event]]\nat = \"1s\"\ndo = \"worker_crash\"\nback_after = \"5s\"\n[expect]";
        let late = "[[client]]\nname = \"b\"\nstart = \"2s\"\nsteps = [\"connect\", \"disconnect\"]\n[[event]]";
        let text = FILE.replacen("[[event]]", late, 1).replace("[expect]", crash);
        let scenario = scenario::parse("t.toml", &text).unwrap();
        let settings = run::settings(&scenario);
        let lines =
            |level| listen(&last_call(), level, |pod| run::run(pod, &scenario, &settings, 1, EngineName::default())).1;
        let (info, debug) = (lines(LogLevel::Info), lines(LogLevel::Debug));
        assert!(info.iter().all(|line| !line.text.starts_with("DEBUG")), "{info:#?}");
        assert!(debug.iter().any(|line| line.text.starts_with("DEBUG")), "{debug:#?}");
    }
}
