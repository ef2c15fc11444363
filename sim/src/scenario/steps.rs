//! The steps of a client: how one is recognised and read. Which there are is in [`super::model::step`].
//!
//! Whether steps can follow each other is judged in `order`.

use std::borrow::Cow;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::de::{DeTable, DeValue};

use super::define::Draw;
use super::error::Problem;
use super::model::*;
use super::read::{Fields, Read, Table, Value, key_doc, read_table};
use super::suggest::{did_you_mean, nearest, one_of};
use super::values::wrong_type;

impl Read for Step {
    const DRAW: Draw = Draw::Absent;

    fn read(value: &Value<'_>, _: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(word) => bare_step(word, value.span(), problems),
            DeValue::Table(table) => table_step(table, value.span(), problems),
            _ => {
                let expected = "a word such as \"begin\", or a table such as { query = \"20ms\" }";
                problems.push(wrong_type(value, "step", expected));
                None
            }
        }
    }
}

fn bare_step(name: &str, at: Range<usize>, problems: &mut Vec<Problem>) -> Option<Step> {
    let word = Word::of(name);
    if let Some(alone) = word.and_then(|word| word.alone) {
        return Some(alone());
    }
    problems.push(match word {
        Some(word) => Problem::new(at, format!("`{name}` alone is not a step"), format!("write {}", word.like)),
        None => unknown_step(name, at),
    });
    None
}

fn table_step(table: &DeTable<'_>, at: Range<usize>, problems: &mut Vec<Problem>) -> Option<Step> {
    let Some(word) = step_word(table) else {
        let keys = || table.keys().map(|key| (key.span(), key.get_ref().as_ref()));
        // The key that looks most like a step, or else the first one.
        let slip = keys().find(|(_, key)| nearest(key, Step::names()).is_some());
        problems.push(match slip.or_else(|| keys().min_by_key(|(at, _)| at.start)) {
            Some((at, key)) => unknown_step(key, at),
            None => Problem::new(at, "an empty step", format!("expected {}", one_of(Step::names()))),
        });
        return None;
    };
    let Some(body) = word.table else {
        let message = format!("a `{}` step takes nothing", word.name);
        problems.push(Problem::new(at, message, format!("write {}", word.like)));
        return None;
    };
    (body.read)(table, word, at, problems)
}

/// Which step a table is: of the words in it, the first in the file that is no key of another's.
fn step_word(table: &DeTable<'_>) -> Option<&'static Word> {
    let words = || table.keys().filter_map(|key| Some((key.span().start, Word::of(key.get_ref())?)));
    let is_key =
        |name: &str| words().any(|(_, word)| word.name != name && word.keys.iter().any(|key| key.name == name));
    let owners = words().filter(|(_, word)| !is_key(word.name));
    owners.min_by_key(|(at, _)| *at).map(|(_, word)| word)
}

/// Reads a step that is a table, or whose keys stand in one.
pub(super) fn read_body<T: Table>(
    table: &DeTable<'_>,
    word: &Word,
    at: Range<usize>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let article = if word.name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    let what = format!("{article} `{}` step", word.name);
    if !word.is_nested() {
        return read_table(table, what, at, problems);
    }
    let mut fields = Fields::of(what, table, at, key_doc::<T>, problems);
    let read = fields.required(word.name);
    fields.finish();
    read
}

fn unknown_step(word: &str, at: Range<usize>) -> Problem {
    Problem::new(at, format!("there is no step `{word}`"), did_you_mean(word, Step::names()))
}

impl Step {
    /// The words of all steps, as they are written.
    pub fn names() -> impl Iterator<Item = &'static str> + Clone {
        Step::WORDS.iter().map(|word| word.name)
    }

    /// The steps, those inside others included.
    pub fn every(steps: &[Step]) -> Box<dyn Iterator<Item = &Step> + '_> {
        Box::new(steps.iter().flat_map(|step| std::iter::once(step).chain(Step::every(step.inner()))))
    }

    /// What it needs of a network, without what is inside it.
    pub fn needs(&self) -> &'static [Need] {
        Word::of(self.word()).map_or(&[], |word| word.needs)
    }
}

