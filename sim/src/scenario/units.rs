//! The values that a scenario file writes in its own way: lengths of time, numbers of times, SQLSTATEs.
//!
//! Each is read from text by `FromStr` and written back by `Display`; the two agree. Where these values stand in a file, and
//! what is wrong there, is the reader's business.

mod rate;
mod reading;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use lastcall_core::settings::print_duration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

pub use self::rate::{BadRate, Rate};
pub use self::reading::{BadReading, Reading};

/// The longest time that a file may name, and so the latest that anything can be made to happen. A week is seven times the
/// longest grace that a pod is given, and a run of it still ends in seconds.
pub const RUN_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The word for "without end", where one is allowed.
pub(super) const FOREVER: &str = "forever";

/// A length of time, written like `250ms`, `30s`, `5m`, `1h30m`. At most [`RUN_LIMIT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// Why a text is not a [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSpan {
    /// Not numbers with units.
    #[error("write it like \"250ms\", \"30s\", \"5m\" or \"1h30m\"")]
    Form {
        /// The same length as it should be written, if it can be guessed.
        meant: Option<Span>,
    },
    /// Longer than [`RUN_LIMIT`].
    #[error("a run lasts {} at most", Span(RUN_LIMIT))]
    TooLong,
}

/// The units that a file may use. The control plane's own settings also take words; here one form is enough.
const UNITS: [&str; 5] = ["ms", "s", "m", "h", "d"];

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Span, BadSpan> {
        let form = || BadSpan::Form { meant: meant(text) };
        if !is_canonical(text) {
            return Err(form());
        }
        // In this form, what doesn't parse is too large.
        match parse_duration(text) {
            Some(length) if length <= RUN_LIMIT => Ok(Span(length)),
            _ => Err(BadSpan::TooLong),
        }
    }
}

/// Whether the text is `0`, or numbers with units and nothing else.
fn is_canonical(text: &str) -> bool {
    if text == "0" {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let after = unit.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let has_number = unit.len() < rest.len();
        if !has_number || !UNITS.contains(&&unit[..unit.len() - after.len()]) {
            return false;
        }
        rest = after;
    }
    !text.is_empty()
}

/// The length that somebody meant who wrote `30 sec` or `1 hour`.
fn meant(text: &str) -> Option<Span> {
    let length = parse_duration(text)?;
    // Simulated clocks tick in milliseconds.
    let whole = length.subsec_nanos() % 1_000_000 == 0;
    (whole && length <= RUN_LIMIT).then_some(Span(length))
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print_duration(self.0))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

const SPAN_PATTERN: &str = "0|([0-9]+(ms|s|m|h|d))+";

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": format!("^({SPAN_PATTERN})$"), "examples": ["250ms", "30s", "5m", "1h30m"] })
    }
}

/// A length of time, or `"forever"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// So long.
    For(Duration),
    /// Until the connection is closed by somebody else.
    Forever,
}

impl FromStr for Patience {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Patience, BadSpan> {
        if text == FOREVER { Ok(Patience::Forever) } else { text.parse().map(|Span(length)| Patience::For(length)) }
    }
}

impl fmt::Display for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Patience::For(length) => Span(*length).fmt(f),
            Patience::Forever => f.write_str(FOREVER),
        }
    }
}

impl JsonSchema for Patience {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Patience".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": format!("^({SPAN_PATTERN}|{FOREVER})$"), "examples": ["10m", FOREVER] })
    }
}

/// A number of times, or `"forever"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// So often.
    Count(u32),
    /// Until the connection is closed by somebody else.
    Forever,
}

impl Times {
    /// The largest number of times that a file may name: more is `"forever"` in all but name.
    pub const MAX: u32 = 1_000_000;
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Times::Count(times) => times.fmt(f),
            Times::Forever => f.write_str(FOREVER),
        }
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Times::Count(times) => s.serialize_u32(*times),
            Times::Forever => s.serialize_str(FOREVER),
        }
    }
}

impl JsonSchema for Times {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Times".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": Times::MAX }, { "const": FOREVER }] })
    }
}

/// How many requests were answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Every one that was sent.
    All,
    /// Exactly so many.
    Count(u32),
}

/// The word for [`Answered::All`].
pub(super) const ALL: &str = "all";

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answered::All => f.write_str(ALL),
            Answered::Count(count) => count.fmt(f),
        }
    }
}

impl JsonSchema for Answered {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Answered".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": ALL }, { "type": "integer", "minimum": 0 }] })
    }
}

/// A SQLSTATE: five digits or capital letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SqlState(pub String);

/// Why a text is not a [`SqlState`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("five digits or capital letters, such as \"57P01\"")]
pub struct BadSqlState;

impl FromStr for SqlState {
    type Err = BadSqlState;

    fn from_str(text: &str) -> Result<SqlState, BadSqlState> {
        let form = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
        if form { Ok(SqlState(text.to_owned())) } else { Err(BadSqlState) }
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for SqlState {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "SqlState".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9A-Z]{5}$", "examples": ["57P01", "57P03", "57014"] })
    }
}

/// The duration that a text says, however people write it; `None` if it says none.
///
/// Capitals are refused: to `humantime` `5M` is five months, to most of its readers five minutes.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.contains(|c: char| c.is_uppercase()) {
        return None;
    }
    humantime::parse_duration(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_as_it_is_read() {
        for text in ["0", "250ms", "30s", "5m", "1h30m", "24h", "1h500ms", "168h"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("90s".parse::<Span>().unwrap().to_string(), "1m30s");
        assert_eq!("1d".parse::<Span>().unwrap().to_string(), "24h");
    }

    #[test]
    fn a_span_needs_numbers_and_units() {
        for text in ["", "s", "30", "30 s", "-1s", "1.5s", "1S", "1w", "1h30", "٣s", "00"] {
            assert!(matches!(text.parse::<Span>(), Err(BadSpan::Form { .. })), "{text:?}");
        }
    }

    #[test]
    fn a_span_that_people_write_otherwise_is_understood_but_not_taken() {
        let meant = |text: &str| match text.parse::<Span>() {
            Err(BadSpan::Form { meant }) => meant.map(|span| span.to_string()),
            other => panic!("{text:?}: {other:?}"),
        };
        assert_eq!(meant("30 sec").as_deref(), Some("30s"));
        assert_eq!(meant("1 hour 30 min").as_deref(), Some("1h30m"));
        assert_eq!(meant("soon"), None);
    }

    #[test]
    fn no_span_is_longer_than_a_run() {
        for text in ["7d1ms", "18446744073709551615d", "99999999999999999999999999s"] {
            assert_eq!(text.parse::<Span>(), Err(BadSpan::TooLong), "{text:?}");
        }
    }

    #[test]
    fn a_sqlstate_is_five_digits_or_capital_letters() {
        assert_eq!("57P01".parse(), Ok(SqlState("57P01".into())));
        for text in ["57p01", "57P1", "57P011", "", "57P0é"] {
            assert_eq!(text.parse::<SqlState>(), Err(BadSqlState), "{text:?}");
        }
    }
}
