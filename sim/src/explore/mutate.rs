//! A scenario of the corpus, changed: times moved to edges, steps, clients and events put in, left out or taken from another.

use toml::Value;

use super::draw::{Dice, Plan};
use super::text::Draft;
use crate::cast::run;
use crate::scenario::draw::step;
use crate::scenario::{Purpose, Span, Step, parse_for};

/// At most so many changes at once.
const CHANGES: u32 = 5;
/// So many clients, or events, are enough.
const MOST: usize = 6;
/// Changes that don't fit together are thrown away, so many times.
const ATTEMPTS: u32 = 4;

/// What becomes of one of `drafts`; `None` if nothing that fits together does.
pub(super) fn mutant(dice: &mut Dice, drafts: &[Draft]) -> Option<String> {
    let [first, other] = [0, 1].map(|_| &drafts[dice.place(drafts.len())]);
    let scenario = parse_for(Purpose::Tried, "corpus", &first.to_string()).ok()?;
    let plan = Plan::of(dice, &scenario, &run::settings(&scenario));
    (0..ATTEMPTS).find_map(|_| {
        let mut draft = first.clone();
        for _ in 0..=dice.below(CHANGES) {
            change(dice, &plan, &mut draft, other);
        }
        let text = draft.to_string();
        parse_for(Purpose::Tried, "mutant", &text).is_ok().then_some(text)
    })
}

fn change(dice: &mut Dice, plan: &Plan, draft: &mut Draft, other: &Draft) {
    match dice.below(10) {
        0..3 => {
            let mut times = Vec::new();
            draft.0.iter_mut().for_each(|(_, value)| spans(value, &mut times));
            if !times.is_empty() {
                let place = dice.place(times.len());
                *times[place] = Span(plan.moment(dice)).to_string().into();
            }
        }
        3 | 4 => {
            if let Some(steps) = steps(dice, draft) {
                // Behind the first: a client connects.
                let place = 1 + dice.place(steps.len());
                let word = &Step::WORDS[dice.place(Step::WORDS.len())];
                let text = format!("step = {}", step(word, &mut |limit| dice.below(limit)));
                let drawn: toml::Table = text.parse().expect("what is drawn is TOML");
                steps.insert(place.min(steps.len()), drawn["step"].clone());
            }
        }
        5 => {
            if let Some(steps) = steps(dice, draft)
                && steps.len() > 1
            {
                steps.remove(1 + dice.place(steps.len() - 1));
            }
        }
        6 => take_from(dice, draft, other, "client"),
        7 => take_from(dice, draft, other, "event"),
        8 => {
            let (list, keep) = dice.one_of(&[("client", 1), ("event", 1)]);
            if let Some(Value::Array(list)) = draft.0.get_mut(list)
                && list.len() > keep
            {
                list.remove(dice.place(list.len()));
            }
        }
        _ => {
            draft.0.remove("drain");
            draft.0.remove("pod");
            dice.settings(draft);
        }
    }
}

/// All that are times, but for the grace, which a kubelet has and the process is told.
fn spans<'v>(value: &'v mut Value, found: &mut Vec<&'v mut Value>) {
    match value {
        Value::String(text) if text.parse::<Span>().is_ok() => found.push(value),
        Value::Array(list) => list.iter_mut().for_each(|item| spans(item, found)),
        Value::Table(table) => {
            let others = table.iter_mut().filter(|(key, _)| *key != "termination_grace");
            others.for_each(|(_, item)| spans(item, found));
        }
        _ => {}
    }
}

/// The steps of one of its clients.
fn steps<'d>(dice: &mut Dice, draft: &'d mut Draft) -> Option<&'d mut Vec<Value>> {
    let clients = draft.0.get_mut("client")?.as_array_mut()?;
    let place = dice.place(clients.len());
    clients.get_mut(place)?.get_mut("steps")?.as_array_mut()
}

/// One client, or one event, is the other's too.
fn take_from(dice: &mut Dice, draft: &mut Draft, other: &Draft, list: &str) {
    let Some(theirs) = other.0.get(list).and_then(Value::as_array).filter(|list| !list.is_empty()) else { return };
    let mut taken = theirs[dice.place(theirs.len())].clone();
    let Value::Array(ours) = draft.0.entry(list).or_insert_with(|| Value::Array(Vec::new())) else { return };
    if ours.len() >= MOST {
        return;
    }
    if let Some(name) = taken.get_mut("name") {
        *name = format!("c{}", 1 + ours.len() + dice.place(90)).into();
    }
    ours.push(taken);
}

#[cfg(test)]
mod tests {
    use super::super::draw;
    use super::*;

    #[test]
    fn a_mutant_follows_from_its_seed_fits_together_and_is_another_scenario() {
        let drafts: Vec<Draft> = (1..=20).map(|seed| Draft::read(&draw::scenario(seed)).unwrap()).collect();
        let mutants = || (1..=200).map(|seed| mutant(&mut Dice::new(seed), &drafts)).collect::<Vec<_>>();
        let some = mutants();
        assert_eq!(some, mutants());
        let some: Vec<String> = some.into_iter().flatten().collect();
        assert!(some.len() > 180, "only {} of 200 fit together", some.len());
        for text in &some {
            parse_for(Purpose::Tried, "mutant", text).unwrap();
        }
        let same = some.iter().filter(|text| drafts.iter().any(|draft| draft.to_string() == **text)).count();
        assert!(same < 20, "{same} are what they were made of");
    }
}
