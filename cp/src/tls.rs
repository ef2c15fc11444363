//! TLS towards clients and workers: which certificates, who must show one, and what is told to whom.
//!
//! The bytes under it are [`wire`]'s. What is read from files is read again on SIGHUP, and when the files change: everything
//! or nothing, and sessions that are there go on with what they have.
//!
//! Sources: PostgreSQL's protocol, "SSL Session Encryption"; libpq's `sslmode` and `sslnegotiation`; RFC 7301 (ALPN).

mod binding;
mod early;
mod files;
mod verifier;
mod wire;

use std::fmt;
use std::io;
use std::sync::RwLock;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use crate::sync::Arc;
use binding::Binding;
pub use files::{Reload, TlsError, TlsFiles};
use lastcall_core::startup::SSL_REQUEST_PACKET;
use lastcall_world::Stream;
pub(crate) use wire::{Link, Wire};

/// The protocol's name in a handshake.
pub(crate) const ALPN: &[u8] = b"postgresql";

/// How a connection to a worker is encrypted: libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Not at all.
    #[default]
    Disable,
    /// If the worker offers it. Who it is is not looked at.
    Prefer,
    /// Always. Who it is is not looked at.
    Require,
    /// Always, and one that is trusted has signed its certificate.
    VerifyCa,
    /// Also, its certificate is for the name under which it is reached.
    VerifyFull,
}

impl SslMode {
    /// Every mode, the weakest first.
    pub const ALL: [SslMode; 5] =
        [SslMode::Disable, SslMode::Prefer, SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull];

    /// libpq's name.
    pub const fn name(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }

    /// The mode of this name.
    pub fn named(name: &str) -> Option<SslMode> {
        SslMode::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// TLS as it is set up now. The default offers none and asks for none.
#[derive(Debug, Default)]
pub struct Tls {
    required: bool,
    mode: SslMode,
    loaded: RwLock<Loaded>,
    reload: Reload,
}

/// What the files made.
#[derive(Clone, Debug, Default)]
struct Loaded {
    server: Option<Arc<ServerConfig>>,
    client: Option<Arc<ClientConfig>>,
    /// The certificate that clients see.
    shown: Vec<u8>,
}

impl Tls {
    /// What clients are offered; none if they are offered nothing.
    pub(crate) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.loaded().server
    }

    /// Whether a session in the clear is refused.
    pub(crate) const fn is_required(&self) -> bool {
        self.required
    }

    /// The files are to be read again. Returns whether there is anybody who does.
    pub(crate) fn ask_for_reload(&self) -> bool {
        self.reload.ask()
    }

    /// Encrypts a connection to the worker at `address`, as far as it must be. `client_is_encrypted` says whether the client
    /// it is for could bind its login to a certificate.
    ///
    /// # Errors
    /// The worker's refusal, or the handshake's.
    pub(crate) async fn secure_worker<S: Stream>(
        &self,
        wire: &mut Wire<S>,
        address: &str,
        client_is_encrypted: bool,
    ) -> io::Result<()> {
        let loaded = self.loaded();
        let Some(config) = loaded.client.filter(|_| self.mode != SslMode::Disable) else { return Ok(()) };
        wire.write_all(&SSL_REQUEST_PACKET).await?;
        wire.flush().await?;
        let mut answer = [0];
        wire.read_exact(&mut answer).await?;
        match answer {
            [b'S'] => {}
            [b'N'] if self.mode == SslMode::Prefer => return Ok(()),
            _ => {
                let why = format!("the worker offers no TLS, and worker_sslmode is {}", self.mode);
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
        }
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let shown = loaded.shown;
        let binding = move |certificate: &[u8]| {
            let can_bind = client_is_encrypted && !shown.is_empty() && certificate == shown;
            (!can_bind).then(Binding::default)
        };
        wire.connect(config, name, binding).await
    }

    fn loaded(&self) -> Loaded {
        self.loaded.read().expect("nothing panics while it replaces what is loaded").clone()
    }
}
