//! Where one statement ends and the next begins, and a statement's words. SQLite's lexical rules: it does the parsing.

/// One statement of a query string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    /// Without the semicolon behind it, and without what is before its first word.
    pub(crate) text: &'a str,
    /// Where it begins in the query string, in bytes.
    pub(crate) offset: usize,
}

/// The statements of a query string that are more than space and comments.
pub(crate) fn split(sql: &str) -> Vec<Statement<'_>> {
    let mut statements = Vec::new();
    let mut begin = None;
    let mut words: Vec<&str> = Vec::new();
    for token in Tokens::of(sql) {
        if token.text == ";" && !inside_trigger(&words) {
            if let Some(offset) = begin.take() {
                statements.push(Statement { text: &sql[offset..token.offset], offset });
            }
            words.clear();
            continue;
        }
        begin.get_or_insert(token.offset);
        // The first three say whether it is a trigger, the last two where that ends.
        if words.len() == 5 {
            words.remove(3);
        }
        words.push(token.text);
    }
    if let Some(offset) = begin {
        statements.push(Statement { text: &sql[offset..], offset });
    }
    statements
}

/// Whether a semicolon behind these words belongs to a trigger's body, which is over after `; END`.
fn inside_trigger(words: &[&str]) -> bool {
    let is = |at: usize, word: &str| words.get(at).is_some_and(|text| text.eq_ignore_ascii_case(word));
    let trigger = is(0, "create") && (is(1, "trigger") || (is(1, "temp") || is(1, "temporary")) && is(2, "trigger"));
    let over = words.len() == 5 && words[3] == ";" && is(4, "end");
    trigger && !over
}

/// A word, a number, a quoted name or string, or one other character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    offset: usize,
}

/// The tokens of a text, without space and comments.
pub(crate) struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn of(sql: &'a str) -> Tokens<'a> {
        Tokens { sql, at: 0 }
    }

    /// Past space and comments.
    fn skip(&mut self) {
        loop {
            let rest = &self.sql[self.at..];
            let length = if rest.starts_with("--") {
                rest.find('\n').unwrap_or(rest.len())
            } else if let Some(comment) = rest.strip_prefix("/*") {
                comment.find("*/").map_or(rest.len(), |end| end + 4)
            } else {
                rest.len() - rest.trim_start().len()
            };
            if length == 0 {
                return;
            }
            self.at += length;
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip();
        let rest = &self.sql[self.at..];
        let first = rest.chars().next()?;
        let length = match first {
            '\'' | '"' | '`' => quoted(rest, first),
            '[' => rest.find(']').map_or(rest.len(), |end| end + 1),
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let token = Token { text: &rest[..length], offset: self.at };
        self.at += length;
        Some(token)
    }
}

/// The length of a quoted text; the quote itself is doubled inside.
fn quoted(rest: &str, quote: char) -> usize {
    let mut at = 1;
    while let Some(end) = rest[at..].find(quote) {
        at += end + 1;
        if !rest[at..].starts_with(quote) {
            return at;
        }
        at += 1;
    }
    rest.len()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<&str> {
        split(sql).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn statements_end_at_semicolons() {
        assert_eq!(texts("select 1; select 2 ;; "), ["select 1", "select 2 "]);
        assert_eq!(texts(" ; -- nothing\n /* ; */ "), [] as [&str; 0]);
    }

    #[test]
    fn a_quoted_semicolon_ends_nothing() {
        for whole in [
            "select ';'",
            "select 'it''s;'",
            "select \";\"",
            "select [;]",
            "select `;`",
            "select 1 -- ;",
            "select /* ; */ 1",
        ] {
            assert_eq!(texts(whole), [whole]);
        }
    }

    #[test]
    fn what_is_not_closed_runs_to_the_end() {
        for whole in ["select 'a;", "select /* ;", "select [a;", "select 'a''"] {
            assert_eq!(texts(whole), [whole]);
        }
    }

    #[test]
    fn a_triggers_body_is_one_statement_with_it() {
        let trigger =
            "create temp trigger t after insert on a begin update a set x = case when 1 then 2 end; delete from b; end";
        assert_eq!(texts(&format!("{trigger}; select 1")), [trigger, "select 1"]);
    }

    #[test]
    fn a_statement_knows_where_it_begins() {
        assert_eq!(split("select 1; /* ä */ select 2")[1], Statement { text: "select 2", offset: 19 });
    }
}
