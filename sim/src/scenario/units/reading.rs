//! How a client reads: not at all, everything, or so many bytes each second.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::rate::{PATTERN, Rate};

/// What a client takes from its socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Everything, as soon as it is there.
    #[default]
    Resume,
    /// Nothing.
    Stop,
    /// So many bytes each second.
    Rate(Rate),
}

/// Why a text is not a [`Reading`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"stop\", \"resume\", or a rate from \"1B/s\" to \"1000MB/s\"")]
pub struct BadReading;

const STOP: &str = "stop";
const RESUME: &str = "resume";

impl FromStr for Reading {
    type Err = BadReading;

    fn from_str(text: &str) -> Result<Reading, BadReading> {
        match text {
            STOP => Ok(Reading::Stop),
            RESUME => Ok(Reading::Resume),
            _ => text.parse().map(Reading::Rate).map_err(|_| BadReading),
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reading::Resume => f.write_str(RESUME),
            Reading::Stop => f.write_str(STOP),
            Reading::Rate(rate) => rate.fmt(f),
        }
    }
}

impl JsonSchema for Reading {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Reading".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = format!("^({STOP}|{RESUME}|{PATTERN})$");
        json_schema!({ "type": "string", "pattern": pattern, "examples": [STOP, RESUME, "100B/s"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_of_reading_is_written_as_it_is_read() {
        for text in ["stop", "resume", "1B/s", "100B/s", "5KB/s", "1001B/s", "2MB/s", "1000MB/s"] {
            assert_eq!(text.parse::<Reading>().map(|reading| reading.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("1000B/s".parse::<Reading>().unwrap().to_string(), "1KB/s");
    }

    #[test]
    fn anything_else_is_no_way_of_reading() {
        for text in ["", "Stop", "100", "B/s", "0B/s", "-1B/s", "1GB/s", "100 B/s", "1001MB/s", "99999999999B/s"] {
            assert_eq!(text.parse::<Reading>(), Err(BadReading), "{text:?}");
        }
    }
}
