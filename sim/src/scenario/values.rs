//! Reading the values of a scenario: numbers, texts, lengths of time, words.
//!
//! Each says what it expected in the words of the file, not of the programme.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::error::Problem;
use super::model::{
    Action, Answered, BadMilestone, BadSpan, Closing, CopyTarget, ExpectClient, Milestone, Patience, Promise, Protocol,
    Rate, Reading, Span, SqlState, Times, Until, Version,
};
use super::read::{Read, Table, Value, listed, read_table};
use super::suggest::{did_you_mean, nearest, one_of};
use super::units::{ALL, FOREVER};

/// What is written as one of a few words.
trait Word: Copy + 'static {
    /// What it is called in messages, without an article: `event`.
    const WHAT: &'static str;
    /// Each word.
    const ALL: &'static [Self];
    /// How it is written.
    fn name(self) -> &'static str;
}

/// The value is of another type than expected.
pub(super) fn wrong_type(value: &Value<'_>, name: &str, expected: &str) -> Problem {
    Problem::new(value.span(), format!("`{name}` is {}", kind(value)), format!("expected {expected}"))
}

/// What a value is, with its article.
pub(super) fn kind(value: &Value<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time of day",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A whole number within a range.
pub(super) fn whole(
    value: &Value<'_>,
    name: &str,
    range: RangeInclusive<u32>,
    problems: &mut Vec<Problem>,
) -> Option<u32> {
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    let DeValue::Integer(number) = value.get_ref() else {
        problems.push(wrong_type(value, name, &expected));
        return None;
    };
    let read = u32::from_str_radix(number.as_str(), number.radix()).ok().filter(|number| range.contains(number));
    if read.is_none() {
        problems.push(Problem::new(value.span(), format!("`{name}` is {number}"), format!("expected {expected}")));
    }
    read
}

impl<T: Table> Read for T {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => read_table(table, value.span(), problems),
            _ => {
                problems.push(wrong_type(value, name, "a table"));
                None
            }
        }
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let DeValue::Array(items) = value.get_ref() else {
            problems.push(wrong_type(value, name, "an array"));
            return None;
        };
        let items: Vec<Option<T>> = items.iter().map(|item| T::read(item, name, problems)).collect();
        items.into_iter().collect()
    }
}

impl<T: Read> Read for [T; 2] {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let items: Vec<T> = match value.get_ref() {
            DeValue::Array(items) if items.len() == 2 => Read::read(value, name, problems)?,
            DeValue::Array(items) => {
                let message = format!("`{name}` has {} entries", items.len());
                problems.push(Problem::new(value.span(), message, "expected two"));
                return None;
            }
            _ => {
                problems.push(wrong_type(value, name, "an array of two"));
                return None;
            }
        };
        items.try_into().ok()
    }
}

impl Read for BTreeMap<String, u32> {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let DeValue::Table(table) = value.get_ref() else {
            let problem = wrong_type(value, name, "a table of numbers");
            problems.push(problem.help(format!("such as `{name} = {{ 57P01 = 47, 57P03 = 3 }}`")));
            return None;
        };
        let numbers = table.iter().map(|(key, number)| {
            let key = key.get_ref().to_string();
            whole(number, &key, 1..=ExpectClient::MAX_TOLD, problems).map(|number| (key, number))
        });
        numbers.collect::<Vec<_>>().into_iter().collect()
    }
}

impl Read for String {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        if value.get_ref().as_str().is_none() {
            problems.push(wrong_type(value, name, "a string"));
        }
        value.get_ref().as_str().map(str::to_owned)
    }
}

impl Read for bool {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        if value.get_ref().as_bool().is_none() {
            problems.push(wrong_type(value, name, "`true` or `false`"));
        }
        value.get_ref().as_bool()
    }
}

impl Read for u32 {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        whole(value, name, 0..=u32::MAX, problems)
    }
}

