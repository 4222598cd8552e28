//! The configuration: every setting with its default, read from a file, overridden by the environment, checked.
//!
//! `config.toml` in the root shows each key; a test keeps it equal to the defaults here. A key that changes nothing does not
//! exist. May import: ruma (server names), serde, toml. Nothing of the server.
//!
//! * `sections`: the sections `[listen]`, `[accounts]`, `[cors]`, `[log]`.
//! * `dialects`: the section `[dialects]`.
//! * `federation`: the section `[federation]`.
//! * `limits`: the section `[limits]`.
//! * `media`: the section `[media]`.
//! * `bundle`: the section `[bundle]`.
//! * `tenant`: a `[[tenant]]`.
//! * `network`: ranges of addresses.
//! * `reading`: from text and environment to a [`Config`], with errors that name the line and the nearest known key.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

mod bundle;
mod dialects;
mod federation;
mod limits;
mod media;
mod network;
mod reading;
mod sections;
mod tenant;

pub use bundle::Bundle;
pub use dialects::{Agora, Dialects, Mirage, Mount, Ryos, Virola};
pub use federation::{Federation, RoomMode, is_of_this_machine};
pub use limits::Limits;
pub use media::{Media, Secret};
pub use network::Network;
pub use sections::{Accounts, Cors, Listen, Log, LogFormat, Registration};
pub use tenant::Tenant;

/// All settings of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder that holds everything the server keeps. A relative path starts at the working directory.
    pub data_dir: PathBuf,
    /// Where the server listens.
    pub listen: Listen,
    /// Whether and how other servers are talked to.
    pub federation: Federation,
    /// Who may have an account, and for how long a log-in lasts.
    pub accounts: Accounts,
    /// Which web pages may call the server.
    pub cors: Cors,
    /// How much one caller may ask for.
    pub limits: Limits,
    /// Files that people upload.
    pub media: Media,
    /// Rooms that come as files.
    pub bundle: Bundle,
    /// The APIs beside the native one.
    pub dialects: Dialects,
    /// What is written to stderr.
    pub log: Log,
    /// The servers that this process is: at least one.
    pub tenant: Vec<Tenant>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            listen: Listen::default(),
            federation: Federation::default(),
            accounts: Accounts::default(),
            cors: Cors::default(),
            limits: Limits::default(),
            media: Media::default(),
            bundle: Bundle::default(),
            dialects: Dialects::default(),
            log: Log::default(),
            tenant: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a file and lays the environment's `YURT_…` variables over it. Other variables are ignored.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, names an unknown key, or when a value is not what its key asks for.
    pub fn load(file: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        Self::read(&text, &file.display().to_string(), environment)
    }

    /// [`Config::load`] of a text; `name` stands for the file in messages.
    pub(crate) fn read(
        text: &str,
        name: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        reading::read(text, name, environment)
    }

    /// Checks what the type of a value cannot say.
    ///
    /// # Errors
    /// The first setting that does not hold, and what to write instead.
    pub fn check(&self) -> Result<(), Problem> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(Problem::new("data_dir", "must not be empty; name a folder such as `data`"));
        }
        self.listen.check()?;
        self.federation.check(self.listen.federation, !self.listen.trusted_proxies.is_empty())?;
        self.accounts.check()?;
        self.cors.check()?;
        self.limits.check()?;
        self.media.check()?;
        self.bundle.check()?;
        self.dialects.check()?;
        self.log.targets()?;
        self.check_tenants()
    }

    /// The tenant of a name; without one, the first.
    pub fn find_tenant(&self, name: Option<&str>) -> Option<&Tenant> {
        match name {
            Some(name) => self.tenant.iter().find(|tenant| tenant.name == name),
            None => self.tenant.first(),
        }
    }

    /// Certificate and key with which other servers reach a tenant, as far as files are named.
    pub fn certificate_of(&self, tenant: &Tenant) -> Option<(PathBuf, PathBuf)> {
        let files =
            [(&tenant.tls_certificate, &tenant.tls_key), (&self.federation.tls_certificate, &self.federation.tls_key)];
        let named = files.into_iter().find(|(certificate, _)| !certificate.as_os_str().is_empty());
        named.map(|(certificate, key)| (certificate.clone(), key.clone()))
    }

    fn check_tenants(&self) -> Result<(), Problem> {
        if self.tenant.is_empty() {
            let message =
                "no tenant: add a section [[tenant]] with a `server_name`, the name that other servers will know";
            return Err(Problem::new("tenant", message));
        }
        let mut names = BTreeMap::new();
        let (mut hosts, mut apps) = (BTreeMap::new(), BTreeMap::new());
        for (number, tenant) in self.tenant.iter().enumerate() {
            let at = |key: &str| format!("tenant[{number}].{key}");
            tenant.check(number)?;
            if names.insert(tenant.name.as_str(), number).is_some() {
                let message = format!("two tenants have the name `{}`; give each its own", tenant.name);
                return Err(Problem::new(at("name"), message));
            }
            if apps.insert((tenant.org.as_str(), tenant.app()), number).is_some() {
                let message = format!("two tenants are found at `/{}/{}`; give each its own", tenant.org, tenant.app());
                return Err(Problem::new(at("app"), message));
            }
            let own_hosts = std::iter::once(("server_name", tenant.server_name.as_str()))
                .chain(tenant.hosts.iter().map(|host| ("hosts", host.as_str())));
            for (key, host) in own_hosts {
                // Hosts are compared as requests name them: whatever the case.
                if hosts.insert(host.to_ascii_lowercase(), number).is_some_and(|other| other != number) {
                    let message = format!("`{host}` leads to two tenants; each host belongs to one");
                    return Err(Problem::new(at(key), message));
                }
            }
        }
        Ok(())
    }
}

/// A setting that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}`: {message}")]
pub struct Problem {
    /// Where the setting stands, such as `tenant[0].server_name`.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// Why there is no configuration. Each text names the place and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No such file, or no right to read it.
    #[error("cannot read the configuration `{}`: {source}; name another file with --config", .file.display())]
    Unreadable {
        /// The file asked for.
        file: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The text is not TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// File and line.
        place: String,
        /// What the parser expected.
        message: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// File and line.
        place: String,
        /// The key as written, with its section.
        key: String,
        /// The known key most like it.
        nearest: String,
    },
    /// A variable `YURT_…` that stands for no key.
    #[error("unknown environment variable `{name}`; did you mean `{nearest}`?")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The known variable most like it.
        nearest: String,
    },
    /// A value of the wrong type or out of range.
    #[error("{place}: {problem}")]
    Value {
        /// File and line, or the variable that set it.
        place: String,
        /// The key and what is wrong with its value.
        problem: Problem,
    },
}

#[cfg(test)]
mod schema_tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/config.schema.json");

    /// With `YURT_WRITE_SCHEMAS` set, this test writes the file instead of comparing it.
    #[test]
    fn the_schema_in_the_repository_is_the_one_of_the_code() {
        let mut schema = schemars::schema_for!(Config);
        schema.insert("title".to_owned(), "Configuration of Yurt".into());
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("YURT_WRITE_SCHEMAS").is_some() {
            std::fs::write(FILE, &text).unwrap();
        }
        let stored = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            stored == text,
            "schemas/config.schema.json is stale; run: YURT_WRITE_SCHEMAS=1 cargo test --lib schema"
        );
    }
}
