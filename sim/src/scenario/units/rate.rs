//! So many bytes each second, as a client reads or a link carries.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// Bytes a second, written like `100B/s`, `5KB/s` or `1MB/s`, at most `1000MB/s`. A KB is 1000 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate(pub NonZeroU32);

/// Why a text is not a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rate from \"1B/s\" to \"1000MB/s\"")]
pub struct BadRate;

/// Largest first, so that a rate is written with the largest unit that holds it.
const UNITS: [(&str, u32); 3] = [("MB/s", 1_000_000), ("KB/s", 1_000), ("B/s", 1)];

/// More is everything.
const MAX: u32 = 1_000_000_000;

pub(super) const PATTERN: &str = "[1-9][0-9]*(B|KB|MB)/s";

impl Rate {
    /// For whoever has written another.
    pub(in crate::scenario) const HELP: &str =
        "the units of a rate are `B/s`, `KB/s` and `MB/s`; the most is `1000MB/s`";
}

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Rate, BadRate> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let (_, bytes) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(BadRate)?;
        let rate = number.parse().ok().and_then(|number: u32| number.checked_mul(bytes));
        rate.filter(|rate| *rate <= MAX).and_then(NonZeroU32::new).map(Rate).ok_or(BadRate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = |(_, bytes): &(&str, u32)| self.0.get().is_multiple_of(*bytes);
        let (unit, bytes) = UNITS.into_iter().find(holds).unwrap_or(("B/s", 1));
        write!(f, "{}{unit}", self.0.get() / bytes)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl JsonSchema for Rate {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": format!("^{PATTERN}$"), "examples": ["5KB/s", "1MB/s"] })
    }
}
