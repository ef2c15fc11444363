//! The last words to a client: how long they may take, and when they have arrived.
//!
//! After them our side ends, and what the client still sends is read and thrown away. It is over when the client's machine
//! has acknowledged everything and the client has ended its own side; or when it has acknowledged nothing for
//! `close_linger`, or too little for too long. A connection closed before would be reset over unread bytes, or lose what is
//! still in a send buffer of ours with this machine.

use std::time::Duration;

use super::drain::{Drain, Verdict};
use super::time::Time;

/// Pauses between two looks at what has been acknowledged: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// One client's goodbye.
#[derive(Clone, Copy, Debug)]
pub struct Goodbye {
    begun: Time,
    /// Until then the client may be silent.
    linger: Time,
    /// When to look next, and how long after that the time after.
    look: Time,
    pause: Duration,
    /// Bytes that its machine had not acknowledged at the last look, those not sent yet included.
    unacknowledged: usize,
    /// There is something to say: known from the start, or because the first look found an answer that is not acknowledged.
    spoken: bool,
}

impl Goodbye {
    /// There is something to be said.
    pub fn spoken(drain: &Drain, now: Time) -> Self {
        Goodbye {
            begun: now,
            linger: now + drain.settings().close_linger,
            look: now + FIRST_PAUSE,
            pause: FIRST_PAUSE,
            unacknowledged: usize::MAX,
            spoken: true,
        }
    }

    /// There is nothing to be said, and perhaps an answer is still on its way: the first look tells.
    pub fn silent(drain: &Drain, now: Time) -> Self {
        Goodbye { look: now, spoken: false, ..Goodbye::spoken(drain, now) }
    }

    /// Whether our side is to end behind what is sent.
    pub const fn has_begun(&self) -> bool {
        self.spoken
    }

    /// Whether everything is acknowledged, as far as is known.
    pub const fn has_arrived(&self) -> bool {
        self.unacknowledged == 0
    }

    /// The next look is at `at`, if that is earlier.
    pub fn look_at(&mut self, at: Time) {
        self.look = self.look.min(at);
    }

    /// `unacknowledged` bytes, those not sent yet included, had not arrived at `now`.
    pub fn handle_look(&mut self, unacknowledged: usize, drain: &Drain, now: Time) {
        if unacknowledged < self.unacknowledged {
            self.linger = now + drain.settings().close_linger;
        }
        self.spoken |= unacknowledged > 0;
        self.unacknowledged = unacknowledged;
        self.look = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Until when it may last, unless more is acknowledged.
    pub fn deadline(&self, drain: &Drain) -> Time {
        self.linger.min(drain.farewell_deadline(self.begun))
    }

    /// What is to be done at `now` for a client that has `ended` its side, or not.
    pub fn verdict(&self, ended: bool, drain: &Drain, now: Time) -> Verdict {
        let deadline = self.deadline(drain);
        if !self.has_arrived() && self.look <= now {
            Verdict::LookNow
        } else if self.has_arrived() && (ended || !self.spoken) || deadline <= now {
            Verdict::LetGo
        } else {
            Verdict::CarryOn
        }
    }

    /// When [`Goodbye::verdict`] must be asked again although nothing has happened.
    pub fn next_timeout(&self, drain: &Drain) -> Time {
        let deadline = self.deadline(drain);
        if self.has_arrived() { deadline } else { self.look.min(deadline) }
    }
}
