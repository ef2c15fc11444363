//! START_REPLICATION: a stream of CopyData that has no end of its own.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use lastcall_world::World;
use pgwire::messages::copy::{CopyBothResponse, CopyData, CopyDone};

use super::Session;
use crate::cast::worker::trouble::{SqlError, Stop};

/// The header of XLogData: its type, two positions and a time.
const XLOG_HEADER_BYTES: usize = 25;

impl<W: World> Session<W> {
    /// Sends a piece of the log as often as `every` says, takes the client's status updates, and ends when the client says
    /// CopyDone.
    pub(super) async fn replicate(&mut self, every: Duration, bytes: u32) -> Result<(), Stop> {
        self.wire.put(&CopyBothResponse::new(0, 0, vec![]));
        self.wire.flush().await?;
        let piece = piece(bytes);
        let mut next = self.world.now() + every;
        loop {
            while let Some(frame) = self.wire.whole_frame().map_err(|bad| SqlError::new("08P01", bad.0))? {
                match frame.kind {
                    b'd' => {}
                    b'c' => {
                        self.wire.put(&CopyDone::new());
                        self.complete("COPY 0");
                        return Ok(());
                    }
                    b'X' => return Err(Stop::Closed),
                    kind => {
                        let text = format!("unexpected message type \"{}\"", char::from(kind));
                        return Err(SqlError::new("08P01", text).into());
                    }
                }
            }
            if self.world.now() >= next {
                self.wire.put(&piece);
                self.wire.flush().await?;
                next = next + every;
            }
            let mut alarm = pin!(self.world.sleep_until(next));
            let (wire, orders) = (&mut self.wire, &mut self.take.orders);
            poll_fn(|cx| {
                if let Poll::Ready(farewell) = orders.poll_end(cx) {
                    return Poll::Ready(Err(Stop::Told(farewell)));
                }
                match wire.poll_fill(cx) {
                    Poll::Ready(filled) => Poll::Ready(filled.map_err(Stop::from)),
                    Poll::Pending => alarm.as_mut().poll(cx).map(Ok),
                }
            })
            .await?;
        }
    }
}

fn piece(bytes: u32) -> CopyData {
    let mut piece = BytesMut::with_capacity(XLOG_HEADER_BYTES + bytes as usize);
    piece.put_u8(b'w');
    piece.put_bytes(0, XLOG_HEADER_BYTES - 1);
    piece.put_bytes(b'x', bytes as usize);
    CopyData::new(piece.freeze())
}
