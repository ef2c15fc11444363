//! A connection's startup: any user, any database, no password.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::sink::{Sink, SinkExt};
use pgwire::api::auth::{
    StartupHandler, finish_authentication, protocol_negotiation, save_startup_parameters_to_metadata,
};
use pgwire::api::{ClientInfo, METADATA_APPLICATION_NAME, METADATA_DATABASE, METADATA_USER};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use crate::failure::Failure;
use crate::functions::{self, Identity};
use crate::interrupt::Interrupt;
use crate::protocol::Handler;
use crate::session::Session;

#[async_trait]
impl StartupHandler for Handler {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let PgWireFrontendMessage::Startup(startup) = message else {
            return Err(Failure::fatal("08P01", "a startup message was expected").into());
        };
        protocol_negotiation(client, &startup).await?;
        save_startup_parameters_to_metadata(client, &startup);
        if let Err(failure) = self.begin(client).await {
            // Refused, and nothing after that: pgwire would send a ReadyForQuery behind it.
            let refusal = failure.info("", 0).into();
            client.send(PgWireBackendMessage::ErrorResponse(refusal)).await?;
            client.close().await?;
            return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
        }
        finish_authentication(client, &functions::parameters()).await
    }
}

impl Handler {
    /// Starts the session.
    async fn begin<C: ClientInfo>(&self, client: &mut C) -> Result<(), Failure> {
        let permit = self.shared.sessions.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Failure::fatal("53300", "sorry, too many clients already"))?;
        let interrupt = Arc::new(Interrupt::default());
        let (pid, secret) = self.register(client, &interrupt);
        client.set_pid_and_secret_key(pid, secret);
        let told = |name: &str| client.metadata().get(name).filter(|value| !value.is_empty()).cloned();
        // The database is the user's, if none is named. Source: protocol, "StartupMessage".
        let database = told(METADATA_DATABASE).or_else(|| told(METADATA_USER)).unwrap_or_default();
        let identity = Identity::new(pid, database, told(METADATA_APPLICATION_NAME).unwrap_or_default());
        let session = Session::start(self.shared.file.clone(), identity, interrupt, permit).await?;
        self.open(session);
        Ok(())
    }
}
