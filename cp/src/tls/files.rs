//! Certificates and keys from files: read at the start, on SIGHUP and when they change.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};

use super::verifier::verifier;
use super::{ALPN, Loaded, SslMode, Tls};
use crate::reload;
use crate::sync::Arc;

/// The largest file of certificates, in bytes: some hundred times the usual chain, and every root that the web knows.
const LARGEST: u64 = 1024 * 1024;
/// Between two looks at the files. The kubelet replaces a Secret's files without telling anybody.
const LOOK: Duration = Duration::from_secs(10);

/// What TLS is made from, as the settings say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain that clients see, PEM; without it they are offered no TLS.
    pub cert: Option<String>,
    /// Its key, PEM.
    pub key: Option<String>,
    /// Whoever may sign for clients, PEM; if there is one, a client must show a certificate.
    pub client_ca: Option<String>,
    /// Whether a session in the clear is refused.
    pub required: bool,
    /// How connections to workers are encrypted.
    pub worker_sslmode: SslMode,
    /// Whoever may sign for workers, PEM.
    pub worker_ca: Option<String>,
}

/// What is wrong with what TLS is to be made from.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One setting needs another.
    #[error("{setting} needs {needs}: {why}")]
    Missing {
        /// What was set.
        setting: &'static str,
        /// What is not.
        needs: &'static str,
        /// What for.
        why: &'static str,
    },
    /// A file that can't be read.
    #[error("{setting}: cannot read {path}: {source}")]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// A file that has not what it should have.
    #[error("{setting}: {path}: {reason}")]
    Unusable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Tls {
    /// TLS from these files.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(files: &TlsFiles) -> Result<Tls, TlsError> {
        files.check()?;
        let loaded = files.read()?.load(files)?;
        Ok(Tls {
            required: files.required,
            mode: files.worker_sslmode,
            loaded: loaded.into(),
            reload: Reload::default(),
        })
    }

    /// Reads the files again from here on, when that is asked for and when they have changed, in a thread of its own: a file
    /// system that does not answer holds up no signal. Does nothing where there are none.
    ///
    /// # Errors
    /// If the process can have no more threads.
    #[expect(clippy::disallowed_methods, reason = "files are outside of the world; nothing that is simulated has any")]
    pub fn watch(self: &Arc<Tls>, files: TlsFiles) -> io::Result<()> {
        if files == (TlsFiles { required: files.required, worker_sslmode: files.worker_sslmode, ..TlsFiles::default() })
        {
            return Ok(());
        }
        let (sender, asked) = sync_channel(1);
        *self.reload.0.lock().expect("nothing panics while it holds the sender") = Some(sender);
        let tls = Arc::downgrade(self);
        let watch = move || {
            let mut known = files.read().ok();
            while let Some(is_asked) = next_look(&asked) {
                let Some(tls) = tls.upgrade() else { return };
                tls.look_again(&files, &mut known, is_asked);
            }
        };
        std::thread::Builder::new().name("certificates".to_owned()).spawn(watch).map(|_| ())
    }

    fn look_again(&self, files: &TlsFiles, known: &mut Option<Contents>, is_asked: bool) {
        let contents = match files.read() {
            Ok(contents) => contents,
            Err(error) => {
                // Said once, until it is asked again or can be read.
                if is_asked || known.take().is_some() {
                    tracing::error!(%error, "certificates not reloaded: the ones in use stay");
                }
                return;
            }
        };
        if !is_asked && known.as_ref() == Some(&contents) {
            return;
        }
        match contents.load(files) {
            Ok(loaded) => {
                *self.loaded.write().expect("nothing panics while it replaces what is loaded") = loaded;
                tracing::info!("certificates reloaded: new connections use them");
            }
            Err(error) => tracing::error!(%error, "certificates not reloaded: the ones in use stay"),
        }
        *known = Some(contents);
    }
}

/// Whoever reads the files again, if there is somebody.
#[derive(Debug, Default)]
pub struct Reload(Mutex<Option<SyncSender<()>>>);

impl Reload {
    /// Asks for it. Returns whether there is somebody.
    pub(super) fn ask(&self) -> bool {
        let sender = self.0.lock().expect("nothing panics while it holds the sender");
        // One that is asked already will read what is there now.
        sender.as_ref().is_some_and(|sender| matches!(sender.try_send(()), Ok(()) | Err(TrySendError::Full(()))))
    }
}

