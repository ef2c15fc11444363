//! The steps of a client: how one is recognised, and which keys it has.
//!
//! Whether steps can follow each other is judged in `order`.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::model::step::{depth, once, one, one_ms, row_bytes};
use super::model::*;
use super::read::{Fields, Read, Table, Value, read_table};
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
        "begin" => Step::Begin,
        "commit" => Step::Commit,
        "rollback" => Step::Rollback,
        "flush" => Step::Flush,
        "sync" => Step::Sync,
        "disconnect" => Step::Disconnect,
        "close" => Step::Close,
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
        Some("insert") => Step::Insert(read_table(table, at, problems)?),
        Some("prepare") => Step::Prepare(read_table(table, at, problems)?),
        Some("execute") => Step::Execute(read_table(table, at, problems)?),
        Some("pipeline") => Step::Pipeline(read_table(table, at, problems)?),
        Some("partial") => Step::Partial(read_table(table, at, problems)?),
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
    const TAKE_WORDS: [&str; 3] = ["partial", "pipeline", "execute"];
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
        "insert" => "{ insert = 1 }",
        "prepare" => r#"{ prepare = "1ms" }"#,
        "execute" => r#"{ execute = "20ms" }"#,
        "pipeline" => r#"{ pipeline = [{ query = "5ms" }] }"#,
        "partial" => "{ partial = 12 }",
        "think" => r#"{ think = "40s" }"#,
        "idle" => r#"{ idle = "forever" }"#,
        "wait_until" => r#"{ wait_until = "70s" }"#,
        "repeat" => r#"{ repeat = 10, steps = [{ query = "1ms" }] }"#,
        _ => r#""connect""#,
    }
}

impl Table for Connect {
    const WHAT: &'static str = "`connect`";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let user = startup_text(fields, "user");
        let database = startup_text(fields, "database");
        let until = fields.or("until", Until::default());
        let pause = fields.or("pause", Span::default());
        Some(Connect { user: user?, database: database?, until: until?, pause: pause? })
    }
}

/// A text of the startup packet, where a NUL is the end of it.
fn startup_text(fields: &mut Fields<'_, '_, '_>, key: &'static str) -> Option<Option<String>> {
    const LONGEST: usize = 63;
    let text: Option<String> = fields.optional(key)?;
    if text.as_deref().is_some_and(|text| text.is_empty() || text.len() > LONGEST || text.contains('\0')) {
        let expected = format!("expected 1 to {LONGEST} bytes without NUL, as a name in PostgreSQL");
        let place = fields.place(key);
        fields.problems().push(Problem::new(place, format!("`{key}` can't be sent"), expected));
    }
    Some(text)
}

impl Table for Query {
    const WHAT: &'static str = "a `query` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let query = fields.required("query");
        let rows = fields.number_or("rows", one(), 0..=Query::MAX_ROWS);
        let row_bytes = fields.number_or("row_bytes", row_bytes(), 0..=Query::MAX_ROW_BYTES);
        let fails = fields.optional("fails");
        let protocol = fields.or("protocol", Protocol::default());
        let cancel_after = fields.optional("cancel_after");
        Some(Query {
            query: query?,
            rows: rows?,
            row_bytes: row_bytes?,
            fails: fails?,
            protocol: protocol?,
            cancel_after: cancel_after?,
        })
    }
}

impl Table for Insert {
    const WHAT: &'static str = "an `insert` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let insert = fields.required_number("insert", 1..=Insert::MAX_ROWS);
        let takes = fields.or("takes", one_ms());
        Some(Insert { insert: insert?, takes: takes? })
    }
}

impl Table for Prepare {
    const WHAT: &'static str = "a `prepare` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let prepare = fields.required("prepare");
        Some(Prepare { prepare: prepare? })
    }
}

impl Table for Execute {
    const WHAT: &'static str = "an `execute` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let execute = fields.required("execute");
        let insert = fields.number_or("insert", 0, 0..=Insert::MAX_ROWS);
        let rows = fields.number("rows", 0..=Query::MAX_ROWS);
        let max_rows = fields.or("max_rows", 0);
        Some(Execute { execute: execute?, insert: insert?, rows: rows?, max_rows: max_rows? })
    }
}

impl Table for Pipeline {
    const WHAT: &'static str = "a `pipeline` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let pipeline = read_steps(fields, "pipeline");
        let repeat = fields.or("repeat", once());
        let depth = fields.number_or("depth", depth(), 1..=Pipeline::MAX_DEPTH);
        let places = fields.entries("pipeline");
        for (step, at) in pipeline.iter().flatten().zip(places) {
            if !Pipeline::WORDS.contains(&step.word()) {
                let message = format!("`{}` can't stand in a pipeline", step.word());
                let expected = format!("expected {}", one_of(Pipeline::WORDS));
                fields.problems().push(Problem::new(at, message, expected));
            }
        }
        Some(Pipeline { pipeline: pipeline?, repeat: repeat?, depth: depth? })
    }
}

impl Table for Partial {
    const WHAT: &'static str = "a `partial` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let partial = fields.required_number("partial", 1..=Partial::MAX_BYTES);
        let query = fields.or("query", one_ms());
        let after = fields.optional("after");
        Some(Partial { partial: partial?, query: query?, after: after? })
    }
}

impl Table for Think {
    const WHAT: &'static str = "a `think` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let think = fields.required("think");
        Some(Think { think: think? })
    }
}

impl Table for Idle {
    const WHAT: &'static str = "an `idle` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let idle = fields.required("idle");
        Some(Idle { idle: idle? })
    }
}

impl Table for WaitUntil {
    const WHAT: &'static str = "a `wait_until` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let wait_until = fields.required("wait_until");
        Some(WaitUntil { wait_until: wait_until? })
    }
}

impl Table for Repeat {
    const WHAT: &'static str = "a `repeat` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let repeat = fields.required("repeat");
        let steps = read_steps(fields, "steps");
        Some(Repeat { repeat: repeat?, steps: steps? })
    }
}
