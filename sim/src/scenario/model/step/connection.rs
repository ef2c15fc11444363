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
    /// Version of the protocol to ask for: `"3.0"` (default), or `"3.2"`, in which secrets of cancel keys are longer.
    #[schemars(default)]
    pub version: Version,
}

/// Which version of PostgreSQL's protocol a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Version {
    /// As every driver speaks it.
    #[default]
    #[serde(rename = "3.0")]
    V3_0,
    /// Of PostgreSQL 18.
    #[serde(rename = "3.2")]
    V3_2,
}

impl Version {
    /// Every one.
    pub const ALL: [Version; 2] = [Version::V3_0, Version::V3_2];

    /// The word in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Version::V3_0 => "3.0",
            Version::V3_2 => "3.2",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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

/// `"close"`, or `{ close = "half" }`: FIN without Terminate.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Close {
    /// `"full"`: nobody is there any more, as when the client's process is killed; what still arrives is answered with a
    /// reset. `"half"`: the client sends nothing more, and reads on to the end.
    pub close: Closing,
}

/// How much of a connection its client closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Closing {
    /// Both directions.
    #[default]
    Full,
    /// Its own.
    Half,
}

impl Closing {
    /// Every one.
    pub const ALL: [Closing; 2] = [Closing::Full, Closing::Half];

    /// The word in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Closing::Full => "full",
            Closing::Half => "half",
        }
    }
}

impl fmt::Display for Closing {
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
