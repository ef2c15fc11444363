//! The settings: one definition of each name, type, default and meaning.
//!
//! The flag, the environment variable, the key in the file, the help text and the table in the README are all made from
//! the one list below, so none of them can go stale. A [`Settings`] is changed by name with texts ([`Settings::set`]), as
//! they stand in a file, and asked at the end whether its values fit together ([`Settings::check`]).
//!
//! Not the configuration: where a text comes from, and which of several wins, is `config`'s business.

mod value;

use std::fmt;
use std::time::Duration;

use value::Value;
pub use value::{DrainPolicy, Kind, MAX_DURATION, Pacing, parse_duration, print_duration};

/// Defines `Settings`, its defaults, its table, and access by name. Each line: name, type, default as a file has it,
/// meaning.
macro_rules! settings {
    ($($name:ident: $type:ty = $default:literal, $help:literal;)*) => {
        /// How the control plane behaves, every value parsed.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            $(#[doc = $help] pub $name: $type,)*
        }

        /// Every setting, in the order of the contract's table.
        pub const SETTINGS: &[Setting] = &[
            $(Setting { name: stringify!($name), default: $default, help: $help, kind: <$type as Value>::KIND },)*
        ];

        impl Default for Settings {
            fn default() -> Self {
                Settings {
                    $($name: <$type as Value>::parse($default).expect("a test parses every default"),)*
                }
            }
        }

        impl Settings {
            /// Gives the setting called `name` the value that `value` says.
            ///
            /// # Errors
            /// If there is no such setting or the text is not a value of it. Nothing is changed then.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
                match name {
                    $(stringify!($name) => self.$name = parse(stringify!($name), value)?,)*
                    _ => return Err(SettingError::Unknown { name: name.to_owned(), nearest: None }),
                }
                Ok(())
            }

            /// The value of the setting called `name`, as a file would have it; `None` if there is no such setting.
            pub fn setting(&self, name: &str) -> Option<String> {
                match name {
                    $(stringify!($name) => Some(self.$name.print()),)*
                    _ => None,
                }
            }

            /// The values that no text could have given: the fields are public.
            fn out_of_range(&self) -> Vec<SettingError> {
                let mut errors = Vec::new();
                $(if !self.$name.in_range() {
                    errors.push(invalid::<$type>(stringify!($name), &self.$name.print()));
                })*
                errors
            }
        }
    };
}

settings! {
    drain_policy: DrainPolicy = "idle-aware",
        "how a drain ends: `idle-aware` waits for work and not for idle clients, `unbounded` waits for every connection, \
         `flat` waits for every connection and tears all down at `handover_drain_timeout`";
    lame_duck: Duration = "5s",
        "after the signal: how long new sessions are still accepted, already unready";
    idle_grace: Duration = "30s",
        "after the signal: the latest due time of a connection; not below `lame_duck`";
    pacing: Pacing = "even",
        "due times: `even` spreads them over the second half of the grace, `none` puts all at its end";
    transaction_grace: Duration = "5m",
        "longest pause inside a transaction while draining";
    transaction_budget: Duration = "1h",
        "all pauses inside transactions of a connection while draining, together; a batch without its Sync is a \
         transaction; 0 = none";
    stall_grace: Duration = "5m",
        "longest time without a byte moved in a statement that waits on its client, while draining";
    handover_drain_timeout: Duration = "0",
        "after the signal: the wall for running work; 0 = none";
    termination_grace: Option<Duration> = "unset",
        "the pod's `terminationGracePeriodSeconds`, if known";
    teardown_budget: Duration = "20s",
        "how long before the end of `termination_grace` the wall stands";
    close_linger: Duration = "5s",
        "how long a closed client may take to read its FATAL";
    idle_timeout: Duration = "15m",
        "steady state: how long a client may be idle; 0 = never closed";
    session_init_timeout: Duration = "60s",
        "from accept to the first ReadyForQuery";
    worker_queue_timeout: Duration = "60s",
        "longest wait for a worker";
    max_connections: u32 = "10000",
        "sessions at a time; cancel requests do not count";
}

/// How long the exit waits for the records to be flushed.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(2);

impl Settings {
    /// Whether the values fit together.
    ///
    /// # Errors
    /// The first misfit of [`Settings::misfits`].
    pub fn check(&self) -> Result<(), SettingError> {
        self.misfits().into_iter().next().map_or(Ok(()), Err)
    }

    /// How long what runs at the wall has to be cancelled: half of what `close_linger` leaves of `teardown_budget`. The other
    /// half is for the records, which take [`FLUSH_LIMIT`] at most, and for the machine.
    pub fn wall_patience(&self) -> Duration {
        self.teardown_budget.saturating_sub(self.close_linger) / 2
    }

