//! A scenario file as a value that can be changed and printed: what the explorer draws, and what it makes smaller.

use std::fmt;
use std::time::Duration;

use toml::{Table, Value};

use crate::scenario::{Action, Span};

/// A scenario file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft(pub(super) Table);

impl Draft {
    /// One in which nothing happens.
    pub(super) fn new(title: &str) -> Draft {
        Draft(Table::from_iter([("title".to_owned(), Value::from(title))]))
    }

    /// The file with this text.
    ///
    /// # Errors
    /// It is no TOML.
    pub(super) fn read(text: &str) -> Result<Draft, toml::de::Error> {
        text.parse().map(Draft)
    }

    /// Without what a file says of itself and expects. A SIGKILL proves nothing, and is left out.
    pub(super) fn scene(mut self) -> Draft {
        self.0.retain(|key, _| ["title", "pod", "drain", "service", "client", "event"].contains(&key));
        if let Some(Value::Array(events)) = self.0.get_mut("event") {
            events.retain(|event| event.get("do").and_then(Value::as_str) != Some(Action::Sigkill.name()));
        }
        self
    }

    /// Sets a key of `[pod]`.
    pub(super) fn pod(&mut self, key: &str, value: &str) {
        self.section("pod").insert(key.to_owned(), value.into());
    }

    /// Sets a key of `[drain]`.
    pub(super) fn setting(&mut self, name: &str, value: &str) {
        let value = value.parse::<i64>().ok().filter(|count| *count > 0).map_or(Value::from(value), Value::from);
        self.section("drain").insert(name.to_owned(), value);
    }

    /// Adds a client with these steps and these keys besides, each as it stands in a file.
    pub(super) fn client(&mut self, name: &str, steps: &[String], keys: &[(&str, String)]) {
        let keys: String = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        self.entry("client", &format!("name = {name:?}\nsteps = [{}]\n{keys}", steps.join(", ")));
    }

    /// Adds an event, with these keys besides, each on a line as it stands in a file.
    pub(super) fn event(&mut self, at: Duration, action: Action, keys: &str) {
        self.entry("event", &format!("at = \"{}\"\ndo = \"{action}\"\n{keys}\n", Span(at)));
    }

    fn entry(&mut self, list: &str, text: &str) {
        let entry: Table = text.parse().expect("what is drawn is TOML");
        let list = self.0.entry(list).or_insert_with(|| Value::Array(Vec::new()));
        list.as_array_mut().expect("a list of tables").push(entry.into());
    }

    fn section(&mut self, name: &str) -> &mut Table {
        let section = self.0.entry(name).or_insert_with(|| Value::Table(Table::new()));
        section.as_table_mut().expect("a table")
    }
}

/// The order in which keys stand in a file; others come behind them.
const ORDER: [&str; 9] = ["title", "why", "seeds", "name", "count", "start", "at", "do", "between"];

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "#:schema ../scenario.schema.json")?;
        let is_list = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_table));
        keys(f, self.0.iter().filter(|(_, value)| !value.is_table() && !is_list(value)))?;
        for (name, value) in &self.0 {
            if let Some(table) = value.as_table() {
                writeln!(f, "\n[{name}]")?;
                keys(f, table.iter())?;
            }
        }
        for (name, value) in &self.0 {
            for table in value.as_array().into_iter().flatten().filter_map(Value::as_table) {
                writeln!(f, "\n[[{name}]]")?;
                keys(f, table.iter())?;
            }
        }
        Ok(())
    }
}

fn keys<'t>(f: &mut fmt::Formatter<'_>, keys: impl Iterator<Item = (&'t String, &'t Value)>) -> fmt::Result {
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by_key(|(key, _)| ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len()));
    keys.into_iter().try_for_each(|(key, value)| writeln!(f, "{key} = {value}"))
}
