//! One connection attempt, as its client saw it.

use std::time::Duration;

use lastcall_core::Time;

use super::Moment;
use crate::cast::history::Conn;

/// One connection attempt.
#[derive(Debug)]
pub(crate) struct Connection<'a> {
    /// Whose.
    pub(crate) conn: &'a Conn,
    /// When the client started to connect, or the first that the log has of it.
    pub(crate) connecting: Moment,
    /// When its startup packet was on its way: from here on it can be told things.
    pub(crate) startup: Option<Moment>,
    /// Its first ReadyForQuery.
    pub(crate) began: Option<Moment>,
    /// When it stopped reading (false) and read again (true).
    pub(crate) reading: Vec<(Moment, bool)>,
    /// Whether it ever read slowly, or not at all.
    pub(crate) reads_late: bool,
    /// The FATALs it read.
    pub(crate) fatals: Vec<FatalRead<'a>>,
    /// Its first end of the stream, and whether that was inside a message.
    pub(crate) eof: Option<(Moment, bool)>,
    /// Its first reset.
    pub(crate) reset: Option<Moment>,
    /// When it sent something that is no whole request: part of one, a message of a batch.
    pub(crate) fed: Vec<Moment>,
    /// When it had sent all rows of a COPY.
    pub(crate) copies_ended: Vec<Moment>,
    /// Of these, the parts of requests.
    pub(crate) parts: Vec<Moment>,
    /// What it asked for became a stream of replication then.
    pub(crate) replicates: Option<Moment>,
    /// When it closed its side, and read on.
    pub(crate) half_closed: Option<Moment>,
    /// When it sent bytes that are no PostgreSQL.
    pub(crate) garbage: Option<Moment>,
    /// At the end of the run, of a client that did not read to the end: whether its machine has a FATAL, and of which
    /// SQLSTATE. `None`: nobody looked.
    pub(crate) unread: Option<Option<&'a str>>,
    /// When the client itself ended it, and how.
    pub(crate) left: Option<(Moment, &'static str)>,
    /// TCP could not be opened.
    pub(crate) failed: Option<Moment>,
    /// When it read the answers to its batches' Syncs.
    pub(crate) batches: Vec<Moment>,
    /// Its requests, as indices into [`Story::requests`], in the order sent.
    pub(crate) requests: Vec<usize>,
}

/// A FATAL, as its client read it.
#[derive(Debug)]
pub(crate) struct FatalRead<'a> {
    pub(crate) moment: Moment,
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) detail: Option<&'a str>,
    pub(crate) mid_message: bool,
}

/// How a connection ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending<'a> {
    /// With a FATAL of this SQLSTATE.
    Fatal(&'a str),
    /// The client ended it itself.
    Left(&'static str),
    /// The end of the stream, without a FATAL.
    Eof,
    /// A reset, without a FATAL.
    Reset,
    /// It never was one.
    ConnectFailed,
}

impl<'a> Connection<'a> {
    /// One that begins here.
    pub(crate) fn new(conn: &'a Conn, connecting: Moment) -> Self {
        Connection {
            conn,
            connecting,
            startup: None,
            began: None,
            reading: Vec::new(),
            reads_late: false,
            fatals: Vec::new(),
            eof: None,
            reset: None,
            fed: Vec::new(),
            copies_ended: Vec::new(),
            parts: Vec::new(),
            replicates: None,
            half_closed: None,
            garbage: None,
            unread: None,
            left: None,
            failed: None,
            batches: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// How it ended, and when: the first thing that said so; of two in the same instant, what the client did itself, for
    /// it could not have known better. `None` if nothing did.
    pub(crate) fn ending(&self) -> Option<(Moment, Ending<'a>)> {
        let fatal = self.fatals.first().map(|fatal| (fatal.moment, Ending::Fatal(fatal.code)));
        let left = self.left.map(|(moment, how)| (moment, Ending::Left(how)));
        let eof = self.eof.map(|(moment, _)| (moment, Ending::Eof));
        let reset = self.reset.map(|moment| (moment, Ending::Reset));
        let failed = self.failed.map(|moment| (moment, Ending::ConnectFailed));
        let own = |ending| !matches!(ending, Ending::Left(_));
        let all = [fatal, left, eof, reset, failed].into_iter().flatten();
        all.min_by_key(|(moment, ending)| (moment.at, own(*ending), *moment))
    }

    /// When the client left by itself, if it did so before this entry.
    pub(crate) fn left_before(&self, moment: Moment) -> bool {
        self.left.is_some_and(|(left, _)| left < moment)
    }

    /// Whether it ever read slowly, or not at all: then it sees later what was sent to it.
    pub(crate) fn reads_late(&self) -> bool {
        self.reads_late
    }

    /// Since when it had not been reading at this moment, if it was not.
    pub(crate) fn deaf_at(&self, moment: Moment) -> Option<Moment> {
        let mut since: Option<Moment> = None;
        for (changed, reads) in self.reading.iter().rev().filter(|(changed, _)| *changed < moment) {
            // Who reads for no time reads nothing.
            match (reads, since) {
                (true, Some(since)) if since.at == changed.at => {}
                (true, _) => break,
                (false, _) => since = Some(*changed),
            }
        }
        since
    }

    /// The same, or until that shortly before: that it reads again is known a way later.
    pub(crate) fn deaf_near(&self, moment: Moment, shortly: Duration) -> Option<Moment> {
        let recent = self.deaf_before(moment).filter(|(_, to)| to.at + shortly >= moment.at).last();
        self.deaf_at(moment).or(recent.map(|(from, _)| from))
    }

    /// From when to when it did not read, before this moment.
    pub(crate) fn deaf_before(&self, moment: Moment) -> impl Iterator<Item = (Moment, Moment)> {
        let pairs = self.reading.windows(2).filter(move |pair| pair[1].0 < moment);
        pairs.filter(|pair| !pair[0].1 && pair[1].1).map(|pair| (pair[0].0, pair[1].0))
    }

    /// Whether it was there at this time.
    pub(crate) fn open_at(&self, at: Time) -> bool {
        self.connecting.at <= at && self.ending().is_none_or(|(end, _)| end.at > at)
    }
}
