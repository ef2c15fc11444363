//! COPY FROM STDIN by hand: rows at their own pace, kept back as client libraries keep them back, or never ended.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cp::core::Time;
use cp::world::World;
use pgwire::messages::copy::{CopyData, CopyDone, CopyFail};
use pgwire::messages::simplequery::Query;

use super::super::actor::{Actor, put};
use super::super::raw_link::RawLink;
use super::super::statement::{Action, Statement};
use crate::scenario::model::CopyIn;

/// Rows that a client without pauses hands over before it waits for the socket.
const MAX_UNWRITTEN: usize = 64 * 1024;

/// Asks for the COPY, sends its rows, and waits for the answer. False if the client can't go on.
pub(super) async fn send<W: World>(actor: &mut Actor<W>, link: &mut RawLink<W>, step: &CopyIn) -> bool {
    let statement = actor.statement(Action::CopyIn);
    actor.request_sent(&statement);
    put(&Query::new(statement.to_string()), link.out());
    link.ledger().sync(Some(statement.tag.clone()));
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
        if !self.wait(None, RawLink::copies_in).await {
            return false;
        }
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
        if self.link.copies_in() && step.stops_after.is_none() {
            self.hand_over();
            if step.fails {
                put(&CopyFail::new("the client gave up".to_owned()), self.link.out());
            } else {
                put(&CopyDone::new(), self.link.out());
            }
        }
        self.wait(None, |_| false).await
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
