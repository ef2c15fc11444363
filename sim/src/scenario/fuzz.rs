//! Noise: texts that are nearly scenarios.

use std::collections::BTreeSet;
use std::fs;

use super::tests::root;
use super::{find, parse};

/// Any text gives a scenario or its mistakes, and the mistakes can be shown: the files of the repository, each time with a
/// few bytes or lines of it changed.
#[test]
fn no_text_makes_it_panic() {
    const ROUNDS: usize = 2000;
    let files = find(&root()).unwrap();
    let mut texts: Vec<String> = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    texts.push(include_str!("bad.toml").to_owned());
    // Any constant would do: the same texts are tried every time.
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut mistakes = BTreeSet::new();
    for _ in 0..ROUNDS {
        let text = random.mutation(&texts);
        if let Err(bad) = parse("t.toml", &text) {
            assert!(!bad.problems().is_empty(), "{text}");
            let page = bad.render(false);
            assert!(!page.contains("Failed to read"), "{page}");
            mistakes.extend(bad.problems().iter().map(|problem| problem.label().to_owned()));
        }
    }
    assert!(mistakes.len() > 60, "only {} different mistakes were made", mistakes.len());
}

/// xorshift64: enough to shuffle bytes with.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
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
            match self.below(5) {
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
