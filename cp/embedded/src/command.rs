//! What a statement is: what SQLite has no words for, and what its command tag says.

use crate::sql::Tokens;

/// A statement, as far as it is of interest before SQLite sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Begin,
    Commit,
    Rollback,
    /// A savepoint's name as it was written.
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    /// Takes effect for `application_name` only.
    Set {
        name: String,
        value: String,
    },
    /// RESET of one setting, or of `all`.
    Reset(String),
    Show(String),
    /// Accepted and without effect, with its tag.
    Nothing(&'static str),
    /// For SQLite.
    Sql(Verb),
}

/// How the command tag of a statement for SQLite is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Counts the rows that it returns.
    Select,
    Insert,
    Update,
    Delete,
    /// Counts nothing.
    Other(String),
}

/// How many words decide, at the most.
const WORDS: usize = 8;

impl Command {
    pub(crate) fn of(sql: &str) -> Command {
        let raw: Vec<&str> = Tokens::of(sql).take(WORDS).map(|token| token.text).collect();
        let upper: Vec<String> = raw.iter().map(|word| word.to_ascii_uppercase()).collect();
        let words: Vec<&str> = upper.iter().map(String::as_str).collect();
        let last = || raw.last().map_or_else(String::new, |word| (*word).to_owned());
        match words.as_slice() {
            ["START", "TRANSACTION", ..] => Command::Begin,
            ["BEGIN", ..] => Command::Begin,
            ["COMMIT" | "END"] | ["COMMIT" | "END", "WORK" | "TRANSACTION"] => Command::Commit,
            ["COMMIT" | "END", "AND", "NO", "CHAIN"] => Command::Commit,
            ["ROLLBACK" | "ABORT"] | ["ROLLBACK" | "ABORT", "WORK" | "TRANSACTION"] => Command::Rollback,
            ["ROLLBACK" | "ABORT", "AND", "NO", "CHAIN"] => Command::Rollback,
            ["SAVEPOINT", _] => Command::Savepoint(last()),
            ["RELEASE", _] | ["RELEASE", "SAVEPOINT", _] => Command::Release(last()),
            ["ROLLBACK", "TO", _]
            | ["ROLLBACK", "TO", "SAVEPOINT", _]
            | ["ROLLBACK", "WORK" | "TRANSACTION", "TO", _]
            | ["ROLLBACK", "WORK" | "TRANSACTION", "TO", "SAVEPOINT", _] => Command::RollbackTo(last()),
            ["SET", "SESSION" | "LOCAL", name, "TO" | "=", ..] => set(name, sql),
            ["SET", name, "TO" | "=", ..] => set(name, sql),
            ["SET", ..] => Command::Nothing("SET"),
            ["RESET", name, ..] => Command::Reset(name.to_ascii_lowercase()),
            ["SHOW", "TIME", "ZONE"] => Command::Show("timezone".to_owned()),
            ["SHOW", "TRANSACTION", "ISOLATION", "LEVEL"] => Command::Show("transaction_isolation".to_owned()),
            ["SHOW", name] => Command::Show(name.trim_matches('"').to_ascii_lowercase()),
            ["DISCARD", "ALL"] => Command::Nothing("DISCARD ALL"),
            ["DISCARD", ..] => Command::Nothing("DISCARD"),
            ["DEALLOCATE", "ALL"] | ["DEALLOCATE", "PREPARE", "ALL"] => Command::Nothing("DEALLOCATE ALL"),
            ["DEALLOCATE", ..] => Command::Nothing("DEALLOCATE"),
            // There is nothing to clean, and SQLite's own needs ATTACH.
            ["VACUUM", ..] => Command::Nothing("VACUUM"),
            _ => Command::Sql(Verb::of(sql, &words)),
        }
    }

    /// Whether it may run in a transaction that has failed.
    pub(crate) fn ends_failure(&self) -> bool {
        matches!(self, Command::Commit | Command::Rollback | Command::RollbackTo(_))
    }
}

/// `SET name = value`: the value is what is behind the sign, without its quotes.
fn set(name: &str, sql: &str) -> Command {
    let value = Tokens::of(sql)
        .map(|token| token.text)
        .skip_while(|word| *word != "=" && !word.eq_ignore_ascii_case("to"))
        .nth(1)
        .unwrap_or_default();
    let value = match value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
        Some(quoted) => quoted.replace("''", "'"),
        None => value.to_owned(),
    };
    Command::Set { name: name.trim_matches('"').to_ascii_lowercase(), value }
}

