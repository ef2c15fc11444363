//! Whose connection it is, as the log, the end records and the admin port tell it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The client at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    /// Where it connected from.
    pub(crate) peer: SocketAddr,
    /// What it calls itself; none before its startup packet is complete.
    pub(crate) names: Option<Arc<Names>>,
}

/// What a startup packet says about its client: texts of the client's choice, cut and with everything invisible escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// `user`.
    pub(crate) user: String,
    /// `database`; PostgreSQL's default, the user's name, if it had none.
    pub(crate) database: String,
    /// `application_name`; empty if it had none.
    pub(crate) application: String,
}

impl Who {
    /// Somebody who has not said who it is.
    pub(crate) const fn unnamed(peer: SocketAddr) -> Who {
        Who { peer, names: None }
    }
}

/// What to call it in a few letters: its application, or its user, or its address.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.names {
            Some(names) if names.application.is_empty() => f.write_str(&names.user),
            Some(names) => f.write_str(&names.application),
            None => self.peer.fmt(f),
        }
    }
}
