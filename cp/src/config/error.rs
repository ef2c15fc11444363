//! What is wrong with a configuration: each error says which setting, where it came from, and what would be valid.

use std::fmt;

use lastcall_core::settings::{SettingError, did_you_mean};

use super::table::ADDRESS;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file.
    File {
        /// The file, as it was named.
        path: String,
        /// The line, the first being 1.
        line: usize,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{path}:{line}"),
            Origin::Variable(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A setting that can't be as it was asked for.
    #[error("{origin}: {error}{}", hint(error, other.as_ref()))]
    Setting {
        /// Where the value came from.
        origin: Origin,
        /// What is wrong with it.
        error: SettingError,
        /// For a misfit: where the other setting's value came from.
        other: Option<Origin>,
    },
    /// A value in the file that is neither text nor a whole number.
    #[error("{origin}: {name}: a value of type {found} is not valid; valid is text in quotes or a number: {valid}")]
    Type {
        /// Where it is.
        origin: Origin,
        /// The key.
        name: String,
        /// TOML's name of what was found.
        found: &'static str,
        /// What would be valid.
        valid: String,
    },
    /// The file is not TOML.
    #[error("{origin}: {message}; valid is TOML, one `name = \"value\"` a line")]
    Syntax {
        /// Where.
        origin: Origin,
        /// The parser's words.
        message: String,
    },
    /// The file can't be read.
    #[error("{origin}: can't read {path}: {reason}; valid is a readable TOML file")]
    Unreadable {
        /// Who named the file.
        origin: Origin,
        /// The file.
        path: String,
        /// The kernel's words.
        reason: String,
    },
    /// No worker was named where one must be: in a pod, or where there is no embedded engine.
    #[error("worker: not set; set --worker, LASTCALL_WORKER, or worker in the file to {ADDRESS}")]
    NoWorker,
}

fn hint(error: &SettingError, other_origin: Option<&Origin>) -> String {
    match (error, other_origin) {
        (SettingError::Misfit { other, .. }, Some(Origin::Default)) => format!(" ({other} has its default)"),
        (SettingError::Misfit { other, .. }, Some(origin)) => format!(" ({other} is from {origin})"),
        (SettingError::Unknown { nearest: None, .. }, _) => "; `lastcall settings` lists them all".to_owned(),
        _ => String::new(),
    }
}

/// Everything that is wrong, so that one start is enough to see it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// Each in one line.
    pub fn told(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 error in the configuration, nothing was started")?,
            errors => write!(f, "{errors} errors in the configuration, nothing was started")?,
        }
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

/// The warning about an environment variable that looks like ours and is not.
pub(super) fn unknown_variable(name: &str, nearest: Option<String>) -> String {
    format!("environment variable {name} is not a setting and is ignored{}", did_you_mean(nearest.as_deref()))
}
