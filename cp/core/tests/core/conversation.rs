//! A slow and obvious PostgreSQL: it answers each message as soon as it is sent, message by message as `PostgresMain` does,
//! and remembers which answer settles which request. What a witness on the wire can know is then a matter of counting the
//! answers that have been delivered.
//!
//! Only legal conversations: where a real worker would end the session for a protocol violation, [`Model::allows`] says no.

use lastcall_core::{Activity, TransactionStatus};

use crate::talk::messages;

/// What a client can send.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// A simple query of these statements.
    Query(Vec<Statement>),
    /// A FunctionCall.
    Call {
        fails: bool,
    },
    /// Parse (`P`), Bind (`B`), Describe (`D`) or Close (`C`).
    Step {
        kind: char,
        fails: bool,
    },
    /// An Execute of a portal with this statement.
    Execute(Statement),
    /// A query that starts a replication stream.
    Replicate,
    Flush,
    Sync,
    CopyData,
    CopyDone,
    CopyFail,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    Select,
    /// An Execute with a row limit; a simple query has none.
    Suspended,
    Empty,
    Begin,
    Commit,
    Error,
    CopyOut,
    /// COPY FROM STDIN. Bad data is an error at the first CopyData.
    CopyIn {
        bad_data: bool,
    },
    /// COPY FROM STDIN that fails behind its CopyInResponse, before it wants any data.
    CopyIntoView,
}

/// An answer's place among all answers.
type Place = usize;

/// What a witness must count.
#[derive(Clone, Copy, Debug)]
enum Sent {
    /// An extended-protocol message, and the answer to it.
    Step { execute: bool, answer: Option<Place> },
    /// A sync point, its ReadyForQuery, or the message that tells that it will get none.
    SyncPoint { answer: Option<Place>, dropped: Option<Place> },
}

/// A COPY FROM STDIN.
#[derive(Clone, Debug)]
struct Copy {
    /// Its CopyInResponse.
    response: Place,
    /// Its ErrorResponse, if it failed before the client ended it.
    error: Option<Place>,
    /// Whether the client has sent CopyDone or CopyFail for it.
    ended: bool,
    /// Whether CopyData has been sent.
    fed: bool,
    bad_data: bool,
    /// Whether the client has sent a Sync behind it, before the end of its data.
    synced: bool,
    /// Whether it failed before it has read all the Syncs behind it, and the ErrorResponse with which it did.
    overtaken: bool,
    failure: Option<Place>,
    /// The sent request that it answers, and the statements behind it in a simple query.
    request: usize,
    rest: Option<Vec<Statement>>,
}

/// A replication stream.
#[derive(Clone, Debug)]
struct Stream {
    response: Place,
    ended: bool,
    request: usize,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Model {
    status: char,
    /// The ErrorResponse behind which the worker reads on to a Sync.
    skipping: Option<Place>,
    copy: Option<Copy>,
    copying: bool,
    /// COPYs that failed with Syncs behind them.
    doubts: Vec<Copy>,
    stream: Option<Stream>,
    sent: Vec<Sent>,
    /// Everything that the worker has said, as the words of a script.
    answers: Vec<String>,
    /// How many of them have left its buffer, and how many have been delivered.
    flushed: usize,
    delivered: usize,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            status: 'I',
            skipping: None,
            copy: None,
            copying: false,
            doubts: Vec::new(),
            stream: None,
            sent: Vec::new(),
            answers: Vec::new(),
            flushed: 0,
            delivered: 0,
        }
    }
}

/// The worker's side.
impl Model {
    /// Whether a client that knows the protocol may send this now.
    pub(crate) fn allows(&self, request: &Request) -> bool {
        if let Some(stream) = self.stream.as_ref().filter(|stream| !stream.ended) {
            let seen = stream.response < self.delivered;
            return seen && matches!(request, Request::CopyData | Request::CopyDone);
        }
        match &self.copy {
            // Some clients send a Sync with the request, and don't wait to see that it is a COPY.
            Some(copy) if self.copying => match request {
                Request::CopyData | Request::CopyDone | Request::CopyFail | Request::Flush => true,
                Request::Sync => !copy.fed,
                _ => false,
            },
            // It has failed, and the client can't know yet.
            Some(Copy { error: Some(error), ended: false, .. }) if *error >= self.delivered => {
                matches!(request, Request::CopyData | Request::CopyDone | Request::CopyFail | Request::Sync)
            }
            // It knows, and waits for a ReadyForQuery before it asks for anything else.
            Some(copy) if copy.synced && !self.is_ready_behind(copy) => {
                matches!(
                    request,
                    Request::CopyData | Request::CopyDone | Request::CopyFail | Request::Flush | Request::Sync
                )
            }
            _ => !matches!(request, Request::Replicate) || (self.skipping.is_none() && self.status == 'I'),
        }
    }

