//! Reading the values of a scenario: numbers, texts, lengths of time, words.
//!
//! Each says what it expected in the words of the file, not of the programme.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use toml::de::DeValue;

use super::define::Draw;
use super::error::Problem;
use super::model::{
    Answered, BadMilestone, BadSpan, Deployment, ExpectClient, Milestone, Patience, Rate, Reading, Share, Span,
    SqlState, Times,
};
use super::read::{Limit, Read, Table, Value, listed, read_table};
use super::suggest::{did_you_mean, nearest, one_of};
use super::units::{ALL, FOREVER};

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
            DeValue::Table(table) => read_table(table, T::WHAT, value.span(), problems),
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
    const DRAW: Draw = Draw::OneOf(&["true", "false"]);

    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        if value.get_ref().as_bool().is_none() {
            problems.push(wrong_type(value, name, "`true` or `false`"));
        }
        value.get_ref().as_bool()
    }
}

impl Read for u32 {
    const DRAW: Draw = Draw::Whole(0, 100);

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
    const DRAW: Draw = Draw::Millis(0, 60_000);

    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        length(value, name, "a length of time", problems)
    }
}

impl Read for Patience {
    const DRAW: Draw = Draw::Millis(0, 60_000);

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
    const DRAW: Draw = Draw::Whole(1, 5);

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
    const DRAW: Draw = Draw::OneOf(&["\"22012\"", "\"40001\""]);

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
    const DRAW: Draw = Draw::OneOf(&["\"stop\"", "\"resume\"", "\"5KB/s\""]);

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

impl Read for Share {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        const EXPECTED: &str = "a number of pods, or a share such as \"25%\"";
        if let DeValue::Integer(_) = value.get_ref() {
            return whole(value, name, 0..=Deployment::MAX_REPLICAS, problems).map(Share::Pods);
        }
        let Some(text) = value.get_ref().as_str() else {
            problems.push(wrong_type(value, name, EXPECTED));
            return None;
        };
        let read = text.parse();
        let problem = || Problem::new(value.span(), format!("{text:?} is no share"), format!("expected {EXPECTED}"));
        read.map_err(|_| problems.push(problem())).ok()
    }
}

impl Read for Milestone {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let text = String::read(value, name, problems)?;
        let read = text.parse().map_err(|error: BadMilestone| error.to_string());
        read.map_err(|label| problems.push(Problem::new(value.span(), format!("{text:?} is no milestone"), label))).ok()
    }
}

/// One of a few words, which is `what` in messages.
pub(super) fn read_word<W: Copy>(
    what: &str,
    all: &[W],
    written: fn(W) -> &'static str,
    value: &Value<'_>,
    name: &str,
    problems: &mut Vec<Problem>,
) -> Option<W> {
    let names: Vec<&str> = all.iter().map(|word| written(*word)).collect();
    let Some(text) = value.get_ref().as_str() else {
        problems.push(wrong_type(value, name, &one_of(names)));
        return None;
    };
    let read = all.iter().copied().find(|word| written(*word) == text);
    if read.is_none() {
        let label = did_you_mean(text, names.iter().copied());
        let problem = Problem::new(value.span(), format!("there is no {what} {text:?}"), label);
        problems.push(match nearest(text, names.iter().copied()) {
            Some(_) => problem.help(format!("there are {}", listed(&names))),
            None => problem,
        });
    }
    read
}

impl Limit<u32> for RangeInclusive<u32> {
    fn read(&self, value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<u32> {
        whole(value, name, self.clone(), problems)
    }

    fn schema(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("minimum", (*self.start()).into()), ("maximum", (*self.end()).into())]
    }
}

/// A name of at most so many bytes.
pub(super) struct Name {
    /// What it is called in messages: `a cursor's name`.
    pub(super) what: &'static str,
    /// How many bytes it has at most.
    pub(super) most: usize,
    /// Which bytes it has.
    pub(super) bytes: fn(u8) -> bool,
    /// These in words: `letters, digits or `_``.
    pub(super) expected: &'static str,
    /// And as a class of a regular expression.
    pub(super) class: &'static str,
}

impl Limit<String> for Name {
    fn read(&self, value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<String> {
        let text = String::read(value, name, problems)?;
        if !(1..=self.most).contains(&text.len()) || !text.bytes().all(self.bytes) {
            let expected = format!("expected 1 to {} {}", self.most, self.expected);
            problems.push(Problem::new(value.span(), format!("not {}", self.what), expected));
        }
        Some(text)
    }

    fn schema(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("pattern", format!("^{}{{1,{}}}$", self.class, self.most).into())]
    }
}

/// A length of time that is not nothing.
pub(super) struct AboveZero;

impl Limit<Span> for AboveZero {
    fn read(&self, value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Span> {
        let length = Span::read(value, name, problems)?;
        if length.0.is_zero() {
            let expected = "expected a length of time above 0";
            problems.push(Problem::new(value.span(), format!("`{name}` is 0"), expected));
        }
        Some(length)
    }
}

/// A list with something in it.
pub(super) struct NotEmpty(
    /// What: `step`.
    pub(super) &'static str,
);

impl<T: Read> Limit<Vec<T>> for NotEmpty {
    fn read(&self, value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Vec<T>> {
        let list: Vec<T> = Read::read(value, name, problems)?;
        if list.is_empty() {
            let expected = format!("expected at least one {}", self.0);
            problems.push(Problem::new(value.span(), format!("`{name}` is empty"), expected));
        }
        Some(list)
    }

    fn schema(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("minItems", 1.into())]
    }
}

/// How a connection ends.
pub(super) struct WayToEnd;

impl Limit<String> for WayToEnd {
    fn read(&self, value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<String> {
        let ends = String::read(value, name, problems)?;
        check_end(&ends, value.span(), problems);
        Some(ends)
    }

    fn schema(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("pattern", format!("^([0-9A-Z]{{5}}|{})$", ExpectClient::ENDS.join("|")).into())]
    }
}

/// A connection ends with a SQLSTATE, or in one of a few ways.
pub(super) fn check_end(ends: &str, at: Range<usize>, problems: &mut Vec<Problem>) {
    if ExpectClient::ENDS.contains(&ends) || ends.parse::<SqlState>().is_ok() {
        return;
    }
    let label = match ends.to_uppercase().parse::<SqlState>() {
        Ok(state) if ends.bytes().any(|b| b.is_ascii_digit()) => format!("did you mean \"{state}\"?"),
        _ => match nearest(ends, ExpectClient::ENDS) {
            Some(nearest) => format!("did you mean \"{nearest}\"?"),
            None => "neither a SQLSTATE nor a way to leave".to_owned(),
        },
    };
    let problem = Problem::new(at, format!("no connection ends with {ends:?}"), label);
    let help = format!("`ends` is a SQLSTATE such as \"57P01\", or {}", one_of(ExpectClient::ENDS));
    problems.push(problem.help(help));
}
