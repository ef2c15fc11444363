//! What a connection is doing, told from the headers of the messages that pass.
//!
//! A [`Tracker`] watches both directions of one connection between a client and its worker, in whatever pieces the bytes
//! come, and knows at every moment the [`Activity`], how many sync points are unanswered, and the transaction status. The
//! client's direction is also gated: the tracker says how many of the bytes read from a client may be forwarded.
//!
//! What was asked and how far it is answered is counted by [`requests`](super::requests). It does not know time, clocks or
//! the drain.
//!
//! Source: PostgreSQL's protocol, "Message Flow", and the server's own loop (`PostgresMain`).

use super::activity::Activity;
use super::requests::{Requests, SyncPoint};
use super::severity::SeverityReader;
use super::wire::{CancelKey, Framer, Malformed, Side, holds_whole_message};

/// The largest number of sync points that may be forwarded and unanswered. A client that pipelines further is read no more
/// until answers come.
pub const MAX_OUTSTANDING: usize = 1024;

/// The transaction status that ReadyForQuery carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// `I`: not in a transaction block.
    Idle,
    /// `T`: in a transaction block.
    InTransaction,
    /// `E`: in a failed transaction block.
    Failed,
}

impl TransactionStatus {
    fn told(byte: u8) -> Result<Self, Malformed> {
        match byte {
            b'I' => Ok(TransactionStatus::Idle),
            b'T' => Ok(TransactionStatus::InTransaction),
            b'E' => Ok(TransactionStatus::Failed),
            status => Err(Malformed::Status { status }),
        }
    }
}

/// How freely a client's bytes are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// As they come.
    Open,
    /// The connection is due: no new work at a boundary, one sync point at a time inside a transaction, and a batch that
    /// was begun goes through its Sync.
    Due,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before the first ReadyForQuery.
    Handshake,
    /// Requests and answers.
    Ready,
    /// The worker reads CopyData.
    CopyIn,
    /// Both sides stream: replication.
    CopyBoth,
}

/// Follows one connection. See the module's text.
///
/// Feed [`Tracker::forward`] with what the client sent and [`Tracker::observe`] with what the worker sent, each in order;
/// ask anything at any time.
#[derive(Debug)]
pub struct Tracker {
    frontend: Framer,
    backend: Framer,
    stage: Stage,
    status: TransactionStatus,
    requests: Requests,
    /// ReadyForQuery seen after the first.
    answered: u64,
    terminated: bool,
    /// Bytes seen of the worker's, and how many up to the last that belongs to an answer.
    observed: u64,
    answer_end: u64,
    /// The worker's message under way answers nothing.
    asynchronous: bool,
    /// The worker has ended the session.
    said_fatal: bool,
    /// What the ErrorResponse that is under way says.
    severity: SeverityReader,
    /// What the BackendKeyData that is under way says, as far as it has come.
    key: Vec<u8>,
    worker_key: Option<CancelKey>,
    /// What the ReadyForQuery that is under way says.
    next_status: TransactionStatus,
}

impl Tracker {
    /// A connection whose startup packet has been dealt with: the worker's authentication comes next.
    pub fn new() -> Self {
        Tracker {
            frontend: Framer::new(Side::Frontend),
            backend: Framer::new(Side::Backend),
            stage: Stage::Handshake,
            status: TransactionStatus::Idle,
            requests: Requests::default(),
            answered: 0,
            terminated: false,
            observed: 0,
            answer_end: 0,
            asynchronous: false,
            said_fatal: false,
            severity: SeverityReader::default(),
            key: Vec::new(),
            worker_key: None,
            next_status: TransactionStatus::Idle,
        }
    }

    /// What the connection is doing, as far as the messages tell: not whether the client takes its output.
    pub fn activity(&self) -> Activity {
        if self.stage == Stage::Handshake {
            Activity::Handshake
        } else if !self.backend.at_boundary() && !self.asynchronous {
            // The worker is in the middle of an answer: it owes the rest.
            Activity::Executing
        } else if self.stage == Stage::CopyBoth {
            Activity::Idle
        } else if self.stage == Stage::CopyIn {
            Activity::CopyIn
        } else {
            self.requests.activity(self.status)
        }
    }

    /// Sync points forwarded and not answered. Syncs that a COPY may have dropped are none.
    pub fn outstanding(&self) -> usize {
        self.requests.outstanding()
    }

    /// Requests answered so far: ReadyForQuery seen, without the one that ends the handshake.
    pub const fn answered(&self) -> u64 {
        self.answered
    }

    /// What the last ReadyForQuery said.
    pub const fn status(&self) -> TransactionStatus {
        self.status
    }

    /// Whether the first ReadyForQuery has been seen.
    pub fn is_ready(&self) -> bool {
        self.stage != Stage::Handshake
    }

