//! COPY FROM STDIN by hand: rows at their own pace, kept back as client libraries keep them back, or never ended.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lastcall_core::Time;
use lastcall_world::World;
use pgwire::messages::copy::{CopyData, CopyDone, CopyFail};
use pgwire::messages::extendedquery::{Bind, Describe, Execute, Flush, Parse, Sync, TARGET_TYPE_BYTE_STATEMENT};
use pgwire::messages::simplequery::Query;

use super::super::actor::{Actor, put};
use super::super::raw_link::RawLink;
use super::super::script;
use super::super::statement::Statement;
use crate::cast::history::Event;
use crate::scenario::model::{CopyIn, Protocol};

/// Rows that a client without pauses hands over before it waits for the socket.
const MAX_UNWRITTEN: usize = 64 * 1024;

/// Asks for the COPY, sends its rows, and waits for the answer. False if the client can't go on.
pub(super) async fn send<W: World>(actor: &mut Actor<W>, link: &mut RawLink<W>, step: &CopyIn) -> bool {
    let statement = actor.statement(script::copy_in(step));
    actor.request_sent(&statement);
    link.begins_copy();
    let text = statement.to_string();
    match step.protocol {
        Protocol::Simple => {
            put(&Query::new(text), link.out());
            link.has_asked(actor, statement.tag.clone());
        }
        Protocol::Extended => {
            put(&Parse::new(None, text, vec![]), link.out());
            put(&Bind::new(None, None, vec![], vec![], vec![]), link.out());
            put(&Describe::new(TARGET_TYPE_BYTE_STATEMENT, None), link.out());
            put(&Execute::new(None, 0), link.out());
            if step.early_sync {
                put(&Sync::new(), link.out());
            } else {
                put(&Flush::new(), link.out());
            }
            link.ledger().sync(Some(statement.tag.clone()));
        }
    }
    let cancel_at = step.cancel_after.map(|after| actor.now() + after.0);
    Copy { actor, link, statement, cancel_at, buffer: BytesMut::new() }.send(step).await
}

/// A COPY that goes on.
struct Copy<'a, W: World> {
    actor: &'a Actor<W>,
    link: &'a mut RawLink<W>,
    statement: Statement,
    /// When to send a cancel request, unless it was sent.
    cancel_at: Option<Time>,
    /// Rows that the client library keeps back.
    buffer: BytesMut,
}

impl<W: World> Copy<'_, W> {
    /// Sends the rows and the end, unless an error comes first, and waits for the answer. False if the client can't go on.
    async fn send(mut self, step: &CopyIn) -> bool {
        if !self.wait(None, |link| link.copies_in() || link.has_failed()).await {
            return false;
        }
        let began = self.link.has_copied_in();
        let row = row(step.row_bytes);
        for number in 0..step.stops_after.unwrap_or(step.copy_in) {
            let pause = (number > 0 && step.every.0 > Duration::ZERO).then(|| self.actor.now() + step.every.0);
            if pause.is_some() && !self.wait(pause, |_| false).await
                || self.link.out().len() > MAX_UNWRITTEN && !self.wait(None, RawLink::written).await
            {
                return false;
            }
            if !self.link.copies_in() {
                break;
            }
            put(&row, &mut self.buffer);
            if self.buffer.len() >= step.buffer as usize {
                self.hand_over();
            }
        }
        if step.stops_after.is_some() && !self.wait(None, RawLink::has_failed).await {
            return false;
        }
        let failed = !self.link.copies_in();
        if !failed {
            self.hand_over();
            if step.fails {
                put(&CopyFail::new("the client gave up".to_owned()), self.link.out());
            } else {
                put(&CopyDone::new(), self.link.out());
            }
            self.actor.record(Event::CopyEnded { conn: self.actor.conn() });
        }
        if step.protocol == Protocol::Extended {
            self.sync(step, began, failed);
        }
        self.wait(None, |_| false).await
    }

    /// Ends the batch. As libpq does it, a COPY that has begun has its CopyDone and Sync whatever became of it; a driver that
    /// knows of no COPY sends neither.
    fn sync(&mut self, step: &CopyIn, began: bool, failed: bool) {
        if began && failed && step.late_sync {
            put(&CopyDone::new(), self.link.out());
        }
        if !step.early_sync {
            put(&Sync::new(), self.link.out());
        } else if began && step.late_sync {
            put(&Sync::new(), self.link.out());
            self.link.ledger().second_sync();
        }
    }

    /// Gives what was kept back to the network.
    fn hand_over(&mut self) {
        self.link.out().unsplit(self.buffer.split());
    }

    /// Waits until `at` if it is given, until `done`, and in any case no longer than until the answer. Cancels when that is
    /// due. False if the client can't go on.
    async fn wait(&mut self, at: Option<Time>, done: impl Fn(&RawLink<W>) -> bool) -> bool {
        let over = |link: &RawLink<W>| done(link) || link.answered();
        loop {
            let alarm = at.into_iter().chain(self.cancel_at).min();
            let open = match alarm {
                Some(alarm) => self.link.until_time(self.actor, alarm, over).await,
                None => self.link.until(self.actor, over).await,
            };
            if !open || over(self.link) {
                return open;
            }
            let now = self.actor.now();
            if self.cancel_at.is_some_and(|cancel| cancel <= now) {
                self.cancel_at = None;
                self.link.cancel(self.actor, self.statement.tag.clone());
            }
            if at.is_some_and(|at| at <= now) {
                return true;
            }
        }
    }
}

/// One line.
fn row(bytes: u32) -> CopyData {
    let mut row = vec![b'x'; bytes.saturating_sub(1) as usize];
    row.push(b'\n');
    CopyData::new(Bytes::from(row))
}
