//! One server of the process: its name, its hosts and what it may hold.
//!
//! May import: ruma (server names), serde, the bounds of `federation`.

use std::path::PathBuf;

use federation::limits::SERVER_NAME_BYTES_MAX;
use ruma::{OwnedServerName, ServerName};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Problem, federation::both_or_none};

/// Characters of a tenant's name: it is the name of a folder.
const NAME_CHARACTERS_MAX: usize = 32;
/// Characters of a tenant's `org` and `app`.
const PART_CHARACTERS_MAX: usize = 64;
/// What the paths of the native API begin with.
const NATIVE_PATHS: &str = "v1";

/// A whole server: everything below it knows exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// What the command line and the data folder call it: 1 to 32 of `a-z 0-9 -`. Default: main.
    #[serde(default = "default_name")]
    pub name: String,
    /// The part after the colon in ids. Other servers find and know this one by it; it can never change. No default.
    #[serde(deserialize_with = "server_name")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub server_name: OwnedServerName,
    /// Further names under which clients reach it, as they stand in the Host header. Default: none.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The first part of the paths `/{org}/{app}/chatrooms` by which `[dialects.agora]` finds it: 1 to 64 of `A-Z a-z 0-9 - _ .`. Default: yurt.
    #[serde(default = "default_org")]
    pub org: String,
    /// The second part of those paths; empty: its `name`. No two tenants have both parts in common. Default: empty.
    #[serde(default)]
    pub app: String,
    /// Joined members that one room may have. Default: 100000.
    #[serde(default = "default_participants")]
    pub max_participants: u64,
    /// Accounts that it may have. Default: 1000000.
    #[serde(default = "default_many")]
    pub max_accounts: u64,
    /// Rooms that it may have. Default: 1000000.
    #[serde(default = "default_many")]
    pub max_rooms: u64,
    /// File with its certificate for other servers, as PEM; empty: that of `[federation]`. Default: empty.
    #[serde(default)]
    pub tls_certificate: PathBuf,
    /// File with the key of that certificate, as PEM. Default: empty.
    #[serde(default)]
    pub tls_key: PathBuf,
    /// Where other servers reach it, `host` or `host:port`, told under `/.well-known/matrix/server`; empty: at its name. Default: empty.
    #[serde(default)]
    pub reached_at: String,
}

impl Tenant {
    /// A tenant with the defaults for everything but its names.
    pub fn new(name: &str, server_name: OwnedServerName) -> Self {
        Self {
            name: name.to_owned(),
            server_name,
            hosts: Vec::new(),
            org: default_org(),
            app: String::new(),
            max_participants: default_participants(),
            max_accounts: default_many(),
            max_rooms: default_many(),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            reached_at: String::new(),
        }
    }

    /// The second part of `/{org}/{app}/chatrooms`.
    pub fn app(&self) -> &str {
        if self.app.is_empty() { &self.name } else { &self.app }
    }

    pub(super) fn check(&self, number: usize) -> Result<(), Problem> {
        let problem = |key: &str, message: String| Err(Problem::new(format!("tenant[{number}].{key}"), message));
        let in_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.name.is_empty() || self.name.len() > NAME_CHARACTERS_MAX || !self.name.bytes().all(in_name) {
            return problem("name", format!("`{}` is not 1 to 32 characters of `a-z 0-9 -`", self.name));
        }
        if self.server_name.as_str().len() > SERVER_NAME_BYTES_MAX {
            return problem("server_name", format!("a server name has at most {SERVER_NAME_BYTES_MAX} bytes"));
        }
        if let Some(host) = self.hosts.iter().find(|host| ServerName::parse(host.as_str()).is_err()) {
            return problem("hosts", format!("`{host}` is not a host; write `chat.example.org` or `host:port`"));
        }
        for (key, part) in [("org", self.org.as_str()), ("app", self.app())] {
            if !is_part_of_a_path(part) {
                let message =
                    format!("`{part}` is not 1 to 64 of `A-Z a-z 0-9 - _ .`, the first one a letter or digit");
                return problem(key, message);
            }
        }
        if self.org == NATIVE_PATHS {
            return problem("org", format!("`/{NATIVE_PATHS}` is where the native API is; choose another word"));
        }
        if !self.reached_at.is_empty() && federation::request_signature::server_name(&self.reached_at).is_none() {
            return problem("reached_at", format!("`{}` is neither `host` nor `host:port`", self.reached_at));
        }
        both_or_none(&format!("tenant[{number}]"), &self.tls_certificate, &self.tls_key)?;
        let limits = [
            ("max_participants", self.max_participants),
            ("max_accounts", self.max_accounts),
            ("max_rooms", self.max_rooms),
        ];
        match limits.iter().find(|(_, limit)| *limit == 0) {
            Some((key, _)) => problem(key, "must be at least 1".to_owned()),
            None => Ok(()),
        }
    }
}

fn default_name() -> String {
    "main".to_owned()
}

fn default_participants() -> u64 {
    100_000
}

fn default_org() -> String {
    "yurt".to_owned()
}

fn is_part_of_a_path(part: &str) -> bool {
    let in_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    part.len() <= PART_CHARACTERS_MAX
        && part.starts_with(|first: char| first.is_ascii_alphanumeric())
        && part.bytes().all(in_part)
}

fn default_many() -> u64 {
    1_000_000
}

fn server_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OwnedServerName, D::Error> {
    let text = String::deserialize(deserializer)?;
    ServerName::parse(text.as_str()).ok().ok_or_else(|| {
        let message = format!("`{text}` is not a server name; write a host such as `example.org` or `host:port`");
        serde::de::Error::custom(message)
    })
}
