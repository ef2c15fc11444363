//! What was asked of a worker, and how far it has answered.
//!
//! [`Requests`] counts, it keeps no messages: one small [`Segment`] for each sync point that is not answered yet, and a
//! [`Position`] that says which answer comes next.
//!
//! Whether the worker answers a Sync behind a COPY is its own secret: it drops the Syncs that it reads in the place of data,
//! and answers those that it reads after the COPY has failed, for example before it wanted any data. A CommandComplete says
//! that all of them were dropped; an ErrorResponse says nothing. From there on there are several positions, one for each
//! number of Syncs that may have been dropped, and each answer leaves those that could have led to it. Until one is left,
//! the connection executes if it does so by any of them.
//!
//! Source: `PostgresMain` and `CopyGetData` in PostgreSQL's source.

use std::collections::VecDeque;

use super::activity::Activity;
use super::tracker::TransactionStatus;

/// Syncs behind one COPY that are told apart. Of those between these and the last it is taken that all or none were dropped.
const MAX_DOUBTS: usize = 16;

/// Segments of capacity that an idle connection keeps. What a burst of pipelining took beyond it is given back.
const IDLE_CAPACITY: usize = 8;

/// What ends a run of messages with a ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncPoint {
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
    /// Extended-protocol messages in it that the worker answers one by one.
    steps: u32,
    /// Executes among them.
    executes: u32,
    /// CopyDone and CopyFail in it before its first step: should a COPY in the segment before want data, one ends it.
    copy_ends: u32,
    /// CopyDone or CopyFail was sent behind its last Execute before a CopyInResponse was seen.
    copy_ended: bool,
    /// Its last Execute, and the data of its COPY, have a Flush behind them: the answer will not stay in the worker's
    /// buffer.
    flushed: bool,
}

/// Where the worker is in what was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    /// The segment, counted from the oldest that is not answered.
    at: usize,
    /// Segments behind it that will get no ReadyForQuery: Syncs that a COPY in its query has dropped.
    dropped: usize,
    /// Answers given in it, and Executes answered.
    done: u32,
    executed: u32,
    /// An ErrorResponse has come in it: the worker throws away what follows, up to a Sync.
    skipping: bool,
    /// The COPY of its query has failed, and ReadyForQuery is next.
    failed: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Sync points forwarded and not answered, oldest first.
    closed: VecDeque<Segment>,
    /// What was forwarded since the last sync point.
    open: Segment,
    /// Where the worker is.
    position: Position,
    /// Where it may be as well, by how many more Syncs it would have dropped.
    others: Vec<Position>,
    /// Syncs forwarded behind the COPY that runs, before its data ended: until it is answered they count as dropped.
    doubts: usize,
}

impl Requests {
    /// What the connection is doing, outside of a COPY's data, where `status` was told last.
    pub(super) fn activity(&self, status: TransactionStatus) -> Activity {
        let last = self.last();
        // A Sync without anything to end is no work: its ReadyForQuery comes at once or never.
        let works = !self.others.is_empty() && self.positions().any(|position| self.has_work(position));
        if works || self.outstanding() > 0 {
            return Activity::Executing;
        }
        let running = self.doubts > 0 || self.executed(last) < self.open.executes && !last.skipping;
        if self.open.steps > 0 || last.skipping || self.doubts > 0 {
            if running { Activity::Executing } else { Activity::OpenBatch }
        } else if status == TransactionStatus::Idle {
            Activity::Idle
        } else {
            Activity::IdleInTransaction
        }
    }

