//! Unsigned requests to places that another server named: where its `.well-known` is, where a file of its lies.
//!
//! Only `https`, only to allowed addresses, each redirect anew. May import: hyper, `dial`, `discovery::dns`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http::{
    Request, Response, Uri,
    header::{ACCEPT, HOST, LOCATION, USER_AGENT},
    uri::PathAndQuery,
};
use http_body_util::Empty;
use hyper::client::conn::http1;
use rustls::pki_types::ServerName;

use crate::{
    body::{Body, boxed},
    dial::Dialler,
    discovery::dns::{LookupError, Resolver},
    error::FederationError,
    limits::{ENDPOINTS_MAX, HEAD_BYTES_MAX},
};

/// How this server names itself in requests.
pub(crate) const AGENT: &str = concat!("Yurt/", env!("CARGO_PKG_VERSION"));

/// Asks places on the web.
#[derive(Clone)]
pub(crate) struct Outside {
    pub(crate) dialler: Dialler,
    pub(crate) resolver: Arc<dyn Resolver>,
    /// 443 but in tests.
    pub(crate) https_port: u16,
}

impl Outside {
    /// Gets what is at a place, following at most so many redirects. The caller bounds the time and the body.
    ///
    /// # Errors
    /// When the place, or one that it leads to, is not `https` or not reachable.
    pub(crate) async fn get(&self, place: Uri, redirects_max: usize) -> Result<Response<Body>, FederationError> {
        let mut place = place;
        for _ in 0..=redirects_max {
            let answer = self.get_once(&place).await?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            place = location
                .and_then(|location| redirected(&place, location))
                .ok_or(FederationError::BadAnswer("a redirect to nowhere"))?;
        }
        Err(FederationError::BadAnswer("too many redirects"))
    }

    async fn get_once(&self, place: &Uri) -> Result<Response<Body>, FederationError> {
        let authority = place.authority().filter(|authority| !authority.as_str().contains('@'));
        let (Some("https"), Some(authority)) = (place.scheme_str(), authority) else {
            return Err(FederationError::BadAnswer("a place that is not https"));
        };
        let port = authority.port_u16().unwrap_or(self.https_port);
        let endpoints = endpoints(&*self.resolver, authority.host(), port).await?;
        let stream = self.dialler.dial(&endpoints, &certificate_name(authority.host())?).await?;
        let broken = |error: hyper::Error| FederationError::Broken(error.to_string());
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(stream).await.map_err(broken)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "A connection to the web broke");
            }
        });
        let target = place.path_and_query().map_or("/", PathAndQuery::as_str);
        let request = Request::get(target)
            .header(HOST, authority.as_str())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "*/*")
            .body(Empty::<Bytes>::new())
            .ok()
            .ok_or(FederationError::BadAnswer("a place that cannot be asked"))?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        Ok(answer.map(boxed))
    }
}

/// The addresses of a host, an IP literal (IPv6 in brackets) or a name, with a port. `localhost` and what ends in it is
/// looked up nowhere.
pub(crate) async fn endpoints(
    resolver: &dyn Resolver,
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, FederationError> {
    let addresses = if let Some(address) = ip_literal(host) {
        vec![address]
    } else if is_localhost(host) {
        vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
    } else {
        resolver.addresses(host).await.map_err(no_address)?
    };
    Ok(addresses.into_iter().take(ENDPOINTS_MAX).map(|address| SocketAddr::new(address, port)).collect())
}

pub(crate) fn no_address(error: LookupError) -> FederationError {
    FederationError::NoAddress(error.to_string())
}

/// The name that the certificate of a host must be for.
pub(crate) fn certificate_name(host: &str) -> Result<ServerName<'static>, FederationError> {
    match ip_literal(host) {
        Some(address) => Ok(ServerName::IpAddress(address.into())),
        None => ServerName::try_from(host.to_owned())
            .map_err(|error| FederationError::NoAddress(format!("no certificate can be for the name: {error}"))),
    }
}

/// Whether the name is one for this very machine.
/// Source: <https://www.rfc-editor.org/rfc/rfc6761#section-6.3>
pub(crate) fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

fn ip_literal(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

/// Where a `Location` leads from a place.
fn redirected(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let authority = from.authority()?;
    let text = if location.starts_with("//") {
        format!("https:{location}")
    } else if location.starts_with('/') {
        format!("https://{authority}{location}")
    } else if location.contains("://") {
        location.to_owned()
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("https://{authority}{folder}/{location}")
    };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2S 3 redirects are followed within bounds.
    #[test]
    fn redirects_lead_where_they_say() {
        let from: Uri = "https://a.example:8443/folder/file?query".parse().unwrap();
        let cases = [
            ("https://b.example/x", "https://b.example/x"),
            ("http://b.example/x", "http://b.example/x"),
            ("//b.example/x#part", "https://b.example/x"),
            ("/x?y", "https://a.example:8443/x?y"),
            ("x", "https://a.example:8443/folder/x"),
        ];
        for (location, place) in cases {
            assert_eq!(redirected(&from, location).unwrap(), place);
        }
    }

    #[test]
    fn names_of_this_machine_are_known() {
        for host in ["localhost", "LOCALHOST", "a.localhost", "a.b.localhost."] {
            assert!(is_localhost(host), "{host}");
        }
        for host in ["localhost.example", "notlocalhost", ""] {
            assert!(!is_localhost(host), "{host}");
        }
    }
}
