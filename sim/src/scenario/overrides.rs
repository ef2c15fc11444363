//! Settings of the control plane as a scenario names them.
//!
//! Which settings there are, what each takes and what it means is known by [`lastcall_core::settings`] alone: a new setting needs
//! no line here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use lastcall_core::settings::{DrainPolicy, Kind, Pacing, SETTINGS, Setting, SettingError, Settings};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// Settings of the control plane, by name, each written as in its own configuration file. Every one is known to be accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<String, String>);

impl Overrides {
    /// Changes these settings and leaves the others alone.
    pub fn apply(&self, settings: &mut Settings) {
        for (name, value) in self.iter() {
            settings.set(name, value).expect("`insert` has tried it");
        }
    }

    /// Adds a setting; a second value for a name replaces the first.
    ///
    /// # Errors
    /// There is no such setting, or it does not take this value; nothing is added.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        Settings::default().set(name, value)?;
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Name and value of each, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether everything stays at its default.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As in a file: `drain_policy = "flat", handover_drain_timeout = "15m"`.
impl fmt::Display for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name} = {value:?}")?;
        }
        Ok(())
    }
}

impl JsonSchema for Overrides {
    fn schema_name() -> Cow<'static, str> {
        "Settings".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "properties": setting_schemas(), "additionalProperties": false })
    }
}

/// The schema of each setting, by name.
pub(super) fn setting_schemas() -> Map<String, Value> {
    let schema = |setting: &Setting| {
        let mut schema = of_kind(setting.kind);
        let description = format!("{} Default: {}.", sentence(setting.help), setting.default);
        if let Some(keys) = schema.as_object_mut() {
            keys.insert("description".to_owned(), description.into());
        }
        (setting.name.to_owned(), schema)
    };
    SETTINGS.iter().map(schema).collect()
}

/// What a file may write for a setting. Of what is written by hand, nothing that this accepts is refused by the setting.
fn of_kind(kind: Kind) -> Value {
    const DURATION: &str = "([0-9]+(ms|s|m|h|d))+";
    let text = |pattern: String| json!({ "type": "string", "pattern": format!("^({pattern})$") });
    match kind {
        Kind::Duration => json!({ "anyOf": [text(format!("0|{DURATION}")), { "const": 0 }] }),
        Kind::OptionalDuration => json!({ "anyOf": [text(format!("0|unset|{DURATION}")), { "const": 0 }] }),
        Kind::Policy => json!({ "enum": DrainPolicy::ALL.map(DrainPolicy::name) }),
        Kind::Pacing => json!({ "enum": Pacing::ALL.map(Pacing::name) }),
        Kind::Count => json!({ "anyOf": [text("[1-9][0-9]{0,5}".to_owned()), { "type": "integer", "minimum": 1 }] }),
    }
}

fn sentence(help: &str) -> Cow<'_, str> {
    if help.ends_with('.') { help.into() } else { format!("{help}.").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applied_settings_change_and_the_others_stay() {
        let mut overrides = Overrides::default();
        overrides.insert("idle_grace", "45s").unwrap();
        let (mut applied, mut set) = (Settings::default(), Settings::default());
        overrides.apply(&mut applied);
        set.set("idle_grace", "45s").unwrap();
        assert_eq!(applied, set);
        assert_ne!(applied, Settings::default());
    }

    #[test]
    fn what_the_control_plane_would_refuse_is_refused() {
        let mut overrides = Overrides::default();
        assert!(overrides.insert("idle_grase", "45s").is_err());
        assert!(overrides.insert("idle_grace", "soon").is_err());
        assert!(overrides.is_empty());
    }
}
