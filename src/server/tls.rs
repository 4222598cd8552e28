//! The certificate of a listener: read at start, and again when its files change.
//!
//! May import: rustls, tokio.

use std::{fmt, path::PathBuf, sync::Arc};

use parking_lot::{Mutex, RwLock};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

/// Bytes of one of the files: more is no certificate.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The name of HTTP/2 in a handshake.
pub(super) const H2: &[u8] = b"h2";

/// Why a certificate cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file that cannot be read.
    #[error("`{}` cannot be read: {reason}; check `{setting}` and the rights of the file", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The setting that names it.
        setting: String,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// A file with something else inside.
    #[error("`{}` holds no {wanted} in PEM form: {reason}; `{setting}` needs one", .file.display())]
    NotPem {
        /// The file.
        file: PathBuf,
        /// The setting that names it.
        setting: String,
        /// What should be inside.
        wanted: &'static str,
        /// The parser's reason.
        reason: String,
    },
    /// Both are readable, but do not work.
    #[error("the certificate `{}` and the key `{}` do not work together: {reason}", .certificate.display(), .key.display())]
    Unusable {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        reason: rustls::Error,
    },
}

/// A certificate that follows its files. Copies share it.
#[derive(Clone)]
pub(super) struct Certificate(Arc<Files>);

struct Files {
    /// The section of the configuration that names them.
    section: String,
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
    /// The contents of the files that were tried last.
    tried: Mutex<Contents>,
}

type Contents = (Vec<u8>, Vec<u8>);

/// What handshakes are made with now.
struct Current(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for Current {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a certificate with its key")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub(super) fn open(section: &str, certificate: PathBuf, key: PathBuf) -> Result<Self, CertificateError> {
        let section = section.to_owned();
        let contents = read(&section, &certificate, &key)?;
        let usable = usable(&section, &certificate, &key, &contents)?;
        let current = Arc::new(Current(RwLock::new(Arc::new(usable))));
        Ok(Self(Arc::new(Files { section, certificate, key, current, tried: Mutex::new(contents) })))
    }

    /// What makes handshakes: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// Never with the provider that this is built with.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        acceptor_of(Arc::<Current>::clone(&self.0.current))
    }

    /// What handshakes are made with now.
    pub(super) fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.current.0.read())
    }

    /// Takes up what the files hold now, if that is not what was tried last. What does not work is told, and the present certificate stays. Blocks on the disk.
    pub(super) fn follow(&self) {
        let files = &*self.0;
        let mut tried = files.tried.lock();
        let contents = match read(&files.section, &files.certificate, &files.key) {
            Ok(contents) if contents == *tried => return,
            Ok(contents) => contents,
            Err(error) => {
                // Told once: an empty content stands for the files as they could not be read.
                if *tried != Contents::default() {
                    tracing::warn!(%error, "The present certificate stays: {error}");
                    *tried = Contents::default();
                }
                return;
            }
        };
        match usable(&files.section, &files.certificate, &files.key, &contents) {
            Ok(usable) => {
                *files.current.0.write() = Arc::new(usable);
                tracing::info!("The certificate in `{}` is taken up", files.certificate.display());
            }
            Err(error) => tracing::warn!(%error, "The present certificate stays: {error}"),
        }
        *tried = contents;
    }
}

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, with the certificates of this resolver.
pub(super) fn acceptor_of(resolver: Arc<dyn ResolvesServerCert>) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(section: &str, certificate: &PathBuf, key: &PathBuf) -> Result<Contents, CertificateError> {
    let read = |file: &PathBuf, setting: &str| {
        let setting = format!("{section}.{setting}");
        let unreadable = |reason| CertificateError::Unreadable { file: file.clone(), setting: setting.clone(), reason };
        let length = std::fs::metadata(file).map_err(unreadable)?.len();
        if length > FILE_BYTES_MAX {
            return Err(unreadable(std::io::Error::other("it is too large")));
        }
        std::fs::read(file).map_err(unreadable)
    };
    Ok((read(certificate, "tls_certificate")?, read(key, "tls_key")?))
}

fn usable(
    section: &str,
    certificate: &PathBuf,
    key: &PathBuf,
    contents: &Contents,
) -> Result<CertifiedKey, CertificateError> {
    let not_pem = |file: &PathBuf, setting: &str, wanted, reason: String| CertificateError::NotPem {
        file: file.clone(),
        setting: format!("{section}.{setting}"),
        wanted,
        reason,
    };
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&contents.0).collect();
    let chain = match chain {
        Ok(chain) if chain.is_empty() => Err("nothing is there".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(error.to_string()),
    };
    let chain = chain.map_err(|reason| not_pem(certificate, "tls_certificate", "certificate", reason))?;
    let private = PrivateKeyDer::from_pem_slice(&contents.1);
    let private = private.map_err(|error| not_pem(key, "tls_key", "private key", error.to_string()))?;
    let unusable = |reason| CertificateError::Unusable { certificate: certificate.clone(), key: key.clone(), reason };
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(unusable)
}