    /// Sync points that will be answered for certain.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding_from(self.last())
    }

    /// Sync points that may be answered.
    pub(super) fn held(&self) -> usize {
        self.closed.len()
    }

    /// Whether any message has been forwarded that a Sync is to follow.
    pub(super) fn is_open(&self) -> bool {
        let copying = self.doubts > 0 && self.outstanding() == 0;
        self.open.steps > 0 || copying || self.positions().any(|position| self.is_skipping(position))
    }

    /// Whether the worker has answered, or will not answer, everything forwarded.
    pub(super) fn is_answered(&self) -> bool {
        let last = self.last();
        self.outstanding() == 0 && self.doubts == 0 && (last.skipping || last.done >= self.open.steps)
    }

    /// Whether the last of what was forwarded is an Execute, or the end of a COPY's data, whose answer may stay in the
    /// worker's buffer.
    pub(super) fn needs_flush(&self) -> bool {
        // Behind the data of a COPY whose CopyInResponse has not been seen, the Sync before the data may prove to be none.
        let early = self.open.copy_ends > 0 && !self.closed.is_empty();
        let copying = early || self.doubts > 0 && self.outstanding() == 0;
        let kept = |position: &Position| {
            (copying || self.executed(position) < self.open.executes) && !self.is_skipping(position)
        };
        !self.open.flushed && self.positions().any(kept)
    }

    /// A Flush was forwarded.
    pub(super) const fn flush(&mut self) {
        self.open.flushed = true;
    }

    /// A message was forwarded that the worker answers by one of its own.
    pub(super) const fn step(&mut self) {
        self.open.steps = self.open.steps.saturating_add(1);
    }

    /// Likewise, an Execute.
    pub(super) const fn execute(&mut self) {
        self.step();
        self.open.executes = self.open.executes.saturating_add(1);
        self.open.flushed = false;
        self.open.copy_ended = false;
    }

    /// A sync point was forwarded.
    pub(super) fn sync_point(&mut self, end: SyncPoint) {
        let mut segment = std::mem::take(&mut self.open);
        segment.end = Some(end);
        self.closed.push_back(segment);
        self.settle();
    }

    /// A Sync was forwarded among the data of a COPY.
    pub(super) fn sync_in_copy(&mut self) {
        if self.doubts < MAX_DOUBTS {
            self.sync_point(SyncPoint::Sync);
            self.doubts += 1;
        }
    }

    /// CopyDone or CopyFail was forwarded where no COPY was known to want data: for one whose CopyInResponse is on its way,
    /// or for none.
    pub(super) const fn early_copy_end(&mut self) {
        if self.open.steps == 0 {
            self.open.copy_ends = self.open.copy_ends.saturating_add(1);
        } else {
            self.open.copy_ended = true;
        }
        self.open.flushed = false;
    }

    /// CopyDone or CopyFail was forwarded where a COPY wanted data.
    pub(super) const fn copy_end(&mut self) {
        self.open.flushed = false;
    }

    /// The worker sent this answer.
    pub(super) fn answer(&mut self, kind: u8) {
        match kind {
            b'E' if self.doubts > 0 => return self.copy_failed(),
            b'C' => self.copy_done(),
            // A server that gives none of the two is not PostgreSQL.
            b'Z' => self.doubts = 0,
            _ => {}
        }
        if self.others.is_empty() {
            self.position = self.follow(&self.position, kind).0;
        } else {
            self.narrow(kind);
        }
        self.settle();
    }

    /// The worker sent a CopyInResponse. Returns whether the end of the data is still to come.
    pub(super) fn copy_in(&mut self) -> bool {
        self.narrow(b'G');
        // Two that could both have led to it are not both followed.
        self.others = Vec::new();
        self.settle();
        let place = self.position.at;
        let copying = *self.segment(place);
        self.doubts = 0;
        // Behind it anything but data, Flush and Sync ends the COPY, if only with an error.
        if self.is_by_execute() {
            let next = self.position.executed + 1 < copying.executes;
            if copying.copy_ended || next || copying.end == Some(SyncPoint::Query) {
                return false;
            }
            if copying.end.is_none() {
                return true;
            }
            self.doubts = 1;
        }
        for place in place + 1.. {
            let next = self.closed.get_mut(place).unwrap_or(&mut self.open);
            let ended = next.copy_ends > 0 || next.steps > 0 || next.end == Some(SyncPoint::Query);
            next.copy_ends = next.copy_ends.saturating_sub(1);
            if ended || next.end.is_none() {
                return !ended;
            }
            self.doubts += 1;
        }
        false
    }

    /// Whether the COPY that runs was begun by an Execute, and not by a query.
    fn is_by_execute(&self) -> bool {
        self.position.executed < self.segment(self.position.at).executes
    }

    /// A COPY, if there was one, has taken all its data, and with them all Syncs among them.
    fn copy_done(&mut self) {
        let doubts = std::mem::take(&mut self.doubts);
        let sent = self.closed.len();
        // The COPY is in the oldest segment: what was before it is answered.
        let first = usize::from(!self.is_by_execute()).min(sent);
        let mut dropped = Segment::default();
        for segment in self.closed.drain(first..(first + doubts).min(sent)) {
            dropped.steps = dropped.steps.saturating_add(segment.steps);
            dropped.executes = dropped.executes.saturating_add(segment.executes);
        }
        // What was asked before a Sync that is none belongs to what was asked behind it.
        let next = self.closed.get_mut(first).unwrap_or(&mut self.open);
        next.steps = next.steps.saturating_add(dropped.steps);
        next.executes = next.executes.saturating_add(dropped.executes);
    }

    /// A COPY has failed, and has dropped as many of the Syncs among its data as it had read.
    fn copy_failed(&mut self) {
        let doubts = std::mem::take(&mut self.doubts);
        let by_execute = self.is_by_execute();
        let failed = |dropped| {
            let position = self.position;
            if by_execute {
                Position { at: position.at + dropped, skipping: true, ..Position::default() }
            } else {
                Position { dropped, failed: true, ..position }
            }
        };
        let mut positions = (0..doubts.min(MAX_DOUBTS)).chain([doubts]).map(failed);
        let first = positions.next().unwrap_or_default();
        self.others = positions.collect();
        self.position = first;
        self.settle();
    }

    /// Keeps the positions that could have led to this answer; the first if none could.
    fn narrow(&mut self, kind: u8) {
        let followed: Vec<_> = self.positions().map(|position| self.follow(position, kind)).collect();
        let mut possible = followed.iter().filter(|(_, possible)| *possible).map(|(position, _)| *position);
        let unasked = self.position;
        self.position = possible.next().unwrap_or_else(|| followed.first().map_or(unasked, |(first, _)| *first));
        self.others = possible.collect();
    }

    /// Where the worker is behind this answer if it was at `position` before, and whether it could have given it there.
    fn follow(&self, position: &Position, kind: u8) -> (Position, bool) {
        let segment = self.segment(position.at);
        let asked = position.done < segment.steps;
        let is_query = segment.end == Some(SyncPoint::Query);
        let mut next = *position;
        let possible = match kind {
            b'Z' => {
                if segment.end.is_some() {
                    let at = (position.at + 1 + position.dropped).min(self.closed.len());
                    next = Position { at, ..Position::default() };
                }
                let ended = if is_query { position.done > segment.steps } else { !asked };
                segment.end.is_some() && (position.skipping || position.failed || ended)
            }
            b'E' => {
                next.skipping |= asked;
                !position.skipping && !position.failed && (segment.steps > 0 || is_query)
            }
            b'G' => !position.skipping && (asked || is_query),
            _ => {
                next.done = next.done.saturating_add(1);
                if matches!(kind, b'C' | b'I' | b's') {
                    next.executed = next.executed.saturating_add(1);
                }
                !position.skipping && (asked || is_query)
            }
        };
        (next, possible)
    }

    /// Moves positions behind what the worker throws away, and forgets what is answered by all of them.
    fn settle(&mut self) {
        for position in std::iter::once(&mut self.position).chain(&mut self.others) {
            // A simple query behind a failed message, without a Sync between, is skipped with it: no answer is owed.
            while position.skipping
                && self.closed.get(position.at).is_some_and(|segment| segment.end == Some(SyncPoint::Query))
            {
                *position = Position { at: position.at + 1, skipping: true, ..Position::default() };
            }
        }
        let answered = self.positions().map(|position| position.at).min().unwrap_or_default();
        if answered == 0 {
            return;
        }
        self.closed.drain(..answered);
        for position in std::iter::once(&mut self.position).chain(&mut self.others) {
            position.at -= answered;
        }
        if self.closed.is_empty() {
            self.closed.shrink_to(IDLE_CAPACITY);
        }
    }

    fn positions(&self) -> impl Iterator<Item = &Position> {
        std::iter::once(&self.position).chain(&self.others)
    }

    /// Where the worker is if it has dropped as many Syncs as it can have.
    fn last(&self) -> &Position {
        self.others.last().unwrap_or(&self.position)
    }

    fn segment(&self, at: usize) -> &Segment {
        self.closed.get(at).unwrap_or(&self.open)
    }

    fn outstanding_from(&self, position: &Position) -> usize {
        self.closed.len().saturating_sub(position.at + position.dropped + self.doubts)
    }

    /// Executes answered in what was forwarded since the last sync point.
    fn executed(&self, position: &Position) -> u32 {
        if position.at == self.closed.len() { position.executed } else { 0 }
    }

    /// Whether the worker throws away what is forwarded now.
    fn is_skipping(&self, position: &Position) -> bool {
        position.at == self.closed.len() && position.skipping
    }

    /// Whether a statement may be running, or wait for its turn.
    fn has_work(&self, position: &Position) -> bool {
        // What is skipped is over; what has failed is outstanding still.
        let mut rest = self.closed.iter().skip(position.at + usize::from(position.skipping));
        let batch = self.executed(position) < self.open.executes;
        batch || rest.any(|segment| segment.steps > 0 || segment.end == Some(SyncPoint::Query))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_of_pipelining_took_is_given_back_when_all_of_it_is_answered() {
        let mut requests = Requests::default();
        (0..1000).for_each(|_| requests.sync_point(SyncPoint::Query));
        (0..999).for_each(|_| requests.answer(b'Z'));
        assert!(requests.closed.capacity() >= 1000, "nothing is moved while it is in use");
        requests.answer(b'Z');
        assert!(requests.closed.capacity() < 2 * IDLE_CAPACITY);
    }
}