    /// Whether the client has said Terminate.
    pub const fn terminated(&self) -> bool {
        self.terminated
    }

    /// Whether part of a client's message has been forwarded, and not all of it.
    pub const fn is_mid_request(&self) -> bool {
        !self.frontend.at_boundary()
    }

    /// Whether what the worker sent so far ends at a message's end: where a message of our own may follow.
    pub const fn may_speak(&self) -> bool {
        self.backend.at_boundary()
    }

    /// Whether whatever the worker sends now, or is in the middle of, answers nothing: nothing is asked, or both sides stream.
    pub fn is_unasked(&self) -> bool {
        let asked = match self.stage {
            Stage::Handshake | Stage::CopyIn => true,
            Stage::CopyBoth => false,
            Stage::Ready => !self.requests.is_answered(),
        };
        !asked && (self.backend.at_boundary() || self.asynchronous)
    }

    /// Of the worker's bytes seen so far, how many there are up to the last that belongs to an answer: to any message but
    /// those that come unasked. They are notifications; notices and parameters where nothing is asked; and what streams in
    /// CopyBoth. A message under way counts as far as it has come.
    pub const fn answer_end(&self) -> u64 {
        self.answer_end
    }

    /// Whether the worker has ended the session: with an ErrorResponse, all of which has come, of severity FATAL or PANIC.
    pub const fn said_fatal(&self) -> bool {
        self.said_fatal
    }

    /// The worker's cancel key, once it has told it.
    pub const fn worker_key(&self) -> Option<&CancelKey> {
        self.worker_key.as_ref()
    }

    /// Whether the answer to an Execute may sit in the worker's buffer, so that nobody can tell a running statement from a
    /// finished one, and a Flush may be slipped in here to find out.
    pub fn needs_flush(&self) -> bool {
        self.stage == Stage::Ready && self.frontend.at_boundary() && self.requests.needs_flush()
    }

    /// A Flush of our own goes to the worker, behind everything forwarded so far.
    pub const fn flush_sent(&mut self) {
        self.requests.flush();
    }

    /// Whether the worker sends a stream that never pauses by itself (CopyBoth).
    pub fn is_stream(&self) -> bool {
        self.stage == Stage::CopyBoth
    }

    /// Bytes that the worker is known to owe of a message under way. Reading no more than these stops where a message ends.
    pub fn owed(&self) -> Option<usize> {
        (!self.backend.at_boundary()).then(|| self.backend.owed())
    }

    /// How many of `bytes`, just read from the client or held back before, are to be forwarded now. They count as forwarded
    /// from here on. The rest must be shown again, first, when something has changed.
    ///
    /// Half a message is not forwarded where [`Tracker::needs_flush`]: behind it there would be no place for the Flush, and
    /// a client that stops there could not be told from one whose statement runs.
    ///
    /// # Errors
    /// [`Malformed`] if the very first of `bytes` can't be part of a message. Whatever comes before such a place is
    /// forwarded first.
    pub fn forward(&mut self, bytes: &[u8], gate: Gate) -> Result<usize, Malformed> {
        let mut forwarded = 0;
        while forwarded < bytes.len() {
            let rest = &bytes[forwarded..];
            let kind = self.frontend.kind().unwrap_or(rest[0]);
            if !self.may_forward(kind, gate) || (self.needs_flush() && !holds_whole_message(rest)) {
                break;
            }
            match self.frontend.advance(rest) {
                Ok(step) => {
                    forwarded += step.header + step.body;
                    if step.ended {
                        self.sent(step.kind);
                    }
                }
                Err(malformed) if forwarded == 0 => return Err(malformed),
                Err(_) => break,
            }
        }
        Ok(forwarded)
    }

    /// Looks at `bytes`, just read from the worker. How many of them are to go to the client: all but what is behind a
    /// malformed place.
    ///
    /// # Errors
    /// [`Malformed`] if the very first of `bytes` can't be part of a message.
    pub fn observe(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut observed = 0;
        while observed < bytes.len() {
            match self.observe_step(&bytes[observed..]) {
                Ok(passed) => observed += passed,
                Err(malformed) if observed == 0 => return Err(malformed),
                Err(_) => break,
            }
        }
        Ok(observed)
    }

    /// Goes on to the end of one of the worker's messages, or of the bytes; stays where it was at a malformed place.
    fn observe_step(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut backend = self.backend;
        let step = backend.advance(bytes)?;
        let length = step.header + step.body;
        let body = &bytes[step.header..length];
        match step.kind {
            b'K' if self.stage == Stage::Handshake => self.read_key(body, step.ended),
            b'E' => self.read_severity(body, step.ended),
            b'Z' if step.offset == 0 && (step.body > 0 || step.ended) => {
                self.next_status = TransactionStatus::told(body.first().copied().unwrap_or_default())?;
            }
            _ => {}
        }
        if self.backend.at_boundary() {
            self.asynchronous = self.comes_unasked(step.kind);
        }
        self.backend = backend;
        self.observed += length as u64;
        if !self.asynchronous {
            self.answer_end = self.observed;
        }
        if step.ended {
            self.received(step.kind);
        }
        Ok(length)
    }

