//! A failing scenario made smaller, while the same promise still breaks, or the same variant of it still differs.
//!
//! Tries, again and again, to leave something out (a client, an event, a step, a key, a setting), to put what a step holds in
//! its place, and to make numbers and times smaller; keeps what still fails. What can't be read is no scenario, and is left.

use std::sync::Arc;

use toml::Value;

use super::text::Draft;
use super::try_text;
use super::variants::{self, Variant};
use crate::cast::pod::Pod;
use crate::judge::gate::Failure;
use crate::scenario::Span;

/// What became of a failing scenario.
#[derive(Clone, Debug)]
pub struct Smaller {
    /// Its text.
    pub text: String,
    /// How it breaks now.
    pub failure: Failure,
    /// The seed under which it does.
    pub seed: u64,
    /// How many others were run on the way.
    pub tries: u64,
}

/// Makes a scenario smaller that breaks `failure.broke` under `seed`, as long as `goes_on`.
pub fn shrink(pod: &Arc<dyn Pod>, text: &str, failure: &Failure, seed: u64, goes_on: &dyn Fn() -> bool) -> Smaller {
    let mut best = Smaller { text: text.to_owned(), failure: failure.clone(), seed, tries: 0 };
    let Ok(mut draft) = Draft::read(text) else { return best };
    loop {
        let mut progress = false;
        let mut place = 0;
        while goes_on() {
            let Some(change) = changes(&Value::Table(draft.0.clone())).nth(place) else { break };
            let Value::Table(table) = change else { break };
            let other = Draft(table);
            let still = knows_its_grace(&other)
                .then(|| breaks(pod, &other.to_string(), &best.failure.broke, best.seed))
                .flatten();
            match still {
                Some(failure) => {
                    draft = other;
                    best = Smaller { text: draft.to_string(), failure, tries: best.tries + 1, ..best };
                    progress = true;
                }
                None => {
                    best.tries += 1;
                    place += 1;
                }
            }
        }
        if !progress || !goes_on() {
            break;
        }
    }
    // A small seed is easier to say, and a file that fails under it is one more sort of proof.
    for seed in 1..=8.min(best.seed.saturating_sub(1)) {
        if let Some(failure) = breaks(pod, &best.text, &best.failure.broke, seed) {
            return Smaller { failure, seed, ..best };
        }
    }
    best
}

/// Whether the pod is told how long the kubelet waits, if that is said: one that is not is killed, which breaks other things.
fn knows_its_grace(draft: &Draft) -> bool {
    let grace = |table: &str| draft.0.get(table)?.get("termination_grace");
    grace("pod").is_none() || grace("pod") == grace("drain")
}

fn breaks(pod: &Arc<dyn Pod>, text: &str, broke: &str, seed: u64) -> Option<Failure> {
    if let Some(variant) = Variant::of_find(broke) {
        return variants::compare(pod, text, seed, variant)?.into_failure();
    }
    let (_, trial) = try_text(pod, text, seed)?;
    trial.failures.into_iter().find(|failure| failure.broke == broke)
}

/// Everything that is one change smaller than `value`, the largest changes first.
fn changes(value: &Value) -> Box<dyn Iterator<Item = Value> + '_> {
    match value {
        Value::Array(list) => {
            let halves = [list.len() / 2, list.len() / 4].into_iter().filter(|length| *length > 1);
            let without_some = halves.flat_map(move |length| {
                (0..list.len()).step_by(length).map(move |from| {
                    let rest = list.iter().enumerate().filter(move |(i, _)| *i < from || *i >= from + length);
                    Value::Array(rest.map(|(_, item)| item.clone()).collect())
                })
            });
            let without_one = (0..list.len()).rev().map(move |left_out| {
                let rest = list.iter().enumerate().filter(|(i, _)| *i != left_out);
                Value::Array(rest.map(|(_, item)| item.clone()).collect())
            });
            // What a repeat or a pipeline holds, in its place.
            let unwrapped = list.iter().enumerate().filter_map(move |(i, item)| {
                let inner = item.get("steps").or(item.get("pipeline"))?.as_array()?;
                let is_step = item.get("name").is_none();
                is_step.then(|| Value::Array([&list[..i], inner, &list[i + 1..]].concat()))
            });
            let changed = list.iter().enumerate().flat_map(move |(i, item)| {
                changes(item).map(move |smaller| {
                    let mut list = list.clone();
                    list[i] = smaller;
                    Value::Array(list)
                })
            });
            Box::new(without_some.chain(without_one).chain(unwrapped).chain(changed))
        }
        Value::Table(table) => {
            let without = table
                .keys()
                .filter(|key| *key != "title")
                .map(move |left_out| Value::Table(table.iter().filter(|(key, _)| *key != left_out).map(own).collect()));
            let changed = table.iter().filter(|(key, _)| *key != "title").flat_map(move |(key, value)| {
                changes(value).map(move |smaller| {
                    let mut table = table.clone();
                    table.insert(key.clone(), smaller);
                    Value::Table(table)
                })
            });
            Box::new(without.chain(changed))
        }
        Value::Integer(number) => {
            let smaller = [1, number / 10, number / 2].into_iter().filter(move |less| less < number && *less > 0);
            Box::new(smaller.map(Value::from))
        }
        Value::String(text) => match text.parse::<Span>() {
            Ok(Span(span)) => {
                let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
                // Round ones are easier to read: to whole minutes, seconds, and what is half as long.
                let round = [60_000, 10_000, 1_000]
                    .into_iter()
                    .filter(move |unit| millis % unit != 0)
                    .map(move |unit| millis / unit * unit);
                let shorter = round.chain([millis / 10, millis / 2]).filter(move |less| *less < millis);
                Box::new(shorter.map(|millis| Span(std::time::Duration::from_millis(millis)).to_string().into()))
            }
            Err(_) => Box::new(std::iter::empty()),
        },
        _ => Box::new(std::iter::empty()),
    }
}

fn own((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}
