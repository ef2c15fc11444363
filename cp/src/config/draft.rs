//! A configuration while it is put together from its sources, with everything that is wrong so far.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::suggest::nearest;
use lastcall_core::settings::SettingError;

use super::error::{self, ConfigError, ConfigErrors, Origin};
use super::table::{self, Entry, entries};
use super::{Config, Sources, file};

/// The variable that names the file.
const FILE_VARIABLE: &str = "LASTCALL_CONFIG";

/// What other programs read their log filter from; taken where `LASTCALL_LOG` is not set.
const COMMON_LOG_VARIABLE: &str = "RUST_LOG";

/// What the kubelet sets in every container.
const IN_A_POD: &str = "KUBERNETES_SERVICE_HOST";

/// A configuration that is being put together.
pub(super) struct Draft {
    config: Config,
    entries: Vec<Entry>,
    errors: Vec<ConfigError>,
    /// Settings that have an error: whether they fit the others can't be told.
    failed: BTreeSet<&'static str>,
    /// Whether Kubernetes started this process.
    is_in_a_pod: bool,
    /// Whether the file could not be understood: what is missing may stand there.
    file_lost: bool,
}

impl Draft {
    pub(super) fn new() -> Self {
        Draft {
            config: Config { workers: Vec::new(), ..Config::new("") },
            entries: entries(),
            errors: Vec::new(),
            failed: BTreeSet::new(),
            is_in_a_pod: false,
            file_lost: false,
        }
    }

    pub(super) fn take_file(&mut self, sources: &Sources, read: impl FnOnce(&str) -> io::Result<String>) {
        let flag = sources.file.as_ref().map(|path| (path, Origin::Flag("--config".to_owned())));
        let variable = || {
            let path = sources.environment.get(FILE_VARIABLE)?;
            Some((path, Origin::Variable(FILE_VARIABLE.to_owned())))
        };
        let Some((path, origin)) = flag.or_else(variable) else { return };
        let text = match read(path) {
            Ok(text) => text,
            Err(error) => {
                self.file_lost = true;
                let reason = error.to_string();
                return self.errors.push(ConfigError::Unreadable { origin, path: path.clone(), reason });
            }
        };
        let (lines, errors) = file::parse(path, &text);
        self.file_lost = !errors.is_empty();
        self.errors.extend(errors);
        for file::Line { name, value, origin } in lines {
            match (value, self.entry(&name)) {
                (Err(found), Some(entry)) => {
                    self.failed.insert(entry.name);
                    self.errors.push(ConfigError::Type { origin, name, found, valid: entry.valid });
                }
                (value, _) => self.take(&name, &value.unwrap_or_default(), origin),
            }
        }
    }

    pub(super) fn take_environment(&mut self, environment: &BTreeMap<String, String>) {
        self.is_in_a_pod = environment.contains_key(IN_A_POD);
        let ours = |entry: &Entry| environment.get_key_value(&entry.variable());
        let common = |entry: &Entry| environment.get_key_value(COMMON_LOG_VARIABLE).filter(|_| entry.name == "log");
        for entry in self.entries.clone() {
            if let Some((variable, value)) = ours(&entry).or_else(|| common(&entry)) {
                self.take(entry.name, value, Origin::Variable(variable.clone()));
            }
        }
        for (variable, value) in environment {
            let Some(rest) = variable.strip_prefix(table::VARIABLE_PREFIX) else { continue };
            let known = variable == FILE_VARIABLE || self.entries.iter().any(|entry| entry.variable() == *variable);
            if !known && !is_service_link(variable, value) {
                // Without the prefix: with it, all variables are alike.
                let nearest = nearest(&rest.to_lowercase(), self.entries.iter().map(|entry| entry.name));
                self.config.warnings.push(error::unknown_variable(variable, nearest.map(table::variable)));
            }
        }
    }

    pub(super) fn take_flags(&mut self, flags: &BTreeMap<String, String>) {
        for (name, value) in flags {
            self.take(name, value, Origin::Flag(table::flag(name)));
        }
    }

    fn take(&mut self, name: &str, value: &str, origin: Origin) {
        let result = match self.entry(name) {
            Some(entry) => {
                self.config.set(&entry, value).map(|()| entry.name).map_err(|error| (Some(entry.name), error))
            }
            None => {
                let nearest = nearest(name, self.entries.iter().map(|entry| entry.name));
                Err((None, SettingError::Unknown { name: name.to_owned(), nearest }))
            }
        };
        match result {
            Ok(name) => {
                self.config.origins.insert(name, origin);
            }
            Err((name, error)) => {
                self.failed.extend(name);
                self.errors.push(ConfigError::Setting { origin, error, other: None });
            }
        }
    }

    fn entry(&self, name: &str) -> Option<Entry> {
        self.entries.iter().find(|entry| entry.name == name).cloned()
    }

    pub(super) fn finish(mut self) -> Result<Config, ConfigErrors> {
        // Where it is easily forgotten, an empty database that is taken for the real one would be worse than no start.
        let must_be_named = self.is_in_a_pod || !cfg!(feature = "embedded");
        let is_named = self.config.origins.contains_key("worker") || self.failed.contains("worker") || self.file_lost;
        if must_be_named && !is_named {
            self.errors.push(ConfigError::NoWorker);
        }
        for error in self.config.settings.misfits() {
            let (setting, other) = match &error {
                SettingError::Misfit { setting, other, .. } => (*setting, Some(*other)),
                SettingError::Invalid { setting, .. } => (*setting, None),
                error => unreachable!("a misfit is about settings that exist: {error}"),
            };
            if self.failed.contains(setting) || other.is_some_and(|other| self.failed.contains(other)) {
                continue;
            }
            let origin = self.config.origin(setting).clone();
            let other = other.map(|other| self.config.origin(other).clone());
            self.errors.push(ConfigError::Setting { origin, error, other });
        }
        if self.errors.is_empty() { Ok(self.config) } else { Err(ConfigErrors(self.errors)) }
    }
}

/// Whether Kubernetes put the variable there: a Service called `lastcall` or `lastcall-…` gives every pod of its namespace
/// half a dozen.
fn is_service_link(name: &str, value: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
}
