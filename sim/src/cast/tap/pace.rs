//! How fast a client reads.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use lastcall_world::World;

use crate::scenario::model::{Rate, Reading};

/// What may be read, and when more.
#[derive(Default)]
pub(super) struct Pace {
    reading: Reading,
    /// At a rate: what is left of this second.
    left: usize,
    /// At a rate: when the second is over.
    second: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

const SECOND: Duration = Duration::from_secs(1);

impl Pace {
    /// Reads like this from here on; returns how it read before. Whoever waits for bytes must poll again.
    pub(super) fn set(&mut self, reading: Reading) -> Reading {
        self.second = None;
        std::mem::replace(&mut self.reading, reading)
    }

    /// Whether nothing is read.
    pub(super) fn is_stopped(&self) -> bool {
        self.reading == Reading::Stop
    }

    /// Ready with how many bytes may be read now. A second that was not used up leaves nothing for the next.
    pub(super) fn poll_most<W: World>(&mut self, world: &W, cx: &mut Context<'_>) -> Poll<usize> {
        let rate = match self.reading {
            Reading::Resume => return Poll::Ready(usize::MAX),
            Reading::Stop => return Poll::Pending,
            Reading::Rate(Rate(rate)) => rate,
        };
        if self.second.as_mut().is_none_or(|second| second.as_mut().poll(cx).is_ready()) {
            self.left = usize::try_from(rate.get()).unwrap_or(usize::MAX);
            self.second = Some(Box::pin(world.sleep_until(world.now() + SECOND)));
        }
        if self.left > 0 { Poll::Ready(self.left) } else { Poll::Pending }
    }

    /// So many bytes were read.
    pub(super) fn has_read(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}