    /// The longest pause between two looks at what a client's machine has acknowledged, where a clock depends on it: what
    /// the clock is exact to.
    pub fn look_every(&self) -> Duration {
        (self.stall_grace / 256).clamp(Duration::from_millis(1), Duration::from_millis(250))
    }

    /// Everything that keeps the values from fitting together; empty if they do.
    pub fn misfits(&self) -> Vec<SettingError> {
        let mut misfits = self.out_of_range();
        let mut unless = |fits: bool, setting, relation, other, valid| {
            if !fits {
                misfits.push(SettingError::Misfit {
                    setting,
                    value: self.setting(setting).unwrap_or_default(),
                    relation,
                    other,
                    other_value: self.setting(other).unwrap_or_default(),
                    valid,
                });
            }
        };
        unless(
            self.idle_grace >= self.lame_duck,
            "idle_grace",
            "is below",
            "lame_duck",
            format!("{} or more", print_duration(self.lame_duck)),
        );
        unless(
            self.drain_policy != DrainPolicy::Flat || !self.handover_drain_timeout.is_zero(),
            "handover_drain_timeout",
            "leaves no wall for",
            "drain_policy",
            "a duration above 0".to_owned(),
        );
        if let Some(grace) = self.termination_grace {
            unless(
                self.teardown_budget <= grace,
                "teardown_budget",
                "is above",
                "termination_grace",
                format!("{} or less", print_duration(grace)),
            );
        }
        let teardown = self.close_linger.saturating_add(2 * FLUSH_LIMIT);
        unless(
            self.teardown_budget >= teardown,
            "teardown_budget",
            "leaves less than 2s for cancelling and 2s for the records beside",
            "close_linger",
            format!("{} or more", print_duration(teardown)),
        );
        // Here zero is not "none": it would turn every client away, cut a statement at its client's first pause, or let no
        // FATAL and no late cancel request through.
        let never_zero = [
            ("stall_grace", self.stall_grace),
            ("close_linger", self.close_linger),
            ("session_init_timeout", self.session_init_timeout),
            ("worker_queue_timeout", self.worker_queue_timeout),
        ];
        misfits.extend(never_zero.into_iter().filter(|(_, value)| value.is_zero()).map(|(setting, value)| {
            SettingError::Invalid { setting, value: print_duration(value), valid: "a duration above 0".to_owned() }
        }));
        misfits
    }
}

/// One line of the table of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The name: the key in a file.
    pub name: &'static str,
    /// The default, as a file would have it.
    pub default: &'static str,
    /// What it means, in one line of Markdown.
    pub help: &'static str,
    /// What its values are.
    pub kind: Kind,
}

/// A setting that can't be as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingError {
    /// There is no setting of this name.
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The setting that was probably meant, where whoever reads the settings has looked for it.
        nearest: Option<&'static str>,
    },
    /// The text is not a value of the setting.
    Invalid {
        /// The setting.
        setting: &'static str,
        /// The text.
        value: String,
        /// What would be valid.
        valid: String,
    },
    /// The value does not fit another setting's.
    Misfit {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// How it stands to the other one's, such as `is below`.
        relation: &'static str,
        /// The other setting.
        other: &'static str,
        /// The other one's value.
        other_value: String,
        /// What would be valid, were the other setting to stay.
        valid: String,
    },
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingError::Unknown { name, nearest } => {
                write!(f, "no setting is called {name}{}", did_you_mean(*nearest))
            }
            SettingError::Invalid { setting, value, valid } => {
                write!(f, "{setting}: {value:?} is not valid; valid is {valid}")
            }
            SettingError::Misfit { setting, value, relation, other, other_value, valid } => {
                write!(f, "{setting}: {value} {relation} {other}, which is {other_value}; valid is {valid}")
            }
        }
    }
}

impl std::error::Error for SettingError {}

/// The question that an error about an unknown name ends with; empty if there is nothing to suggest.
pub fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
}

fn parse<T: Value>(setting: &'static str, text: &str) -> Result<T, SettingError> {
    T::parse(text).filter(T::in_range).ok_or_else(|| invalid::<T>(setting, text))
}