impl Verb {
    fn of(sql: &str, words: &[&str]) -> Verb {
        match words {
            ["SELECT" | "VALUES", ..] => Verb::Select,
            ["WITH", ..] => Verb::behind_with(sql),
            ["INSERT" | "REPLACE", ..] => Verb::Insert,
            ["UPDATE", ..] => Verb::Update,
            ["DELETE", ..] => Verb::Delete,
            ["CREATE", "TEMP" | "TEMPORARY" | "UNIQUE" | "VIRTUAL", object, ..] => {
                Verb::Other(format!("CREATE {object}"))
            }
            ["CREATE" | "DROP" | "ALTER", object, ..] => Verb::Other(format!("{} {object}", words[0])),
            [word, ..] => Verb::Other((*word).to_owned()),
            [] => Verb::Other(String::new()),
        }
    }

    /// The verb that a WITH belongs to: the first that is not in parentheses.
    fn behind_with(sql: &str) -> Verb {
        let mut depth = 0_usize;
        for token in Tokens::of(sql) {
            match token.text {
                "(" => depth += 1,
                ")" => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                word if word.eq_ignore_ascii_case("insert") || word.eq_ignore_ascii_case("replace") => {
                    return Verb::Insert;
                }
                word if word.eq_ignore_ascii_case("update") => return Verb::Update,
                word if word.eq_ignore_ascii_case("delete") => return Verb::Delete,
                word if word.eq_ignore_ascii_case("select") => return Verb::Select,
                _ => {}
            }
        }
        Verb::Select
    }

    /// The command tag, after so many rows returned and so many changed.
    pub(crate) fn tag(&self, returned: u64, changed: u64) -> String {
        match self {
            Verb::Select => format!("SELECT {returned}"),
            Verb::Insert => format!("INSERT 0 {changed}"),
            Verb::Update => format!("UPDATE {changed}"),
            Verb::Delete => format!("DELETE {changed}"),
            Verb::Other(tag) => tag.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_begun_and_ended_in_postgresqls_words() {
        for begin in
            ["begin", "BEGIN WORK", "start transaction isolation level serializable", "begin /* x */ read only"]
        {
            assert_eq!(Command::of(begin), Command::Begin, "{begin}");
        }
        for commit in ["commit", "END", "commit work", "end transaction", "commit and no chain"] {
            assert_eq!(Command::of(commit), Command::Commit, "{commit}");
        }
        for rollback in ["rollback", "abort", "rollback work", "abort transaction"] {
            assert_eq!(Command::of(rollback), Command::Rollback, "{rollback}");
        }
        for to in ["rollback to \"A b\"", "rollback work to savepoint \"A b\""] {
            assert_eq!(Command::of(to), Command::RollbackTo("\"A b\"".to_owned()), "{to}");
        }
    }

    #[test]
    fn a_setting_is_read_with_and_without_quotes() {
        let set = |value: &str| Command::Set { name: "application_name".to_owned(), value: value.to_owned() };
        assert_eq!(Command::of("set application_name to 'it''s me'"), set("it's me"));
        assert_eq!(Command::of("SET SESSION application_name = me"), set("me"));
        assert_eq!(Command::of("set time zone 'UTC'"), Command::Nothing("SET"));
    }

    #[test]
    fn a_tag_names_the_verb_and_counts() {
        let tag = |sql: &str| match Command::of(sql) {
            Command::Sql(verb) => verb.tag(3, 2),
            other => panic!("{sql}: {other:?}"),
        };
        assert_eq!(tag("select 1"), "SELECT 3");
        assert_eq!(tag("values (1)"), "SELECT 3");
        assert_eq!(tag("insert into t values (1)"), "INSERT 0 2");
        assert_eq!(tag("replace into t values (1)"), "INSERT 0 2");
        assert_eq!(tag("with a as (select 1) update t set x = 1"), "UPDATE 2");
        assert_eq!(tag("with a as (delete from t) select 1"), "SELECT 3");
        assert_eq!(tag("create temp table t (x)"), "CREATE TABLE");
        assert_eq!(tag("create unique index i on t (x)"), "CREATE INDEX");
        assert_eq!(tag("drop view v"), "DROP VIEW");
        assert_eq!(tag("explain select 1"), "EXPLAIN");
    }
}
