//! Replication by hand: follows a stream that has no end of its own, and reports how far it has come.

use bytes::{BufMut, BytesMut};
use lastcall_world::World;
use pgwire::messages::copy::{CopyData, CopyDone};
use pgwire::messages::simplequery::Query;

use super::super::actor::{Actor, put};
use super::super::raw_link::RawLink;
use super::super::statement::Action;
use crate::cast::history::Event;
use crate::scenario::model::{Patience, Replication};

/// A standby's status update: its type, three positions, a time, and whether it wants an answer.
const STATUS_BYTES: usize = 34;

/// Asks for the stream and reads it, until it is to end it. False if the client can't go on.
pub(super) async fn follow<W: World>(actor: &mut Actor<W>, link: &mut RawLink<W>, step: &Replication) -> bool {
    let replicate = Action::Replicate { every: step.every.0, bytes: step.row_bytes };
    put(&Query::new(actor.unsent_statement(replicate).to_string()), link.out());
    actor.record(Event::BatchFed { conn: actor.conn() });
    if !link.until(actor, RawLink::replicates).await {
        return false;
    }
    let end = match step.replication {
        Patience::For(length) => Some(actor.now() + length),
        Patience::Forever => None,
    };
    loop {
        let next = actor.now() + step.status.0;
        let next = end.map_or(next, |end| end.min(next));
        if !link.until_time(actor, next, |_| false).await {
            return false;
        }
        if Some(next) == end {
            put(&CopyDone::new(), link.out());
            actor.record(Event::BatchFed { conn: actor.conn() });
            return link.until(actor, |link| !link.replicates()).await;
        }
        put(&status(), link.out());
    }
}

fn status() -> CopyData {
    let mut status = BytesMut::with_capacity(STATUS_BYTES);
    status.put_u8(b'r');
    status.put_bytes(0, STATUS_BYTES - 1);
    CopyData::new(status.freeze())
}
