//! What a connection is doing, told from the headers of the messages that pass.
//!
//! A [`Tracker`] watches both directions of one connection between a client and its worker, in whatever pieces the bytes
//! come, and knows at every moment the [`Activity`], how many sync points are unanswered, and the transaction status. The
//! client's direction is also gated: the tracker says how many of the bytes read from a client may be forwarded.
//!
//! It keeps counts, not messages: one small segment for each sync point that is not answered yet. It does not know time,
//! clocks or the drain.
//!
//! Source: PostgreSQL's protocol, "Message Flow", and the server's own loop (`PostgresMain`, `ProcessCopy…`).

use std::collections::VecDeque;

use super::activity::Activity;
use super::severity::SeverityReader;
use super::wire::{CancelKey, Framer, Malformed, Side, holds_whole_message};

/// The largest number of sync points that may be forwarded and unanswered. A client that pipelines further is read no more
/// until answers come.
pub const MAX_OUTSTANDING: usize = 1024;

/// Segments of capacity that an idle connection keeps. What a burst of pipelining took beyond it is given back.
const IDLE_CAPACITY: usize = 8;

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

/// What ends a run of messages with a ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SyncPoint {
    /// A simple query, or a function call.
    Query,
    /// A Sync.
    Sync,
}

/// The messages from behind one sync point up to and including the next.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    /// The sync point at its end; none while it is still open.
    end: Option<SyncPoint>,
    /// Extended-protocol messages in it that the worker answers one by one, and how many it has answered.
    steps: u32,
    done: u32,
    /// Executes among them.
    executes: u32,
    executed: u32,
    /// An ErrorResponse has come: the worker throws away what follows, up to a Sync.
    skipping: bool,
    /// CopyDone and CopyFail in it before its first step: should a COPY in the segment before want data, one ends it.
    copy_ends: u32,
    /// CopyDone or CopyFail was sent behind its last Execute before a CopyInResponse was seen.
    copy_ended: bool,
    /// Its last Execute, and the data of its COPY, have a Flush behind them: the answer will not stay in the worker's
    /// buffer.
    flushed: bool,
}

impl Segment {
    /// Whether any message of it has been forwarded.
    const fn is_open(&self) -> bool {
        self.steps > 0 || self.skipping
    }

