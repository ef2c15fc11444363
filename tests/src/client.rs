//! A driver's session: tokio-postgres, and how its connection ended.

use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::DbError;
use tokio_postgres::{Config, Error, NoTls, SimpleQueryMessage};

use crate::encryption::Encryption;
use crate::postgres::{DATABASE, SUPERUSER};

/// Everything that a client waits for in a test comes sooner, or the test fails.
const LIMIT: Duration = Duration::from_secs(20);

/// A session. Used as the [`tokio_postgres::Client`] that it is.
#[derive(Debug)]
pub struct Client {
    client: tokio_postgres::Client,
    connection: JoinHandle<Result<(), Error>>,
}

impl Client {
    /// Opens a session as the superuser.
    ///
    /// # Panics
    /// If that fails.
    pub async fn connect(port: u16, application: &str) -> Client {
        match Client::try_connect(port, application).await {
            Ok(client) => client,
            Err(error) => panic!("{application} can't connect: {error:?}"),
        }
    }

    /// Opens a session as the superuser.
    ///
    /// # Errors
    /// Why it can't.
    pub async fn try_connect(port: u16, application: &str) -> Result<Client, Error> {
        Client::try_connect_with(port, application, |_| {}).await
    }

    /// Opens a session, by a configuration that `change` may change.
    ///
    /// # Errors
    /// Why it can't.
    pub async fn try_connect_with(
        port: u16,
        application: &str,
        change: impl FnOnce(&mut Config),
    ) -> Result<Client, Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user(SUPERUSER).dbname(DATABASE).application_name(application);
        change(&mut config);
        let (client, connection) = crate::within(LIMIT, "an answer to a login", config.connect(NoTls)).await?;
        Ok(Client { client, connection: tokio::spawn(connection) })
    }

    /// Opens a session as the superuser, under TLS, with `localhost` on this port.
    ///
    /// # Panics
    /// If that fails.
    pub async fn connect_encrypted(port: u16, application: &str, encryption: Encryption) -> Client {
        let mut config = Config::new();
        config.host("localhost").hostaddr(Ipv4Addr::LOCALHOST.into()).port(port).ssl_mode(SslMode::Require);
        config.user(SUPERUSER).dbname(DATABASE).application_name(application);
        match crate::within(LIMIT, "an answer to a login", config.connect(encryption)).await {
            Ok((client, connection)) => Client { client, connection: tokio::spawn(connection) },
            Err(error) => panic!("{application} can't connect: {error:?}"),
        }
    }

    /// The first field of the first row that `sql` answers with; empty if there is none.
    ///
    /// A simple query. After `query` and its kin the driver closes the statement that it has prepared, with a request
    /// of its own; a FATAL close behind the row would then be the answer to that, which nobody sees.
    ///
    /// # Errors
    /// What the server answered, or how the connection ended.
    pub async fn value(&self, sql: &str) -> Result<String, Error> {
        let first = self.client.simple_query(sql).await?.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        Ok(first.unwrap_or_default())
    }

    /// Waits until the connection ends, and returns the FATAL that it ended with.
    ///
    /// # Panics
    /// If it ends in any other way, or not at all.
    pub async fn fatal(&mut self) -> DbError {
        let end = crate::within(LIMIT, "the end of a connection", &mut self.connection).await;
        match end.expect("the driver does not panic") {
            Ok(()) => panic!("the connection ended without a FATAL"),
            Err(error) => match error.as_db_error() {
                Some(fatal) => fatal.clone(),
                None => panic!("the connection ended without a FATAL: {error:?}"),
            },
        }
    }
}

impl Deref for Client {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.client
    }
}