impl Read for u8 {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        whole(value, name, 0..=u8::MAX.into(), problems).and_then(|number| number.try_into().ok())
    }
}

impl Read for Span {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        length(value, name, "a length of time", problems)
    }
}

impl Read for Patience {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        if value.get_ref().as_str() == Some(FOREVER) {
            return Some(Patience::Forever);
        }
        let Span(length) = length(value, name, "a length of time or \"forever\"", problems)?;
        Some(Patience::For(length))
    }
}

fn length(value: &Value<'_>, name: &str, expected: &str, problems: &mut Vec<Problem>) -> Option<Span> {
    const FORM: &str = "write it like \"250ms\", \"30s\", \"5m\" or \"1h30m\"";
    let Some(text) = value.get_ref().as_str() else {
        let problem = wrong_type(value, name, expected);
        problems.push(match value.get_ref() {
            DeValue::Integer(number) => {
                problem.help(format!("with its unit, in quotes: \"{number}s\" or \"{number}ms\""))
            }
            _ => problem.help(FORM),
        });
        return None;
    };
    let error = match text.parse() {
        Ok(length) => return Some(length),
        Err(error) => error,
    };
    let at = value.span();
    problems.push(match error {
        BadSpan::Form { meant } => {
            let label =
                meant.map_or_else(|| format!("expected {expected}"), |meant| format!("did you mean \"{meant}\"?"));
            Problem::new(at, format!("`{name}` is {text:?}, which is not a length of time"), label).help(FORM)
        }
        BadSpan::TooLong if expected.contains(FOREVER) => {
            Problem::new(at, format!("`{name}` is too long"), error.to_string()).help("without end: \"forever\"")
        }
        BadSpan::TooLong => Problem::new(at, format!("`{name}` is too long"), error.to_string()),
    });
    None
}

impl Read for Times {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let expected = format!("a whole number from 1 to {}, or \"forever\"", Times::MAX);
        let (text, number) = match value.get_ref() {
            DeValue::String(text) if text == FOREVER => return Some(Times::Forever),
            DeValue::String(text) => (format!("{text:?}"), None),
            DeValue::Integer(number) => (number.to_string(), u32::from_str_radix(number.as_str(), number.radix()).ok()),
            _ => (kind(value).to_owned(), None),
        };
        let times = number.filter(|times| (1..=Times::MAX).contains(times)).map(Times::Count);
        if times.is_none() {
            problems.push(Problem::new(value.span(), format!("`{name}` is {text}"), format!("expected {expected}")));
        }
        times
    }
}

impl Read for Answered {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) if text == ALL => Some(Answered::All),
            DeValue::Integer(_) => u32::read(value, name, problems).map(Answered::Count),
            _ => {
                problems.push(wrong_type(value, name, "a whole number or \"all\""));
                None
            }
        }
    }
}

impl Read for SqlState {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        const EXPECTED: &str = "five digits or capital letters, such as \"57P01\"";
        let Some(text) = value.get_ref().as_str() else {
            problems.push(wrong_type(value, name, EXPECTED));
            return None;
        };
        let read = text.parse();
        if read.is_err() {
            let label = match text.to_uppercase().parse::<SqlState>() {
                Ok(capital) => format!("did you mean \"{capital}\"?"),
                Err(_) => format!("expected {EXPECTED}"),
            };
            problems.push(Problem::new(value.span(), format!("`{name}`: {text:?} is not a SQLSTATE"), label));
        }
        read.ok()
    }
}

impl Read for Reading {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        const EXPECTED: &str = "\"stop\", \"resume\", or a rate such as \"100B/s\"";
        let Some(text) = value.get_ref().as_str() else {
            problems.push(wrong_type(value, name, EXPECTED));
            return None;
        };
        let read = text.parse();
        if read.is_err() {
            let label = match nearest(text, ["stop", "resume"]) {
                Some(nearest) => format!("did you mean \"{nearest}\"?"),
                None => format!("expected {EXPECTED}"),
            };
            let problem = Problem::new(value.span(), format!("nobody can read like {text:?}"), label);
            problems.push(problem.help(Rate::HELP));
        }
        read.ok()
    }
}