fn invalid<T: Value>(setting: &'static str, text: &str) -> SettingError {
    SettingError::Invalid { setting, value: text.to_owned(), valid: T::KIND.valid() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn with(changes: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in changes {
            settings.set(name, value).unwrap();
        }
        settings
    }

    fn complaint(changes: &[(&str, &str)]) -> String {
        with(changes).check().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_the_contracts_and_fit_together() {
        let defaults = Settings {
            drain_policy: DrainPolicy::IdleAware,
            lame_duck: seconds(5),
            idle_grace: seconds(30),
            pacing: Pacing::Even,
            transaction_grace: seconds(5 * 60),
            transaction_budget: seconds(60 * 60),
            stall_grace: seconds(5 * 60),
            handover_drain_timeout: Duration::ZERO,
            termination_grace: None,
            teardown_budget: seconds(20),
            close_linger: seconds(5),
            idle_timeout: seconds(15 * 60),
            session_init_timeout: seconds(60),
            worker_queue_timeout: seconds(60),
            max_connections: 10_000,
        };
        assert_eq!(Settings::default(), defaults);
        assert_eq!(defaults.check(), Ok(()));
    }

    #[test]
    fn every_setting_takes_back_what_it_prints() {
        for setting in SETTINGS {
            let mut settings = Settings::default();
            let printed = settings.setting(setting.name).unwrap();
            settings.set(setting.name, &printed).unwrap();
            assert_eq!(settings, Settings::default(), "{}", setting.name);
        }
    }

    #[test]
    fn a_text_that_is_no_value_changes_nothing_and_is_told_what_would_be_one() {
        let duration = "a duration with units such as 250ms, 30s, 5m or 1h30m, or 0, at most 365d";
        for (name, value, valid) in [
            ("idle_grace", "30", duration.to_owned()),
            ("idle_grace", "366d", duration.to_owned()),
            ("termination_grace", "none", format!("{duration}, or unset")),
            ("drain_policy", "Flat", "one of idle-aware, unbounded, flat".to_owned()),
            ("pacing", "off", "one of even, none".to_owned()),
            ("max_connections", "0", "a whole number from 1 to 4294967295".to_owned()),
        ] {
            let mut settings = Settings::default();
            let error = settings.set(name, value).unwrap_err();
            assert_eq!(error.to_string(), format!("{name}: {value:?} is not valid; valid is {valid}"));
            assert_eq!(settings, Settings::default());
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_may_say_what_was_meant() {
        let unknown = Settings::default().set("port", "1s").unwrap_err();
        assert_eq!(unknown.to_string(), "no setting is called port");
        let meant = SettingError::Unknown { name: "idle_grce".to_owned(), nearest: Some("idle_grace") };
        assert_eq!(meant.to_string(), "no setting is called idle_grce; did you mean idle_grace?");
    }

    #[test]
    fn a_client_is_looked_at_often_enough_for_the_clock_that_depends_on_it() {
        for (stall_grace, millis) in [("1h", 250), ("64s", 250), ("25600ms", 100), ("1ms", 1)] {
            assert_eq!(
                with(&[("stall_grace", stall_grace)]).look_every(),
                Duration::from_millis(millis),
                "{stall_grace}"
            );
        }
    }

    #[test]
    fn the_grace_can_not_end_before_the_lame_duck() {
        assert_eq!(with(&[("idle_grace", "5s")]).check(), Ok(()));
        assert_eq!(
            complaint(&[("idle_grace", "4s")]),
            "idle_grace: 4s is below lame_duck, which is 5s; valid is 5s or more"
        );
    }

    #[test]
    fn a_flat_drain_needs_a_wall() {
        assert_eq!(with(&[("drain_policy", "flat"), ("handover_drain_timeout", "15m")]).check(), Ok(()));
        assert_eq!(
            complaint(&[("drain_policy", "flat")]),
            "handover_drain_timeout: 0 leaves no wall for drain_policy, which is flat; valid is a duration above 0"
        );
    }

    #[test]
    fn the_teardown_is_not_longer_than_the_grace_that_it_ends() {
        assert_eq!(with(&[("termination_grace", "20s")]).check(), Ok(()));
        assert_eq!(
            complaint(&[("termination_grace", "19s")]),
            "teardown_budget: 20s is above termination_grace, which is 19s; valid is 19s or less"
        );
    }

    #[test]
    fn zero_is_refused_where_it_would_turn_every_client_away_or_tell_nobody() {
        for name in ["stall_grace", "close_linger", "session_init_timeout", "worker_queue_timeout"] {
            assert_eq!(complaint(&[(name, "0")]), format!("{name}: \"0\" is not valid; valid is a duration above 0"));
        }
    }

    #[test]
    fn a_value_that_no_text_could_give_is_found_and_so_are_all_misfits() {
        let year = MAX_DURATION + seconds(1);
        let settings = Settings { lame_duck: year, termination_grace: Some(year), max_connections: 0, ..with(&[]) };
        let complaints: Vec<String> = settings.misfits().iter().map(ToString::to_string).collect();
        let named: Vec<&str> = complaints.iter().filter_map(|complaint| complaint.split(':').next()).collect();
        assert_eq!(named, ["lame_duck", "termination_grace", "max_connections", "idle_grace"]);
    }
}