    /// The worker reads this, which [`Model::allows`], and answers.
    pub(crate) fn send(&mut self, request: &Request) {
        match request {
            Request::Query(statements) => {
                if let Some(request) = self.sync_point() {
                    self.run(request, statements.clone());
                }
            }
            Request::Call { fails } => {
                if let Some(request) = self.sync_point() {
                    if *fails {
                        self.fail()
                    } else {
                        self.say("V")
                    };
                    self.ready(request);
                }
            }
            Request::Replicate => {
                if let Some(request) = self.sync_point() {
                    let response = self.say("W");
                    self.flushed = self.answers.len();
                    self.stream = Some(Stream { response, ended: false, request });
                }
            }
            Request::Step { kind, fails } => {
                let answer = self.step(*fails, |worker| match kind {
                    'P' => worker.say("1"),
                    'B' => worker.say("2"),
                    'C' => worker.say("3"),
                    _ => {
                        worker.say("t");
                        worker.say("T")
                    }
                });
                self.sent.push(Sent::Step { execute: false, answer });
            }
            Request::Execute(Statement::CopyIn { bad_data }) if self.skipping.is_none() && self.status != 'E' => {
                self.sent.push(Sent::Step { execute: true, answer: None });
                self.copy_in(self.sent.len() - 1, *bad_data, None);
            }
            Request::Execute(Statement::CopyIntoView) if self.skipping.is_none() && self.status != 'E' => {
                self.sent.push(Sent::Step { execute: true, answer: None });
                self.copy_in(self.sent.len() - 1, false, None);
                self.fail_at_once();
            }
            Request::Execute(statement) => {
                let fails = self.rejects(*statement);
                let answer = self.step(fails, |worker| worker.complete(*statement));
                self.sent.push(Sent::Step { execute: true, answer });
            }
            Request::Flush => {
                if !self.copying && self.skipping.is_none() {
                    self.flushed = self.answers.len();
                }
            }
            Request::Sync if self.copying => {
                self.copy.iter_mut().for_each(|copy| copy.synced = true);
                let dropped = self.copy.as_ref().map(|copy| copy.response);
                self.sent.push(Sent::SyncPoint { answer: None, dropped });
            }
            Request::Sync => {
                if let Some(copy) = self.copy.as_mut().filter(|copy| copy.error.is_some() && !copy.ended) {
                    copy.synced = true;
                    copy.overtaken = true;
                    self.doubts.push(copy.clone());
                }
                self.skipping = None;
                self.sent.push(Sent::SyncPoint { answer: None, dropped: None });
                self.ready(self.sent.len() - 1);
            }
            Request::CopyData => {
                if let Some(copy) = self.copy.as_mut().filter(|_| self.copying) {
                    copy.fed = true;
                    if copy.bad_data {
                        self.copy_failed(false);
                    }
                }
            }
            Request::CopyDone | Request::CopyFail => self.data_ends(matches!(request, Request::CopyFail)),
        }
    }

    /// A notice, or a piece of a replication stream.
    pub(crate) fn speak_up(&mut self) {
        let streaming = self.stream.as_ref().is_some_and(|stream| !stream.ended);
        self.say(if streaming { "d" } else { "N" });
        self.flushed = self.answers.len();
    }

    /// The next answer to arrive, if any is on its way.
    pub(crate) fn deliver(&mut self) -> Option<Vec<u8>> {
        let answer = self.answers[..self.flushed].get(self.delivered)?;
        self.delivered += 1;
        Some(messages(answer))
    }

    /// Counts a query, or drops it because of an error in the batch before it.
    fn sync_point(&mut self) -> Option<usize> {
        self.sent.push(Sent::SyncPoint { answer: None, dropped: self.skipping });
        self.skipping.is_none().then(|| self.sent.len() - 1)
    }

    fn step(&mut self, fails: bool, succeed: impl FnOnce(&mut Self) -> Place) -> Option<Place> {
        if self.skipping.is_some() {
            return None;
        }
        if fails {
            self.skipping = Some(self.fail());
            return self.skipping;
        }
        Some(succeed(self))
    }

    fn run(&mut self, request: usize, statements: Vec<Statement>) {
        let mut statements = statements.into_iter();
        while let Some(statement) = statements.next() {
            if self.rejects(statement) {
                self.fail();
                break;
            }
            if let Statement::CopyIn { bad_data } = statement {
                return self.copy_in(request, bad_data, Some(statements.collect()));
            }
            if statement == Statement::CopyIntoView {
                self.copy_in(request, false, Some(Vec::new()));
                return self.fail_at_once();
            }
            self.complete(statement);
        }
        self.ready(request);
    }

