//! Mistakes in the TOML itself, told so that somebody who doesn't know TOML finds them.

use std::ops::Range;

use toml::de::Error;

use super::error::Problem;

/// One problem a line: after a slip the parser stumbles over the rest of its line, which helps nobody.
pub(super) fn problems(text: &str, errors: &[Error]) -> Vec<Problem> {
    let mut errors: Vec<_> = errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
    errors.sort_by_key(|(at, _)| at.start);
    errors.dedup_by_key(|(at, _)| text[..text.floor_char_boundary(at.start)].matches('\n').count());
    let problem = |(at, message): (Range<usize>, &str)| {
        let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
        let label = if ["", "nothing"].contains(&expected) {
            "not expected here".to_owned()
        } else {
            format!("expected {expected}")
        };
        let bare = text.get(at.clone()).filter(|word| is_bare(word));
        match (what, bare) {
            ("duplicate key", _) => {
                let problem = Problem::new(at, "a key that stands here already", "expected each key once");
                problem.help("a second client is a second `[[client]]`, and so with `[[event]]` and `[[fails_under]]`")
            }
            (_, Some(word)) => Problem::new(at, "a text or a time without quotes", format!("write \"{word}\"")),
            _ => Problem::new(at, what, label),
        }
    };
    errors.into_iter().map(problem).collect()
}

/// A word or a time without its quotes.
fn is_bare(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
