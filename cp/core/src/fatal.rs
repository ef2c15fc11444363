//! What a client is told when its session ends: the one place that builds errors for the wire.
//!
//! The texts are PostgreSQL's own, because drivers and pools match them; DETAIL says what PostgreSQL has no words for.

use super::EndReason;

/// DETAIL when bytes of a next request had been read and were not forwarded.
pub const NOT_EXECUTED: &str = "The last request was not executed.";

/// A FATAL error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// SQLSTATE.
    pub code: &'static str,
    /// The message, PostgreSQL's wording where it has one.
    pub message: String,
    /// DETAIL.
    pub detail: Option<String>,
}

impl Fatal {
    /// The ErrorResponse: severity in both its fields (S and V), SQLSTATE, message, detail. Source: protocol, "Error and
    /// Notice Message Fields".
    pub fn encode(&self) -> Vec<u8> {
        let mut message = vec![b'E', 0, 0, 0, 0];
        let fields = [
            (b'S', Some("FATAL")),
            (b'V', Some("FATAL")),
            (b'C', Some(self.code)),
            (b'M', Some(self.message.as_str())),
            (b'D', self.detail.as_deref()),
        ];
        for (tag, text) in fields {
            if let Some(text) = text {
                message.push(tag);
                // A zero byte would end the field, and everything after it would be read as another.
                message.extend(text.bytes().filter(|byte| *byte != 0));
                message.push(0);
            }
        }
        message.push(0);
        let length = u32::try_from(message.len() - 1).expect("a FATAL has a few hundred bytes");
        message[1..5].copy_from_slice(&length.to_be_bytes());
        message
    }
}

impl EndReason {
    /// What the client is told; `None` where there is nobody left to tell, or the worker has told it.
    ///
    /// `about` fills in what only the caller knows: the worker's name, what was malformed.
    pub fn fatal(self, about: Option<&str>) -> Option<Fatal> {
        let (code, message) = match self {
            EndReason::Terminate | EndReason::ClientClosed | EndReason::ClientReset | EndReason::LoginFailed => {
                return None;
            }
            EndReason::Boundary
            | EndReason::TransactionGrace
            | EndReason::TransactionBudget
            | EndReason::StallGrace
            | EndReason::Wall
            | EndReason::Administrator
            | EndReason::Quit => ("57P01", "terminating connection due to administrator command"),
            EndReason::ShuttingDown => ("57P03", "the database system is shutting down"),
            EndReason::IdleTimeout => ("57P05", "terminating connection due to idle-session timeout"),
            EndReason::TooManyConnections => ("53300", "sorry, too many clients already"),
            EndReason::HandshakeTimeout => ("57014", "canceling authentication due to timeout"),
            EndReason::WorkerLost => ("08006", "the connection to the worker was lost"),
            EndReason::WorkerUnreachable => ("08006", "could not connect to a worker"),
            EndReason::Panicked => ("XX000", "internal error: the session has failed"),
            EndReason::Malformed => ("08P01", "malformed protocol message"),
            EndReason::WorkerMalformed => ("08P01", "malformed protocol message from the worker"),
        };
        let why = match self {
            EndReason::Boundary => Some("The server shuts down, and idle_grace was over for this idle session."),
            EndReason::ShuttingDown => Some("The server shuts down, and accepts no session behind its lame_duck."),
            EndReason::IdleTimeout => Some("The session was idle for idle_timeout."),
            EndReason::HandshakeTimeout => Some("The session had not begun within session_init_timeout."),
            EndReason::TransactionGrace => Some("The transaction paused for longer than transaction_grace."),
            EndReason::TransactionBudget => Some("The pauses of the transaction exceeded transaction_budget."),
            EndReason::StallGrace => Some("No byte of the statement moved for longer than stall_grace."),
            EndReason::Wall => Some("The drain reached its wall while the session was still there."),
            EndReason::Administrator => Some("An administrator ended this session."),
            _ => None,
        };
        let detail = about.or(why).map(str::to_owned);
        Some(Fatal { code, message: message.to_owned(), detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fatal_has_both_severities_and_a_length_that_counts_itself_but_not_the_type() {
        let fatal = EndReason::Boundary.fatal(Some(NOT_EXECUTED)).unwrap().encode();
        assert_eq!(fatal[0], b'E');
        assert_eq!(u32::from_be_bytes(fatal[1..5].try_into().unwrap()) as usize, fatal.len() - 1);
        let text = String::from_utf8(fatal[5..].to_vec()).unwrap();
        assert_eq!(
            text,
            "SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\
             DThe last request was not executed.\0\0"
        );
    }

    #[test]
    fn a_zero_byte_in_what_it_is_about_ends_no_field() {
        let fatal = EndReason::WorkerUnreachable.fatal(Some("a\0b")).unwrap().encode();
        assert!(fatal.ends_with(b"Dab\0\0"));
    }

    #[test]
    fn a_client_that_left_or_that_its_worker_has_told_is_told_nothing() {
        for reason in EndReason::ALL {
            assert_eq!(
                reason.fatal(None).is_none(),
                reason.by_client() || reason == EndReason::LoginFailed,
                "{reason}"
            );
        }
    }

    #[test]
    fn a_client_that_a_clock_has_ended_is_told_which() {
        use EndReason::*;
        for reason in [Boundary, IdleTimeout, HandshakeTimeout, TransactionGrace, TransactionBudget, StallGrace, Wall] {
            let (detail, clock) = (reason.fatal(None).unwrap().detail.unwrap(), reason.clock().unwrap());
            assert!(detail.contains(clock), "{detail}");
        }
        assert!(ShuttingDown.fatal(None).unwrap().detail.unwrap().contains("lame_duck"));
    }
}
