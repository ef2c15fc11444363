//! A scenario with all its times changed: those that it names, and those that it leaves at their defaults.

use std::time::Duration;

use lastcall_core::settings::{SETTINGS, print_duration};
use toml::{Table, Value};

use super::super::text::Draft;
use crate::cast::kubelet;
use crate::cast::run;
use crate::scenario::{self, Overrides, Purpose, RUN_LIMIT, Scenario, Span, Step, Word};

/// How many times shorter.
const TIMES: u128 = 60;

/// Keys whose values are names, whatever they look like.
const NAMES: [&str; 8] = ["title", "why", "name", "client", "user", "database", "declare", "fetch"];

/// The time, rounded up to one that has a 60th in milliseconds.
pub(super) fn whole(time: Duration) -> Duration {
    sixtieth(time) * TIMES as u32
}

/// The 60th of that.
pub(super) fn sixtieth(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis().div_ceil(TIMES)).unwrap_or(u64::MAX))
}

/// Ten times as long, but no longer than a run lasts.
pub(super) fn tenfold(time: Duration) -> Duration {
    (time * 10).min(RUN_LIMIT)
}

/// The scenario of this text with all times changed, and without what is expected of it.
pub(super) fn all(text: &str, change: fn(Duration) -> Duration) -> Option<Scenario> {
    let drain = drain(&scenario::parse_for(Purpose::Tried, "told", text).ok()?, change);
    let Draft(mut table) = Draft::read(text).ok()?;
    table.retain(|key, _| !["drain", "expect", "fails_under", "catches"].contains(&key));
    let pod = table.entry("pod").or_insert_with(|| Value::Table(Table::new())).as_table_mut()?;
    let defaults = [("termination_grace", kubelet::TERMINATION_GRACE), ("readiness_period", kubelet::READINESS_PERIOD)];
    for (key, default) in defaults {
        pod.entry(key).or_insert_with(|| Span(default).to_string().into());
    }
    let mut value = Value::Table(table);
    change_all("", &mut value, change);
    let Value::Table(table) = value else { return None };
    let scenario = scenario::parse_for(Purpose::Tried, "told", &Draft(table).to_string()).ok()?;
    Some(Scenario { drain, ..scenario })
}

/// All settings, with their times changed. Whether they fit together is not asked: the control plane allows itself some seconds
/// behind a wall, whatever the rest.
fn drain(scenario: &Scenario, change: fn(Duration) -> Duration) -> Overrides {
    let settings = run::settings(scenario);
    let mut drain = scenario.drain.clone();
    for setting in SETTINGS {
        let span = settings.setting(setting.name).and_then(|value| value.parse().ok());
        if let Some(Span(span)) = span {
            // A count is a number without a unit, and so no time.
            drain.insert(setting.name, &print_duration(change(span))).expect("a time of the same kind");
        }
    }
    drain
}

fn change_all(key: &str, value: &mut Value, change: fn(Duration) -> Duration) {
    match value {
        Value::String(text) if !NAMES.contains(&key) => {
            if let Ok(Span(span)) = text.parse() {
                *text = Span(change(span)).to_string();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| change_all(key, item, change)),
        Value::Table(table) => {
            if matches!(key, "steps" | "pipeline") {
                name_defaults(table);
            }
            table.iter_mut().for_each(|(key, value)| change_all(key, value, change));
        }
        _ => {}
    }
}

/// Writes down the times that a step leaves out.
fn name_defaults(step: &mut Table) {
    let is_of = |word: &&Word| step.keys().all(|key| word.keys.iter().any(|known| known.name == key));
    let Some(word) = Step::WORDS.iter().filter(|word| step.contains_key(word.name)).find(is_of) else { return };
    for key in word.keys {
        let default = key.default().and_then(|default| Some(default.as_str()?.to_owned()));
        if let Some(text) = default.filter(|text| text.parse::<Span>().is_ok()) {
            step.entry(key.name).or_insert(text.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_up_to_one_that_has_a_60th() {
        let millis = [0, 1, 60, 61, 5_000].map(Duration::from_millis);
        assert_eq!(millis.map(whole), [0, 60, 60, 120, 5_040].map(Duration::from_millis));
        assert_eq!(millis.map(sixtieth), [0, 1, 1, 2, 84].map(Duration::from_millis));
    }

    #[test]
    fn every_time_is_changed_also_one_that_is_not_named_and_no_name_is() {
        let text = "title = '1m'\n[drain]\nidle_grace = '60s'\n[[client]]\nname = '1m'\nstart = '6s'\nsteps = ['connect', \
                    { insert = 1 }, { repeat = 2, steps = [{ query = '12s', cancel_after = '61ms' }] }, { idle = 'forever' }]\n\
                    [[event]]\nat = '1m'\ndo = 'sigterm'\n";
        let [one, other] = [whole, sixtieth].map(|change: fn(Duration) -> Duration| all(text, change).unwrap());
        let settings = |scenario| run::settings(scenario);
        let seconds = Duration::from_secs;
        assert_eq!((settings(&one).idle_grace, settings(&other).idle_grace), (seconds(60), seconds(1)));
        assert_eq!((settings(&one).stall_grace, settings(&other).stall_grace), (seconds(300), seconds(5)));
        assert_eq!((settings(&one).max_connections, settings(&other).max_connections), (10_000, 10_000));
        assert_eq!(other.pod.termination_grace, Some(Span(seconds(24 * 60))));
        assert_eq!((other.title.as_str(), other.clients[0].name.as_str()), ("1m", "1m"));
        let steps = format!("{:?}", other.clients[0].steps);
        assert!(steps.contains("takes: Span(1ms)") && steps.contains("query: Span(200ms)"), "{steps}");
        assert!(steps.contains("cancel_after: Some(Span(2ms))") && steps.contains("Forever"), "{steps}");
        assert_eq!((other.events[0].at, other.clients[0].start), (Span(seconds(1)), Span(seconds(6) / 60)));
    }
}
