//! Opening one encrypted connection: the addresses are checked here, right before they are connected to.
//!
//! May import: tokio, rustls, `addresses`, `error`, `limits`.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    addresses::Addresses,
    error::FederationError,
    limits::{CONNECT_ALL_TIMEOUT, CONNECT_TIMEOUT},
};

/// Why no TLS can be had: told at start.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A text with certificates is not one.
    #[error("an additional authority is not in PEM form: {0}")]
    NotPem(String),
    /// A certificate cannot be an authority, or the library refuses.
    #[error("an additional authority cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Dialler {
    tls: TlsConnector,
    addresses: Arc<Addresses>,
}

impl Dialler {
    /// Trusts the authorities of the system, and those in the PEM texts given.
    pub(crate) fn new(addresses: Addresses, authorities_pem: &[Vec<u8>]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        let (_, unreadable) = roots.add_parsable_certificates(native.certs);
        if roots.is_empty() || unreadable > 0 || !native.errors.is_empty() {
            tracing::warn!(
                trusted = roots.len(),
                unreadable = unreadable + native.errors.len(),
                "Of the authorities that the system trusts, {} are used",
                roots.len()
            );
        }
        for pem in authorities_pem {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.map_err(|error| TlsError::NotPem(error.to_string()))?)?;
            }
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Only this: in HTTP/2 the name of the host and of the connection cannot be told apart.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), addresses: Arc::new(addresses) })
    }

    /// Connects to the first of the addresses that answers with a certificate for the name.
    ///
    /// # Errors
    /// [`FederationError::InternalAddress`] when none may be connected to; else what was wrong with the last one.
    pub(crate) async fn dial(
        &self,
        endpoints: &[SocketAddr],
        certificate: &ServerName<'static>,
    ) -> Result<Stream, FederationError> {
        let all = async {
            let mut error = FederationError::InternalAddress;
            for endpoint in endpoints.iter().filter(|endpoint| self.addresses.allow(endpoint.ip())) {
                match self.dial_one(*endpoint, certificate.clone()).await {
                    Ok(stream) => return Ok(stream),
                    Err(reason) => error = FederationError::NoConnection(format!("{endpoint}: {reason}")),
                }
            }
            Err(error)
        };
        timeout(CONNECT_ALL_TIMEOUT, all).await.unwrap_or(Err(FederationError::TimedOut))
    }

    async fn dial_one(&self, endpoint: SocketAddr, certificate: ServerName<'static>) -> io::Result<Stream> {
        let tcp = timeout(CONNECT_TIMEOUT, TcpStream::connect(endpoint)).await??;
        tcp.set_nodelay(true)?;
        let tls = timeout(CONNECT_TIMEOUT, self.tls.connect(certificate, tcp)).await??;
        Ok(Stream(TokioIo::new(Box::new(tls))))
    }
}

/// An encrypted connection, in the form that hyper takes.
pub(crate) struct Stream(TokioIo<Box<TlsStream<TcpStream>>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
