//! Noise: texts that are nearly scenarios.

use std::collections::BTreeSet;
use std::fs;

use super::model::{Client, Pipeline, RUN_LIMIT, Step, Times};
use super::tests::{root, with_a_purpose};
use super::{Scenario, find, most, parse};

/// Any text gives a scenario or its mistakes, and the mistakes can be shown: the files of the repository and steps drawn at
/// random, each time with a few bytes, lines, numbers or brackets of it changed. Whatever is accepted is within the bounds
/// that keep a run from hanging and from eating the machine's memory.
#[test]
fn no_text_makes_it_panic_and_none_asks_for_more_than_there_is() {
    const ROUNDS: usize = 3000;
    let files = find(&root()).unwrap();
    let mut texts: Vec<String> = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    texts.push(include_str!("bad.toml").to_owned());
    let mut random = Random::default();
    texts.extend((0..20).map(|_| random.scenario()));
    let (mut mistakes, mut right) = (BTreeSet::new(), 0);
    for _ in 0..ROUNDS {
        let text = random.mutation(&texts);
        match parse("t.toml", &text) {
            Ok(scenario) => {
                is_bounded(&scenario);
                right += 1;
            }
            Err(bad) => {
                assert!(!bad.problems().is_empty(), "{text}");
                let page = bad.render(false);
                assert!(!page.contains("Failed to read"), "{page}");
                mistakes.extend(bad.problems().iter().map(|problem| problem.label().to_owned()));
            }
        }
    }
    assert!(mistakes.len() > 120, "only {} different mistakes were made", mistakes.len());
    assert!(right > ROUNDS / 50, "only {right} texts were right");
}

/// Nothing that is nested, repeated or long makes the reader slow, deep or silent.
#[test]
fn what_is_too_much_of_anything_is_a_mistake() {
    const MANY: usize = 20_000;
    let steps = |steps: &str| format!("title = \"t\"\n[[client]]\nname = \"c\"\nsteps = [\"connect\", {steps}]\n");
    let nested = |open: &str, close: &str, count: usize| open.repeat(count) + "\"begin\"" + &close.repeat(count);
    for text in [
        steps(&nested("[", "]", MANY)),
        steps(&nested("{ repeat = 2, steps = [", "] }", MANY / 10)),
        steps(&nested("{ pipeline = [", "] }", MANY / 10)),
        steps(&nested("{ connect = ", " }", MANY / 10)),
        steps(&nested("{ repeat = 1000000, steps = [", "] }", 5)),
        steps(&"\"bgin\", ".repeat(MANY)),
        steps(&format!("{{ query = \"{}s\" }}", "9".repeat(MANY))),
        format!("title = \"t\"\n{}", "[[client]]\n".repeat(MANY / 10)),
        format!("title = \"{}\"", "x".repeat(super::MAX_BYTES)),
        format!("title = \"t\"\n{}", "a.".repeat(MANY) + "b = 1"),
    ] {
        let bad = parse("t.toml", &with_a_purpose(&text)).expect_err("it is too much");
        assert!(!bad.problems().is_empty());
        let page = bad.render(false).len();
        assert!(page < 10 * super::MAX_BYTES, "a page of {page} bytes");
    }
}

/// A repeat is walked twice; in one another they would be walked for ever.
#[test]
fn repeats_in_repeats_take_no_time_to_check() {
    let nested = "{ repeat = 2, steps = [".repeat(36) + "{ query = \"1s\" }" + &"] }".repeat(36);
    let text = super::tests::client(&format!("\"connect\", {{ repeat = \"forever\", steps = [{nested}] }}"));
    parse("t.toml", &with_a_purpose(&text)).expect("it is not too much, only silly");
}

/// What every scenario keeps within, however it was written.
fn is_bounded(scenario: &Scenario) {
    assert!(scenario.seeds <= Scenario::MAX_SEEDS);
    assert!(scenario.events.iter().all(|event| event.at.0 <= RUN_LIMIT));
    for client in &scenario.clients {
        assert!(client.count <= Client::MAX_COUNT && client.start.0 <= RUN_LIMIT);
        let most = most::Most::of(&client.steps);
        let forever = Step::every(&client.steps).any(|step| match step {
            Step::Repeat(repeat) => repeat.repeat == Times::Forever,
            Step::Pipeline(Pipeline { repeat, .. }) => *repeat == Times::Forever,
            _ => false,
        });
        assert!(forever || most.steps.is_some_and(|steps| steps <= super::order::MAX_STEPS), "{most:?}");
    }
}

