//! COPY FROM STDIN and COPY TO STDOUT, in text format, one column.

use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use lastcall_world::World;
use pgwire::messages::copy::{CopyData, CopyDone, CopyInResponse, CopyOutResponse};

use super::{Protocol, Session};
use crate::cast::frame::{Fields, Frame};
use crate::cast::history::Event;
use crate::cast::statement::{CopyInto, Statement, Work};
use crate::cast::worker::prepared::Progress;
use crate::cast::worker::trouble::{SqlError, Stop};
use crate::cast::worker::wire::Closed;

/// The text format, for the whole and for the one column.
const TEXT: i8 = 0;
const TEXT_COLUMN: i16 = 0;

/// The type of Terminate.
const TERMINATE: u8 = b'X';

impl<W: World> Session<W> {
    /// Takes rows to CopyDone. Their line breaks are counted, wherever messages begin and end.
    ///
    /// As in PostgreSQL, Flush and Sync are ignored meanwhile, and a cancel request is noticed behind the next message, not
    /// while it waits for one. A target that takes no rows, and a statement trigger that is cancelled, fail it behind
    /// CopyInResponse and before the first message is read: a Sync that waits there is then answered.
    pub(super) async fn copy_in(
        &mut self,
        statement: &Statement,
        into: CopyInto,
        protocol: Protocol,
    ) -> Result<Progress, Stop> {
        if into == CopyInto::Missing {
            return Err(SqlError::new("42P01", "relation \"missing\" does not exist").into());
        }
        self.wire.put(&CopyInResponse::new(TEXT, 1, vec![TEXT_COLUMN]));
        // The client sends nothing before it knows that it may.
        self.push().await?;
        match into {
            CopyInto::View => return Err(SqlError::new("42809", "cannot copy to view \"view\"").into()),
            CopyInto::Triggered(works) => {
                // It has asked for input, and works instead.
                let worker_session = self.take.number;
                self.record(Event::WorkerWaits { worker_session, for_input: true });
                self.record(Event::WorkerGoesOn { worker_session });
                self.busy_until(self.world.now() + works).await?;
            }
            CopyInto::Table | CopyInto::Missing => {}
        }
        let mut rows: u32 = 0;
        loop {
            let Frame { kind, body } = self.copy_message().await?;
            if self.is_cancelled().await {
                return Err(Stop::Cancelled);
            }
            match kind {
                b'd' => {
                    let lines = body.iter().filter(|byte| **byte == b'\n').count();
                    rows = rows.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
                }
                b'c' => break,
                b'f' => {
                    let reason = Fields::of(body).string().unwrap_or_default();
                    return Err(SqlError::new("57014", format!("COPY from stdin failed: {reason}")).into());
                }
                b'H' | b'S' => {}
                // PostgreSQL answers with an error that it did not expect this. Who says goodbye does not read it.
                TERMINATE => return Err(Stop::Closed),
                kind => {
                    let text = format!("unexpected message type 0x{kind:02X} during COPY from stdin");
                    return Err(SqlError::new("08P01", text).into());
                }
            }
        }
        self.transaction.insert(statement.tag.clone(), rows)?;
        self.commit_before_the_answer(protocol);
        Ok(self.complete(&format!("COPY {rows}")))
    }

    async fn copy_message(&mut self) -> Result<Frame, Stop> {
        loop {
            // What is no message ends the session when it goes on reading; here it is only an error of the statement.
            let whole = self.wire.whole_frame().map_err(|malformed| SqlError::new("08P01", malformed.0))?;
            match whole {
                Some(frame) => return Ok(frame),
                // A goodbye is no byte of the statement.
                None => {
                    self.patiently(true, |wire, cx| match wire.poll_fill(cx) {
                        Poll::Ready(Ok(())) if wire.begins_with(TERMINATE) => Poll::Ready(Err(Closed)),
                        filled => filled,
                    })
                    .await?;
                }
            }
        }
    }

    /// Sends rows, each when it is due; those that are overdue because the socket took nothing go out at once.
    pub(super) async fn copy_out(&mut self, work: &Work, protocol: Protocol) -> Result<Progress, Stop> {
        self.wire.put(&CopyOutResponse::new(TEXT, 1, vec![TEXT_COLUMN]));
        let began = self.world.now();
        let row = row(work.row_bytes);
        for number in 1..=work.rows {
            let due = began + evenly(work.takes, number, work.rows);
            if due > self.world.now() {
                self.busy_until(due).await?;
            }
            self.wire.put(&row);
            self.spill().await?;
            if self.is_cancelled().await {
                return Err(Stop::Cancelled);
            }
        }
        // Without rows, this is all that it takes.
        self.busy_until(began + work.takes).await?;
        if let Some(code) = &work.fails {
            return Err(SqlError::new(code, "failed as the scenario asked").into());
        }
        self.wire.put(&CopyDone::new());
        self.commit_before_the_answer(protocol);
        Ok(self.complete(&format!("COPY {}", work.rows)))
    }
}

/// When the row `number` of `rows` is due, in a statement that takes so long.
fn evenly(takes: Duration, number: u32, rows: u32) -> Duration {
    // A u128 holds the nanoseconds of all spans times all row numbers.
    let nanos = takes.as_nanos() * u128::from(number) / u128::from(rows.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn row(bytes: u32) -> CopyData {
    let mut row = BytesMut::with_capacity(bytes as usize);
    row.put_bytes(b'x', bytes.saturating_sub(1) as usize);
    row.put_u8(b'\n');
    CopyData::new(row.freeze())
}
