//! Which answers a raw client still waits for, in the order in which PostgreSQL gives them.

use std::collections::VecDeque;

use super::actor::outcome_at_end;
use crate::history::{Outcome, Tag};

/// A request that is over.
pub(crate) type Ended = (Tag, Outcome);

/// What a ReadyForQuery ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// A request that ends with a sync point of its own.
    Request(Ended),
    /// A batch, whose requests were answered one by one.
    Batch,
}

/// The answers that one connection owes.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    awaited: VecDeque<Awaited>,
    /// The SQLSTATE with which the batch that is being written has failed already.
    failed_batch: Option<String>,
    /// The SQLSTATE of the FATAL that was read.
    fatal: Option<String>,
}

#[derive(Debug)]
enum Awaited {
    /// ParseComplete.
    Parse,
    /// CommandComplete or PortalSuspended.
    Execute(Tag),
    /// ReadyForQuery. With a tag, it ends that request; an error before it is kept.
    Ready { tag: Option<Tag>, error: Option<String> },
}

impl Ledger {
    /// A Parse was written whose Execute may never come.
    pub(crate) fn parse(&mut self) {
        if self.failed_batch.is_none() {
            self.awaited.push_back(Awaited::Parse);
        }
    }

    /// An Execute was written. Its batch may have failed already: then it is skipped like the rest, and over.
    pub(crate) fn execute(&mut self, tag: Tag) -> Option<Ended> {
        if let Some(code) = &self.failed_batch {
            return Some((tag, Outcome::Error(code.clone())));
        }
        self.awaited.push_back(Awaited::Execute(tag));
        None
    }

    /// A Sync was written, or a simple Query, of the request `tag` if it is all of one.
    pub(crate) fn sync(&mut self, tag: Option<Tag>) {
        self.failed_batch = None;
        self.awaited.push_back(Awaited::Ready { tag, error: None });
    }

    /// How many answers are owed.
    pub(crate) fn len(&self) -> usize {
        self.awaited.len()
    }

    /// Whether no answer is owed.
    pub(crate) fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Whether nothing is owed but what waits for a Sync.
    pub(crate) fn flushed(&self) -> bool {
        self.awaited.iter().all(|awaited| matches!(awaited, Awaited::Ready { .. }))
    }

    /// ParseComplete was read.
    pub(crate) fn parse_complete(&mut self) {
        if matches!(self.awaited.front(), Some(Awaited::Parse)) {
            self.awaited.pop_front();
        }
    }

    /// CommandComplete, EmptyQueryResponse or PortalSuspended was read.
    pub(crate) fn complete(&mut self) -> Option<Ended> {
        match self.awaited.pop_front()? {
            Awaited::Execute(tag) => Some((tag, Outcome::Complete)),
            other => {
                self.awaited.push_front(other);
                None
            }
        }
    }

    /// ReadyForQuery was read.
    pub(crate) fn ready(&mut self) -> Option<Ready> {
        match self.awaited.pop_front()? {
            Awaited::Ready { tag: None, .. } => Some(Ready::Batch),
            Awaited::Ready { tag: Some(tag), error } => {
                Some(Ready::Request((tag, error.map_or(Outcome::Complete, Outcome::Error))))
            }
            other => {
                self.awaited.push_front(other);
                None
            }
        }
    }

    /// An ErrorResponse was read that is not FATAL. In a batch it answers everything up to the Sync.
    pub(crate) fn error(&mut self, code: &str) -> Vec<Ended> {
        let mut ended = Vec::new();
        while let Some(awaited) = self.awaited.front_mut() {
            match awaited {
                Awaited::Ready { error, .. } => {
                    error.get_or_insert_with(|| code.to_owned());
                    return ended;
                }
                Awaited::Execute(tag) => ended.push((std::mem::take(tag), Outcome::Error(code.to_owned()))),
                Awaited::Parse => {}
            }
            self.awaited.pop_front();
        }
        self.failed_batch = Some(code.to_owned());
        ended
    }

    /// A FATAL was read: it answers everything.
    pub(crate) fn fatal(&mut self, code: &str) -> Vec<Ended> {
        self.fatal.get_or_insert_with(|| code.to_owned());
        self.close()
    }

    /// The connection is over: what was not answered, and how that is called.
    pub(crate) fn close(&mut self) -> Vec<Ended> {
        let outcome = outcome_at_end(self.fatal.clone());
        self.failed_batch = None;
        let tags = std::mem::take(&mut self.awaited).into_iter().filter_map(|awaited| match awaited {
            Awaited::Execute(tag) => Some(tag),
            Awaited::Ready { tag, .. } => tag,
            Awaited::Parse => None,
        });
        tags.map(|tag| (tag, outcome.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(tag: &str) -> Tag {
        tag.to_owned()
    }

    fn error(tag: &str, code: &str) -> Ended {
        (tag.to_owned(), Outcome::Error(code.to_owned()))
    }

    #[test]
    fn answers_come_in_the_order_of_the_requests() {
        let mut ledger = Ledger::default();
        ledger.parse();
        assert_eq!(ledger.execute(tag("a")), None);
        ledger.sync(None);
        ledger.sync(Some(tag("b")));
        assert!(!ledger.flushed());
        assert_eq!(ledger.ready(), None, "the Execute is not answered yet");
        ledger.parse_complete();
        assert_eq!(ledger.complete(), Some((tag("a"), Outcome::Complete)));
        assert!(ledger.flushed());
        assert_eq!(ledger.ready(), Some(Ready::Batch));
        assert_eq!(ledger.complete(), None, "a simple query is over at its ReadyForQuery");
        assert_eq!(ledger.ready(), Some(Ready::Request((tag("b"), Outcome::Complete))));
        assert!(ledger.is_empty());
    }

    #[test]
    fn an_error_answers_its_batch_up_to_the_sync_and_no_further() {
        let mut ledger = Ledger::default();
        for name in ["a", "b"] {
            ledger.parse();
            assert_eq!(ledger.execute(tag(name)), None);
        }
        ledger.sync(None);
        ledger.sync(Some(tag("c")));
        assert_eq!(ledger.error("22012"), [error("a", "22012"), error("b", "22012")]);
        assert_eq!(ledger.ready(), Some(Ready::Batch));
        assert_eq!(ledger.ready(), Some(Ready::Request((tag("c"), Outcome::Complete))));
    }

    #[test]
    fn what_joins_a_failed_batch_has_failed() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.execute(tag("a")), None);
        assert_eq!(ledger.error("22012"), [error("a", "22012")]);
        ledger.parse();
        assert_eq!(ledger.execute(tag("b")), Some(error("b", "22012")));
        assert!(ledger.flushed());
        ledger.sync(None);
        assert_eq!(ledger.execute(tag("c")), None);
    }

    #[test]
    fn what_is_not_answered_is_lost_or_was_told_why() {
        let mut ledger = Ledger::default();
        ledger.sync(Some(tag("a")));
        assert_eq!(ledger.close(), [(tag("a"), Outcome::Lost)]);
        ledger.sync(Some(tag("b")));
        assert_eq!(ledger.fatal("57P01"), [error("b", "57P01")]);
        ledger.sync(Some(tag("c")));
        assert_eq!(ledger.close(), [error("c", "57P01")]);
    }
}
