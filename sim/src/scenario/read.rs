//! Reading TOML values into types, keeping what is wrong with each instead of stopping at the first.
//!
//! A [`Read`] type reads itself from one value; a [`Table`] type reads its keys from [`Fields`]. Both return `None` after
//! they have said why. What a key means, for the help in a message, comes from the doc comment of the field.

use std::ops::Range;

use lastcall_core::settings::SETTINGS;
use schemars::{JsonSchema, SchemaGenerator};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::define::{Draw, Key};
use super::error::Problem;
use super::model::Word;
use super::suggest::nearest;

/// A value and where it stands.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// What can be read from one value.
pub(super) trait Read: JsonSchema + Sized {
    /// How one is drawn at random.
    const DRAW: Draw = Draw::Absent;

    /// Reads it, or says what is wrong. `name` is what the value is called in messages: its key.
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self>;
}

/// What is read from a table with known keys. `table!` defines such types.
pub(super) trait Table: JsonSchema + Sized {
    /// What it is called in messages, with its article: `a client`.
    const WHAT: &'static str;
    /// What may stand in it.
    const KEYS: &'static [Key];

    /// Reads every key, also after one was wrong.
    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self>;
}

/// The value of a key: an `Option` may be left out.
pub(super) trait Field: Sized {
    /// What is read if it is there.
    type Value: Read;
    /// Whether it may be left out.
    const OPTIONAL: bool;

    /// What was read, or what it is when nothing was there.
    fn of(read: Option<Self::Value>) -> Option<Self>;
}

impl<T: Read> Field for T {
    type Value = T;
    const OPTIONAL: bool = false;

    fn of(read: Option<T>) -> Option<T> {
        read
    }
}

impl<T: Read> Field for Option<T> {
    type Value = T;
    const OPTIONAL: bool = true;

    fn of(read: Option<T>) -> Option<Option<T>> {
        Some(read)
    }
}

/// Which of the values of a type a key takes.
pub(super) trait Limit<V> {
    /// Reads one of them, or says what is wrong.
    fn read(&self, value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<V>;

    /// What the schema has to say of it.
    fn schema(&self) -> Vec<(&'static str, serde_json::Value)> {
        Vec::new()
    }
}

/// Every value.
pub(super) struct Any;

impl<V: Read> Limit<V> for Any {
    fn read(&self, value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<V> {
        V::read(value, name, problems)
    }
}

/// The keys of one table, while they are being read.
#[derive(Debug)]
pub(super) struct Fields<'t, 'i, 'p> {
    table: &'t DeTable<'i>,
    /// Where to point at if a key is missing.
    place: Range<usize>,
    what: String,
    docs: fn(&str) -> Option<String>,
    /// The keys asked for.
    known: Vec<&'static str>,
    /// Those that had to be there and aren't.
    missing: Vec<&'static str>,
    problems: &'p mut Vec<Problem>,
}

/// Reads a whole table: its keys, what is missing, and what should not be there.
pub(super) fn read_table<T: Table>(
    table: &DeTable<'_>,
    what: impl Into<String>,
    place: Range<usize>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let before = problems.len();
    let mut fields = Fields::of(what, table, place, key_doc::<T>, problems);
    let read = T::read_fields(&mut fields);
    fields.finish();
    read.filter(|_| problems.len() == before)
}

impl<'t, 'i, 'p> Fields<'t, 'i, 'p> {
    /// The keys of `table`, whose meaning is told by `docs`. Ends with [`Fields::finish`].
    pub(super) fn of(
        what: impl Into<String>,
        table: &'t DeTable<'i>,
        place: Range<usize>,
        docs: fn(&str) -> Option<String>,
        problems: &'p mut Vec<Problem>,
    ) -> Self {
        Fields { table, place, what: what.into(), docs, known: Vec::new(), missing: Vec::new(), problems }
    }

    /// A key as a definition has it. `None` if it is wrong, or missing.
    pub(super) fn field<F: Field>(
        &mut self,
        key: &'static str,
        limit: &impl Limit<F::Value>,
        default: Option<fn() -> F>,
    ) -> Option<F> {
        let read = self.optional_as(key, |value, name, problems| limit.read(value, name, problems))?;
        match (read, default) {
            (None, Some(default)) => Some(default()),
            (None, None) if !F::OPTIONAL => {
                self.missing.push(key);
                None
            }
            (read, _) => F::of(read),
        }
    }

    /// A key that must be there.
    pub(super) fn required<V: Read>(&mut self, key: &'static str) -> Option<V> {
        self.field(key, &Any, None)
    }

    /// A key that may be left out, and what it then means.
    pub(super) fn or<V: Read>(&mut self, key: &'static str, default: fn() -> V) -> Option<V> {
        self.field(key, &Any, Some(default))
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

    /// Says that the value of a key, and why, does not go with the value of another.
    pub(super) fn clash(&mut self, key: &str, message: &str, label: &str, with: &str, because: &str) {
        let problem = Problem::new(self.place(key), message, label).and(self.place(with), because);
        self.problems.push(problem);
    }

    /// What has been wrong so far.
    pub(super) fn problems(&mut self) -> &mut Vec<Problem> {
        self.problems
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
                _ if self.what.ends_with("step") && Word::of(name).is_some() => {
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

/// What a key means by its definition.
pub(super) fn key_doc<T: Table>(key: &str) -> Option<String> {
    T::KEYS.iter().find(|known| known.name == key).map(Key::help)
}

/// What the doc comment of a field says, from the same schema that editors show.
pub(super) fn field_doc<T: JsonSchema>(key: &str) -> Option<String> {
    let schema = T::json_schema(&mut SchemaGenerator::default());
    let doc = schema.get("properties")?.get(key)?.get("description")?.as_str()?;
    Some(doc.replace('\n', " "))
}
