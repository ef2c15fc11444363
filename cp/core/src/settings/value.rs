//! What a setting's value can be, and its form as text.
//!
//! The one place that reads and prints durations. Not the settings themselves: those are in the module above.

use std::fmt;
use std::time::Duration;

/// No duration may be longer: what is longer is a slip of the unit, and sums of a few such times can't overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How a drain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DrainPolicy {
    /// For a worker we wait, for a client a clock runs. The fix.
    IdleAware,
    /// Waits for every connection. The reported bug: one idle client holds the pod to the SIGKILL.
    Unbounded,
    /// As unbounded, but at `handover_drain_timeout` everything is torn down, running or not. The original incident.
    Flat,
}

impl DrainPolicy {
    /// Every policy, the default first.
    pub const ALL: [DrainPolicy; 3] = [DrainPolicy::IdleAware, DrainPolicy::Unbounded, DrainPolicy::Flat];

    /// The name used in files, logs and reports.
    pub const fn name(self) -> &'static str {
        match self {
            DrainPolicy::IdleAware => "idle-aware",
            DrainPolicy::Unbounded => "unbounded",
            DrainPolicy::Flat => "flat",
        }
    }
}

/// How due times are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pacing {
    /// Evenly over the second half of the grace, so that reconnects don't arrive as a herd.
    Even,
    /// All at `idle_grace`.
    None,
}

impl Pacing {
    /// Every pacing, the default first.
    pub const ALL: [Pacing; 2] = [Pacing::Even, Pacing::None];

    /// The name used in files, logs and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Pacing::Even => "even",
            Pacing::None => "none",
        }
    }
}

/// What the values of a setting are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A duration.
    Duration,
    /// A duration, or `unset`.
    OptionalDuration,
    /// A [`DrainPolicy`].
    Policy,
    /// A [`Pacing`].
    Pacing,
    /// A whole number, one or more.
    Count,
}

impl Kind {
    /// What would be valid, as the end of a sentence.
    pub fn valid(self) -> String {
        const DURATION: &str = "a duration with units such as 250ms, 30s, 5m or 1h30m, or 0, at most 365d";
        let one_of = |names: &[&str]| format!("one of {}", names.join(", "));
        match self {
            Kind::Duration => DURATION.to_owned(),
            Kind::OptionalDuration => format!("{DURATION}, or unset"),
            Kind::Policy => one_of(&DrainPolicy::ALL.map(DrainPolicy::name)),
            Kind::Pacing => one_of(&Pacing::ALL.map(Pacing::name)),
            Kind::Count => format!("a whole number from 1 to {}", u32::MAX),
        }
    }
}

/// The units that a duration is written in, the longest name of a beginning first, and how many nanoseconds each has.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
    ("d", 24 * 3600 * 1_000_000_000),
];

/// The duration that a text such as `250ms`, `30s`, `5m`, `1h30m` or `0` says: whole numbers, each with its unit, added up;
/// `None` if it says none.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanos: Option<u64> = None;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (count, behind) = rest.split_at(digits);
        let (unit, scale) = UNITS.iter().find(|(unit, _)| behind.starts_with(unit))?;
        let part = count.parse::<u64>().ok()?.checked_mul(*scale)?;
        nanos = Some(nanos.unwrap_or_default().checked_add(part)?);
        rest = &behind[unit.len()..];
    }
    nanos.map(Duration::from_nanos)
}

/// A duration in the form that [`parse_duration`] reads, hours being the largest unit: `24h`, `1h30m`, `0`.
pub fn print_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(nanos / 1_000_000), "ms"),
        (u64::from(nanos / 1000 % 1000), "us"),
        (u64::from(nanos % 1000), "ns"),
    ];
    let text: String =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "0".to_owned() } else { text }
}

/// A type of value that a setting can have.
pub(super) trait Value: Sized {
    const KIND: Kind;
    fn parse(text: &str) -> Option<Self>;
    fn print(&self) -> String;
    fn in_range(&self) -> bool {
        true
    }
}

impl Value for Duration {
    const KIND: Kind = Kind::Duration;

    fn parse(text: &str) -> Option<Self> {
        parse_duration(text)
    }

    fn print(&self) -> String {
        print_duration(*self)
    }

    fn in_range(&self) -> bool {
        *self <= MAX_DURATION
    }
}

impl Value for Option<Duration> {
    const KIND: Kind = Kind::OptionalDuration;

    fn parse(text: &str) -> Option<Self> {
        if text == "unset" { Some(None) } else { parse_duration(text).map(Some) }
    }

    fn print(&self) -> String {
        self.map_or_else(|| "unset".to_owned(), print_duration)
    }

    fn in_range(&self) -> bool {
        self.is_none_or(|duration| duration.in_range())
    }
}

impl Value for DrainPolicy {
    const KIND: Kind = Kind::Policy;

    fn parse(text: &str) -> Option<Self> {
        DrainPolicy::ALL.into_iter().find(|policy| policy.name() == text)
    }

    fn print(&self) -> String {
        self.name().to_owned()
    }
}

impl Value for Pacing {
    const KIND: Kind = Kind::Pacing;

    fn parse(text: &str) -> Option<Self> {
        Pacing::ALL.into_iter().find(|pacing| pacing.name() == text)
    }

    fn print(&self) -> String {
        self.name().to_owned()
    }
}

impl Value for u32 {
    const KIND: Kind = Kind::Count;

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn print(&self) -> String {
        self.to_string()
    }

    fn in_range(&self) -> bool {
        *self > 0
    }
}

impl fmt::Display for DrainPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Pacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_printed_in_the_form_in_which_it_is_read() {
        for text in ["0", "250ms", "1us", "1ns", "30s", "5m", "1h30m", "24h", "1h1m1s1ms1us1ns"] {
            assert_eq!(print_duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(parse_duration("2d"), Some(Duration::from_secs(2 * 24 * 3600)));
    }

    #[test]
    fn a_year_is_a_value_and_a_second_more_is_none() {
        let year = Duration::parse("365d").unwrap();
        assert!(year.in_range() && Some(year).in_range());
        let longer = year + Duration::from_secs(1);
        assert!(!longer.in_range() && !Some(longer).in_range());
    }

    #[test]
    fn policies_and_pacings_are_shown_by_their_names() {
        assert_eq!(DrainPolicy::ALL.map(|policy| policy.to_string()), ["idle-aware", "unbounded", "flat"]);
        assert_eq!(Pacing::ALL.map(|pacing| pacing.to_string()), ["even", "none"]);
    }

    #[test]
    fn what_could_be_read_as_another_duration_is_none() {
        for text in
            ["", "30", "s", "-1s", "5M", "1e3s", "1h30", "1h 30m", "2 days", "forever", "00x", "99999999999999999999s"]
        {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }
}
