//! What there is to say of the steps, for `sim steps` and the README. All of it is in their definitions.

use std::fmt::Write;

use schemars::SchemaGenerator;

use super::model::{Step, Word};

/// Every word of a client's steps, a line each.
pub fn all_steps() -> String {
    let width = Step::names().map(str::len).max().unwrap_or_default();
    let mut text = String::new();
    for Word { name, help, .. } in Step::WORDS {
        let _ = writeln!(text, "{name:width$}  {help}");
    }
    text
}

/// One word: a step as it may stand in a file, and each key.
pub fn one_step(word: &Word) -> String {
    let mut text = format!("{}\n{}\n", word.like, word.help);
    let width = word.keys.iter().map(|key| key.name.len()).max().unwrap_or_default();
    for key in word.keys {
        let must = if key.is_required() && word.alone.is_none() { " It must be there." } else { "" };
        let _ = write!(text, "\n  {:width$}  {}{must}", key.name, key.help());
        if let Some(values) = values(key.schema) {
            let _ = write!(text, "\n  {:width$}  {values}", "");
        }
    }
    if word.keys.is_empty() { text } else { text + "\n" }
}

/// What a key takes, if that is a range of numbers or a few words.
fn values(schema: fn(&mut SchemaGenerator) -> schemars::Schema) -> Option<String> {
    let mut generator = SchemaGenerator::default();
    let schema = schema(&mut generator).to_value();
    if let (Some(least), Some(most)) = (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
        return Some(format!("From {least} to {most}."));
    }
    let name = schema["$ref"].as_str()?.rsplit('/').next()?;
    let words = generator.definitions().get(name)?["oneOf"].as_array()?;
    let words: Vec<&str> = words.iter().filter_map(|word| word["const"].as_str()).collect();
    Some(format!("One of {}.", words.join(", ")))
}

/// The steps as a table of the README.
pub fn table_of_steps() -> String {
    let mut text = "| step | keys | what the client does |\n|---|---|---|\n".to_owned();
    for word in Step::WORDS {
        let keys = word.keys.iter().map(|key| key.name).filter(|name| *name != word.name);
        let keys: Vec<String> = keys.map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| `{}` | {} | {} |", word.name, keys.join(", "), word.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_shown_with_its_keys_defaults_and_limits() {
        let query = one_step(Word::of("query").unwrap());
        assert!(query.starts_with("{ query = \"20ms\" }\nRuns one statement and waits for its answer.\n"), "{query}");
        assert!(query.contains("  query         How long the worker works before it answers. It must be there.\n"));
        assert!(
            query.contains(
                "  rows          How many rows it returns. Default 1.\n                From 0 to 10000000.\n"
            )
        );
        assert!(query.contains("One of simple, extended."));
        assert_eq!(one_step(Word::of("begin").unwrap()), "\"begin\"\nBEGIN.\n");
    }
}
