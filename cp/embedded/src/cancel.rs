//! Who may cancel what: a process id and a secret for each session, and what they reach.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use pgwire::api::cancel::CancelHandler;
use pgwire::api::{ClientInfo, PidSecretKeyGenerator, RandomPidSecretKeyGenerator};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;

use crate::interrupt::Interrupt;
use crate::protocol::Handler;

/// The sessions by process id. As many as there are sessions.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    // Secrets from the process's cryptographic generator; 32 bits in protocol 3.0, there is no room for more.
    generator: RandomPidSecretKeyGenerator,
    sessions: Mutex<BTreeMap<i32, (SecretKey, Arc<Interrupt>)>>,
}

impl Registry {
    /// A new session's process id and secret.
    pub(crate) fn register(&self, client: &dyn ClientInfo, interrupt: &Arc<Interrupt>) -> (i32, SecretKey) {
        let (pid, secret) = self.generator.generate(client);
        self.lock().insert(pid, (secret.clone(), interrupt.clone()));
        (pid, secret)
    }

    pub(crate) fn remove(&self, pid: i32) {
        self.lock().remove(&pid);
    }

    /// Stops what runs in the session, if the secret is right. Done when it returns.
    fn cancel(&self, pid: i32, secret: &SecretKey) {
        let interrupt = match self.lock().get(&pid) {
            Some((expected, interrupt)) if expected.eq_value(secret) => interrupt.clone(),
            _ => {
                return tracing::debug!(
                    pid,
                    "embedded engine: a cancel request for no session, or with a wrong secret"
                );
            }
        };
        interrupt.cancel();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, (SecretKey, Arc<Interrupt>)>> {
        // Single inserts and removals: never half done.
        self.sessions.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// pgwire closes the connection of the request when this has returned.
#[async_trait]
impl CancelHandler for Handler {
    async fn on_cancel_request(&self, request: CancelRequest) {
        self.shared.registry.cancel(request.pid, &request.secret_key);
    }
}