/// xorshift64: enough to shuffle bytes with.
pub(super) struct Random(u64);

impl Default for Random {
    /// Any constant would do: the same texts are tried every time.
    fn default() -> Self {
        Random(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    /// A scenario whose client does what comes to nobody's mind.
    fn scenario(&mut self) -> String {
        let steps: Vec<String> = (0..8).map(|_| Step::draw(&mut |limit| self.below(limit as usize) as u32)).collect();
        let steps = steps.join(",\n  ");
        let text = format!("title = \"t\"\n[[client]]\nname = \"c\"\nsteps = [\n  \"connect\",\n  {steps},\n]\n");
        with_a_purpose(&text)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    fn mutation(&mut self, texts: &[String]) -> String {
        const WORDS: [&str; 24] = [
            "\"",
            "=",
            "[",
            "]",
            "{",
            "}",
            "\n",
            ",",
            ".",
            "\u{0}",
            "é",
            "\"forever\"",
            "99999999999999999999",
            "-1",
            "[[client]]",
            "[expect]",
            "\"connect\"",
            "{ repeat = \"forever\", steps = [",
            "{ partial = 0 }",
            "\"disconnect\"",
            "1979-05-27",
            "client.",
            "0x",
            "#",
        ];
        let mut text = texts[self.below(texts.len())].clone();
        for _ in 0..=self.below(6) {
            let at = |random: &mut Random, text: &str| text.floor_char_boundary(random.below(text.len() + 1));
            let (a, b) = (at(self, &text), at(self, &text));
            match self.below(9) {
                0 => text.insert_str(a, WORDS[self.below(WORDS.len())]),
                1 => text.replace_range(a..text.ceil_char_boundary((a + 1 + self.below(12)).min(text.len())), ""),
                2 => text.replace_range(
                    a..a,
                    &texts[self.below(texts.len())]
                        .lines()
                        .nth(self.below(30))
                        .map(|line| format!("\n{line}\n"))
                        .unwrap_or_default(),
                ),
                3 => {
                    let copied = text[a.min(b)..a.max(b)].chars().take(40).collect::<String>();
                    text.insert_str(a, &copied);
                }
                4 => {
                    let mut lines: Vec<&str> = text.split('\n').collect();
                    let (a, b) = (self.below(lines.len()), self.below(lines.len()));
                    match self.below(3) {
                        0 => lines.swap(a, b),
                        1 => lines.insert(a, lines[b]),
                        _ => drop(lines.remove(a)),
                    }
                    text = lines.join("\n");
                }
                // A number becomes another one, or one of another type.
                5 => {
                    const NUMBERS: [&str; 8] =
                        ["0", "4294967295", "4294967296", "1e300", "0x7fffffff", "[1]", "{}", "true"];
                    if let Some(from) = text[a..].find(|c: char| c.is_ascii_digit()).map(|from| a + from) {
                        let digits =
                            text[from..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |to| from + to);
                        text.replace_range(from..digits, NUMBERS[self.below(NUMBERS.len())]);
                    }
                }
                // A step becomes a part of many others.
                6 => {
                    if let Some(from) = text[a..].find("{ ").map(|from| a + from)
                        && let Some(to) = text[from..].find('}').map(|to| from + to + 1)
                    {
                        let nested = (0..self.below(12)).fold(text[from..to].to_owned(), |inner, _| {
                            format!("{{ repeat = {}, steps = [{inner}] }}", 1 + self.below(3000))
                        });
                        text.replace_range(from..to, &nested);
                    }
                }
                7 => {
                    let step = Step::draw(&mut |limit| self.below(limit as usize) as u32);
                    if let Some(from) = text[a..].find("\", ").map(|from| a + from + 3) {
                        text.insert_str(from, &format!("{step}, "));
                    }
                }
                _ => {
                    let mut words: Vec<&str> = text.split(' ').collect();
                    let (a, b) = (self.below(words.len()), self.below(words.len()));
                    words.swap(a, b);
                    text = words.join(" ");
                }
            }
        }
        text
    }
}
