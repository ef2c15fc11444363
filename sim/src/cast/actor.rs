//! Who a simulated client is: its names, its counters, and what every client logs in the same way.

use bytes::BytesMut;
use lastcall_core::Time;
use lastcall_world::World;

use super::service::{Endpoint, Way};
use super::statement::{Action, Statement};
use super::tap::Tap;
use crate::cast::history::{Conn, Event, Outcome, Recorder, RequestKind, Tag};
use crate::scenario::model::Connect;

/// One copy of one client.
#[derive(Clone)]
pub(crate) struct Actor<W: World> {
    pub(crate) world: W,
    way: Way,
    /// Whose log tells of it: of the pod that its connection goes to, or went last.
    recorder: Recorder,
    conn: Conn,
    requests: u32,
}

impl<W: World> Actor<W> {
    /// A copy that did nothing yet.
    pub(crate) fn new(world: W, way: Way, client: String, copy: u32) -> Self {
        let conn = Conn { client, copy, attempt: 0 };
        let recorder = way.recorder().clone();
        Actor { world, way, recorder, conn, requests: 0 }
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
        let Some(Endpoint { address, recorder }) = self.next_endpoint() else {
            self.recorder = self.way.recorder().clone();
            self.record(Event::ConnectFailed { conn: self.conn(), error: "the service has no endpoint".to_owned() });
            return None;
        };
        self.recorder = recorder;
        self.record(Event::Connecting { conn: self.conn() });
        match self.world.connect(&address).await {
            Ok(stream) => Some(Tap::new(self.world.clone(), self.recorder.clone(), self.conn(), stream)),
            Err(error) => {
                self.record(Event::ConnectFailed { conn: self.conn(), error: error.to_string() });
                None
            }
        }
    }

    fn next_endpoint(&self) -> Option<Endpoint> {
        let random = match &self.way {
            Way::Direct(_) => 0,
            Way::Service(_) => self.world.random("service"),
        };
        self.way.next(&self.application(), random)
    }

    /// The next statement, with the tag of the next request.
    pub(crate) fn statement(&mut self, action: Action) -> Statement {
        self.requests += 1;
        Statement { tag: self.last_tag(), action }
    }

    /// The tag of its last request.
    pub(crate) fn last_tag(&self) -> Tag {
        format!("{}.{}/{}", self.conn.client, self.conn.copy, self.requests)
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
        // Through a Service it goes to any pod.
        let Some(Endpoint { address, .. }) = self.next_endpoint() else { return };
        let world = self.world.clone();
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
