//! The steps of a client: how one is recognised. Which keys it has is in `tables`.
//!
//! Whether steps can follow each other is judged in `order`.

mod tables;

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::model::*;
use super::read::{Fields, Read, Value, read_table};
use super::suggest::{did_you_mean, nearest, one_of};
use super::values::wrong_type;

/// An array of steps that holds at least one.
pub(super) fn read_steps(fields: &mut Fields<'_, '_, '_>, key: &'static str) -> Option<Vec<Step>> {
    let steps: Vec<Step> = fields.required(key)?;
    if steps.is_empty() {
        let place = fields.place(key);
        fields.problems().push(Problem::new(place, format!("`{key}` is empty"), "expected at least one step"));
    }
    Some(steps)
}

impl Read for Step {
    fn read(value: &Value<'_>, _: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(word) => bare_step(word, value.span(), problems),
            DeValue::Table(table) => table_step(table, value.span(), problems),
            _ => {
                problems.push(wrong_type(
                    value,
                    "step",
                    "a word such as \"begin\", or a table such as { query = \"20ms\" }",
                ));
                None
            }
        }
    }
}

fn bare_step(word: &str, at: Range<usize>, problems: &mut Vec<Problem>) -> Option<Step> {
    Some(match word {
        "connect" => Step::Connect(Connect::default()),
        "listen" => Step::Listen,
        "begin" => Step::Begin,
        "commit" => Step::Commit,
        "rollback" => Step::Rollback,
        "flush" => Step::Flush,
        "sync" => Step::Sync,
        "disconnect" => Step::Disconnect,
        "close" => Step::Close(Close::default()),
        "reset" => Step::Reset,
        "vanish" => Step::Vanish,
        _ => {
            problems.push(if Step::WORDS.contains(&word) {
                Problem::new(at, format!("`{word}` alone is not a step"), format!("write {}", example(word)))
            } else {
                unknown_step(word, at)
            });
            return None;
        }
    })
}

fn table_step(table: &DeTable<'_>, at: Range<usize>, problems: &mut Vec<Problem>) -> Option<Step> {
    Some(match step_word(table) {
        Some("connect") => {
            let mut fields = Fields::of::<Connect>("a `connect` step", table, at, problems);
            let connect = fields.required("connect");
            fields.finish();
            Step::Connect(connect?)
        }
        Some("query") => Step::Query(read_table(table, at, problems)?),
        Some("copy_in") => Step::CopyIn(read_table(table, at, problems)?),
        Some("copy_out") => Step::CopyOut(read_table(table, at, problems)?),
        Some("replication") => Step::Replication(read_table(table, at, problems)?),
        Some("declare") => Step::Declare(read_table(table, at, problems)?),
        Some("fetch") => Step::Fetch(read_table(table, at, problems)?),
        Some("call") => Step::Call(read_table(table, at, problems)?),
        Some("insert") => Step::Insert(read_table(table, at, problems)?),
        Some("prepare") => Step::Prepare(read_table(table, at, problems)?),
        Some("execute") => Step::Execute(read_table(table, at, problems)?),
        Some("pipeline") => Step::Pipeline(read_table(table, at, problems)?),
        Some("garbage") => Step::Garbage(read_table(table, at, problems)?),
        Some("partial") => Step::Partial(read_table(table, at, problems)?),
        Some("read") => Step::Read(read_table(table, at, problems)?),
        Some("close") => Step::Close(read_table(table, at, problems)?),
        Some("think") => Step::Think(read_table(table, at, problems)?),
        Some("idle") => Step::Idle(read_table(table, at, problems)?),
        Some("wait_until") => Step::WaitUntil(read_table(table, at, problems)?),
        Some("repeat") => Step::Repeat(read_table(table, at, problems)?),
        Some(bare) => {
            problems.push(Problem::new(at, format!("a `{bare}` step takes nothing"), format!("write {bare:?}")));
            return None;
        }
        None => {
            let keys = || table.keys().map(|key| (key.span(), key.get_ref().as_ref()));
            // The key that looks most like a step, or else the first one.
            let slip = keys().find(|(_, key)| nearest(key, Step::WORDS).is_some());
            problems.push(match slip.or_else(|| keys().min_by_key(|(at, _)| at.start)) {
                Some((at, key)) => unknown_step(key, at),
                None => Problem::new(at, "an empty step", format!("expected {}", one_of(Step::WORDS))),
            });
            return None;
        }
    })
}

/// Which step a table is. Some words are options of other steps, and those go first; else the first in the file decides.
fn step_word(table: &DeTable<'_>) -> Option<&'static str> {
    const TAKE_WORDS: [&str; 4] = ["partial", "pipeline", "execute", "declare"];
    if let Some(word) = TAKE_WORDS.into_iter().find(|word| table.contains_key(*word)) {
        return Some(word);
    }
    let word = |key: &str| Step::WORDS.into_iter().find(|word| *word == key);
    let words = table.keys().filter_map(|key| Some((key.span().start, word(key.get_ref())?)));
    words.min().map(|(_, word)| word)
}

fn unknown_step(word: &str, at: Range<usize>) -> Problem {
    Problem::new(at, format!("there is no step `{word}`"), did_you_mean(word, Step::WORDS))
}

/// A step as it may stand in a file.
pub(super) fn example(word: &str) -> &'static str {
    match word {
        "query" => r#"{ query = "20ms" }"#,
        "copy_in" => "{ copy_in = 1000 }",
        "copy_out" => "{ copy_out = 1000 }",
        "replication" => r#"{ replication = "forever" }"#,
        "declare" => r#"{ declare = "c", rows = 100 }"#,
        "fetch" => r#"{ fetch = "c" }"#,
        "call" => r#"{ call = "20ms" }"#,
        "insert" => "{ insert = 1 }",
        "prepare" => r#"{ prepare = "1ms" }"#,
        "execute" => r#"{ execute = "20ms" }"#,
        "pipeline" => r#"{ pipeline = [{ query = "5ms" }] }"#,
        "partial" => "{ partial = 12 }",
        "garbage" => "{ garbage = 16 }",
        "read" => r#"{ read = "stop" }"#,
        "think" => r#"{ think = "40s" }"#,
        "idle" => r#"{ idle = "forever" }"#,
        "wait_until" => r#"{ wait_until = "70s" }"#,
        "repeat" => r#"{ repeat = 10, steps = [{ query = "1ms" }] }"#,
        _ => r#""connect""#,
    }
}