    fn rejects(&self, statement: Statement) -> bool {
        statement == Statement::Error || (self.status == 'E' && statement != Statement::Commit)
    }

    /// The answer to a statement that succeeds.
    fn complete(&mut self, statement: Statement) -> Place {
        match statement {
            Statement::Begin => self.status = 'T',
            Statement::Commit => self.status = 'I',
            Statement::CopyOut => ["H", "d", "c"].into_iter().for_each(|word| _ = self.say(word)),
            Statement::Select | Statement::Suspended => _ = self.say("D"),
            Statement::Empty | Statement::Error | Statement::CopyIn { .. } | Statement::CopyIntoView => {}
        }
        self.say(match statement {
            Statement::Empty => "I",
            Statement::Suspended => "s",
            _ => "C",
        })
    }

    fn copy_in(&mut self, request: usize, bad_data: bool, rest: Option<Vec<Statement>>) {
        let response = self.say("G");
        self.flushed = self.answers.len();
        self.copying = true;
        self.copy = Some(Copy {
            response,
            error: None,
            ended: false,
            fed: false,
            bad_data,
            synced: false,
            overtaken: false,
            failure: None,
            request,
            rest,
        });
    }

    fn data_ends(&mut self, fails: bool) {
        if let Some(stream) = self.stream.as_mut().filter(|stream| !stream.ended) {
            stream.ended = true;
            let request = stream.request;
            self.say("c");
            self.say("C");
            self.ready(request);
        } else if let Some(copy) = self.copy.as_mut().filter(|_| !self.copying || fails) {
            // Whatever the worker makes of it, the client will send no more data.
            copy.ended = true;
            if self.copying {
                self.copy_failed(true);
            }
        } else if let Some(mut copy) = self.copy.take() {
            copy.ended = true;
            self.copying = false;
            let answer = self.say("C");
            let (request, rest) = (copy.request, copy.rest.take());
            self.copy = Some(copy);
            match rest {
                Some(rest) => self.run(request, rest),
                None => self.answered(request, answer),
            }
        }
    }

    fn fail_at_once(&mut self) {
        self.copy.iter_mut().for_each(|copy| copy.overtaken = true);
        self.copy_failed(false);
    }

    fn copy_failed(&mut self, by_client: bool) {
        let error = self.fail();
        self.copying = false;
        let copy = self.copy.as_mut().expect("only a COPY fails so");
        copy.failure = Some(error);
        if copy.synced {
            self.doubts.push(copy.clone());
        }
        if !by_client {
            copy.error = Some(error);
        }
        let request = copy.request;
        if copy.rest.take().is_some() {
            self.ready(request);
        } else {
            self.skipping = Some(error);
            self.answered(request, error);
        }
    }

    fn ready(&mut self, request: usize) {
        let answer = self.say(&format!("Z:{}", self.status));
        self.flushed = self.answers.len();
        self.answered(request, answer);
    }

    fn answered(&mut self, request: usize, place: Place) {
        match &mut self.sent[request] {
            Sent::Step { answer, .. } | Sent::SyncPoint { answer, .. } => *answer = Some(place),
        }
    }

    fn fail(&mut self) -> Place {
        if self.status == 'T' {
            self.status = 'E';
        }
        let place = self.say("E");
        self.flushed = self.answers.len();
        place
    }

    fn say(&mut self, word: &str) -> Place {
        self.answers.push(word.to_owned());
        self.answers.len() - 1
    }
}

/// What a witness can know from the answers that have been delivered.
impl Model {
    /// Sync points that are owed a ReadyForQuery.
    pub(crate) fn outstanding(&self) -> usize {
        self.sent.iter().filter(|sent| matches!(sent, Sent::SyncPoint { .. }) && !self.is_settled(sent)).count()
    }

    pub(crate) fn activity(&self) -> Activity {
        let streams = self.stream.as_ref().is_some_and(|stream| !stream.ended && self.has_seen(Some(stream.response)));
        if streams {
            Activity::Idle
        } else if self.shows_copy() {
            Activity::CopyIn
        } else if self.outstanding() > 0 || self.owes_execute() {
            Activity::Executing
        } else if self.batch().next().is_some() {
            Activity::OpenBatch
        } else if self.status() == TransactionStatus::Idle {
            Activity::Idle
        } else {
            Activity::IdleInTransaction
        }
    }

    pub(crate) fn status(&self) -> TransactionStatus {
        let last = self.answers[..self.delivered].iter().rev().find_map(|answer| answer.strip_prefix("Z:"));
        match last {
            None | Some("I") => TransactionStatus::Idle,
            Some("T") => TransactionStatus::InTransaction,
            Some(_) => TransactionStatus::Failed,
        }
    }

