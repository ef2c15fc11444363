//! A small SQL engine that speaks the PostgreSQL protocol, so that Last Call can be tried out without a PostgreSQL server.
//!
//! [`Engine::start`] listens on a loopback port of the kernel's choice; whoever connects there is served like by a worker:
//! startup without a password, simple and extended protocol, transactions, cancel requests. Behind it is SQLite: one
//! database for all sessions, gone with the [`Engine`]. Each session has one thread with its own SQLite connection. Rows
//! stream through a bounded channel, so a result of any length takes the same memory, and a client that reads slowly holds
//! its statement back.
//!
//! The database is a file in WAL mode, because that is what SQLite has for readers that must not wait for a writer: its
//! in-memory databases lock as a whole. It lies in `/dev/shm` where there is one, so in memory still, and else in the
//! directory for temporary files. What a killed process has left there, the next one sweeps.
//!
//! What it is not:
//!
//! - no PostgreSQL. The dialect is SQLite's: no `::` casts except behind a parameter (`$1::int8`), no `pg_catalog` and so no
//!   `\d`, no COPY, no LISTEN, no DECLARE or PREPARE in SQL, no schemas, no roles. A transaction sees one snapshot from its first statement on and may fail
//!   with 40001 when it writes after others did, as with REPEATABLE READ.
//! - a parameter has the type that the client names, or that is behind it as a cast; else it is text. Nothing is inferred.
//! - a column has its declared type; an expression has the type of its first row, and is text in the extended protocol
//!   where a short trial run doesn't find one.
//! - the statements of one Query are no implicit transaction: those before the error stay done.
//! - while a statement runs, nobody reads from its client (pgwire's server doesn't). A client that is gone is noticed by
//!   the next bytes that are sent to it.
//! - it bounds memory, not time or the processor: whoever reaches the port may run anything.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a server of its own that is reached over TCP and never simulated: it uses the machine's threads and sockets"
)]

mod cancel;
mod command;
mod database;
mod failure;
mod functions;
mod interrupt;
mod outbox;
mod parameters;
mod protocol;
mod session;
mod sql;
mod startup;
mod values;
mod worker;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pgwire::tokio::process_socket;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use cancel::Registry;
use database::Database;
use protocol::Handlers;

/// The most sessions at a time, each with a thread; a further one is refused with 53300.
pub const MAX_SESSIONS: usize = 1_000;

/// The most connections at a time, sessions among them; a further one waits in the kernel's queue. The rest is for
/// connections that start up, and for cancel requests.
const MAX_CONNECTIONS: usize = 2 * MAX_SESSIONS;

/// The pause after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running engine. Dropping it closes the port, ends the sessions and deletes the data.
#[derive(Debug)]
pub struct Engine {
    address: SocketAddr,
    accepting: JoinHandle<()>,
    // Deleted when it is dropped; sessions that still end have their files open.
    _database: Database,
}

impl Engine {
    /// Makes an empty database and listens on a loopback port. Serves on the runtime that this is called on.
    pub async fn start() -> Result<Engine, EngineError> {
        Engine::start_for(MAX_SESSIONS).await
    }

    async fn start_for(sessions: usize) -> Result<Engine, EngineError> {
        let database = Database::create()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(EngineError::Listen)?;
        let address = listener.local_addr().map_err(EngineError::Listen)?;
        let shared = Arc::new(Shared {
            file: database.file().to_owned(),
            registry: Registry::default(),
            sessions: Arc::new(Semaphore::new(sessions)),
        });
        let accepting = tokio::spawn(accept(listener, shared));
        Ok(Engine { address, accepting, _database: database })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // With the task goes its set of connections, and with each of these its session.
        self.accepting.abort();
    }
}

/// Why the engine can't start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No directory takes the database's files.
    #[error("no directory for the embedded database: {0}")]
    Directory(#[source] io::Error),
    /// SQLite can't make the database.
    #[error("the embedded database cannot be made: {0}")]
    Database(#[source] rusqlite::Error),
    /// No loopback port to listen on.
    #[error("the embedded database cannot listen: {0}")]
    Listen(#[source] io::Error),
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    file: std::path::PathBuf,
    registry: Registry,
    sessions: Arc<Semaphore>,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut serving = JoinSet::new();
    loop {
        let permit = connections.clone().acquire_owned().await.expect("nobody closes it");
        while serving.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let handlers = Handlers::new(shared.clone());
                serving.spawn(async move {
                    let _permit = permit;
                    if let Err(error) = process_socket(stream, None, handlers).await {
                        tracing::debug!(%error, "embedded engine: connection lost");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "embedded engine: cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_too_many_is_refused_until_another_is_gone() {
        let engine = Engine::start_for(1).await.unwrap();
        let config = format!("host=127.0.0.1 port={} user=me", engine.address().port());
        let connect = || tokio_postgres::connect(&config, tokio_postgres::NoTls);
        let (client, connection) = connect().await.unwrap();
        let connection = tokio::spawn(connection);
        let refused = connect().await.map(|_| ()).unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "53300");
        drop(client);
        connection.await.unwrap().unwrap();
        // Its thread ends in its own time.
        tokio::time::timeout(Duration::from_secs(60), async { while connect().await.is_err() {} }).await.unwrap();
    }
}
