//! Steps drawn at random, as text: what may stand in a file, each value within what its definition says.
//!
//! A step that is drawn is right by itself; whether it can be done where it stands is what [`Drawn::push`] says.

use toml::de::DeTable;

use super::define::{Draw, Key};
use super::model::{Client, Span, Step, Word};
use super::order;
use super::read::Read;

/// Steps inside a step inside a step are enough.
const DEPTH: u32 = 2;
/// The most steps that a step holds.
const MAX_INNER: u32 = 3;

/// A step with this word, as it may stand in a file. `below` gives a number below another one, which is not 0.
pub fn step(word: &Word, below: &mut dyn FnMut(u32) -> u32) -> String {
    step_within(word, below, DEPTH)
}

fn step_within(word: &Word, below: &mut dyn FnMut(u32) -> u32, depth: u32) -> String {
    if word.alone.is_some() && (word.table.is_none() || below(2) == 0) {
        return format!("{:?}", word.name);
    }
    let mut keys = Vec::new();
    for key in word.keys {
        // What may be left out is there once in three times.
        if key.is_required() || below(3) == 0 {
            keys.extend(value(key, below, depth).map(|value| format!("{} = {value}", key.name)));
        }
    }
    let table = if keys.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", keys.join(", ")) };
    if word.is_nested() { format!("{{ {} = {table} }}", word.name) } else { table }
}

fn value(key: &Key, below: &mut dyn FnMut(u32) -> u32, depth: u32) -> Option<String> {
    Some(match key.draw {
        Draw::Absent => return None,
        Draw::Whole(least, most) => (least + below(most - least + 1)).to_string(),
        Draw::Millis(least, most) => {
            // Short and long ones alike: each order of magnitude is as likely as the next.
            let magnitude = 10_u32.pow(below((most - least).max(1).ilog10() + 2));
            format!("\"{}ms\"", least + below((most - least).min(magnitude) + 1))
        }
        Draw::OneOf(words) => words[below(words.len() as u32) as usize].to_owned(),
        Draw::Steps(words) => {
            let count = if depth == 0 { 1 } else { 1 + below(MAX_INNER) };
            let mut inner = || {
                Word::of(words[below(words.len() as u32) as usize])
                    .map(|word| step_within(word, below, depth.saturating_sub(1)))
            };
            let steps: Vec<String> = (0..count).filter_map(|_| inner()).collect();
            format!("[{}]", steps.join(", "))
        }
    })
}

impl Step {
    /// A step with any word, as it may stand in a file. `below` gives a number below another one, which is not 0.
    pub fn draw(below: &mut dyn FnMut(u32) -> u32) -> String {
        step(&Step::WORDS[below(Step::WORDS.len() as u32) as usize], below)
    }
}

/// The steps of one client so far, as they may stand in a file.
#[derive(Clone, Debug)]
pub struct Drawn {
    client: Client,
    texts: Vec<String>,
}

impl Drawn {
    /// None yet, of a client that begins at `start`.
    pub fn new(start: Span) -> Drawn {
        let (name, steps, stagger) = (String::new(), Vec::new(), Span::default());
        Drawn { client: Client { name, count: 1, start, stagger, steps, reconnect: None }, texts: Vec::new() }
    }

    /// Puts one more step behind the others, if it can be done there. Returns whether it can.
    pub fn push(&mut self, step: String) -> bool {
        let mut problems = Vec::new();
        let text = format!("steps = [{step}]");
        let Ok(table) = DeTable::parse(&text) else { return false };
        let read = Vec::<Step>::read(&table.get_ref()["steps"], "steps", &mut problems);
        let before = self.client.steps.len();
        self.client.steps.extend(read.unwrap_or_default());
        order::check(&self.client, None, 0..0, &mut problems);
        if problems.is_empty() && self.client.steps.len() > before {
            self.texts.push(step);
        } else {
            self.client.steps.truncate(before);
        }
        self.client.steps.len() > before
    }

    /// The steps, as text.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether one of them waits for what somebody else tells the client.
    pub fn listens(&self) -> bool {
        Step::every(&self.client.steps).any(|step| *step == Step::Listen)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fuzz::Random;
    use super::super::tests::client;
    use super::super::{Purpose, parse_for};
    use super::*;

    #[test]
    fn every_word_can_be_drawn_and_what_is_drawn_is_right_by_itself() {
        let mut random = Random::default();
        for word in Step::WORDS {
            let mut different = std::collections::BTreeSet::new();
            for _ in 0..100 {
                let drawn = step(word, &mut |limit| random.below(limit as usize) as u32);
                let bad = parse_for(Purpose::Tried, "t.toml", &client(&drawn)).err();
                for problem in bad.iter().flat_map(|bad| bad.problems()) {
                    let value = problem.label().starts_with("expected") && problem.span().len() < drawn.len();
                    assert!(!value, "{drawn}: {}", problem.label());
                }
                different.insert(drawn);
            }
            assert!(different.len() > 1 || word.table.is_none(), "{} is always {different:?}", word.name);
        }
    }
}
