//! How a word of the format is defined, once: its type, its reader, its schema, its help and how it is drawn at random all come
//! from the same lines.
//!
//! - [`choices`] defines a value that is one of a few words.
//! - [`table`] defines a table with known keys. A key has a type, a limit (`[1..=10]`), a default (`= 1`), and the values of
//!   which one is drawn at random (`=> Draw::Whole(1, 5)`), all but the type optional. A key of an `Option` may be left out.
//! - [`steps`] defines what a client can do: the words, each with its table if it has one.

use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::read::{Field, Limit, Table};

/// A key of a table, for whoever explains it or draws its value.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// How it is written.
    pub name: &'static str,
    /// How its value is drawn at random.
    pub draw: Draw,
    pub(super) optional: bool,
    pub(super) doc: &'static str,
    pub(super) default: Option<fn() -> Value>,
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// How a value is drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Not at all: the key is left out.
    Absent,
    /// A whole number from one to the other.
    Whole(u32, u32),
    /// A length of time from one to the other, in milliseconds.
    Millis(u32, u32),
    /// One of these, written as in a file.
    OneOf(&'static [&'static str]),
    /// A few steps with these words.
    Steps(&'static [&'static str]),
}

impl Key {
    /// Whether it has to be there.
    pub const fn is_required(&self) -> bool {
        !self.optional && self.default.is_none()
    }

    /// Its value where it is left out, if that is one that could be written.
    pub fn default(&self) -> Option<Value> {
        self.default.map(|default| default())
    }

    /// What it means, and its default.
    pub fn help(&self) -> String {
        match self.default {
            Some(default) => format!("{} Default {}.", self.doc, plain(&default())),
            None => self.doc.to_owned(),
        }
    }
}

