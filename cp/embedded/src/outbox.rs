//! What a session's thread sends to its client: messages in batches, through a channel that holds few of them.

use pgwire::api::results::Tag;
use pgwire::error::ErrorInfo;
use pgwire::messages::PgWireBackendMessage as Message;
use pgwire::messages::response::TransactionStatus;
use tokio::sync::mpsc;

use crate::failure::Failure;

/// A batch is sent when it has so many messages or bytes. The bytes are those of rows; a row is as long as it is.
const BATCH_MESSAGES: usize = 256;
const BATCH_BYTES: usize = 64 * 1024;

/// How many batches wait for the client; one more is being made, and one being sent.
pub(crate) const BATCHES: usize = 2;

/// What comes out of the channel.
#[derive(Debug)]
pub(crate) enum Output {
    Messages(Vec<Message>),
    /// The last.
    End(End),
}

/// How a job has ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: TransactionStatus,
    pub(crate) result: Result<Ended, Box<ErrorInfo>>,
}

/// Whether there is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Complete,
    /// The portal has more rows than were asked for.
    Suspended,
}

/// The sending end. Blocks while the client doesn't read.
#[derive(Debug)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<Output>,
    batch: Vec<Message>,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn new(sender: mpsc::Sender<Output>) -> Outbox {
        Outbox { sender, batch: Vec::new(), bytes: 0 }
    }

    /// Fails when the client is gone.
    pub(crate) fn push(&mut self, message: Message) -> Result<(), Failure> {
        if let Message::DataRow(row) = &message {
            self.bytes += row.data.len();
        }
        self.batch.push(message);
        match self.batch.len() < BATCH_MESSAGES && self.bytes < BATCH_BYTES {
            true => Ok(()),
            false => self.flush(),
        }
    }

    pub(crate) fn complete(&mut self, tag: &str) -> Result<(), Failure> {
        self.push(Message::CommandComplete(Tag::new(tag).into()))
    }

    /// A warning, which goes before what it is about.
    pub(crate) fn warn(&mut self, code: &str, message: &str) -> Result<(), Failure> {
        let mut info = ErrorInfo::new("WARNING".to_owned(), code.to_owned(), message.to_owned());
        info.severity_nonlocalized = Some("WARNING".to_owned());
        self.push(Message::NoticeResponse(info.into()))
    }

    pub(crate) fn end(mut self, end: End) {
        // A client that is gone is noticed where the next job doesn't come.
        if self.flush().is_ok() {
            let _ = self.sender.blocking_send(Output::End(end));
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.bytes = 0;
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.sender.blocking_send(Output::Messages(batch)).map_err(|_| Failure::ended())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::values::text_row;

    #[test]
    fn a_client_that_reads_slowly_holds_the_producer_back() {
        const ROWS: usize = 1_000_000;
        let (sender, mut receiver) = mpsc::channel(BATCHES);
        let produced = Arc::new(AtomicUsize::new(0));
        let producer = {
            let produced = produced.clone();
            std::thread::spawn(move || {
                let mut outbox = Outbox::new(sender);
                for _ in 0..ROWS {
                    outbox.push(Message::DataRow(text_row("x"))).unwrap();
                    produced.fetch_add(1, Ordering::SeqCst);
                }
                outbox.end(End { status: TransactionStatus::Idle, result: Ok(Ended::Complete) });
            })
        };
        let mut received = 0;
        while let Some(Output::Messages(batch)) = receiver.blocking_recv() {
            received += batch.len();
            // As far ahead as it comes.
            while receiver.len() < BATCHES && !producer.is_finished() && received < ROWS - BATCHES * BATCH_MESSAGES {
                std::thread::yield_now();
            }
            let ahead = produced.load(Ordering::SeqCst).saturating_sub(received);
            assert!(ahead <= (BATCHES + 1) * BATCH_MESSAGES, "{ahead} rows ahead");
        }
        assert_eq!(received, ROWS);
        producer.join().unwrap();
    }

    #[test]
    fn long_rows_make_short_batches() {
        let (sender, mut receiver) = mpsc::channel(BATCHES);
        let long = "x".repeat(BATCH_BYTES);
        Outbox::new(sender).push(Message::DataRow(text_row(&long))).unwrap();
        assert!(matches!(receiver.try_recv(), Ok(Output::Messages(batch)) if batch.len() == 1));
    }

    #[test]
    fn a_client_that_is_gone_ends_the_producer() {
        let (sender, receiver) = mpsc::channel(BATCHES);
        drop(receiver);
        let mut outbox = Outbox::new(sender);
        assert!((0..=BATCH_MESSAGES).any(|_| outbox.push(Message::DataRow(text_row("x"))).is_err()));
    }
}
