//! How far the worker's answers have come on their way to the client's machine.
//!
//! Delivered means acknowledged: what a kernel on this side has taken is lost with this machine, and says nothing of how fast
//! the client reads. So a boundary needs an answer whose last byte is acknowledged, and a client is stalled when nothing more
//! of it is. Nobody is told when that happens: whoever owns the socket has to *look* (on Linux, SIOCOUTQ). This value says
//! when a look is worth its system call: only where a decision waits for it.

use std::time::Duration;

use super::time::Time;

/// Between the first two looks at an answer that was not yet acknowledged; each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// What is known of one connection's output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery {
    /// Bytes of the worker's that the client's socket has taken.
    written: u64,
    /// Bytes that wait, because it takes no more.
    waiting: usize,
    /// How many of those written the client's machine had acknowledged at the last look.
    acknowledged: u64,
    /// The last look found an answer that was not acknowledged to its end.
    late: bool,
    /// When to look next, and how long after that the time after; meaningful while `late` or blocked.
    next: Time,
    pause: Duration,
}

impl Delivery {
    /// The client's socket took `taken` bytes; `waiting` are left because it takes no more.
    pub fn handle_written(&mut self, taken: usize, waiting: usize) {
        self.written += taken as u64;
        self.waiting = waiting;
    }

    /// At `now` the client's machine had not acknowledged `unacknowledged` bytes of what was written to it. The last answer
    /// ends behind `answer_end` bytes. Returns whether it had acknowledged more than at the last look.
    pub fn handle_look(&mut self, unacknowledged: usize, answer_end: u64, longest: Duration, now: Time) -> bool {
        let acknowledged = self.written.saturating_sub(unacknowledged as u64);
        let progress = acknowledged > self.acknowledged;
        self.acknowledged = self.acknowledged.max(acknowledged);
        let late = answer_end > self.acknowledged;
        self.pause = if late && self.late { (self.pause * 2).min(longest) } else { FIRST_PAUSE.min(longest) };
        self.late = late;
        self.next = now + if self.is_blocked() { longest } else { self.pause };
        progress
    }

    /// The next look is at `at`.
    pub fn look_at(&mut self, at: Time) {
        self.next = at;
    }

    /// Whether the client's socket takes no more.
    pub const fn is_blocked(&self) -> bool {
        self.waiting > 0
    }

    /// Whether bytes of an answer that ends behind `answer_end` bytes still wait for room in the client's socket.
    pub const fn holds_answer(&self, answer_end: u64) -> bool {
        self.waiting > 0 && answer_end > self.written
    }

    /// Whether an answer that ends behind `answer_end` bytes is known to be acknowledged.
    pub const fn is_delivered(&self, answer_end: u64) -> bool {
        self.acknowledged >= answer_end
    }

    /// Whether the last look found the answer not acknowledged.
    pub const fn is_late(&self) -> bool {
        self.late
    }

    /// When to look again at an answer that is late, or at a socket that takes no more.
    pub const fn next(&self) -> Time {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(3);

    fn ms(ms: u64) -> Time {
        Time::from_epoch(Duration::from_millis(ms))
    }

    #[test]
    fn an_answer_is_delivered_when_its_last_byte_is_acknowledged_whatever_came_behind_it() {
        let mut delivery = Delivery::default();
        delivery.handle_written(100, 0);
        assert!(!delivery.is_delivered(60), "nobody has looked");
        assert!(delivery.handle_look(50, 60, LONGEST, ms(0)));
        assert!(delivery.is_late());
        assert!(delivery.handle_look(40, 60, LONGEST, ms(1)));
        assert!(delivery.is_delivered(60) && !delivery.is_late());
        assert!(!delivery.handle_look(40, 60, LONGEST, ms(2)), "no more than before");
    }

    #[test]
    fn an_answer_is_held_while_its_last_byte_waits_for_room_and_not_by_what_comes_behind_it() {
        let mut delivery = Delivery::default();
        delivery.handle_written(10, 5);
        assert!(delivery.is_blocked() && delivery.holds_answer(11) && !delivery.holds_answer(10));
        delivery.handle_written(5, 0);
        assert!(!delivery.is_blocked() && !delivery.holds_answer(16), "nothing waits");
    }

    #[test]
    fn looks_are_further_and_further_apart_up_to_the_longest_pause() {
        let mut delivery = Delivery::default();
        delivery.handle_written(10, 0);
        let mut now = ms(0);
        let mut pauses = Vec::new();
        for _ in 0..4 {
            delivery.handle_look(10, 10, LONGEST, now);
            pauses.push(delivery.next().since(now));
            now = delivery.next();
        }
        assert_eq!(pauses, [1, 2, 3, 3].map(Duration::from_millis));
    }
}
