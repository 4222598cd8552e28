//! The section `[federation]`: whether and how this process talks to other servers.
//!
//! May import: serde, ruma (server names, base64), the bounds of `federation`, `network`.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use federation::limits::NOTARIES_MAX;
use ruma::{
    OwnedServerName, ServerName,
    serde::{Base64, base64::Standard},
};
use serde::{Deserialize, Serialize};

use super::{Network, Problem};

/// Whether and how this process talks to other servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Federation {
    /// Whether other servers can talk to this one, and this one to them. Default: true.
    pub enabled: bool,
    /// Whether the address for other servers speaks TLS. Without, it is for a proxy that does: on loopback, or with `listen.trusted_proxies`. Default: true.
    pub tls: bool,
    /// File with the certificate for other servers and those it rests on, as PEM. Empty: only names of this very machine get one, for trying out. Default: empty.
    pub tls_certificate: PathBuf,
    /// File with the key of the certificate, as PEM. Default: empty.
    pub tls_key: PathBuf,
    /// Files with further authorities, as PEM, that certificates of other servers may rest on. Default: none.
    pub ca_files: Vec<PathBuf>,
    /// Internal addresses that other servers may have all the same, as addresses or ranges such as `127.0.0.0/8`. Default: none.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub allow_addresses: Vec<Network>,
    /// Whether other servers may take part in a new room of which nobody says so. Default: open.
    pub default_room_mode: RoomMode,
    /// Events that are sent to, and taken from, each server that may take part in a room again. Of more, only the last ones. Default: 10000.
    pub resume_events_max: u64,
    /// Changes that another server may have missed. One that missed more gets only the newest event of each room, and asks for what it lacks. Default: 10000.
    pub behind_rows_max: u64,
    /// Servers that are asked, in turn, for the signing keys of another one that does not give them itself. Default: none.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub notaries: Vec<OwnedServerName>,
    /// Public signing keys that count for nothing, as base64 of 32 bytes: keys whose secret half was published or stolen. Default: none.
    pub refused_keys: Vec<String>,
}

/// Whether other servers may take part in a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RoomMode {
    /// Every server may.
    #[default]
    Open,
    /// This server keeps the room to itself.
    Off,
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            enabled: true,
            tls: true,
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            ca_files: Vec::new(),
            allow_addresses: Vec::new(),
            default_room_mode: RoomMode::Open,
            resume_events_max: 10_000,
            behind_rows_max: 10_000,
            notaries: Vec::new(),
            refused_keys: Vec::new(),
        }
    }
}

impl Federation {
    pub(super) fn check(&self, listen: SocketAddr, has_proxies: bool) -> Result<(), Problem> {
        both_or_none("federation", &self.tls_certificate, &self.tls_key)?;
        if self.enabled && !self.tls && !listen.ip().is_loopback() && !has_proxies {
            let message = format!(
                "is false, but `listen.federation` is {listen}: other servers speak TLS only; set `listen.federation` to loopback or name the proxy that \
                 speaks TLS in `listen.trusted_proxies`"
            );
            return Err(Problem::new("federation.tls", message));
        }
        if self.notaries.len() > NOTARIES_MAX {
            return Err(Problem::new("federation.notaries", format!("names more than {NOTARIES_MAX} servers")));
        }
        self.refused_keys().map(drop)
    }

    /// The bytes of the keys that count for nothing.
    ///
    /// # Errors
    /// When one of them is no key.
    pub fn refused_keys(&self) -> Result<BTreeSet<[u8; 32]>, Problem> {
        let bytes = |text: &String| {
            let message = || format!("`{text}` is not 32 bytes as base64");
            let key = Base64::<Standard, [u8; 32]>::parse(text).ok();
            key.map(Base64::into_inner).ok_or_else(|| Problem::new("federation.refused_keys", message()))
        };
        self.refused_keys.iter().map(bytes).collect()
    }
}

/// A certificate needs its key.
pub(super) fn both_or_none(section: &str, certificate: &Path, key: &Path) -> Result<(), Problem> {
    let (missing, given) = match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
        (true, false) => ("tls_certificate", "tls_key"),
        (false, true) => ("tls_key", "tls_certificate"),
        _ => return Ok(()),
    };
    Err(Problem::new(
        format!("{section}.{missing}"),
        format!("is missing: `{given}` is set, and TLS needs both or none"),
    ))
}

/// The name is one of this very machine: `localhost`, what ends in it, or an address of loopback.
pub fn is_of_this_machine(server: &ServerName) -> bool {
    let host = server.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_known() {
        let cases = [
            ("localhost", true),
            ("localhost:8448", true),
            ("a.localhost:1", true),
            ("127.0.0.2:1", true),
            ("[::1]:1", true),
            ("example.org", false),
            ("localhost.example.org", false),
            ("10.0.0.1", false),
        ];
        for (name, is_local) in cases {
            assert_eq!(is_of_this_machine(name.try_into().unwrap()), is_local, "{name}");
        }
    }
}
