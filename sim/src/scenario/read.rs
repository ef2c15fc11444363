//! Reading TOML values into types, keeping what is wrong with each instead of stopping at the first.
//!
//! A [`Read`] type reads itself from one value; a [`Table`] type reads its keys from [`Fields`]. Both return `None` after
//! they have said why. What a key means, for the help in a message, comes from the doc comment of the field.

use std::ops::{Range, RangeInclusive};

use lastcall_core::settings::SETTINGS;
use schemars::{JsonSchema, SchemaGenerator};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::model::Step;
use super::suggest::nearest;
use super::values::whole;

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
    /// Those that had to be there and aren't.
    missing: Vec<&'static str>,
    problems: &'p mut Vec<Problem>,
}

/// Reads a whole table: its keys, what is missing, and what should not be there.
pub(super) fn read_table<T: Table>(table: &DeTable<'_>, place: Range<usize>, problems: &mut Vec<Problem>) -> Option<T> {
    let before = problems.len();
    let mut fields = Fields::of::<T>(T::WHAT, table, place, problems);
    let read = T::read_fields(&mut fields);
    fields.finish();
    read.filter(|_| problems.len() == before)
}

impl<'t, 'i, 'p> Fields<'t, 'i, 'p> {
    /// The keys of `table`, whose meaning is told by the doc comments of `T`. Ends with [`Fields::finish`].
    pub(super) fn of<T: JsonSchema>(
        what: &'static str,
        table: &'t DeTable<'i>,
        place: Range<usize>,
        problems: &'p mut Vec<Problem>,
    ) -> Self {
        Fields { table, place, what, docs: doc_of::<T>, known: Vec::new(), missing: Vec::new(), problems }
    }

    /// A key that must be there.
    pub(super) fn required<V: Read>(&mut self, key: &'static str) -> Option<V> {
        self.required_as(key, V::read)
    }

    /// A key that may be left out. The outer `None` means that it is there and wrong.
    pub(super) fn optional<V: Read>(&mut self, key: &'static str) -> Option<Option<V>> {
        self.optional_as(key, V::read)
    }

    /// A key that may be left out, and what it then means.
    pub(super) fn or<V: Read>(&mut self, key: &'static str, default: V) -> Option<V> {
        self.optional(key).map(|value| value.unwrap_or(default))
    }

    /// A number within a range that must be there.
    pub(super) fn required_number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        self.required_as(key, |value, name, problems| whole(value, name, range, problems))
    }

    /// A number within a range that may be left out.
    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<Option<u32>> {
        self.optional_as(key, |value, name, problems| whole(value, name, range, problems))
    }

    /// A number within a range, and what it is when it is left out.
    pub(super) fn number_or(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> Option<u32> {
        self.number(key, range).map(|number| number.unwrap_or(default))
    }

    /// The value of a key that may be left out, as TOML has it, for whoever reads it in another way.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'t Value<'i>> {
        self.known.push(key);
        self.table.get(key)
    }

    /// Whether the table has `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
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

    fn required_as<V>(&mut self, key: &'static str, read: impl ReadAs<V>) -> Option<V> {
        if !self.table.contains_key(key) {
            self.missing.push(key);
        }
        self.optional_as(key, read)?
    }

    fn optional_as<V>(&mut self, key: &'static str, read: impl ReadAs<V>) -> Option<Option<V>> {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return Some(None) };
        let before = self.problems.len();
        let read = read(value, key, self.problems);
        for problem in &mut self.problems[before..] {
            let is_bare = problem.span() == value.span() && problem.remedy().is_none();
            if let Some(doc) = is_bare.then(|| (self.docs)(key)).flatten() {
                *problem = problem.clone().help(format!("`{key}`: {doc}"));
            }
        }
        read.map(Some)
    }

    /// Says so for each key that nobody asked for, and for each that is missing. One slip is told once: a key that was meant
    /// is not missing.
    pub(super) fn finish(mut self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let meant = nearest(name, self.known.iter().copied());
            let help = match meant {
                _ if SETTINGS.iter().any(|setting| setting.name == name) => {
                    format!("`{name}` is a setting of the control plane: it belongs in `[drain]`")
                }
                _ if self.what.ends_with("step") && Step::WORDS.contains(&name) => {
                    format!("one step, one word: `{name}` is a step of its own")
                }
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("{} has {}", self.what, listed(&self.known)),
            };
            self.missing.retain(|missing| Some(*missing) != meant);
            let problem = Problem::new(key.span(), format!("{} has no `{name}`", self.what), "unknown key");
            self.problems.push(problem.help(help));
        }
        for key in self.missing {
            let message = format!("{} needs `{key}`", self.what);
            let problem = Problem::new(self.place.clone(), message, format!("`{key}` is missing"));
            self.problems.push(match (self.docs)(key) {
                Some(doc) => problem.help(format!("`{key}`: {doc}")),
                None => problem,
            });
        }
    }
}

