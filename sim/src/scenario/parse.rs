//! The document: which keys stand in which table. The steps of a client are read in `steps`.
//!
//! One `read_fields` for each noun of the vocabulary, in the vocabulary's order. What can be judged inside one table is judged
//! here; whatever needs two of them is left to `check`, which gets a [`Draft`].

use std::ops::Range;

use lastcall_core::settings::{SETTINGS, SettingError};
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::model::*;
use super::read::{Fields, Read, Value, field_doc};
use super::suggest::did_you_mean;
use super::values::wrong_type;

/// A file as far as it could be read, with the places that later checks point at.
#[derive(Debug)]
pub(super) struct Draft<'t, 'i> {
    pub(super) title: Option<String>,
    pub(super) why: Option<String>,
    pub(super) seeds: Option<u32>,
    pub(super) pod: Option<Pod>,
    pub(super) deployment: Option<Placed<'t, 'i, Deployment>>,
    pub(super) service: Option<Placed<'t, 'i, Service>>,
    pub(super) drain: Option<Overrides>,
    pub(super) clients: Vec<Placed<'t, 'i, Client>>,
    pub(super) applications: Vec<Placed<'t, 'i, Application>>,
    pub(super) events: Vec<Placed<'t, 'i, Event>>,
    pub(super) rollout: Option<Placed<'t, 'i, ExpectRollout>>,
    pub(super) exit: Option<Placed<'t, 'i, ExpectExit>>,
    pub(super) timeline: Vec<Placed<'t, 'i, Milestone>>,
    /// Expectations on clients, by the key that names the client.
    pub(super) seen: Vec<(&'t str, Placed<'t, 'i, ExpectClient>)>,
    pub(super) fails_under: Vec<Placed<'t, 'i, FailsUnder>>,
    pub(super) catches: Option<Vec<String>>,
    pub(super) root: &'t DeTable<'i>,
}

/// What was read from one value, if it could be, and where it stands.
#[derive(Debug)]
pub(super) struct Placed<'t, 'i, T> {
    pub(super) read: Option<T>,
    /// Where to point at when the whole is meant: its key or header.
    pub(super) at: Range<usize>,
    value: &'t Value<'i>,
}

impl<'t, 'i, T> Placed<'t, 'i, T> {
    fn read(value: &'t Value<'i>, name: &str, at: Range<usize>, problems: &mut Vec<Problem>) -> Self
    where
        T: Read,
    {
        Placed { read: T::read(value, name, problems), at, value }
    }

    /// The value of a key.
    pub(super) fn key(&self, key: &str) -> Option<&'t Value<'i>> {
        self.value.get_ref().as_table()?.get(key)
    }

    /// Where the value of a key stands, or else the whole.
    pub(super) fn place(&self, key: &str) -> Range<usize> {
        self.key(key).map_or(self.at.clone(), |value| value.span())
    }
}

/// Reads a whole document.
pub(super) fn read_document<'t, 'i>(root: &'t DeTable<'i>, problems: &mut Vec<Problem>) -> Draft<'t, 'i> {
    let mut fields = Fields::of("a scenario", root, 0..0, field_doc::<Scenario>, problems);
    let title: Option<String> = fields.required("title");
    if title.as_deref().is_some_and(|title| title.trim().is_empty() || title.contains('\n')) {
        let problem = Problem::new(fields.place("title"), "`title` names the test", "expected one line of text");
        fields.problems().push(problem);
    }
    let why = fields.or("why", String::new);
    let seeds = fields.field("seeds", &(1..=Scenario::MAX_SEEDS), Some(|| 1));
    let pod = fields.or("pod", Pod::default);
    let deployment = table(&mut fields, "deployment", root);
    let service = table(&mut fields, "service", root);
    let drain = fields.or("drain", Overrides::default);
    let clients = entries(&mut fields, "client");
    let applications = entries(&mut fields, "application");
    let events = entries(&mut fields, "event");
    let Expected { rollout, exit, timeline, seen } = match fields.value("expect") {
        Some(expect) => read_expect(expect, fields.problems()),
        None => Expected::default(),
    };
    let fails_under = entries(&mut fields, "fails_under");
    let catches = fields.or("catches", Vec::new);
    fields.finish();
    Draft {
        title,
        why,
        seeds,
        pod,
        deployment,
        service,
        drain,
        clients,
        applications,
        events,
        rollout,
        exit,
        timeline,
        seen,
        fails_under,
        catches,
        root,
    }
}

/// A table that may be left out.
fn table<'t, 'i, T: Read>(
    fields: &mut Fields<'t, 'i, '_>,
    key: &'static str,
    root: &'t DeTable<'i>,
) -> Option<Placed<'t, 'i, T>> {
    let value = fields.value(key)?;
    let at = root.get_key_value(key).map_or(value.span(), |(key, _)| key.span());
    Some(Placed::read(value, key, at, fields.problems()))
}

/// The entries of an array of tables, each read by itself.
fn entries<'t, 'i, T: Read>(fields: &mut Fields<'t, 'i, '_>, key: &'static str) -> Vec<Placed<'t, 'i, T>> {
    let Some(value) = fields.value(key) else { return Vec::new() };
    let DeValue::Array(items) = value.get_ref() else {
        let problem = wrong_type(value, key, "an array of tables");
        fields.problems().push(problem.help(format!("each begins with the line `[[{key}]]`")));
        return Vec::new();
    };
    items.iter().map(|item| Placed::read(item, key, item.span(), fields.problems())).collect()
}

/// What `[expect]` holds.
#[derive(Default)]
struct Expected<'t, 'i> {
    rollout: Option<Placed<'t, 'i, ExpectRollout>>,
    exit: Option<Placed<'t, 'i, ExpectExit>>,
    timeline: Vec<Placed<'t, 'i, Milestone>>,
    seen: Vec<(&'t str, Placed<'t, 'i, ExpectClient>)>,
}

fn read_expect<'t, 'i>(expect: &'t Value<'i>, problems: &mut Vec<Problem>) -> Expected<'t, 'i> {
    let DeValue::Table(table) = expect.get_ref() else {
        problems.push(wrong_type(expect, "expect", "a table").help("it begins with the line `[expect]`"));
        return Expected::default();
    };
    let mut fields = Fields::of("`[expect]`", table, expect.span(), field_doc::<Expect>, problems);
    let exit = self::table(&mut fields, "exit", table);
    let rollout = self::table(&mut fields, "rollout", table);
    let timeline = fields.value("timeline");
    let clients = fields.value("client");
    fields.finish();
    let timeline = timeline.map_or_else(Vec::new, |value| read_timeline(value, problems));
    let clients = match clients.map(|clients| (clients, clients.get_ref())) {
        None => None,
        Some((_, DeValue::Table(clients))) => Some(clients),
        Some((other, _)) => {
            let problem = wrong_type(other, "client", "a table by name");
            problems.push(problem.help("an expectation on a client is written `client.etl = { ends = \"57P01\" }`"));
            None
        }
    };
    let read = |(key, value): (&'t toml::Spanned<toml::de::DeString<'i>>, &'t Value<'i>)| {
        let name: &str = key.get_ref();
        (name, Placed::read(value, name, key.span(), problems))
    };
    Expected { rollout, exit, timeline, seen: clients.into_iter().flatten().map(read).collect() }
}

fn read_timeline<'t, 'i>(value: &'t Value<'i>, problems: &mut Vec<Problem>) -> Vec<Placed<'t, 'i, Milestone>> {
    let DeValue::Array(items) = value.get_ref() else {
        let problem = wrong_type(value, "timeline", "an array");
        problems.push(problem.help("such as `timeline = [\"signal\", \"etl answered\", \"exit by 31s\"]`"));
        return Vec::new();
    };
    if items.is_empty() {
        problems.push(Problem::new(value.span(), "`timeline` expects nothing", "expected at least one milestone"));
    }
    items.iter().map(|item| Placed::read(item, "timeline", item.span(), problems)).collect()
}

impl Read for Overrides {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => read_settings(table, &[], problems),
            _ => {
                problems.push(wrong_type(value, name, "a table of settings"));
                None
            }
        }
    }
}

