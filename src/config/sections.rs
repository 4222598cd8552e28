//! The sections of the configuration that are not a tenant: each field with its default, what a section checks.
//!
//! May import: serde, tracing-subscriber (levels), `network`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};

use super::{Network, Problem, federation::both_or_none};

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Address of the API for clients; port 0 takes any free one. Default: 127.0.0.1:8080.
    #[serde(deserialize_with = "address")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub api: SocketAddr,
    /// Address for other servers; port 0 takes any free one. Default: 127.0.0.1:8448.
    #[serde(deserialize_with = "address")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub federation: SocketAddr,
    /// Address where `GET /metrics` answers with the server's figures for Prometheus; empty: nowhere. Default: empty.
    #[serde(deserialize_with = "optional_address", serialize_with = "address_or_empty")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub metrics: Option<SocketAddr>,
    /// File with the certificate of the API and those it rests on, as PEM; empty: the API speaks plain HTTP. Default: empty.
    pub tls_certificate: PathBuf,
    /// File with the key of the certificate, as PEM. Default: empty.
    pub tls_key: PathBuf,
    /// Proxies whose `X-Forwarded-Host`, `-Proto` and `-For` and `X-Request-Id` are believed, as addresses or ranges. Default: none.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub trusted_proxies: Vec<Network>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            api: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            federation: SocketAddr::from((Ipv4Addr::LOCALHOST, 8448)),
            metrics: None,
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Listen {
    pub(super) fn check(&self) -> Result<(), Problem> {
        both_or_none("listen", &self.tls_certificate, &self.tls_key)
    }

    /// Certificate and key of the API, if it speaks TLS.
    pub fn tls(&self) -> Option<(PathBuf, PathBuf)> {
        let is_set = !self.tls_certificate.as_os_str().is_empty();
        is_set.then(|| (self.tls_certificate.clone(), self.tls_key.clone()))
    }
}

/// Who may have an account, and for how long a log-in lasts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Accounts {
    /// Who may register. Default: closed.
    pub registration: Registration,
    /// Seconds until an access token ends; 0: it does not end. Default: 0.
    pub token_lifetime_s: u64,
    /// Slugs of room aliases (`#slug:server`) that only administrators may take. Default: none.
    pub reserved_aliases: Vec<String>,
}

/// Who may register.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Nobody: administrators and the command line make accounts.
    #[default]
    Closed,
    /// Who has a registration token.
    Token,
    /// Everybody.
    Open,
}

impl Accounts {
    pub(super) fn check(&self) -> Result<(), Problem> {
        let in_slug = |character: char| !character.is_whitespace() && !matches!(character, '#' | ':' | '\0');
        match self.reserved_aliases.iter().find(|slug| slug.is_empty() || !slug.chars().all(in_slug)) {
            Some(slug) => {
                let message = format!("`{slug}` is not a slug; write `lobby` for `#lobby:example.org`");
                Err(Problem::new("accounts.reserved_aliases", message))
            }
            None => Ok(()),
        }
    }
}

/// Which web pages may call the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Origins of pages that may call with the user's credentials, such as `https://chat.example.org`. Default: none.
    pub origins: Vec<String>,
}

impl Cors {
    pub(super) fn check(&self) -> Result<(), Problem> {
        match self.origins.iter().find(|origin| !is_origin(origin)) {
            Some(origin) => {
                let message =
                    format!("`{origin}` is not an origin; write `https://host` or `https://host:port`, no path");
                Err(Problem::new("cors.origins", message))
            }
            None => Ok(()),
        }
    }
}

/// Whether a text is what a browser sends as `Origin` of a web page: scheme and host in lower case, no path.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| ruma::ServerName::parse(host).is_ok() && host == host.to_ascii_lowercase())
}

/// What is written to stderr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A level (error, warn, info, debug, trace), or directives such as `info,yurt::storage=debug`. Default: info.
    pub level: String,
    /// One line of text, or one JSON object, for each record. Default: text.
    pub format: LogFormat,
}

/// The form of a log record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Log {
    /// What is let through.
    ///
    /// # Errors
    /// When `level` is neither a level nor a list of directives.
    pub fn targets(&self) -> Result<Targets, Problem> {
        let problem = |reason: String| {
            let message = format!("{reason}; write a level such as `info`, or `info,yurt::storage=debug`");
            Problem::new("log.level", message)
        };
        // A bare word that is no level would be read as the name of a target, and everything else would fall silent.
        let mut bare = self.level.split(',').map(str::trim).filter(|directive| !directive.contains('='));
        if let Some(word) = bare.find(|word| word.parse::<LevelFilter>().is_err()) {
            return Err(problem(format!("`{word}` is not a level")));
        }
        self.level.parse().map_err(|error: ParseError| problem(error.to_string()))
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parsed(&String::deserialize(deserializer)?)
}

fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { parsed(&text).map(Some) }
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn address_or_empty<S: Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&address.map(|address| address.to_string()).unwrap_or_default())
}

fn parsed<E: serde::de::Error>(text: &str) -> Result<SocketAddr, E> {
    text.parse().ok().ok_or_else(|| {
        let message =
            format!("`{text}` is not an address; write IP and port, such as `127.0.0.1:8080` or `[::1]:8080`");
        E::custom(message)
    })
}
