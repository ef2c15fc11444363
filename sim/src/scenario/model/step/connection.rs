//! Steps that act on the connection itself.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::super::super::units::{Reading, Span};

/// `"connect"`, or with options `{ connect = { user = "app" } }`.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Connect {
    /// `user` of the startup packet. Default `app`.
    pub user: Option<String>,
    /// `database` of the startup packet. Default `app`.
    pub database: Option<String>,
    /// Ask for TLS first, as libpq's `sslmode=prefer` does; the answer is no, and the client goes on in the clear.
    #[schemars(default)]
    pub tls: bool,
    /// How far to go: `"ready"` (default), or no further than TCP (`"tcp"`), the answer to the request for TLS (`"tls"`),
    /// half of the startup packet (`"startup"`), or the worker's question for a password (`"password"`).
    #[schemars(default)]
    pub until: Until,
    /// Pause between the TCP connection and the startup packet.
    #[schemars(default)]
    pub pause: Span,
}

/// How far a connect step goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// To the first ReadyForQuery.
    #[default]
    Ready,
    /// TCP only: not a byte is sent.
    Tcp,
    /// TLS is asked for and the answer read, and nothing more is sent.
    Tls,
    /// The first half of the startup packet is sent, and nothing more.
    Startup,
    /// The whole startup packet is sent; the worker asks for a password and never gets it.
    Password,
}

impl Until {
    /// Every one.
    pub const ALL: [Until; 5] = [Until::Ready, Until::Tcp, Until::Tls, Until::Startup, Until::Password];

    /// The word in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Until::Ready => "ready",
            Until::Tcp => "tcp",
            Until::Tls => "tls",
            Until::Startup => "startup",
            Until::Password => "password",
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `{ read = "stop" }`, `{ read = "100B/s" }`, `{ read = "resume" }`: how the client reads from here on.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ReadAt {
    /// `"stop"`: not at all, so that it sees neither answers nor the end of the connection. A rate such as `"100B/s"`,
    /// `"5KB/s"` or `"1MB/s"`: so many bytes each second. `"resume"`: everything, as at first.
    pub read: Reading,
}
