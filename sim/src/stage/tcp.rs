//! What TCP does by the clock, with Linux's numbers: for engines whose network has no clocks of its own.

use std::time::Duration;

/// 60 s idle, then 3 probes, 10 s apart.
const KEEPALIVE: Duration = Duration::from_secs(60 + 3 * 10);

/// `tcp_syn_retries` = 6: 1 + 2 + 4 + … + 64 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);

/// The first retransmission of a network that is fast when it works, and of a SYN.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(200);
const RETRANSMIT_SYN_AFTER: Duration = Duration::from_secs(1);

/// The longest pause between two retransmissions.
const RETRANSMIT_AT_LEAST_EVERY: Duration = Duration::from_secs(120);

/// A socket that hears nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    pub(super) since: Duration,
    /// Since when something was sent and not acknowledged.
    pub(super) unacknowledged: Option<Duration>,
    pub(super) user_timeout: Duration,
    pub(super) connects: bool,
}

impl Silence {
    /// When the socket gives up.
    pub(super) fn ends(self) -> Duration {
        match self.unacknowledged {
            Some(since) if self.connects => since + CONNECT_TIMEOUT,
            Some(since) => since + self.user_timeout,
            None => self.since + KEEPALIVE,
        }
    }
}

/// The first time not before `now` at which a kernel sends again what was lost.
pub(super) fn next_retransmission(lost: Duration, syn: bool, now: Duration) -> Duration {
    let mut pause = if syn { RETRANSMIT_SYN_AFTER } else { RETRANSMIT_AFTER };
    let mut at = lost + pause;
    while at < now {
        pause = (pause * 2).min(RETRANSMIT_AT_LEAST_EVERY);
        at += pause;
    }
    at
}
