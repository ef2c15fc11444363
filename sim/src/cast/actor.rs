//! Who a simulated client is: its names, its counters, and what every client logs in the same way.

use bytes::BytesMut;
use lastcall_core::Time;
use lastcall_world::World;

use super::statement::{Action, Statement};
use super::tap::Tap;
use crate::cast::history::{Conn, Event, Outcome, Recorder, RequestKind, Tag};
use crate::scenario::model::Connect;

/// One copy of one client.
#[derive(Clone)]
pub(crate) struct Actor<W: World> {
    pub(crate) world: W,
    recorder: Recorder,
    address: String,
    conn: Conn,
    requests: u32,
}

impl<W: World> Actor<W> {
    /// A copy that did nothing yet.
    pub(crate) fn new(world: W, recorder: Recorder, client: String, copy: u32, address: &str) -> Self {
        let conn = Conn { client, copy, attempt: 0 };
        Actor { world, recorder, address: address.to_owned(), conn, requests: 0 }
    }

    /// The connection that it has, or had last.
    pub(crate) fn conn(&self) -> Conn {
        self.conn.clone()
    }

    /// `application_name` of the startup packet.
    pub(crate) fn application(&self) -> String {
        self.conn.application()
    }

    /// The time now.
    pub(crate) fn now(&self) -> Time {
        self.world.now()
    }

    /// Logs an event.
    pub(crate) fn record(&self, event: Event) {
        self.recorder.record(self.world.now(), event);
    }

    /// The same client, whose events go elsewhere.
    pub(crate) fn logging_to(&self, recorder: Recorder) -> Self {
        Actor { recorder, ..self.clone() }
    }

    /// Waits for the end of the run.
    pub(crate) async fn until_over(&self) {
        self.recorder.until_over().await;
    }

    /// Opens the next TCP connection; none if that fails.
    pub(crate) async fn open(&mut self) -> Option<Tap<W>> {
        self.conn.attempt += 1;
        self.record(Event::Connecting { conn: self.conn() });
        match self.world.connect(&self.address).await {
            Ok(stream) => Some(Tap::new(self.world.clone(), self.recorder.clone(), self.conn(), stream)),
            Err(error) => {
                self.record(Event::ConnectFailed { conn: self.conn(), error: error.to_string() });
                None
            }
        }
    }

    /// The next statement, with the tag of the next request.
    pub(crate) fn statement(&mut self, action: Action) -> Statement {
        self.requests += 1;
        Statement { tag: format!("{}.{}/{}", self.conn.client, self.conn.copy, self.requests), action }
    }

    /// A statement that is no request, because no Execute of it or not all of it is sent: its tag never shows up
    /// anywhere.
    pub(crate) fn unsent_statement(&self, action: Action) -> Statement {
        Statement { tag: format!("{}/unsent", self.application()), action }
    }

    /// `user` and `database` of the startup packet.
    pub(crate) fn login(&self, step: &Connect) -> (String, String) {
        /// What the scenario's vocabulary promises.
        const DEFAULT: &str = "app";
        let or_default = |name: &Option<String>| name.clone().unwrap_or_else(|| DEFAULT.to_owned());
        (or_default(&step.user), or_default(&step.database))
    }

    /// Logs that a request is handed to the network.
    pub(crate) fn request_sent(&self, statement: &Statement) {
        self.sent(statement, statement.kind());
    }

    /// Logs that a request in a batch is handed to the network.
    pub(crate) fn execute_sent(&self, statement: &Statement) {
        let inserts = statement.kind() == RequestKind::Insert;
        self.sent(statement, if inserts { RequestKind::ExecuteInsert } else { RequestKind::Execute });
    }

    fn sent(&self, statement: &Statement, kind: RequestKind) {
        self.record(Event::RequestSent { conn: self.conn(), tag: statement.tag.clone(), kind });
    }

    /// Logs how a request ended.
    pub(crate) fn request_ended(&self, tag: Tag, outcome: Outcome) {
        self.record(Event::RequestEnded { conn: self.conn(), tag, outcome });
    }

    /// Sends a cancel request over a connection of its own, while the client goes on.
    pub(crate) fn cancel<F>(&self, tag: Tag, send: impl FnOnce(W::Stream) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        self.record(Event::CancelSent { conn: self.conn(), tag });
        let (world, address) = (self.world.clone(), self.address.clone());
        self.world.spawn("cancel-request", async move {
            // As in PostgreSQL, nobody is told whether a cancel request was of any use.
            if let Ok(stream) = world.connect(&address).await {
                send(stream).await;
            }
        });
    }
}

/// Encodes a message of this crate's own making.
pub(crate) fn put(message: &impl pgwire::messages::Message, into: &mut BytesMut) {
    message.encode(into).expect("a client's messages are far below the protocol's limits");
}

/// The end of a connection as an outcome of its requests: the FATAL's code, or nothing.
pub(crate) fn outcome_at_end(fatal: Option<String>) -> Outcome {
    fatal.map_or(Outcome::Lost, Outcome::Error)
}
