//! TLS for listeners: certificates from files, reloaded when they change. If a new pair is invalid, the old one stays
//! in use.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use x509_cert::der::Decode as _;

use crate::runtime::{instead_of_pem, pem_problem, pem_text, read_plain_file};
use crate::scope::Scope;
use crate::x509::timestamp;

/// The maximum size of a certificate file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// The text common to all kinds of encrypted keys in PEM (RFC 7468, section 11; RFC 1421, section 4.6.1.1).
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// The TLS configuration of a listener. All files are PEM, and are reloaded when they change.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsConfig {
    /// The server's certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// The private key of the certificate: PKCS#8, SEC1 or PKCS#1.
    pub key: PathBuf,
    /// The CAs of client certificates. If set, clients must present one.
    pub client_ca: Option<PathBuf>,
    /// Maps names in a client certificate to scopes, compared exactly: DNS names, e-mail addresses and URIs in the
    /// subject alternative name, and the common name. A certificate with none of these names gets the scope of the
    /// listener; one whose names map to several scopes is rejected.
    pub client_names: BTreeMap<String, Scope>,
}

/// The TLS state of a listener. It can be replaced while the listener serves.
#[derive(Debug)]
pub(super) struct Tls {
    http2: bool,
    current: ArcSwap<TlsState>,
    /// The digest of the files in use, to detect changes without keeping a second copy of the key.
    loaded: Mutex<([u8; 32], CertificateValidity)>,
}

/// What a handshake uses.
#[derive(Debug)]
pub(super) struct TlsState {
    pub(super) server: Arc<ServerConfig>,
    pub(super) config: TlsConfig,
}

/// Loaded files that are not in use yet.
pub(super) struct LoadedTls {
    state: TlsState,
    digest: [u8; 32],
    validity: CertificateValidity,
}

impl LoadedTls {
    /// Loads the files. Fails if the certificate is not valid at `now`, because no client could use it.
    fn load(config: TlsConfig, http2: bool, now: Timestamp) -> Result<Self, TlsError> {
        let files = TlsFiles::read(&config)?;
        let digest = files.digest();
        Self::of((&files, digest), config, http2, now)
    }

    /// The same with the files, and their digest.
    fn of(
        (files, digest): (&TlsFiles, [u8; 32]),
        config: TlsConfig,
        http2: bool,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let (server, validity) = files.build(&config, http2, now)?;
        Ok(Self { state: TlsState { server: Arc::new(server), config }, digest, validity })
    }
}

impl Tls {
    /// Loads the files of a gate that starts. Fails if the certificate is not valid yet at `now`. One that has expired is
    /// used, as it would be by a gate that still runs: a restart must not take the other listeners, and the clients that
    /// do not look at the time, with it.
    pub(super) fn load(
        config: TlsConfig,
        http2: bool,
        now: Timestamp,
    ) -> Result<(Self, CertificateValidity), TlsError> {
        let files = TlsFiles::read(&config)?;
        let digest = files.digest();
        let LoadedTls { state, digest, validity } = match LoadedTls::of((&files, digest), config.clone(), http2, now) {
            Err(TlsError::Expired { until, .. }) => LoadedTls::of((&files, digest), config, http2, until)?,
            loaded => loaded?,
        };
        let loaded = Mutex::new((digest, validity));
        Ok((Self { http2, current: ArcSwap::from_pointee(state), loaded }, validity))
    }

    /// What the next handshake uses.
    pub(super) fn current(&self) -> Arc<TlsState> {
        self.current.load_full()
    }

    /// Loads the files of another configuration. `None` if it is the one in use.
    pub(super) fn prepare(&self, config: &TlsConfig, now: Timestamp) -> Result<Option<LoadedTls>, TlsError> {
        if *config == self.current().config {
            return Ok(None);
        }
        LoadedTls::load(config.clone(), self.http2, now).map(Some)
    }

    /// Uses loaded files from the next handshake on.
    pub(super) fn replace(&self, new: LoadedTls) -> CertificateValidity {
        *self.loaded() = (new.digest, new.validity);
        self.current.store(Arc::new(new.state));
        new.validity
    }

    /// Reloads the files. `None` if they have not changed. On an error the old certificate stays in use, and every call
    /// returns the error until it is fixed; an expired certificate in use is also an error.
    pub(super) fn reload(&self, now: Timestamp) -> Result<Option<CertificateValidity>, TlsError> {
        let config = self.current().config.clone();
        let files = TlsFiles::read(&config)?;
        let ((digest, validity), new) = (*self.loaded(), files.digest());
        if digest == new {
            validity.check(&config.certificate, now)?;
            return Ok(None);
        }
        LoadedTls::of((&files, new), config, self.http2, now).map(|loaded| Some(self.replace(loaded)))
    }

    fn loaded(&self) -> MutexGuard<'_, ([u8; 32], CertificateValidity)> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The validity period of a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CertificateValidity {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    /// When the first certificate of the chain ends that has not ended yet: an intermediate may end before the
    /// server's. One that has already ended does not matter, because clients may know another path to their authority.
    pub(super) first_end: Timestamp,
    /// When the validity of that certificate began.
    pub(super) first_start: Timestamp,
}

