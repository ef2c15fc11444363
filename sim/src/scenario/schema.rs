//! The vocabulary as a JSON Schema, for editors that complete and check while one writes.
//!
//! Made from the types and their doc comments. It can't say everything that [`super::parse`] checks, but what it refuses is
//! refused there too.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::model::*;
use super::overrides::setting_schemas;

/// The JSON Schema of scenario files, as `scenarios/scenario.schema.json` holds it.
pub fn schema() -> String {
    // What editors for TOML understand.
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Scenario>().to_value();
    without_null(&mut schema);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}

/// TOML has no null: a key is there or left out.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(keys) => {
            if let Some(Value::Array(types)) = keys.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    keys.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(options)) = keys.get_mut("anyOf") {
                options.retain(|option| *option != json!({ "type": "null" }));
                if let [Value::Object(only)] = options.as_slice() {
                    let only = only.clone();
                    keys.remove("anyOf");
                    // Beside a reference, draft 7 ignores every other key.
                    if only.contains_key("$ref") {
                        keys.insert("allOf".to_owned(), json!([only]));
                    } else {
                        keys.extend(only);
                    }
                }
            }
            keys.values_mut().for_each(without_null);
        }
        _ => {}
    }
}

impl JsonSchema for FailsUnder {
    fn schema_name() -> Cow<'static, str> {
        "FailsUnder".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut properties = setting_schemas();
        let promises = generator.subschema_for::<Promise>();
        let breaks = json!({
            "description": "The promises that must break, and no other.",
            "type": "array",
            "items": promises,
            "minItems": 1,
            "uniqueItems": true,
        });
        properties.insert("breaks".to_owned(), breaks);
        json_schema!({
            "description": "Other settings, and the promises that break under them.",
            "type": "object",
            "properties": properties,
            "required": ["breaks"],
            "additionalProperties": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/scenario.schema.json");

    #[test]
    fn the_schema_file_is_what_the_code_says() {
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            fs::write(FILE, schema()).unwrap();
        }
        let file = fs::read_to_string(FILE).unwrap_or_default();
        assert!(file == schema(), "{FILE} is out of date: UPDATE_SCHEMA=1 cargo test -p sim schema_file rewrites it");
    }

    #[test]
    fn every_reference_leads_somewhere_and_nothing_may_be_null() {
        let text = schema();
        let schema: Value = serde_json::from_str(&text).unwrap();
        for reference in text.split("\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(schema.pointer(reference).is_some(), "{reference}");
        }
        assert!(!text.contains("\"null\""));
    }
}
