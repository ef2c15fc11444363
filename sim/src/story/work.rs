//! What clients asked for and workers did: requests, their statements, the batches and sessions that these are part of.

use std::time::Duration;

use lastcall_core::Time;

use super::Moment;
use crate::cast::history::{Login, Outcome, RequestKind, StatementEnd};

/// One request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// Index into [`Story::connections`].
    pub(crate) connection: usize,
    pub(crate) tag: &'a str,
    pub(crate) kind: RequestKind,
    pub(crate) sent: Moment,
    /// How it ended for its client; more than one is one too many.
    pub(crate) ends: Vec<(Moment, &'a Outcome)>,
    /// How it ended for a client that never read that, and when somebody looked.
    pub(crate) unread: Option<(Moment, &'a Outcome)>,
    /// Its client's cancel requests.
    pub(crate) cancels: Vec<Moment>,
    /// Its statements, as indices into [`Story::statements`].
    pub(crate) statements: Vec<usize>,
}

/// One statement that a worker began.
#[derive(Debug)]
pub(crate) struct Statement<'a> {
    pub(crate) tag: &'a str,
    pub(crate) worker_session: u32,
    pub(crate) began: Moment,
    pub(crate) end: Option<(Moment, &'a StatementEnd)>,
    /// When its worker waited for the client.
    pub(crate) waits: Vec<Wait>,
    /// Index into [`Story::requests`]; `None` if no client sent it.
    pub(crate) request: Option<usize>,
}

impl Statement<'_> {
    /// When it asked for input, if it worked instead of taking it.
    pub(crate) fn asked_in_vain(&self) -> Option<Moment> {
        self.waits.first().filter(|wait| wait.went_on.is_some_and(|on| on.at == wait.began.at)).map(|wait| wait.began)
    }

    /// For how long it then worked, up to `end`: nobody but its worker can tell that from waiting.
    pub(crate) fn works_unseen(&self, end: Time) -> Option<Duration> {
        let asked = self.asked_in_vain()?;
        let next = self.waits.get(1).map(|wait| wait.began.at).or(self.end.map(|(end, _)| end.at));
        Some(next.map_or(end, |next| next.min(end)).since(asked.at))
    }
}

/// A worker waits for its client in the middle of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) began: Moment,
    pub(crate) went_on: Option<Moment>,
    /// For the client to send, and not to take.
    pub(crate) for_input: bool,
}

impl Wait {
    /// Whether it lasted for some of this time.
    pub(crate) fn lasts_within(&self, from: Time, to: Time) -> bool {
        self.began.at <= to && self.went_on.is_none_or(|went_on| went_on.at >= from)
    }
}

/// One session at a worker.
#[derive(Debug)]
pub(crate) struct WorkerSession<'a> {
    pub(crate) application: &'a str,
    pub(crate) login: &'a Login,
    pub(crate) began: Moment,
    pub(crate) ended: Option<Moment>,
}

/// A batch of the extended protocol: from its first message to its Sync, or to its session's end.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) worker_session: u32,
    /// Whose.
    pub(crate) application: Option<&'a str>,
    pub(crate) began: Moment,
    pub(crate) ended: Option<Moment>,
}

impl Statement<'_> {
    /// The wait that its worker was in just before this moment. One that goes on in the very instant in which it is cancelled
    /// has done nothing.
    pub(crate) fn waited_at(&self, moment: Moment) -> Option<&Wait> {
        let last = self.waits.iter().rev().find(|wait| wait.began < moment)?;
        last.went_on.is_none_or(|went_on| went_on.at >= moment.at).then_some(last)
    }
}

impl<'a> Request<'a> {
    /// How it ended for its client's machine: as its client saw it or, of a client that did not read, as it could have.
    pub(crate) fn delivered(&self) -> Option<(Moment, &'a Outcome)> {
        self.end().or(self.unread)
    }

    /// How it ended for its client.
    pub(crate) fn end(&self) -> Option<(Moment, &'a Outcome)> {
        self.ends.first().copied()
    }

    /// Whether its client was told that it is complete.
    pub(crate) fn complete(&self) -> bool {
        matches!(self.end(), Some((_, Outcome::Complete)))
    }
}
