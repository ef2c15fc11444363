//! The configuration of a process that runs, read again: on SIGHUP, and when it has changed.
//!
//! All of it or nothing: a configuration with an error changes nothing. The settings of the drain and of the steady state are
//! taken as they are then; the others, addresses and files, take a restart, and the log says so. In a thread of its own: a file
//! system that does not answer holds up no signal.
#![expect(clippy::disallowed_methods, reason = "files are outside of the world; nothing that is simulated has any")]

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::{Config, ConfigErrors, entries};
use lastcall_core::Settings;

/// How often it is looked whether something has changed.
const LOOK: Duration = Duration::from_secs(10);

/// Lets a regular file be read again, and nothing else: a pipe may have nobody who ever writes to it.
///
/// # Errors
/// If it is none, or is not there.
pub fn only_regular(path: &str) -> io::Result<()> {
    if std::fs::metadata(path)?.is_file() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
}

/// Whoever reads the configuration again, and what comes of it.
#[derive(Debug)]
pub struct Reload {
    ask: SyncSender<()>,
    fresh: mpsc::Receiver<Settings>,
}

impl Reload {
    /// From now on `load` is called to read it again. `config` is what the process was started with.
    ///
    /// # Errors
    /// If the process can have no more threads.
    pub fn start(
        config: Config,
        load: impl FnMut() -> Result<Config, ConfigErrors> + Send + 'static,
    ) -> io::Result<Reload> {
        let (ask, asked) = sync_channel(1);
        let (give, fresh) = mpsc::channel(1);
        let reader =
            Reader { settings: config.settings.clone(), started: config, give, said: None, stale: BTreeSet::new() };
        std::thread::Builder::new().name("configuration".to_owned()).spawn(move || reader.run(&asked, load))?;
        Ok(Reload { ask, fresh })
    }

    /// It is to be read again.
    pub(crate) fn ask(&self) {
        // One that is asked already will read what is there now.
        let _ = self.ask.try_send(());
    }

    /// The settings, when they have changed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Settings> {
        match self.fresh.poll_recv(cx) {
            Poll::Ready(Some(settings)) => Poll::Ready(settings),
            _ => Poll::Pending,
        }
    }
}

struct Reader {
    /// What the process was started with, and the settings since.
    started: Config,
    settings: Settings,
    give: mpsc::Sender<Settings>,
    /// The last errors that were said.
    said: Option<String>,
    /// What has changed and takes a restart, as far as that was said.
    stale: BTreeSet<&'static str>,
}

impl Reader {
    fn run(mut self, asked: &Receiver<()>, mut load: impl FnMut() -> Result<Config, ConfigErrors>) {
        loop {
            let is_asked = match asked.recv_timeout(LOOK) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match load() {
                Ok(config) => {
                    self.said = None;
                    self.take(&config, is_asked);
                }
                Err(errors) => self.refuse(&errors.told().join("; "), is_asked),
            }
        }
    }

    fn take(&mut self, config: &Config, is_asked: bool) {
        let differ = |name: &&str| config.value(name) != self.started.value(name);
        let is_setting = |name: &&str| self.settings.setting(name).is_some();
        let names = || entries().into_iter().map(|entry| entry.name);
        let stale: BTreeSet<&str> = names().filter(|name| !is_setting(name)).filter(differ).collect();
        if !stale.is_empty() && (is_asked || stale != self.stale) {
            let names: Vec<&str> = stale.iter().copied().collect();
            tracing::warn!(settings = names.join(", "), "these have changed, and take a restart");
        }
        self.stale = stale;
        let changed = |name: &&str| config.settings.setting(name) != self.settings.setting(name);
        let changed: Vec<String> =
            names().filter(changed).map(|name| format!("{name}={}", config.value(name).unwrap_or_default())).collect();
        if changed.is_empty() {
            if is_asked {
                tracing::info!("configuration read again: no setting has changed that can be reloaded");
            }
            return;
        }
        tracing::info!(changed = changed.join(", "), "configuration read again");
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        self.settings = config.settings.clone();
        // Without anybody who takes them the process exits.
        let _ = self.give.blocking_send(config.settings.clone());
    }

    /// Said once, until it is asked again or something else is wrong.
    fn refuse(&mut self, errors: &str, is_asked: bool) {
        if is_asked || self.said.as_deref() != Some(errors) {
            tracing::error!(errors, "configuration not reloaded: the settings in use stay");
        }
        self.said = Some(errors.to_owned());
    }
}