    pub(crate) fn answered_requests(&self) -> u64 {
        self.answers[..self.delivered].iter().filter(|answer| answer.starts_with('Z')).count() as u64
    }

    /// Whether a due connection may forward this.
    pub(crate) fn passes_when_due(&self) -> bool {
        let boundary = self.outstanding() == 0 && self.status() == TransactionStatus::Idle;
        let in_stream = self.stream.as_ref().is_some_and(|stream| !stream.ended);
        let at_rest = self.outstanding() == 0 && !boundary;
        !in_stream && (self.shows_copy() || self.batch().next().is_some() || at_rest)
    }

    /// What the worker is really doing, once there is no answer that has not been delivered.
    pub(crate) fn truth(&self) -> Option<Activity> {
        if self.delivered < self.answers.len() {
            return None;
        }
        let last = self.sent.iter().rev().find(|sent| !matches!(sent, Sent::SyncPoint { dropped: Some(_), .. }));
        Some(if self.copying {
            Activity::CopyIn
        } else if self.skipping.is_some() || matches!(last, Some(Sent::Step { .. })) {
            Activity::OpenBatch
        } else if self.status == 'I' {
            Activity::Idle
        } else {
            Activity::IdleInTransaction
        })
    }

    /// Whether a witness can't know how many Syncs a COPY has dropped: until something is answered that is no Sync.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let told = |failure: Place| {
            let behind = self.answers.get(failure + 1..self.delivered).unwrap_or_default();
            behind.iter().any(|answer| !matches!(answer.as_bytes()[0], b'Z' | b'N'))
        };
        self.doubts.iter().any(|copy| {
            let begun = self.has_seen(if copy.overtaken { Some(copy.response) } else { copy.failure });
            begun && !copy.failure.is_some_and(told)
        })
    }

    /// Whether the client has seen a ReadyForQuery behind the failure of this COPY, if it failed.
    fn is_ready_behind(&self, copy: &Copy) -> bool {
        let seen = |failure: Place| self.answers.get(failure..self.delivered).unwrap_or_default();
        copy.failure.is_none_or(|failure| seen(failure).iter().any(|answer| answer.starts_with('Z')))
    }

    /// Whether the next answer to arrive answers nothing.
    pub(crate) fn is_unasked(&self) -> bool {
        let next = self.answers.get(self.delivered).map_or("", String::as_str);
        let activity = self.activity();
        let streams = activity == Activity::Idle && self.outstanding() > 0;
        let asked = self.outstanding() > 0 || self.batch().next().is_some();
        next == "d" && streams || next == "N" && (streams || !asked)
    }

    /// Whether nothing is on its way: whatever else the worker has to say waits for a Flush or a Sync.
    pub(crate) fn is_silent(&self) -> bool {
        self.delivered == self.flushed
    }

    fn has_seen(&self, place: Option<Place>) -> bool {
        place.is_some_and(|place| place < self.delivered)
    }

    fn is_settled(&self, sent: &Sent) -> bool {
        match sent {
            Sent::Step { answer, .. } => self.has_seen(*answer),
            Sent::SyncPoint { answer, dropped } => self.has_seen(*answer) || self.has_seen(*dropped),
        }
    }

    fn shows_copy(&self) -> bool {
        let copy = self.copy.as_ref();
        copy.is_some_and(|copy| self.has_seen(Some(copy.response)) && !copy.ended && !self.has_seen(copy.error))
    }

    /// The steps behind the last sync point that is one, as far as a witness can know.
    fn batch(&self) -> impl Iterator<Item = &Sent> {
        let sync = |sent: &&Sent| match sent {
            Sent::Step { .. } => false,
            Sent::SyncPoint { dropped, .. } => !self.has_seen(*dropped),
        };
        let behind = self.sent.iter().rposition(|sent| sync(&sent)).map_or(0, |at| at + 1);
        self.sent[behind..].iter().filter(|sent| matches!(sent, Sent::Step { .. }))
    }

    fn owes_execute(&self) -> bool {
        let failed = self.batch().any(|sent| match sent {
            Sent::Step { answer: Some(answer), .. } => self.has_seen(Some(*answer)) && self.answers[*answer] == "E",
            _ => false,
        });
        let owed = self.batch().any(|sent| matches!(sent, Sent::Step { execute: true, .. }) && !self.is_settled(sent));
        owed && !failed
    }
}

impl Request {
    /// The message.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let kind = match self {
            Request::Query(_) | Request::Replicate => 'Q',
            Request::Call { .. } => 'F',
            Request::Step { kind, .. } => *kind,
            Request::Execute(_) => 'E',
            Request::Flush => 'H',
            Request::Sync => 'S',
            Request::CopyData => 'd',
            Request::CopyDone => 'c',
            Request::CopyFail => 'f',
        };
        messages(&kind.to_string())
    }
}
