//! Mistakes in the TOML itself, told so that somebody who doesn't know TOML finds them.

use toml::de::Error;

use super::error::Problem;

/// One problem a line: after a slip the parser stumbles over the rest of its line, which helps nobody.
pub(super) fn problems(text: &str, errors: &[Error]) -> Vec<Problem> {
    let mut errors: Vec<_> = errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
    errors.sort_by_key(|(at, _)| at.start);
    errors.dedup_by_key(|(at, _)| text[..text.floor_char_boundary(at.start)].matches('\n').count());
    let problem = |(at, message): (std::ops::Range<usize>, &str)| {
        let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
        let label = if expected.is_empty() { "here".to_owned() } else { format!("expected {expected}") };
        let bare = text.get(at.clone()).filter(|word| is_bare(word));
        let problem = Problem::new(at, what, label);
        match bare {
            _ if what == "duplicate key" => problem.help("a key stands once in a table; a second client is a second `[[client]]`"),
            Some(word) if what != "duplicate key" => problem.help(format!("texts and times stand in quotes: \"{word}\"")),
            _ => problem,
        }
    };
    errors.into_iter().map(problem).collect()
}

/// A word or a time without its quotes.
fn is_bare(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
