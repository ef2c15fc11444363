//! Reading TOML values into types, keeping what is wrong with each instead of stopping at the first.
//!
//! A [`Read`] type reads itself from one value; a [`Table`] type reads its keys from [`Fields`]. Both return `None` after
//! they have said why. What a key means, for the help in a message, comes from the doc comment of the field.

use std::ops::{Range, RangeInclusive};

use cp::core::settings::SETTINGS;
use schemars::{JsonSchema, SchemaGenerator};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::model::Step;
use super::suggest::nearest;

/// A value and where it stands.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// What can be read from one value.
pub(super) trait Read: Sized {
    /// Reads it, or says what is wrong. `name` is what the value is called in messages: its key.
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self>;
}

/// What is read from a table with known keys.
pub(super) trait Table: JsonSchema + Sized {
    /// What it is called in messages, with its article: `a client`.
    const WHAT: &'static str;

    /// Reads every key, also after one was wrong.
    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self>;
}

/// The keys of one table, while they are being read.
#[derive(Debug)]
pub(super) struct Fields<'t, 'i, 'p> {
    table: &'t DeTable<'i>,
    /// Where to point at if a key is missing.
    place: Range<usize>,
    what: &'static str,
    docs: fn(&str) -> Option<String>,
    /// The keys asked for.
    known: Vec<&'static str>,
    problems: &'p mut Vec<Problem>,
}

/// Reads a whole table: its keys, what is missing, and what should not be there.
pub(super) fn read_table<T: Table>(table: &DeTable<'_>, place: Range<usize>, problems: &mut Vec<Problem>) -> Option<T> {
    let before = problems.len();
    let mut fields = Fields::of::<T>(T::WHAT, table, place, problems);
    let read = T::read_fields(&mut fields);
    fields.refuse_unknown_keys();
    read.filter(|_| problems.len() == before)
}

impl<'t, 'i, 'p> Fields<'t, 'i, 'p> {
    /// The keys of `table`, whose meaning is told by the doc comments of `T`. Ends with [`Fields::refuse_unknown_keys`].
    pub(super) fn of<T: JsonSchema>(
        what: &'static str,
        table: &'t DeTable<'i>,
        place: Range<usize>,
        problems: &'p mut Vec<Problem>,
    ) -> Self {
        Fields { table, place, what, docs: doc_of::<T>, known: Vec::new(), problems }
    }

    /// A key that must be there.
    pub(super) fn required<V: Read>(&mut self, key: &'static str) -> Option<V> {
        self.known.push(key);
        if self.table.contains_key(key) {
            return self.present(key);
        }
        let problem = Problem::new(self.place.clone(), format!("{} needs `{key}`", self.what), format!("`{key}` is missing"));
        self.problems.push(match (self.docs)(key) {
            Some(doc) => problem.help(format!("`{key}`: {doc}")),
            None => problem,
        });
        None
    }

    /// A key that may be left out. The outer `None` means that it is there and wrong.
    pub(super) fn optional<V: Read>(&mut self, key: &'static str) -> Option<Option<V>> {
        self.known.push(key);
        if self.table.contains_key(key) { self.present(key).map(Some) } else { Some(None) }
    }

    /// A key that may be left out, and what it then means.
    pub(super) fn or<V: Read>(&mut self, key: &'static str, default: V) -> Option<V> {
        self.optional(key).map(|value| value.unwrap_or(default))
    }

    /// Says so if the number that was read from `key` is out of range.
    pub(super) fn within(&mut self, key: &'static str, number: Option<u32>, range: RangeInclusive<u32>) -> Option<u32> {
        let number = number?;
        // A default needs no check, and only a key that is there has a place.
        if let Some(value) = self.table.get(key).filter(|_| !range.contains(&number)) {
            let (low, high) = (range.start(), range.end());
            let problem = Problem::new(
                value.span(),
                format!("`{key}` is {number}"),
                format!("expected a whole number from {low} to {high}"),
            );
            self.problems.push(problem);
            return None;
        }
        Some(number)
    }

    /// The value of a key that may be left out, as TOML has it, for whoever reads it in another way.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'t Value<'i>> {
        self.known.push(key);
        self.table.get(key)
    }

    /// Where the value of `key` stands, or else the table.
    pub(super) fn place(&self, key: &str) -> Range<usize> {
        self.table.get(key).map_or(self.place.clone(), |value| value.span())
    }

    /// Where each entry of the array at `key` stands.
    pub(super) fn entries(&self, key: &str) -> Vec<Range<usize>> {
        let array = self.table.get(key).and_then(|value| value.get_ref().as_array());
        array.into_iter().flatten().map(|item| item.span()).collect()
    }

    /// What has been wrong so far.
    pub(super) fn problems(&mut self) -> &mut Vec<Problem> {
        self.problems
    }

    fn present<V: Read>(&mut self, key: &'static str) -> Option<V> {
        let value = self.table.get(key)?;
        let before = self.problems.len();
        let read = V::read(value, key, self.problems);
        for problem in &mut self.problems[before..] {
            if problem.span() == value.span() && problem.remedy().is_none() {
                if let Some(doc) = (self.docs)(key) {
                    *problem = problem.clone().help(format!("`{key}`: {doc}"));
                }
            }
        }
        read
    }

    /// Says so for each key that nobody asked for.
    pub(super) fn refuse_unknown_keys(self) {
        let known = &self.known;
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let help = match nearest(name, known.iter().copied()) {
                _ if SETTINGS.iter().any(|setting| setting.name == name) => {
                    format!("`{name}` is a setting of the control plane: it belongs in `[drain]`")
                }
                _ if self.what.ends_with("step") && Step::WORDS.contains(&name) => {
                    format!("one step, one word: `{name}` is a step of its own")
                }
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("{} has {}", self.what, listed(known)),
            };
            let problem = Problem::new(key.span(), format!("{} has no `{name}`", self.what), "unknown key");
            self.problems.push(problem.help(help));
        }
    }
}

/// The keys, as a message names them.
pub(super) fn listed(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

/// What the doc comment of a field says, from the same schema that editors show.
fn doc_of<T: JsonSchema>(key: &str) -> Option<String> {
    let schema = T::json_schema(&mut SchemaGenerator::default());
    let doc = schema.get("properties")?.get(key)?.get("description")?.as_str()?;
    Some(doc.replace('\n', " "))
}