    /// Takes over the messages of the segment before it, whose sync point turned out not to be one.
    fn absorb(&mut self, before: Segment) {
        self.steps = self.steps.saturating_add(before.steps);
        self.done = self.done.saturating_add(before.done);
        self.executes = self.executes.saturating_add(before.executes);
        self.executed = self.executed.saturating_add(before.executed);
        self.skipping |= before.skipping;
    }
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
    /// Sync points forwarded and not answered, oldest first; at most `MAX_OUTSTANDING` and the one that ends a batch.
    unanswered: VecDeque<Segment>,
    /// What was forwarded since the last sync point.
    batch: Segment,
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
            unanswered: VecDeque::new(),
            batch: Segment::default(),
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
        } else if !self.unanswered.is_empty() {
            Activity::Executing
        } else if self.batch.is_open() {
            let running = self.batch.executed < self.batch.executes && !self.batch.skipping;
            if running { Activity::Executing } else { Activity::OpenBatch }
        } else if self.status == TransactionStatus::Idle {
            Activity::Idle
        } else {
            Activity::IdleInTransaction
        }
    }

    /// Sync points forwarded and not answered.
    pub fn outstanding(&self) -> usize {
        self.unanswered.len()
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
            Stage::Ready => {
                let open = self.batch.done < self.batch.steps && !self.batch.skipping;
                !self.unanswered.is_empty() || open
            }
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
        let batch = &self.batch;
        // Behind the data of a COPY whose CopyInResponse has not been seen, the Sync before the data may prove to be none.
        let copying = batch.copy_ends > 0 && !self.unanswered.is_empty();
        let open = (batch.executed < batch.executes || copying) && !batch.skipping && !batch.flushed;
        open && self.stage == Stage::Ready && self.frontend.at_boundary()
    }

    /// A Flush of our own goes to the worker, behind everything forwarded so far.
    pub const fn flush_sent(&mut self) {
        self.batch.flushed = true;
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
                let asked = !self.unanswered.is_empty() || self.batch.is_open();
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
            Stage::Ready if kind == b'X' || self.batch.is_open() => true,
            Stage::Ready => match gate {
                Gate::Open => self.unanswered.len() < MAX_OUTSTANDING,
                Gate::Due => self.unanswered.is_empty() && self.status != TransactionStatus::Idle,
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
                self.batch.flushed = false;
            }
            // While it reads CopyData a worker drops Sync and Flush. Anything else costs the client its connection.
            (Stage::CopyIn, _) => {}
            // Behind an error the worker reads on to a Sync, and drops even a simple query.
            (Stage::Ready, b'Q' | b'F') if self.batch.skipping => {}
            (Stage::Ready, b'Q' | b'F') => self.end_segment(SyncPoint::Query),
            (Stage::Ready, b'S') => self.end_segment(SyncPoint::Sync),
            (Stage::Ready, b'P' | b'B' | b'D' | b'C' | b'E') => {
                self.batch.steps = self.batch.steps.saturating_add(1);
                if kind == b'E' {
                    self.batch.executes = self.batch.executes.saturating_add(1);
                    self.batch.flushed = false;
                    self.batch.copy_ended = false;
                }
            }
            // For a COPY whose CopyInResponse is on its way. Otherwise the worker drops it.
            (Stage::Ready, b'c' | b'f') if self.batch.steps == 0 => {
                self.batch.copy_ends = self.batch.copy_ends.saturating_add(1);
                self.batch.flushed = false;
            }
            (Stage::Ready, b'c' | b'f') => {
                self.batch.copy_ended = true;
                self.batch.flushed = false;
            }
            (Stage::Ready, b'H') => self.batch.flushed = true,
            // CopyData outside a COPY is dropped by the worker.
            (Stage::Ready, _) => {}
        }
    }

    fn end_segment(&mut self, end: SyncPoint) {
        let mut segment = std::mem::take(&mut self.batch);
        segment.end = Some(end);
        self.unanswered.push_back(segment);
    }

    /// A message of the worker's is complete.
    fn received(&mut self, kind: u8) {
        match kind {
            b'Z' => self.ready(),
            b'E' => self.failed(),
            b'G' => self.copy_in(),
            b'W' => self.stage = Stage::CopyBoth,
            b'1' | b'2' | b'3' | b'n' | b'T' | b'C' | b'I' | b's' => {
                if kind == b'C' && matches!(self.stage, Stage::CopyIn | Stage::CopyBoth) {
                    self.stage = Stage::Ready;
                }
                let segment = self.unanswered.front_mut().unwrap_or(&mut self.batch);
                segment.done = segment.done.saturating_add(1);
                if matches!(kind, b'C' | b'I' | b's') {
                    segment.executed = segment.executed.saturating_add(1);
                }
            }
            _ => {}
        }
    }

    fn ready(&mut self) {
        self.status = self.next_status;
        let first = self.stage == Stage::Handshake;
        self.stage = Stage::Ready;
        if first {
            return;
        }
        self.answered += 1;
        self.unanswered.pop_front();
        if self.unanswered.is_empty() && self.unanswered.capacity() > IDLE_CAPACITY {
            self.unanswered.shrink_to(IDLE_CAPACITY);
        }
    }

    /// An ErrorResponse. In a simple query ReadyForQuery follows it; in a batch the worker skips to the Sync.
    fn failed(&mut self) {
        if self.stage == Stage::Handshake {
            return;
        }
        self.stage = Stage::Ready;
        let segment = self.unanswered.front_mut().unwrap_or(&mut self.batch);
        if segment.done < segment.steps {
            segment.skipping = true;
        }
        // A simple query behind the failed messages, sent without a Sync between, is skipped with them: no answer is owed.
        while let Some(&Segment { end: Some(SyncPoint::Query), skipping: true, .. }) = self.unanswered.front() {
            let skipped = self.unanswered.pop_front().unwrap_or_default();
            self.unanswered.front_mut().unwrap_or(&mut self.batch).absorb(skipped);
        }
    }

    /// A CopyInResponse. The worker drops each Sync that was sent behind the COPY before its data ended (tokio-postgres
    /// sends one with the Execute): these sync points get no ReadyForQuery.
    fn copy_in(&mut self) {
        // The COPY runs in the oldest segment: as its next Execute, or as the simple query that ends it.
        let copying = self.unanswered.front().unwrap_or(&self.batch);
        let by_execute = copying.executed < copying.executes;
        // Behind it anything but data, Flush and Sync ends the COPY, if only with an error.
        let mut ended = by_execute
            && (copying.copy_ended || copying.executed + 1 < copying.executes || copying.end == Some(SyncPoint::Query));
        let in_batch = by_execute && self.unanswered.is_empty();
        let dropped = if by_execute && !ended { self.unanswered.pop_front() } else { None };
        let behind = usize::from(!by_execute);
        while !ended && !in_batch {
            let next = self.unanswered.get_mut(behind).unwrap_or(&mut self.batch);
            ended = next.copy_ends > 0 || next.is_open() || next.end == Some(SyncPoint::Query);
            next.copy_ends = next.copy_ends.saturating_sub(1);
            if ended || next.end.is_none() {
                break;
            }
            self.unanswered.remove(behind);
        }
        if let Some(dropped) = dropped {
            self.unanswered.get_mut(behind).unwrap_or(&mut self.batch).absorb(dropped);
        }
        self.stage = if ended { Stage::Ready } else { Stage::CopyIn };
    }

    /// Keeps the worker's key, whatever pieces it comes in. One that is longer than any key there is, is none.
    fn read_key(&mut self, body: &[u8], ended: bool) {
        let space = CancelKey::MAX + 1 - self.key.len();
        self.key.extend_from_slice(&body[..body.len().min(space)]);
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
