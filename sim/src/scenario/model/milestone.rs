//! The sentences of `expect.timeline`: what a run must reach.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::suggest::did_you_mean;
use super::Span;

/// Something that a run must reach, and when: `"etl answered"`, `"exit by 31s"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Milestone {
    /// What.
    pub what: Reached,
    /// When, counted from the first signal.
    pub when: Option<When>,
}

/// What a run can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// A signal is sent to the process.
    Signal,
    /// The process exits by itself.
    Exit,
    /// The process is SIGKILLed.
    Killed,
    /// Some copy of a client does something.
    Client {
        /// The client's name.
        name: String,
        /// What it does.
        does: Does,
    },
}

/// What a client can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// It starts to connect.
    Connects,
    /// Its session begins.
    Begins,
    /// A request of it is answered without an error.
    Answered,
    /// A request of it, or its connection, gets an error.
    Refused,
    /// Its connection ends, however.
    Ends,
}

/// A bound on the time of a milestone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At most this long after the first signal.
    By(Span),
    /// At least this long after it.
    After(Span),
}

/// Why a text is not a [`Milestone`]: what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadMilestone(String);

const ALONE: [(&str, Reached); 3] = [("signal", Reached::Signal), ("exit", Reached::Exit), ("killed", Reached::Killed)];

impl Does {
    /// Every one.
    pub const ALL: [Does; 5] = [Does::Connects, Does::Begins, Does::Answered, Does::Refused, Does::Ends];

    /// The word in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Does::Connects => "connects",
            Does::Begins => "begins",
            Does::Answered => "answered",
            Does::Refused => "refused",
            Does::Ends => "ends",
        }
    }
}

impl FromStr for Milestone {
    type Err = BadMilestone;

    fn from_str(text: &str) -> Result<Milestone, BadMilestone> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let is_when = |word: &str| ["by", "after"].contains(&word);
        // `exit by 31s` is an exit, and `exit ends` a client of that name.
        let alone = words.len() == 1 || words.get(1).is_some_and(|word| is_when(word));
        let (what, rest) = match words.as_slice() {
            [] => return Err(BadMilestone("expected `signal`, `exit`, `killed`, or a client and what it does".into())),
            [name, does, rest @ ..] if !alone => (client(name, does)?, rest),
            [word, rest @ ..] => (reached(word)?, rest),
        };
        let when = match rest {
            [] => None,
            [word, length] if is_when(word) => {
                let length = length.parse().map_err(|error| BadMilestone(format!("`{length}`: {error}")))?;
                Some(if *word == "by" { When::By(length) } else { When::After(length) })
            }
            [word] if is_when(word) => return Err(BadMilestone(format!("`{word}` what? Such as `{word} 31s`"))),
            [word, ..] if is_when(word) => return Err(BadMilestone("expected nothing after the time".into())),
            [word, ..] => return Err(BadMilestone(format!("`{word}`: {}", did_you_mean(word, ["by", "after"])))),
        };
        Ok(Milestone { what, when })
    }
}

fn reached(word: &str) -> Result<Reached, BadMilestone> {
    match ALONE.into_iter().find(|(name, _)| *name == word) {
        Some((_, what)) => Ok(what),
        None => {
            let label = did_you_mean(word, ALONE.iter().map(|(name, _)| *name));
            Err(BadMilestone(format!("`{word}`: {label} A client's milestone says what it does: `{word} ends`")))
        }
    }
}

fn client(name: &str, does: &str) -> Result<Reached, BadMilestone> {
    match Does::ALL.into_iter().find(|known| known.name() == does) {
        Some(does) => Ok(Reached::Client { name: name.to_owned(), does }),
        None => Err(BadMilestone(format!("`{does}`: {}", did_you_mean(does, Does::ALL.map(Does::name))))),
    }
}

impl fmt::Display for Milestone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Reached::Client { name, does } => write!(f, "{name} {}", does.name())?,
            what => {
                let word = ALONE.iter().find(|(_, known)| known == what).map_or("", |(name, _)| name);
                f.write_str(word)?;
            }
        }
        match self.when {
            Some(When::By(length)) => write!(f, " by {length}"),
            Some(When::After(length)) => write!(f, " after {length}"),
            None => Ok(()),
        }
    }
}

impl JsonSchema for Milestone {
    fn schema_name() -> Cow<'static, str> {
        "Milestone".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let does = Does::ALL.map(Does::name).join("|");
        let alone = ALONE.map(|(name, _)| name).join("|");
        json_schema!({
            "description": "`signal`, `exit`, `killed`, or a client and what it does; with `by` or `after` a time from the first signal.",
            "type": "string",
            "pattern": format!("^({alone}|[A-Za-z0-9_-]+ ({does}))( (by|after) [0-9a-z]+)?$"),
            "examples": ["signal", "etl answered", "dashboard ends", "exit by 31s"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_milestone_is_written_as_it_is_read() {
        for text in ["signal", "killed", "exit by 31s", "etl answered", "etl ends after 5m", "exit refused"] {
            assert_eq!(text.parse::<Milestone>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_milestone_that_is_none_says_what_to_write() {
        let says = |text: &str| text.parse::<Milestone>().unwrap_err().to_string();
        assert_eq!(says("exits"), "`exits`: did you mean `exit`? A client's milestone says what it does: `exits ends`");
        assert_eq!(says("etl answerd"), "`answerd`: did you mean `answered`?");
        assert_eq!(says("etl answered befor 5s"), "`befor`: expected one of `by`, `after`");
        assert_eq!(says("exit by"), "`by` what? Such as `by 31s`");
        assert_eq!(says("exit by soon"), "`soon`: write it like \"250ms\", \"30s\", \"5m\" or \"1h30m\"");
        assert_eq!(says("exit by 5s sharp"), "expected nothing after the time");
        assert!(says("").starts_with("expected `signal`"));
    }
}
