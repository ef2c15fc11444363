//! The document: which keys stand in which table. The steps of a client are read in `steps`.
//!
//! One `read_fields` for each noun of the vocabulary, in the vocabulary's order. What can be judged inside one table is judged
//! here; whatever needs two of them is left to `check`, which gets a [`Draft`].

use std::collections::BTreeMap;
use std::ops::Range;

use lastcall_core::settings::{SETTINGS, SettingError};
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::model::step::one;
use super::model::*;
use super::read::{Fields, Read, Table, Value};
use super::steps::read_steps;
use super::suggest::{did_you_mean, nearest, one_of};
use super::values::wrong_type;

/// A file as far as it could be read, with the places that later checks point at.
#[derive(Debug)]
pub(super) struct Draft<'t, 'i> {
    pub(super) title: Option<String>,
    pub(super) why: Option<String>,
    pub(super) seeds: Option<u32>,
    pub(super) pod: Option<Pod>,
    pub(super) drain: Option<Overrides>,
    pub(super) clients: Vec<Placed<'t, 'i, Client>>,
    pub(super) events: Vec<Placed<'t, 'i, Event>>,
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
    let mut fields = Fields::of::<Scenario>("a scenario", root, 0..0, problems);
    let title: Option<String> = fields.required("title");
    if title.as_deref().is_some_and(|title| title.trim().is_empty() || title.contains('\n')) {
        let problem = Problem::new(fields.place("title"), "`title` names the test", "expected one line of text");
        fields.problems().push(problem);
    }
    let why = fields.or("why", String::new());
    let seeds = fields.number_or("seeds", one(), 1..=Scenario::MAX_SEEDS);
    let pod = fields.or("pod", Pod::default());
    let drain = fields.or("drain", Overrides::default());
    let clients = entries(&mut fields, "client");
    let events = entries(&mut fields, "event");
    let Expected { exit, timeline, seen } = match fields.value("expect") {
        Some(expect) => read_expect(expect, fields.problems()),
        None => Expected::default(),
    };
    let fails_under = entries(&mut fields, "fails_under");
    let catches = fields.or("catches", Vec::new());
    fields.finish();
    Draft { title, why, seeds, pod, drain, clients, events, exit, timeline, seen, fails_under, catches, root }
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
    exit: Option<Placed<'t, 'i, ExpectExit>>,
    timeline: Vec<Placed<'t, 'i, Milestone>>,
    seen: Vec<(&'t str, Placed<'t, 'i, ExpectClient>)>,
}

fn read_expect<'t, 'i>(expect: &'t Value<'i>, problems: &mut Vec<Problem>) -> Expected<'t, 'i> {
    let DeValue::Table(table) = expect.get_ref() else {
        problems.push(wrong_type(expect, "expect", "a table").help("it begins with the line `[expect]`"));
        return Expected::default();
    };
    let mut fields = Fields::of::<Expect>("`[expect]`", table, expect.span(), problems);
    let exit = fields.value("exit");
    let timeline = fields.value("timeline");
    let clients = fields.value("client");
    fields.finish();
    let key = table.get_key_value("exit").map_or(expect.span(), |(key, _)| key.span());
    let exit = exit.map(|value| Placed::read(value, "exit", key, problems));
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
    Expected { exit, timeline, seen: clients.into_iter().flatten().map(read).collect() }
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

impl Table for Pod {
    const WHAT: &'static str = "`[pod]`";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let termination_grace = fields.optional("termination_grace");
        let readiness_period: Option<Option<Span>> = fields.optional("readiness_period");
        let admin_keepalive = fields.or("admin_keepalive", false);
        if readiness_period.flatten().is_some_and(|Span(period)| period.is_zero()) {
            let place = fields.place("readiness_period");
            fields.problems().push(Problem::new(place, "`readiness_period` is 0", "expected a length of time above 0"));
        }
        Some(Pod {
            termination_grace: termination_grace?,
            readiness_period: readiness_period?,
            admin_keepalive: admin_keepalive?,
        })
    }
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

impl Table for Client {
    const WHAT: &'static str = "a client";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let name: Option<String> = fields.required("name");
        let count = fields.number_or("count", one(), 1..=Client::MAX_COUNT);
        let start = fields.or("start", Span::default());
        let stagger = fields.or("stagger", Span::default());
        let steps = read_steps(fields, "steps");
        let reconnect = fields.optional("reconnect");
        if name.as_deref().is_some_and(|name| !is_name(name)) {
            let expected = format!("expected 1 to {} letters, digits, `-` or `_`", Client::MAX_NAME);
            let place = fields.place("name");
            fields.problems().push(Problem::new(place, "not a name", expected));
        }
        Some(Client {
            name: name?,
            count: count?,
            start: start?,
            stagger: stagger?,
            steps: steps?,
            reconnect: reconnect?,
        })
    }
}

impl Table for Reconnect {
    const WHAT: &'static str = "`reconnect`";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let backoff = fields.or("backoff", Reconnect::backoff());
        let retries = fields.number_or("retries", Reconnect::retries(), 1..=Reconnect::MAX_RETRIES);
        if backoff == Some(Span::default()) {
            let problem = Problem::new(fields.place("backoff"), "nobody comes back at once", "expected at least 1ms");
            fields.problems().push(problem);
        }
        Some(Reconnect { backoff: backoff?, retries: retries? })
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=Client::MAX_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

impl Table for Event {
    const WHAT: &'static str = "an event";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let at = fields.required("at");
        let action: Option<Action> = fields.required("do");
        let between: Option<Option<[String; 2]>> = fields.optional("between");
        let latency = fields.optional("latency");
        let rate = fields.optional("rate");
        let back_after: Option<Option<Span>> = fields.optional("back_after");
        let client = fields.optional("client");
        let count = fields.number("count", 1..=Event::MAX_NOTIFICATIONS);
        let bytes = fields.number("bytes", 1..=Event::MAX_PAYLOAD);
        let stays_open = fields.or("stays_open", false);
        if let Some(action) = action {
            check_keys(fields, action, stays_open == Some(true));
        }
        if back_after.flatten().is_some_and(|Span(length)| length.is_zero()) {
            let problem = Problem::new(fields.place("back_after"), "`back_after` is 0", "expected a length above 0");
            fields.problems().push(problem);
        }
        Some(Event {
            at: at?,
            action: action?,
            between: between?,
            latency: latency?,
            rate: rate?,
            back_after: back_after?,
            client: client?,
            count: count?,
            bytes: bytes?,
            stays_open: stays_open?,
        })
    }
}

/// The keys that only some events have.
fn check_keys(fields: &mut Fields<'_, '_, '_>, action: Action, stays_open: bool) {
    let notifies = action == Action::Notify;
    // The key, whether the event may have it and whether it must, and if so the question and how to answer it.
    let keys = [
        ("between", action.is_network(), true, "between whom?", "`between = [\"clients\", \"pod\"]`"),
        ("latency", action == Action::Latency, true, "how long?", "`latency = \"40ms\"`: what a packet takes, one way"),
        ("rate", action == Action::Rate, true, "how much?", "`rate = \"250KB/s\"`: what gets through, each way"),
        ("back_after", action.is_worker(), false, "", ""),
        ("client", action.is_of_client(), true, "whose sessions?", "`client = \"etl\"`"),
        ("count", notifies, true, "how many?", "`count = 1000`"),
        ("bytes", notifies, false, "", ""),
        ("stays_open", action == Action::Terminate || !stays_open, false, "", ""),
    ];
    for (key, may, must, question, answer) in keys {
        let problem = match (fields.has(key), may) {
            (true, false) => Problem::new(fields.place(key), format!("`{action}` has no `{key}`"), "not here"),
            (false, true) if must => {
                let problem = Problem::new(fields.place("do"), format!("`{action}` needs `{key}`"), question);
                problem.help(format!("such as {answer}"))
            }
            _ => continue,
        };
        fields.problems().push(problem);
    }
}

impl Table for ExpectExit {
    const WHAT: &'static str = "`exit`";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let within = fields.optional("within");
        let after = fields.optional("after");
        let code = fields.optional("code");
        let expect = ExpectExit { within: within?, after: after?, code: code? };
        if let (Some(within), Some(after)) = (expect.within, expect.after)
            && within < after
        {
            let problem = Problem::new(fields.place("within"), "no exit can meet this", "at most this, but …");
            let problem = problem.and(fields.place("after"), "… at least this");
            fields.problems().push(problem);
        }
        Some(expect)
    }
}