/// Reads every key as a setting of the control plane, but for the keys that are read `elsewhere`.
fn read_settings(table: &DeTable<'_>, elsewhere: &[&str], problems: &mut Vec<Problem>) -> Option<Overrides> {
    let mut overrides = Overrides::default();
    let before = problems.len();
    for (key, value) in table {
        let name: &str = key.get_ref();
        if elsewhere.contains(&name) {
            continue;
        }
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            _ => {
                problems.push(wrong_type(value, name, "a string or a whole number"));
                continue;
            }
        };
        let help = SETTINGS.iter().find(|setting| setting.name == name).map(|setting| setting.help);
        problems.push(match overrides.insert(name, &text) {
            Ok(()) => continue,
            Err(SettingError::Unknown { .. }) => {
                let known = SETTINGS.iter().map(|setting| setting.name).chain(elsewhere.iter().copied());
                Problem::new(key.span(), format!("there is no setting `{name}`"), did_you_mean(name, known))
            }
            Err(SettingError::Invalid { valid, .. }) => {
                let problem =
                    Problem::new(value.span(), format!("`{name}` can't be {text:?}"), format!("expected {valid}"));
                help.map_or(problem.clone(), |help| problem.help(format!("`{name}`: {help}")))
            }
            Err(other) => Problem::new(value.span(), format!("`{name}` can't be {text:?}"), other.to_string()),
        });
    }
    (problems.len() == before).then_some(overrides)
}

impl Read for FailsUnder {
    fn read(value: &Value<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        const BREAKS: &str = "breaks";
        let DeValue::Table(table) = value.get_ref() else {
            problems.push(wrong_type(value, name, "a table"));
            return None;
        };
        let settings = read_settings(table, &[BREAKS], problems);
        if settings.as_ref().is_some_and(Overrides::is_empty) {
            let problem =
                Problem::new(value.span(), "nothing differs from the run that passes", "needs at least one setting");
            problems.push(problem.help("such as `drain_policy = \"unbounded\"`"));
        }
        let Some(listed) = table.get(BREAKS) else {
            let problem = Problem::new(value.span(), "`[[fails_under]]` needs `breaks`", "`breaks` is missing");
            problems.push(problem.help("the promises that must break: `breaks = [\"bounded-exit\"]`"));
            return None;
        };
        let breaks: Vec<Promise> = Read::read(listed, BREAKS, problems)?;
        if breaks.is_empty() {
            problems.push(Problem::new(listed.span(), "`breaks` is empty", "expected at least one promise"));
        }
        let mut once = breaks.clone();
        once.sort_unstable();
        once.dedup();
        if once.len() < breaks.len() {
            problems.push(Problem::new(listed.span(), "a promise stands here twice", "expected each once"));
        }
        Some(FailsUnder { breaks, settings: settings? })
    }
}
