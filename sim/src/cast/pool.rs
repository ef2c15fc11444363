//! What pools of connections do, as far as a rollout asks it of them. One file for each under `pools`, with its source; they are
//! read into a [`PoolModel`], and an application plays it.
//!
//! Left out of all: limits on idle connections, statistics, and what a driver does to a connection besides jobs.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::scenario::{PoolKind, Span};

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolModel {
    /// Where this stands: the software, its version, the place.
    pub source: String,
    /// Which of the idle connections is handed out.
    pub takes: Takes,
    /// Whether a connection that was closed while it was idle is known to be closed, and not handed out.
    pub notices: bool,
    /// A connection that was idle for so long is tested before it is handed out. Without it none is.
    #[serde(default, deserialize_with = "span")]
    pub checks_after: Option<Duration>,
    /// A connection as old as this is replaced when nobody uses it.
    #[serde(default, deserialize_with = "span")]
    pub max_lifetime: Option<Duration>,
    /// For how long a connect that fails is tried again while its caller waits. Without it the caller is told at once.
    #[serde(default, deserialize_with = "span")]
    pub connects_for: Option<Duration>,
    /// The pause before it is tried again. By default 100 ms.
    #[serde(default, deserialize_with = "span")]
    pub connect_pause: Option<Duration>,
    /// Whether a connection that is found broken lets the pool throw all others away.
    #[serde(default)]
    pub forgets_all: bool,
    /// Whether connections are opened before somebody asks.
    #[serde(default)]
    pub fills: bool,
}

/// Which of the idle connections a pool hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takes {
    /// The one that was used last.
    Newest,
    /// The one that was idle for longest.
    Oldest,
    /// None is kept.
    None,
}

impl PoolModel {
    /// The model of this pool.
    ///
    /// # Panics
    /// If its file, which is a part of this program, can't be read: a broken invariant that a test holds.
    pub fn of(kind: PoolKind) -> PoolModel {
        let text = match kind {
            PoolKind::None => include_str!("pools/none.toml"),
            PoolKind::Asyncpg => include_str!("pools/asyncpg.toml"),
            PoolKind::Hikari => include_str!("pools/hikaricp.toml"),
            PoolKind::NodePostgres => include_str!("pools/node-postgres.toml"),
            PoolKind::Pgbouncer => include_str!("pools/pgbouncer.toml"),
            PoolKind::Pgx => include_str!("pools/pgx.toml"),
            PoolKind::PostgresJs => include_str!("pools/postgres-js.toml"),
            PoolKind::Psycopg => include_str!("pools/psycopg-pool.toml"),
            PoolKind::PsycopgCheck => include_str!("pools/psycopg-pool-check.toml"),
            PoolKind::Sqlalchemy => include_str!("pools/sqlalchemy.toml"),
            PoolKind::SqlalchemyPrePing => include_str!("pools/sqlalchemy-pre-ping.toml"),
        };
        toml::from_str(text).unwrap_or_else(|error| panic!("the model of {kind}: {error}"))
    }
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(|Span(span)| Some(span)).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pool_has_a_model_that_names_its_source() {
        for kind in PoolKind::ALL {
            assert!(!PoolModel::of(kind).source.is_empty(), "{kind}");
        }
    }
}
