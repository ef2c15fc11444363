//! The configuration file: TOML, one key a setting, each value with its line.

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};

/// One key of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    /// The value's text, or TOML's name of its type where that is neither text nor a whole number.
    pub(super) value: Result<String, &'static str>,
    pub(super) origin: Origin,
}

/// The keys of a file, in its order, and everything that is wrong with its form. Which names there are, and what their
/// values may be, is not known here.
pub(super) fn parse(path: &str, text: &str) -> (Vec<Line>, Vec<ConfigError>) {
    let at = |offset: usize| Origin::File { path: path.to_owned(), line: line(text, offset) };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What could be saved of a broken file is guesswork: errors about it would mislead.
        let errors = errors.iter().map(|error| ConfigError::Syntax {
            origin: at(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        });
        return (Vec::new(), errors.collect());
    }
    let mut keys: Vec<_> = table.get_ref().iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    let lines = keys.into_iter().map(|(key, value)| Line {
        name: key.get_ref().to_string(),
        value: scalar(value.get_ref()),
        origin: at(key.span().start),
    });
    (lines.collect(), Vec::new())
}

fn scalar(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => {
            let value = i64::from_str_radix(number.as_str(), number.radix());
            // A number too large for this is valid nowhere; the setting's own error says what would be.
            Ok(value.map_or_else(|_| number.to_string(), |value| value.to_string()))
        }
        other => Err(other.type_str()),
    }
}

/// The line, the first being 1, in which the byte at `offset` is.
fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
