//! What an administrator may ask without a signal, and the answers. The watch over the process takes the orders one by one,
//! between signals, so that each is answered about one state of the process.

use tokio::sync::{mpsc, oneshot};

use crate::admin::MAX_ADMIN_CONNECTIONS;
use lastcall_world::Signal;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Drain.
    Begin,
    /// Take the drain back.
    Recall,
    /// End the connection of this number.
    End(u32),
    /// Leave the listening sockets to the next process, and drain.
    HandOver,
    /// Accept again, for the next process has died, and take back the drain that it began.
    TakeBack,
    /// The next process has the listening sockets for good.
    Settle,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The drain has begun.
    Begun,
    /// A drain was under way.
    UnderWay,
    /// The drain is taken back.
    Recalled,
    /// There is no drain to take back.
    NoDrain,
    /// This signal has come: it stays.
    Signalled(Signal),
    /// The policy has closed the listener: it stays.
    Deaf,
    /// The next process accepts: it stays.
    HandedOver,
    /// The connection is being ended.
    Ended,
    /// It ends already.
    EndsAlready,
    /// There is no such connection.
    NotHere,
    /// The process is exiting.
    Exiting,
}

/// One question, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) ask: Ask,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// Where orders are given. Clones give them to the same watch.
#[derive(Clone, Debug)]
pub(crate) struct Orders(mpsc::Sender<Order>);

/// Where orders are given, and where they are taken.
pub(crate) fn orders() -> (Orders, mpsc::Receiver<Order>) {
    // A connection asks one thing at a time, and so does a handover: none ever waits for room.
    let (sender, receiver) = mpsc::channel(2 * MAX_ADMIN_CONNECTIONS + 1);
    (Orders(sender), receiver)
}

impl Orders {
    /// Gives an order. Once nobody takes them any more the process is exiting.
    pub(crate) async fn give(&self, ask: Ask) -> Answer {
        let (answer, answered) = oneshot::channel();
        if self.0.send(Order { ask, answer }).await.is_err() {
            return Answer::Exiting;
        }
        answered.await.unwrap_or(Answer::Exiting)
    }
}
