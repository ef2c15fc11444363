//! What a session says about itself, in SQL functions, SHOW and ParameterStatus; and `pg_sleep`.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pgwire::api::auth::DefaultServerParameterProvider;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Error, Result};

use crate::interrupt;

/// The longest sleep, in seconds: a hundred years.
const LONGEST_SLEEP: f64 = 100.0 * 365.0 * 86_400.0;

/// What is known of a session since its startup.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    pub(crate) database: String,
    started_as: String,
    application_name: Mutex<String>,
}

impl Identity {
    pub(crate) fn new(pid: i32, database: String, application_name: String) -> Identity {
        Identity { pid, database, started_as: application_name.clone(), application_name: Mutex::new(application_name) }
    }

    /// A setting's value, by its name in small letters.
    pub(crate) fn setting(&self, name: &str) -> Option<String> {
        let value = match name {
            "server_version" => return Some(server_version()),
            "application_name" => return Some(self.application_name().clone()),
            "server_encoding" | "client_encoding" => "UTF8",
            "transaction_isolation" | "default_transaction_isolation" => "serializable",
            "transaction_read_only" | "default_transaction_read_only" => "off",
            "timezone" => "UTC",
            "datestyle" => "ISO, MDY",
            "standard_conforming_strings" | "integer_datetimes" => "on",
            "search_path" => "public",
            _ => return None,
        };
        Some(value.to_owned())
    }

    /// Whether it took effect, and the client is to be told.
    pub(crate) fn set(&self, name: &str, value: &str) -> bool {
        let is = name == "application_name";
        if is {
            value.clone_into(&mut self.application_name());
        }
        is
    }

    /// As at startup.
    pub(crate) fn reset(&self, name: &str) -> bool {
        let name = if name == "all" { "application_name" } else { name };
        self.set(name, &self.started_as)
    }

    fn application_name(&self) -> MutexGuard<'_, String> {
        // Replaced as a whole.
        self.application_name.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// psql and drivers read the number at the beginning.
pub(crate) fn server_version() -> String {
    format!("16.0 (Last Call embedded, SQLite {})", rusqlite::version())
}

/// What a client is told at startup.
pub(crate) fn parameters() -> DefaultServerParameterProvider {
    let mut parameters = DefaultServerParameterProvider::default();
    parameters.server_version = server_version();
    parameters.time_zone = "UTC".to_owned();
    parameters.date_style = "ISO, MDY".to_owned();
    parameters
}

/// Makes them known to a session's connection.
pub(crate) fn register(connection: &Connection, identity: &Arc<Identity>) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8;
    connection.create_scalar_function("pg_sleep", 1, flags, pg_sleep)?;
    connection.create_scalar_function("version", 0, flags, |_| Ok(format!("PostgreSQL {}", server_version())))?;
    let (pid, database) = (identity.pid, identity.database.clone());
    connection.create_scalar_function("pg_backend_pid", 0, flags, move |_| Ok(pid))?;
    connection.create_scalar_function("current_database", 0, flags, move |_| Ok(database.clone()))?;
    let identity = identity.clone();
    connection.create_scalar_function("current_setting", 1, flags, move |context| {
        let name = context.get::<String>(0)?;
        identity.setting(&name.to_ascii_lowercase()).ok_or_else(|| fails(unrecognized(&name)))
    })
}

pub(crate) fn unrecognized(name: &str) -> String {
    format!("unrecognized configuration parameter \"{name}\"")
}

/// Void, as text; a client's cancel ends it.
fn pg_sleep(context: &mut Context<'_>) -> Result<Option<&'static str>> {
    let seconds = match context.get_raw(0) {
        ValueRef::Null => return Ok(None),
        ValueRef::Integer(seconds) => seconds as f64,
        ValueRef::Real(seconds) => seconds,
        ValueRef::Text(text) => {
            std::str::from_utf8(text)?.parse().map_err(|_| Error::InvalidParameterType(0, Type::Text))?
        }
        ValueRef::Blob(_) => return Err(Error::InvalidParameterType(0, Type::Blob)),
    };
    if interrupt::is_trial() {
        return Ok(None);
    }
    // Whatever is not more than nothing is nothing, NaN too.
    let seconds = if seconds > 0.0 { seconds.min(LONGEST_SLEEP) } else { 0.0 };
    match interrupt::sleep(Duration::from_secs_f64(seconds)) {
        true => Ok(Some("")),
        false => Err(fails("interrupted".to_owned())),
    }
}

fn fails(message: String) -> Error {
    Error::UserFunctionError(message.into())
}