/// Reads one value, or says what is wrong.
trait ReadAs<V>: FnOnce(&Value<'_>, &str, &mut Vec<Problem>) -> Option<V> {}

impl<V, F: FnOnce(&Value<'_>, &str, &mut Vec<Problem>) -> Option<V>> ReadAs<V> for F {}

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

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::super::model::*;
    use super::*;

    /// Whether the keys that are read, those that must be there, and the defaults are what the schema of `T` says.
    #[track_caller]
    fn agrees<T: Table + PartialEq + Debug>(smallest: &str) {
        let schema = T::json_schema(&mut SchemaGenerator::default()).to_value();
        let keys = |name: &str| schema[name].as_object().into_iter().flatten().map(|(key, _)| key.clone());

        let (table, mut problems) = (DeTable::new(), Vec::new());
        let mut fields = Fields::of::<T>(T::WHAT, &table, 0..0, &mut problems);
        T::read_fields(&mut fields);
        let mut known: Vec<String> = fields.known.iter().map(|key| (*key).to_owned()).collect();
        known.sort();
        let mut properties: Vec<String> = keys("properties").collect();
        properties.sort();
        assert_eq!(known, properties, "keys of {}", T::WHAT);

        let mut missing = fields.missing.clone();
        missing.sort_unstable();
        let required = schema["required"].as_array().into_iter().flatten();
        let mut required: Vec<&str> = required.filter_map(|key| key.as_str()).collect();
        required.sort_unstable();
        assert_eq!(missing, required, "required keys of {}", T::WHAT);

        let read = |text: &str| {
            let (document, mut problems) = (DeTable::parse(text).expect("TOML"), Vec::new());
            let read: Option<T> = read_table(document.get_ref(), 0..0, &mut problems);
            read.unwrap_or_else(|| panic!("{text}: {problems:?}"))
        };
        for key in &properties {
            if let Some(default) = schema["properties"][key].get("default") {
                assert_eq!(read(smallest), read(&format!("{smallest}\n{key} = {default}")), "default of {key}");
            }
            let doc = schema["properties"][key]["description"].as_str().unwrap_or_default();
            assert!(!doc.is_empty(), "{key} of {} is documented", T::WHAT);
        }
    }

    #[test]
    fn what_is_read_is_what_the_schema_says() {
        agrees::<Pod>("");
        agrees::<Client>("name = 'c'\nsteps = ['connect']");
        agrees::<Reconnect>("");
        agrees::<Connect>("");
        agrees::<Query>("query = '1s'");
        agrees::<CopyIn>("copy_in = 1");
        agrees::<CopyOut>("copy_out = 1");
        agrees::<Declare>("declare = 'c'");
        agrees::<Fetch>("fetch = 'c'");
        agrees::<Call>("call = '1s'");
        agrees::<Insert>("insert = 1");
        agrees::<Prepare>("prepare = '1s'");
        agrees::<Execute>("execute = '1s'");
        agrees::<Pipeline>("pipeline = ['begin']");
        agrees::<Partial>("partial = 1");
        agrees::<Garbage>("garbage = 1");
        agrees::<ReadAt>("read = 'stop'");
        agrees::<Close>("close = 'half'");
        agrees::<Replication>("replication = '1s'");
        agrees::<Think>("think = '1s'");
        agrees::<Idle>("idle = '1s'");
        agrees::<WaitUntil>("wait_until = '1s'");
        agrees::<Repeat>("repeat = 1\nsteps = ['begin']");
        agrees::<Event>("at = '1s'\ndo = 'sigint'");
        agrees::<ExpectExit>("");
        agrees::<ExpectClient>("");
    }
}