impl JsonSchema for Step {
    fn schema_name() -> Cow<'static, str> {
        "Step".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let alone: Vec<&str> = Step::WORDS.iter().filter(|word| word.alone.is_some()).map(|word| word.name).collect();
        let mut forms = vec![json_schema!({ "enum": alone })];
        for (word, body) in Step::WORDS.iter().filter_map(|word| Some((word, word.table?))) {
            let schema = (body.schema)(generator);
            forms.push(match word.is_nested() {
                true => json_schema!({
                    "type": "object",
                    "properties": { word.name: schema },
                    "required": [word.name],
                    "additionalProperties": false,
                }),
                false => schema,
            });
        }
        json_schema!({ "description": "A word such as \"begin\", or a table such as { query = \"20ms\" }.", "anyOf": forms })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    /// What is wrong with one step: the text under each mark and its label.
    fn wrong(step: &str) -> Vec<String> {
        let text = format!("title = \"t\"\n[[client]]\nname = \"c\"\nsteps = [{step}]\n");
        let bad = parse("t.toml", &text).expect_err("a mistake");
        bad.problems().iter().map(|problem| format!("{}: {}", &text[problem.span()], problem.label())).collect()
    }

    #[test]
    fn a_copy_can_do_what_it_says() {
        assert_eq!(wrong("{ copy_in = 2, stops_after = 3 }"), ["3: more than …"]);
        assert_eq!(wrong("{ copy_in = 2, stops_after = 1, fails = true }"), ["true: ends it, but …"]);
        assert_eq!(
            wrong("{ copy_in = 2, row_bytes = 0, buffer = 16777217 }"),
            ["0: expected a whole number from 1 to 1048576", "16777217: expected a whole number from 0 to 16777216"]
        );
        assert_eq!(wrong(r#"{ copy_in = "50s" }"#).len(), 1);
        assert_eq!(wrong("{ copy_out = 2, every = \"1s\" }"), ["every: unknown key"]);
        assert_eq!(wrong("{ copy_in = 2, early_sync = false }"), ["false: there is none to send"]);
        assert_eq!(wrong("{ copy_in = 2, late_sync = false }"), ["false: the only one"]);
        let neither = r#"{ copy_in = 2, protocol = "extended", early_sync = false, late_sync = false }"#;
        assert_eq!(wrong(neither), ["false: the only one"]);
        assert_eq!(wrong(r#"{ copy_in = 2, into = "veiw" }"#), [r#""veiw": did you mean `view`?"#]);
        assert_eq!(wrong(r#"{ copy_in = 2, into = "view", trigger = "1s" }"#), [r#""1s": works, but …"#]);
    }

    #[test]
    fn a_step_that_waits_for_nothing_can_not_cancel() {
        let cancels = r#"{ query = "1h", wait = false, cancel_after = "1s" }"#;
        assert_eq!(wrong(cancels), ["false: goes on at once, but …"]);
        assert_eq!(wrong(r#"{ copy_out = 1, wait = false, cancel_after = "1s" }"#), ["false: goes on at once, but …"]);
    }

    #[test]
    fn a_cursor_has_a_name_of_sql() {
        for name in ["", "a b", "a-b", "a'", &"x".repeat(64)] {
            let expected = format!("{name:?}: expected 1 to 63 letters, digits or `_`");
            for word in ["declare", "fetch"] {
                assert_eq!(wrong(&format!("{{ {word} = {name:?} }}")).join("; "), expected);
            }
        }
    }

    #[test]
    fn a_way_of_reading_is_a_word_or_a_rate() {
        assert_eq!(wrong(r#"{ read = "stopp" }"#), [r#""stopp": did you mean "stop"?"#]);
        let expected = r#"expected "stop", "resume", or a rate such as "100B/s""#;
        assert_eq!(wrong(r#"{ read = "1GB/s" }"#), [format!("\"1GB/s\": {expected}")]);
        assert_eq!(wrong("{ read = 100 }"), [format!("100: {expected}")]);
    }

    #[test]
    fn who_sends_nothing_asks_for_no_tls() {
        assert_eq!(wrong(r#"{ connect = { tls = true, until = "tcp" } }"#), ["\"tcp\": sends not a byte, but …"]);
    }
}