impl Read for Rate {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        const EXPECTED: &str = "a rate such as \"250KB/s\"";
        let Some(text) = value.get_ref().as_str() else {
            problems.push(wrong_type(value, name, EXPECTED));
            return None;
        };
        let read = text.parse();
        if read.is_err() {
            let problem = Problem::new(value.span(), format!("{text:?} is no rate"), format!("expected {EXPECTED}"));
            problems.push(problem.help(Rate::HELP));
        }
        read.ok()
    }
}

impl Read for Milestone {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let text = String::read(value, name, problems)?;
        let read = text.parse().map_err(|error: BadMilestone| error.to_string());
        read.map_err(|label| problems.push(Problem::new(value.span(), format!("{text:?} is no milestone"), label))).ok()
    }
}

/// A word of a [`Word`] type. A macro, because both a table and a word may be read and Rust allows one blanket.
macro_rules! read_words {
    ($($word:ty),*) => {$(
        impl Read for $word {
            fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
                read_word(value, name, problems)
            }
        }
    )*};
}

read_words!(Action, Closing, CopyTarget, Promise, Protocol, Until, Version);

fn read_word<W: Word>(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<W> {
    let names: Vec<&str> = W::ALL.iter().map(|word| word.name()).collect();
    let Some(text) = value.get_ref().as_str() else {
        problems.push(wrong_type(value, name, &one_of(names)));
        return None;
    };
    let read = W::ALL.iter().copied().find(|word| word.name() == text);
    if read.is_none() {
        let problem = Problem::new(
            value.span(),
            format!("there is no {} {text:?}", W::WHAT),
            did_you_mean(text, names.iter().copied()),
        );
        problems.push(match nearest(text, names.iter().copied()) {
            Some(_) => problem.help(format!("there are {}", listed(&names))),
            None => problem,
        });
    }
    read
}

impl Word for Action {
    const WHAT: &'static str = "event";
    const ALL: &'static [Self] = &Action::ALL;

    fn name(self) -> &'static str {
        Action::name(self)
    }
}

impl Word for Closing {
    const WHAT: &'static str = "way to close";
    const ALL: &'static [Self] = &Closing::ALL;

    fn name(self) -> &'static str {
        Closing::name(self)
    }
}

impl Word for Version {
    const WHAT: &'static str = "version of the protocol";
    const ALL: &'static [Self] = &Version::ALL;

    fn name(self) -> &'static str {
        Version::name(self)
    }
}

impl Word for CopyTarget {
    const WHAT: &'static str = "target of a COPY";
    const ALL: &'static [Self] = &CopyTarget::ALL;

    fn name(self) -> &'static str {
        CopyTarget::name(self)
    }
}

impl Word for Promise {
    const WHAT: &'static str = "promise";
    const ALL: &'static [Self] = &Promise::ALL;

    fn name(self) -> &'static str {
        Promise::name(self)
    }
}

impl Word for Protocol {
    const WHAT: &'static str = "protocol";
    const ALL: &'static [Self] = &Protocol::ALL;

    fn name(self) -> &'static str {
        Protocol::name(self)
    }
}

impl Word for Until {
    const WHAT: &'static str = "stage of connecting";
    const ALL: &'static [Self] = &Until::ALL;

    fn name(self) -> &'static str {
        Until::name(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_the_schema_and_the_reports_write_it() {
        fn agrees<W: Word + serde::Serialize>() {
            for word in W::ALL {
                assert_eq!(serde_json::to_value(word).expect("a word"), word.name());
            }
        }
        agrees::<Action>();
        agrees::<Closing>();
        agrees::<CopyTarget>();
        agrees::<Version>();
        agrees::<Promise>();
        agrees::<Protocol>();
        agrees::<Until>();
    }
}