impl CertificateValidity {
    pub(super) fn check(self, path: &Path, now: Timestamp) -> Result<(), TlsError> {
        if now > self.until {
            return Err(TlsError::Expired { path: path.to_owned(), until: self.until });
        }
        if now < self.from {
            return Err(TlsError::NotYetValid { path: path.to_owned(), from: self.from });
        }
        Ok(())
    }
}

/// Why a listener cannot use TLS. All of these are errors in the configuration or the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate cannot be parsed.
    #[error("{}: {what}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The problem.
        what: String,
    },
    /// The key needs a passphrase.
    #[error("{}: the private key is encrypted, and the gate has no way to ask for its passphrase", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The certificate has expired.
    #[error(
        "{}: the certificate expired on {until}; put a renewed one in its place (`pullgate certs init` renews a \
         development certificate), or correct the clock of this machine",
        path.display()
    )]
    Expired {
        /// The file.
        path: PathBuf,
        /// The time of expiry.
        until: Timestamp,
    },
    /// The key cannot be used, or does not match the certificate.
    #[error("{}: {what}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The problem.
        what: String,
    },
    /// No client could use the key.
    #[error("{}: private keys of this kind or size cannot be used", path.display())]
    KeyKind {
        /// The file.
        path: PathBuf,
    },
    /// The certificate is not valid yet.
    #[error("{}: the certificate is not valid before {from}; check the clock of this machine", path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// The start of the validity period.
        from: Timestamp,
    },
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The content of the files.
pub(super) struct TlsFiles {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) client_ca: Option<Vec<u8>>,
}

impl TlsFiles {
    fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(&config.certificate)?,
            key: read(&config.key)?,
            client_ca: config.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for file in [&self.certificate, &self.key].into_iter().chain(&self.client_ca) {
            hash.update((file.len() as u64).to_be_bytes());
            hash.update(file);
        }
        hash.finalize().into()
    }

    pub(super) fn build(
        &self,
        config: &TlsConfig,
        http2: bool,
        now: Timestamp,
    ) -> Result<(ServerConfig, CertificateValidity), TlsError> {
        let chain = certificates(&config.certificate, &self.certificate)?;
        let validity = checked_validity(&config.certificate, &chain, now)?;
        let key_error = |what: String| TlsError::Key { path: config.key.clone(), what };
        let key = private_key(&config.key, &self.key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(|error| key_error(error.to_string()))?;
        let builder = match (&config.client_ca, &self.client_ca) {
            (Some(path), Some(pem)) => builder.with_client_cert_verifier(client_verifier(path, pem)?),
            _ => builder.with_no_client_auth(),
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                key_error(format!("this is not the key of the certificate {}", config.certificate.display()))
            }
            // Only a key that the library cannot parse.
            rustls::Error::General(_) => TlsError::KeyKind { path: config.key.clone() },
            error => key_error(error.to_string()),
        })?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        if http2 {
            // Listed second, because HTTP/1.1 is better for clients that offer both: it uses a connection per blob and
            // has a reason phrase.
            server.alpn_protocols.push(b"h2".to_vec());
        }
        Ok((server, validity))
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    read_plain_file(path, MAX_FILE).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

pub(super) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |what: String| TlsError::Certificate { path: path.to_owned(), what };
    let chain = CertificateDer::pem_slice_iter(pem_text(pem)).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|source| error(format!("not PEM: {}", pem_problem(&source))))?;
    let missing = || error(format!("no certificate in PEM{}", instead_of_pem(pem, "x509")));
    if chain.is_empty() { Err(missing()) } else { Ok(chain) }
}

pub(super) fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem_text(pem)).map_err(|error| {
        match pem.windows(ENCRYPTED.len()).any(|it| it == ENCRYPTED) {
            true => TlsError::Encrypted { path: path.to_owned() },
            false => TlsError::Key {
                path: path.to_owned(),
                what: format!("no usable private key in PEM: {}{}", pem_problem(&error), instead_of_pem(pem, "pkey")),
            },
        }
    })
}

/// The validity of the server's certificate, which is the first of a chain that has at least one.
pub(super) fn checked_validity(
    path: &Path,
    chain: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<CertificateValidity, TlsError> {
    let certificate = x509_cert::Certificate::from_der(&chain[0])
        .map_err(|error| TlsError::Certificate { path: path.to_owned(), what: format!("not X.509: {error}") })?;
    let validity = certificate.tbs_certificate.validity;
    let (from, until) = (timestamp(validity.not_before), timestamp(validity.not_after));
    let others = chain[1..].iter().filter_map(|der| x509_cert::Certificate::from_der(der).ok());
    let others = others.map(|other| other.tbs_certificate.validity);
    let others = others.map(|other| (timestamp(other.not_after), timestamp(other.not_before)));
    let (first_end, first_start) = others.filter(|(end, _)| *end >= now).fold((until, from), Ord::min);
    let validity = CertificateValidity { from, until, first_end, first_start };
    validity.check(path, now)?;
    Ok(validity)
}

pub(super) fn client_verifier(path: &Path, pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let error = |what: String| TlsError::Certificate { path: path.to_owned(), what };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|source| error(source.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|source| error(source.to_string()))
}