/// Waits for the next look: whether it was asked for. None if nobody can ask any more.
fn next_look(asked: &Receiver<()>) -> Option<bool> {
    match asked.recv_timeout(LOOK) {
        Ok(()) => Some(true),
        Err(RecvTimeoutError::Timeout) => Some(false),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// What the files had in them.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
    worker_ca: Option<Vec<u8>>,
}

impl TlsFiles {
    fn check(&self) -> Result<(), TlsError> {
        let missing = |setting, needs, why| Err(TlsError::Missing { setting, needs, why });
        let verifies = matches!(self.worker_sslmode, SslMode::VerifyCa | SslMode::VerifyFull);
        match self {
            TlsFiles { cert: Some(_), key: None, .. } => missing("tls_cert", "tls_key", "the key of that certificate"),
            TlsFiles { cert: None, key: Some(_), .. } => missing("tls_key", "tls_cert", "the certificate of that key"),
            TlsFiles { cert: None, client_ca: Some(_), .. } => {
                missing("tls_client_ca", "tls_cert and tls_key", "without them no client is asked for a certificate")
            }
            TlsFiles { cert: None, required: true, .. } => {
                missing("tls_required", "tls_cert and tls_key", "without them every session would be refused")
            }
            TlsFiles { worker_ca: None, .. } if verifies => {
                missing("worker_sslmode", "worker_tls_ca", "the certificates of those who may sign for a worker")
            }
            _ => Ok(()),
        }
    }

    fn read(&self) -> Result<Contents, TlsError> {
        let read = |setting, path: &Option<String>| {
            let Some(path) = path else { return Ok(None) };
            read(path).map(Some).map_err(|source| TlsError::Unreadable { setting, path: path.clone(), source })
        };
        Ok(Contents {
            cert: read("tls_cert", &self.cert)?,
            key: read("tls_key", &self.key)?,
            client_ca: read("tls_client_ca", &self.client_ca)?,
            worker_ca: read("worker_tls_ca", &self.worker_ca)?,
        })
    }
}

impl Contents {
    /// Everything, or nothing.
    fn load(&self, files: &TlsFiles) -> Result<Loaded, TlsError> {
        let provider = std::sync::Arc::new(ring::default_provider());
        let mut loaded = Loaded::default();
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            let chain = chain("tls_cert", &files.cert, cert)?;
            loaded.shown = chain.first().map(|cert| cert.to_vec()).unwrap_or_default();
            let config = self.server(files, chain, key, &provider)?;
            loaded.server = Some(Arc::new(config));
        }
        if files.worker_sslmode != SslMode::Disable {
            loaded.client = Some(Arc::new(self.client(files, &provider)?));
        }
        Ok(loaded)
    }

    fn server(
        &self,
        files: &TlsFiles,
        chain: Vec<CertificateDer<'static>>,
        key: &[u8],
        provider: &std::sync::Arc<CryptoProvider>,
    ) -> Result<ServerConfig, TlsError> {
        let unusable = |setting, path: &Option<String>, reason: String| unusable(setting, path, reason);
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| unusable("tls_key", &files.key, format!("there is no private key in it: {error}")))?;
        let verifier = match &self.client_ca {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(ca) => {
                let trusted = roots("tls_client_ca", &files.client_ca, ca)?;
                WebPkiClientVerifier::builder_with_provider(std::sync::Arc::new(trusted), provider.clone())
                    .build()
                    .map_err(|error| unusable("tls_client_ca", &files.client_ca, error.to_string()))?
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("tls_cert", &files.cert, error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| unusable("tls_cert", &files.cert, format!("not with the key in tls_key: {error}")))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    fn client(&self, files: &TlsFiles, provider: &std::sync::Arc<CryptoProvider>) -> Result<ClientConfig, TlsError> {
        let trusted = match &self.worker_ca {
            Some(ca) => roots("worker_tls_ca", &files.worker_ca, ca)?,
            None => RootCertStore::empty(),
        };
        let unusable = |reason| unusable("worker_tls_ca", &files.worker_ca, reason);
        let verifier = verifier(files.worker_sslmode, trusted, provider.clone()).map_err(unusable)?;
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A session resumed would show no certificate.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

fn unusable(setting: &'static str, path: &Option<String>, reason: String) -> TlsError {
    TlsError::Unusable { setting, path: path.clone().unwrap_or_default(), reason }
}

fn chain(setting: &'static str, path: &Option<String>, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(unusable(setting, path, "there is no certificate in it (-----BEGIN CERTIFICATE-----)".to_owned())),
        Err(error) => Err(unusable(setting, path, error.to_string())),
    }
}

fn roots(setting: &'static str, path: &Option<String>, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut trusted = RootCertStore::empty();
    for root in chain(setting, path, pem)? {
        trusted.add(root).map_err(|error| unusable(setting, path, error.to_string()))?;
    }
    Ok(trusted)
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    reload::only_regular(path)?;
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {LARGEST} bytes")));
    }
    Ok(bytes)
}
