//! The log: where it goes, which lines, in which form.
//!
//! To stderr, so that stdout stays free; as text for people or as JSON for collectors. Whoever reads it can't hold the process
//! up ([`Outlet`]). What a client chose is a text in quotes in every line: `user = name.as_str()`, never `%name`, which could
//! forge a field. Not the story that the simulator's
//! promises are checked against: that is the history, which has types.

pub(crate) mod outlet;

use std::fmt;
use std::io::{self, IsTerminal};

use tracing::Metadata;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::records::Lost;
pub use outlet::Outlet;
pub(crate) use outlet::{Out, wait_for_room};

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

/// The target of what is written whatever the filter says: end records, the drain's report, and what was lost of the log.
pub const RECORD: &str = "record";

/// Sends the log of this process to stderr from now on, panics included. Nothing that writes to it ever waits for its reader.
///
/// # Errors
/// If the process has a log already, or can't have one more thread.
pub fn start(format: LogFormat, filter: EnvFilter) -> Result<Outlet, Box<dyn std::error::Error + Send + Sync>> {
    let outlet = Outlet::start(Stderr, tell_lost)?;
    let filter = filter.or(filter_fn(|line| line.target() == RECORD).with_max_level_hint(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Hand(outlet.clone()))
        // It would report a line that can't be formatted on stderr, and wait for that.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => {
            let lines = lines.with_target(false).with_ansi(colour());
            tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()?;
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()?;
        }
    }
    // The standard hook writes to stderr itself, and waits for whoever reads it.
    std::panic::set_hook(Box::new(|panic| tracing::error!(target: RECORD, "{panic}")));
    Ok(outlet)
}

/// Where the log goes.
struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Out for Stderr {
    fn wait_for_room(&self) {
        wait_for_room(io::stderr());
    }
}

fn tell_lost(Lost { lines, records }: Lost) {
    tracing::warn!(target: RECORD, lines, records, "the log was not read, or could not be written: this much is lost");
}

/// Takes what is formatted for one event, and hands it over as one line.
struct Hand(Outlet);

impl<'a> MakeWriter<'a> for Hand {
    type Writer = Handing<'a>;

    fn make_writer(&'a self) -> Handing<'a> {
        Handing { outlet: &self.0, is_record: false }
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Handing<'a> {
        Handing { outlet: &self.0, is_record: line.target() == RECORD }
    }
}

struct Handing<'a> {
    outlet: &'a Outlet,
    is_record: bool,
}

impl io::Write for Handing<'_> {
    /// The subscriber writes an event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.outlet.add(line, self.is_record);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
