//! An authority of the tests' own, and what it signs: files, as operators have them.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// One authority, in a directory of its own.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate's file.
    pub cert: String,
    /// The key's.
    pub key: String,
}

impl Authority {
    /// A new one, which nobody knows.
    ///
    /// # Panics
    /// If the machine can't make it.
    pub fn new() -> Authority {
        let directory = tempfile::tempdir().expect("there is a place for temporary files");
        let key = KeyPair::generate().expect("keys can be made");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two of one name would be taken for one whose signatures are wrong.
        params.distinguished_name.push(DnType::CommonName, directory.path().to_string_lossy());
        let own = params.self_signed(&key).expect("it signs itself");
        fs::write(directory.path().join("ca.pem"), own.pem()).expect("the directory is ours");
        Authority { issuer: Issuer::new(params, key), directory }
    }

    /// The file of its own certificate.
    pub fn file(&self) -> String {
        self.path("ca.pem")
    }

    /// Signs for these names or addresses, into files called `file`; those that are there are replaced at once, as the
    /// kubelet does.
    ///
    /// # Panics
    /// If a name is none.
    pub fn signs(&self, file: &str, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("keys can be made");
        let mut params = CertificateParams::new(names).expect("the tests' names are names");
        params.distinguished_name.push(DnType::CommonName, file);
        let cert = params.signed_by(&key, &self.issuer).expect("it can sign");
        let pair = Pair { cert: self.path(&format!("{file}.crt")), key: self.path(&format!("{file}.key")) };
        replace(&pair.cert, &cert.pem());
        replace(&pair.key, &key.serialize_pem());
        pair
    }

    fn path(&self, file: &str) -> String {
        self.directory.path().join(file).to_string_lossy().into_owned()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Authority::new()
    }
}

fn replace(path: &str, text: &str) {
    let beside = PathBuf::from(format!("{path}.new"));
    fs::write(&beside, text).expect("the directory is ours");
    // libpq wants a key that nobody else can read.
    let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&beside, only_ours).expect("the file is ours");
    fs::rename(&beside, Path::new(path)).expect("both are in one directory");
}