    /// Whether a message of this type, beginning now, answers nothing.
    fn comes_unasked(&self, kind: u8) -> bool {
        let streams = self.stage == Stage::CopyBoth;
        match kind {
            b'A' => true,
            b'N' | b'S' => {
                let asked = self.requests.outstanding() > 0 || self.requests.is_open();
                streams || self.stage == Stage::Ready && !asked
            }
            b'd' => streams,
            _ => false,
        }
    }

    fn may_forward(&self, kind: u8, gate: Gate) -> bool {
        match self.stage {
            _ if self.terminated => false,
            // Requests wait until the worker has let the client in: it would not read them before either.
            Stage::Handshake => matches!(kind, b'p' | b'X'),
            Stage::CopyIn => true,
            Stage::CopyBoth => gate == Gate::Open,
            Stage::Ready if kind == b'X' || self.requests.is_open() => true,
            Stage::Ready => match gate {
                Gate::Open => self.requests.held() < MAX_OUTSTANDING,
                Gate::Due => self.requests.outstanding() == 0 && self.status != TransactionStatus::Idle,
            },
        }
    }

    /// A message of the client's is complete.
    fn sent(&mut self, kind: u8) {
        if kind == b'X' {
            self.terminated = true;
            return;
        }
        match (self.stage, kind) {
            // The worker ends a stream that its client has ended, and then goes on with the next message.
            (Stage::CopyBoth, b'c') => self.stage = Stage::Ready,
            (Stage::Handshake | Stage::CopyBoth, _) => {}
            (Stage::CopyIn, b'c' | b'f') => {
                self.stage = Stage::Ready;
                self.requests.copy_end();
            }
            (Stage::CopyIn, b'S') => self.requests.sync_in_copy(),
            // While it reads CopyData a worker drops Flush. Anything else costs the client its connection.
            (Stage::CopyIn, _) => {}
            (Stage::Ready, b'Q' | b'F') => self.requests.sync_point(SyncPoint::Query),
            (Stage::Ready, b'S') => self.requests.sync_point(SyncPoint::Sync),
            (Stage::Ready, b'P' | b'B' | b'D' | b'C') => self.requests.step(),
            (Stage::Ready, b'E') => self.requests.execute(),
            (Stage::Ready, b'c' | b'f') => self.requests.early_copy_end(),
            (Stage::Ready, b'H') => self.requests.flush(),
            // CopyData outside a COPY is dropped by the worker.
            (Stage::Ready, _) => {}
        }
    }

    /// A message of the worker's is complete.
    fn received(&mut self, kind: u8) {
        match kind {
            b'Z' => self.ready(),
            // It refuses the client.
            b'E' if self.stage == Stage::Handshake => {}
            b'E' => {
                self.stage = Stage::Ready;
                self.requests.answer(kind);
            }
            b'G' => self.stage = if self.requests.copy_in() { Stage::CopyIn } else { Stage::Ready },
            b'W' => {
                self.stage = Stage::CopyBoth;
                self.requests.answer(kind);
            }
            b'1' | b'2' | b'3' | b'n' | b'T' | b'C' | b'I' | b's' | b'V' => {
                // A worker that answers reads no CopyData any more.
                if matches!(self.stage, Stage::CopyIn | Stage::CopyBoth) {
                    self.stage = Stage::Ready;
                }
                self.requests.answer(kind);
            }
            _ => {}
        }
    }

    fn ready(&mut self) {
        self.status = self.next_status;
        if self.stage != Stage::Handshake {
            self.answered += 1;
            self.requests.answer(b'Z');
        }
        self.stage = Stage::Ready;
    }

    /// Keeps the worker's key, whatever pieces it comes in. One that is longer than any key there is, is none.
    fn read_key(&mut self, body: &[u8], ended: bool) {
        if self.key.len() <= CancelKey::MAX {
            self.key.extend_from_slice(body);
        }
        if ended {
            self.worker_key = CancelKey::read(&self.key);
            self.key = Vec::new();
        }
    }

    fn read_severity(&mut self, body: &[u8], ended: bool) {
        self.severity.read(body);
        if ended {
            self.said_fatal |= std::mem::take(&mut self.severity).is_fatal();
        }
    }
}

impl Default for Tracker {
    fn default() -> Self {
        Tracker::new()
    }
}