/// A value without its quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The schema of a table, whose keys have theirs.
pub(super) fn table_schema<T: Table>(help: &str, generator: &mut SchemaGenerator) -> Schema {
    let mut properties = Map::new();
    for key in T::KEYS {
        let mut schema = (key.schema)(generator);
        schema.insert("description".to_owned(), key.help().into());
        if let Some(default) = key.default {
            schema.insert("default".to_owned(), default());
        }
        properties.insert(key.name.to_owned(), schema.to_value());
    }
    let mut schema = json!({
        "description": help,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    let required: Vec<&str> = T::KEYS.iter().filter(|key| key.is_required()).map(|key| key.name).collect();
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema.try_into().expect("an object is a schema")
}

/// The schema of a key's value.
pub(super) fn key_schema<F: Field>(generator: &mut SchemaGenerator, limit: &impl Limit<F::Value>) -> Schema {
    let mut schema = generator.subschema_for::<F::Value>();
    for (word, value) in limit.schema() {
        schema.insert(word.to_owned(), value);
    }
    schema
}

/// `maybe!()` is `None`, `maybe!(x)` is `Some(x)`: for what may be left out of a definition.
macro_rules! maybe {
    () => {
        None
    };
    ($there:expr) => {
        Some($there)
    };
}

/// The last of what is given: for what has a default in a definition.
macro_rules! last {
    ($only:expr) => {
        $only
    };
    ($first:expr, $($rest:expr),+) => {
        last!($($rest),+)
    };
}

/// Doc comments as one text.
macro_rules! text {
    ($($line:literal)*) => {
        concat!($($line),*).trim_ascii()
    };
}

macro_rules! choices {
    (
        $(#[doc = $doc:literal])*
        $name:ident $(($($derive:ident),+))?, $what:literal {
            $( $(#[doc = $choice_doc:literal])* $choice:ident = $word:literal $($mark:ident)?, )+
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq $($(, $derive)+)?)]
        pub enum $name {
            $( $(#[doc = $choice_doc])* $(#[$mark])? $choice, )+
        }

        impl $name {
            /// Every one.
            pub const ALL: [$name; [$($name::$choice),+].len()] = [$($name::$choice),+];

            /// The word in a file.
            pub const fn name(self) -> &'static str {
                match self {
                    $( $name::$choice => $word, )+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.name())
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "description": text!($($doc)*),
                    "oneOf": [$({ "const": $word, "description": text!($($choice_doc)*), "type": "string" }),+],
                })
            }
        }

        impl $crate::scenario::read::Read for $name {
            const DRAW: $crate::scenario::define::Draw =
                $crate::scenario::define::Draw::OneOf(&[$(concat!("\"", $word, "\"")),+]);

            fn read(
                value: &$crate::scenario::read::Value<'_>,
                name: &str,
                problems: &mut Vec<$crate::scenario::Problem>,
            ) -> Option<Self> {
                $crate::scenario::values::read_word($what, &$name::ALL, $name::name, value, name, problems)
            }
        }
    };
}

macro_rules! table {
    (
        $(#[doc = $doc:literal])*
        $name:ident $(($($derive:ident),+))?, $what:literal {
            $(
                $(#[doc = $key_doc:literal])*
                $key:ident $(as $written:literal)?: $ty:ty $([$limit:expr])? $(= $default:expr)? $(=> $draw:expr)?,
            )*
        }
        $(check |$fields:ident| $check:block)?
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq $($(, $derive)+)?)]
        pub struct $name {
            $( $(#[doc = $key_doc])* pub $key: $ty, )*
        }

        impl $crate::scenario::read::Table for $name {
            const WHAT: &'static str = $what;
            const KEYS: &'static [$crate::scenario::define::Key] = &[$($crate::scenario::define::Key {
                name: last!(stringify!($key) $(, $written)?),
                doc: text!($($key_doc)*),
                optional: <$ty as $crate::scenario::read::Field>::OPTIONAL,
                draw: last!(<<$ty as $crate::scenario::read::Field>::Value as $crate::scenario::read::Read>::DRAW $(, $draw)?),
                default: maybe!($(|| serde_json::json!($default))?),
                schema: |generator| $crate::scenario::define::key_schema::<$ty>(
                    generator,
                    &last!($crate::scenario::read::Any $(, $limit)?),
                ),
            }),*];

            fn read_fields(fields: &mut $crate::scenario::read::Fields<'_, '_, '_>) -> Option<Self> {
                $(
                    let $key: Option<$ty> = fields.field(
                        last!(stringify!($key) $(, $written)?),
                        &last!($crate::scenario::read::Any $(, $limit)?),
                        maybe!($(|| $default)?),
                    );
                )*
                $({ let $fields = &mut *fields; $check })?
                Some($name { $($key: $key?),* })
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::scenario::define::table_schema::<$name>(text!($($doc)*), generator)
            }
        }
    };
}

/// The table of a step, if it has one.
macro_rules! body {
    ([$($doc:tt)*]) => {};
    ([$($doc:tt)*] $($table:tt)+) => {
        table! { $($doc)* $($table)+ }
    };
}

macro_rules! steps {
    ($(
        $(#[doc = $doc:literal])*
        $name:literal $variant:ident $((
            $body:ident $(($($derive:ident),+))? { $($keys:tt)* } $(check |$fields:ident| $check:block)?
        ))?,
        like: $like:literal
        $(, alone: $alone:expr)?
        $(, sends $([$sender:ident])?: $sends:expr)?
        $(, by_hand $([$hand:ident])?: $by_hand:expr)?
        $(, needs: $($need:ident)+)?;
    )+) => {
        $(
            body! {
                [$(#[doc = $doc])*]
                $($body $(($($derive),+))?, $name { $($keys)* } $(check |$fields| $check)?)?
            }
        )+

        /// One thing that a client does: a bare word (`"connect"`) or a table with the word as a key (`{ query = "20ms" }`).
        #[derive(Clone, Debug, PartialEq)]
        pub enum Step {
            $( $(#[doc = $doc])* $variant $(($body))?, )+
        }

        impl Step {
            /// The words of all steps.
            pub const WORDS: &'static [Word] = &[$(Word {
                name: $name,
                help: text!($($doc)*),
                like: $like,
                keys: last!(&[] $(, <$body as $crate::scenario::read::Table>::KEYS)?),
                needs: &[$($(Need::$need),+)?],
                alone: maybe!($(|| $alone)?),
                table: maybe!($(Body {
                    read: |table, what, at, problems| {
                        $crate::scenario::steps::read_body::<$body>(table, what, at, problems).map(Step::$variant)
                    },
                    schema: |generator| generator.subschema_for::<$body>(),
                })?),
            }),+];

            /// The word for this step in a file.
            pub const fn word(&self) -> &'static str {
                match self {
                    $( Step::$variant { .. } => $name, )+
                }
            }

            /// What it sends, as far as others must know.
            pub fn sends(&self) -> Sends {
                match self {
                    $( Step::$variant { $($(0: $sender,)?)? .. } => last!(Sends::Other $(, $sends)?), )+
                }
            }

            /// Whether no client library would do this, so that its messages are written by hand.
            pub fn by_hand(&self) -> bool {
                match self {
                    $( Step::$variant { $($(0: $hand,)?)? .. } => last!(false $(, $by_hand)?), )+
                }
            }
        }
    };
}

pub(super) use {body, choices, last, maybe, steps, table, text};
