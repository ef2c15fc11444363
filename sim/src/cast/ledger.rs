//! Which answers a raw client still waits for, in the order in which PostgreSQL gives them.

use std::collections::VecDeque;

use super::actor::outcome_at_end;
use crate::cast::history::{Outcome, Tag};

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
    Ready { by: By, tag: Option<Tag>, error: Option<String> },
    /// A ReadyForQuery that comes or not, before anything else: the answer to a Sync that a COPY perhaps swallowed.
    Perhaps,
}

/// What asks for a ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// A Sync, which ends a failed batch.
    Sync,
    /// A simple Query or a FunctionCall, which a failed batch skips.
    Itself,
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

    /// A Sync was written; with a tag, behind all of that request. If the batch has failed already, the request was
    /// skipped.
    pub(crate) fn sync(&mut self, tag: Option<Tag>) {
        let error = self.failed_batch.take();
        self.awaited.push_back(Awaited::Ready { by: By::Sync, tag, error });
    }

    /// A simple Query or a FunctionCall was written. Without a Sync, a batch that has failed skips it too.
    pub(crate) fn request(&mut self, tag: Tag) -> Option<Ended> {
        if let Some(code) = &self.failed_batch {
            return Some((tag, Outcome::Error(code.clone())));
        }
        self.awaited.push_back(Awaited::Ready { by: By::Itself, tag: Some(tag), error: None });
        None
    }

    /// The second Sync of a COPY was written: one of the two is answered, or each.
    pub(crate) fn second_sync(&mut self) {
        self.awaited.push_back(Awaited::Perhaps);
    }

    /// How many answers are owed.
    pub(crate) fn len(&self) -> usize {
        self.owed().count()
    }

    /// Whether no answer is owed.
    pub(crate) fn is_empty(&self) -> bool {
        self.owed().next().is_none()
    }

    /// Whether nothing is owed but what waits for a Sync.
    pub(crate) fn flushed(&self) -> bool {
        self.owed().all(|awaited| matches!(awaited, Awaited::Ready { .. }))
    }

    /// Whether this request is not answered.
    pub(crate) fn owes(&self, tag: &str) -> bool {
        self.awaited.iter().any(|awaited| match awaited {
            Awaited::Execute(own) | Awaited::Ready { tag: Some(own), .. } => own == tag,
            Awaited::Parse | Awaited::Ready { tag: None, .. } | Awaited::Perhaps => false,
        })
    }

    /// Whether the request that is answered next has failed, and its ReadyForQuery is still to come.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.owed().next(), Some(Awaited::Ready { error: Some(_), .. }))
    }

    fn owed(&self) -> impl Iterator<Item = &Awaited> {
        self.awaited.iter().filter(|awaited| !matches!(awaited, Awaited::Perhaps))
    }

    /// Something else than a ReadyForQuery was read, a FunctionCallResponse for example: one that perhaps comes came before it or not at all.
    pub(crate) fn goes_on(&mut self) {
        while matches!(self.awaited.front(), Some(Awaited::Perhaps)) {
            self.awaited.pop_front();
        }
    }

    /// ParseComplete was read.
    pub(crate) fn parse_complete(&mut self) {
        self.goes_on();
        if matches!(self.awaited.front(), Some(Awaited::Parse)) {
            self.awaited.pop_front();
        }
    }

    /// CommandComplete, EmptyQueryResponse or PortalSuspended was read.
    pub(crate) fn complete(&mut self) -> Option<Ended> {
        self.goes_on();
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
            Awaited::Perhaps => None,
            Awaited::Ready { tag: None, .. } => Some(Ready::Batch),
            Awaited::Ready { tag: Some(tag), error, .. } => {
                if error.is_none() {
                    // A COPY that went well has swallowed the Sync behind its Execute.
                    self.goes_on();
                }
                Some(Ready::Request((tag, error.map_or(Outcome::Complete, Outcome::Error))))
            }
            other => {
                self.awaited.push_front(other);
                None
            }
        }
    }

    /// An ErrorResponse was read that is not FATAL. In a batch it answers everything up to the Sync, simple queries too.
    pub(crate) fn error(&mut self, code: &str) -> Vec<Ended> {
        self.goes_on();
        let in_batch = !matches!(self.awaited.front(), Some(Awaited::Ready { .. }));
        let mut ended = Vec::new();
        while let Some(awaited) = self.awaited.front_mut() {
            match awaited {
                Awaited::Ready { by: By::Itself, tag, .. } if in_batch => {
                    ended.extend(tag.take().map(|tag| (tag, Outcome::Error(code.to_owned()))));
                }
                Awaited::Ready { error, .. } => {
                    error.get_or_insert_with(|| code.to_owned());
                    return ended;
                }
                Awaited::Execute(tag) => ended.push((std::mem::take(tag), Outcome::Error(code.to_owned()))),
                Awaited::Parse | Awaited::Perhaps => {}
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
            Awaited::Parse | Awaited::Perhaps => None,
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
        assert_eq!(ledger.request(tag("b")), None);
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
    fn a_function_call_is_answered_by_its_own_ready_for_query_and_not_by_one_that_perhaps_comes() {
        let mut ledger = Ledger::default();
        ledger.second_sync();
        assert_eq!(ledger.request(tag("call")), None);
        ledger.goes_on();
        assert_eq!(ledger.ready(), Some(Ready::Request((tag("call"), Outcome::Complete))));
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
    fn what_a_failed_batch_skips_is_not_answered_however_it_was_sent() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.execute(tag("a")), None);
        assert_eq!(ledger.request(tag("b")), None);
        ledger.sync(Some(tag("c")));
        assert_eq!(ledger.error("22012"), [error("a", "22012"), error("b", "22012")]);
        assert_eq!(ledger.ready(), Some(Ready::Request(error("c", "22012"))));

        assert_eq!(ledger.execute(tag("a")), None);
        ledger.error("22012");
        assert_eq!(ledger.request(tag("b")), Some(error("b", "22012")));
        ledger.sync(Some(tag("c")));
        assert_eq!(ledger.ready(), Some(Ready::Request(error("c", "22012"))));
        assert_eq!(ledger.request(tag("d")), None, "the Sync has ended the batch");
    }

    #[test]
    fn a_sync_that_a_copy_swallowed_is_not_waited_for_and_one_that_it_left_is_no_answer_to_the_next_request() {
        for (fails, answers) in [(false, 1), (true, 1), (true, 2)] {
            let mut ledger = Ledger::default();
            ledger.sync(Some(tag("copy")));
            if fails {
                ledger.error("42809");
            }
            ledger.second_sync();
            assert!(matches!(ledger.ready(), Some(Ready::Request(_))));
            assert!(ledger.is_empty());
            assert_eq!(ledger.request(tag("next")), None);
            if answers == 2 {
                assert_eq!(ledger.ready(), None);
            } else {
                assert_eq!(ledger.complete(), None);
            }
            assert_eq!(ledger.ready(), Some(Ready::Request((tag("next"), Outcome::Complete))));
        }
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