impl Table for ExpectClient {
    const WHAT: &'static str = "an expectation on a client";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let answered = fields.optional("answered");
        let committed = fields.optional("committed");
        let ends: Option<Option<String>> = fields.optional("ends");
        let between: Option<Option<[Span; 2]>> = fields.optional("between");
        let errors = fields.optional("errors");
        let killed = fields.or("killed", false);
        if let Some(Some(ends)) = &ends {
            check_end(ends, fields.place("ends"), fields.problems());
        }
        let counted: Option<Option<BTreeMap<String, u32>>> = fields.optional("told");
        for ends in counted.iter().flatten().flat_map(BTreeMap::keys) {
            check_end(ends, fields.place("told"), fields.problems());
        }
        if let Some(Some(counted)) = &counted
            && counted.is_empty()
        {
            let label = "expected at least one way to end";
            let problem = Problem::new(fields.place("told"), "`told` counts nothing", label);
            fields.problems().push(problem);
        }
        if let Some(Some([from, to])) = between
            && from > to
        {
            let problem =
                Problem::new(fields.place("between"), "no end can meet this", "the first is after the second");
            fields.problems().push(problem.help(format!("between = [\"{to}\", \"{from}\"]")));
        }
        Some(ExpectClient {
            answered: answered?,
            committed: committed?,
            ends: ends?,
            told: counted?,
            between: between?,
            errors: errors?,
            killed: killed?,
        })
    }
}

/// A connection ends with a SQLSTATE, or in one of a few ways.
fn check_end(ends: &str, at: Range<usize>, problems: &mut Vec<Problem>) {
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
