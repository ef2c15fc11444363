//! The log: where it goes, which lines, in which form.
//!
//! To stderr, so that stdout stays free; as text for people or as JSON for collectors. Not the story that the simulator's
//! promises are checked against: that is the history, which has types.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Words and `key=value`, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Every format, the default first.
    pub const ALL: [LogFormat; 2] = [LogFormat::Text, LogFormat::Json];

    /// The name used on the command line and in files.
    pub const fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<LogFormat> {
        LogFormat::ALL.into_iter().find(|format| format.name() == name)
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The lines that are written, as a text such as `info` or `info,cp::registry=debug` says; `None` if it says nothing.
pub fn filter(text: &str) -> Option<EnvFilter> {
    // What a filter of fields matches is text, not a pattern: a log must not cost more than what it tells about.
    EnvFilter::builder().with_regex(false).parse(text).ok()
}

/// Sends the log of this process to stderr from now on.
///
/// # Errors
/// If the process has a log already.
pub fn start(format: LogFormat, filter: EnvFilter) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        // It would report a broken stderr on stderr, which panics. Sessions go on without a log.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_ansi(colour()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    }
}

/// On a terminal, unless `NO_COLOR` asks for none (<https://no-color.org>).
fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_found_by_the_name_that_it_prints() {
        for format in LogFormat::ALL {
            assert_eq!(LogFormat::named(&format.to_string()), Some(format));
        }
        assert_eq!(LogFormat::named("JSON"), None);
    }

    #[test]
    fn a_filter_is_a_level_or_levels_of_modules() {
        for text in ["info", "warn,cp::registry=debug", "off"] {
            assert!(filter(text).is_some(), "{text}");
        }
        for text in ["info=debug=warn", "cp=loud", "cp[=debug"] {
            assert!(filter(text).is_none(), "{text}");
        }
    }
}
