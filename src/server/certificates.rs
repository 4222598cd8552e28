//! The certificates for other servers: each tenant's own, chosen by the name that the handshake asks for. Names of this very machine that have none get one from
//! an authority in the data folder, so that a server can be tried out.
//!
//! May import: config, rcgen, rustls.

use std::{
    collections::HashMap,
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

use super::{
    ServerError,
    tls::{Certificate, acceptor_of},
};
use crate::{
    config::{Config, is_of_this_machine},
    data_folder::DataFolder,
};

/// The certificates of all tenants. Copies share them.
#[derive(Clone)]
pub(super) struct Certificates(Arc<ByName>);

struct ByName {
    by_host: HashMap<String, Certificate>,
    /// For who does not say a name, as when the name is an address.
    first: Certificate,
    /// The authority for names of this machine, if it was needed.
    authority: Option<PathBuf>,
}

impl fmt::Debug for ByName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.by_host.keys()).finish()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().map(str::to_ascii_lowercase);
        let found = host.and_then(|host| self.by_host.get(&host)).unwrap_or(&self.first);
        Some(found.current())
    }
}

impl Certificates {
    /// Reads the certificates that the configuration names, and makes those of this machine.
    ///
    /// # Errors
    /// When one cannot be read, or made.
    pub(super) fn open(config: &Config, folder: &DataFolder) -> Result<Self, ServerError> {
        let mut opened: HashMap<PathBuf, Certificate> = HashMap::new();
        let (mut by_host, mut first, mut local) = (HashMap::new(), None, Vec::new());
        for (number, tenant) in config.tenant.iter().enumerate() {
            let host = tenant.server_name.host().to_ascii_lowercase();
            let Some((certificate, key)) = config.certificate_of(tenant) else {
                if is_of_this_machine(&tenant.server_name) {
                    local.push(host);
                } else {
                    tracing::warn!(
                        "Other servers cannot reach `{name}`, because there is no certificate for it: set `federation.tls_certificate` and \
                         `federation.tls_key`, or those of the tenant; where a proxy speaks TLS, `federation.tls = false`; to be without other servers, \
                         `federation.enabled = false`",
                        name = tenant.server_name
                    );
                }
                continue;
            };
            let is_own = !tenant.tls_certificate.as_os_str().is_empty();
            let section = if is_own { format!("tenant[{number}]") } else { "federation".to_owned() };
            let known = opened.get(&certificate).cloned();
            let usable = known.map_or_else(|| Certificate::open(&section, certificate.clone(), key), Ok);
            let usable = usable.map_err(ServerError::PeerCertificate)?;
            opened.insert(certificate, usable.clone());
            first.get_or_insert_with(|| usable.clone());
            by_host.extend(tenant.hosts.iter().map(|host| (host.to_ascii_lowercase(), usable.clone())));
            by_host.insert(host, usable);
        }
        let mut authority = None;
        if !local.is_empty() || first.is_none() {
            let made = Development::make(folder.path(), &local).map_err(ServerError::Development)?;
            let usable = Certificate::open("federation", made.certificate, made.key);
            let usable = usable.map_err(ServerError::PeerCertificate)?;
            by_host.extend(local.into_iter().map(|host| (host, usable.clone())));
            first = Some(usable);
            tracing::info!(
                "For trying out, names of this machine have certificates of the authority in `{}`: give that file to servers that shall trust them",
                made.authority.display()
            );
            authority = Some(made.authority);
        }
        let Some(first) = first else { return Err(ServerError::Task("there is no certificate".to_owned())) };
        Ok(Self(Arc::new(ByName { by_host, first, authority })))
    }

    /// What makes handshakes.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        acceptor_of(Arc::<ByName>::clone(&self.0))
    }

    /// The file of the authority for names of this machine, if it is in use.
    pub(super) fn authority(&self) -> Option<&Path> {
        self.0.authority.as_deref()
    }

    /// Takes up what the files hold now. Blocks on the disk.
    pub(super) fn follow(&self) {
        self.0.by_host.values().for_each(Certificate::follow);
    }
}

/// Certificates for trying out.
struct Development {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// The folder of the files, within the data folder.
const DEVELOPMENT: &str = "development";

impl Development {
    /// Makes the authority if it is not there, and a certificate for these hosts.
    fn make(data_folder: &Path, hosts: &[String]) -> io::Result<Self> {
        let folder = data_folder.join(DEVELOPMENT);
        fs::create_dir_all(&folder)?;
        let (authority, authority_key) = (folder.join("ca.pem"), folder.join("ca.key"));
        let key = match fs::read_to_string(&authority_key) {
            Ok(text) => KeyPair::from_pem(&text).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate().map_err(io::Error::other)?;
                let certificate = of_authority()?.self_signed(&key).map_err(io::Error::other)?;
                write(&authority, &certificate.pem())?;
                write(&authority_key, &key.serialize_pem())?;
                key
            }
            Err(error) => return Err(error),
        };
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        names.extend(hosts.iter().map(|host| host.trim_matches(['[', ']']).to_owned()));
        names.sort();
        names.dedup();
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, "Yurt, for trying out");
        params.use_authority_key_identifier_extension = true;
        let own = KeyPair::generate().map_err(io::Error::other)?;
        let signed = params.signed_by(&own, &Issuer::new(of_authority()?, key)).map_err(io::Error::other)?;
        let made = Self { authority, certificate: folder.join("certificate.pem"), key: folder.join("certificate.key") };
        write(&made.certificate, &signed.pem())?;
        write(&made.key, &own.serialize_pem())?;
        Ok(made)
    }
}

fn of_authority() -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, "Yurt, authority for trying out");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Writes a file that only its owner can read.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
