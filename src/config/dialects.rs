//! The section `[dialects]`: the APIs that the server speaks beside its own, over the same rooms, and where each is found.
//!
//! May import: ruma (server names), serde.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::Problem;

/// The APIs beside the native one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Dialects {
    /// Rooms at `/api/rooms`, with a token and `X-Username`.
    pub ryos: Ryos,
    /// Rooms at `/api/v1/rooms`, with a session cookie.
    pub virola: Virola,
    /// Rooms by name at `/api/create_room`.
    pub mirage: Mirage,
    /// Rooms at `/{org}/{app}/chatrooms`, with an app token.
    pub agora: Agora,
}

impl Dialects {
    /// Where each is found, by its name.
    pub fn mounts(&self) -> [(&'static str, Mount<'_>); 4] {
        let Self { ryos, virola, mirage, agora } = self;
        [
            ("ryos", Mount { enabled: ryos.enabled, prefix: &ryos.prefix, hosts: &ryos.hosts }),
            ("virola", Mount { enabled: virola.enabled, prefix: &virola.prefix, hosts: &virola.hosts }),
            ("mirage", Mount { enabled: mirage.enabled, prefix: &mirage.prefix, hosts: &mirage.hosts }),
            ("agora", Mount { enabled: agora.enabled, prefix: &agora.prefix, hosts: &agora.hosts }),
        ]
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        for (name, Mount { prefix, hosts, .. }) in self.mounts() {
            if !is_prefix(prefix) {
                let message = format!("`{prefix}` is no path; write one such as `/chat`, or nothing");
                return Err(Problem::new(format!("dialects.{name}.prefix"), message));
            }
            if let Some(host) = hosts.iter().find(|host| ruma::ServerName::parse(host.as_str()).is_err()) {
                let message = format!("`{host}` is not a host; write `chat.example.org` or `host:port`");
                return Err(Problem::new(format!("dialects.{name}.hosts"), message));
            }
        }
        Ok(())
    }
}

/// Where a dialect is found.
#[derive(Debug, Clone, Copy)]
pub struct Mount<'a> {
    /// Whether it is spoken at all.
    pub enabled: bool,
    /// What its paths begin with.
    pub prefix: &'a str,
    /// The hosts at which it is found; none: at all that are no other dialect's.
    pub hosts: &'a [String],
}

/// Rooms at `/api/rooms`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Ryos {
    /// Whether it is spoken. Default: false.
    pub enabled: bool,
    /// What its paths begin with, such as `/chat`. Default: empty.
    pub prefix: String,
    /// Hosts, as they stand in the Host header, at which it is found and other dialects are not; none: at all others. Default: none.
    pub hosts: Vec<String>,
    /// User names that may make public rooms with it and remove them, beside the admins. Default: none.
    pub admins: Vec<String>,
}

/// Rooms at `/api/v1/rooms`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Virola {
    /// Whether it is spoken. Default: false.
    pub enabled: bool,
    /// What its paths begin with, such as `/chat`. Default: empty.
    pub prefix: String,
    /// Hosts, as they stand in the Host header, at which it is found and other dialects are not; none: at all others. Default: none.
    pub hosts: Vec<String>,
}

/// Rooms by name at `/api/create_room`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Mirage {
    /// Whether it is spoken. Default: false.
    pub enabled: bool,
    /// What its paths begin with, such as `/mirage`; `/api/create_room` is found without it as well. Default: empty.
    pub prefix: String,
    /// Hosts, as they stand in the Host header, at which it is found and other dialects are not; none: at all others. Default: none.
    pub hosts: Vec<String>,
    /// Public rooms that a tenant may have, however they were made, for one more to be made with it: it stops at this many. Default: 5.
    pub max_public_rooms: u64,
}

impl Default for Mirage {
    fn default() -> Self {
        Self { enabled: false, prefix: String::new(), hosts: Vec::new(), max_public_rooms: 5 }
    }
}

/// Rooms at `/{org}/{app}/chatrooms`: the pair is that of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Agora {
    /// Whether it is spoken. Default: false.
    pub enabled: bool,
    /// What its paths begin with, such as `/chat`. Default: empty.
    pub prefix: String,
    /// Hosts, as they stand in the Host header, at which it is found and other dialects are not; none: at all others. Default: none.
    pub hosts: Vec<String>,
    /// Whether a changed name or description may hold spaces and slashes; those of a new room always may. Default: false.
    pub spaces_in_changes: bool,
    /// Members, the owner included, that a room made with it may have where its maker does not say. Default: 1000.
    pub max_users: NonZeroU32,
    /// The Matrix version of the rooms that are made with it: 10, 11 or 12. From 12 on the owner, who made the room, stands above all others for good, and cannot hand it over. Default: 12.
    pub room_version: RoomVersion,
}

/// A version that rooms are made in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum RoomVersion {
    /// Creators have a level like everybody.
    #[serde(rename = "10")]
    V10,
    /// Like 10 in what creators are.
    #[serde(rename = "11")]
    V11,
    /// Creators stand above all levels.
    #[default]
    #[serde(rename = "12")]
    V12,
}

impl RoomVersion {
    /// As events name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V10 => "10",
            Self::V11 => "11",
            Self::V12 => "12",
        }
    }
}

impl Default for Agora {
    fn default() -> Self {
        let max_users = NonZeroU32::MIN.saturating_add(999);
        Self {
            enabled: false,
            prefix: String::new(),
            hosts: Vec::new(),
            spaces_in_changes: false,
            max_users,
            room_version: RoomVersion::default(),
        }
    }
}

/// Nothing, or segments of a path that nothing has to be encoded in.
fn is_prefix(text: &str) -> bool {
    let is_segment = |segment: &str| {
        let in_segment = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.');
        !matches!(segment, "" | "." | "..") && segment.bytes().all(in_segment)
    };
    text.is_empty() || text.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_path_without_an_end() {
        for good in ["", "/a", "/a/b-c", "/v2.0"] {
            assert!(is_prefix(good), "{good}");
        }
        for bad in ["/", "a", "/a/", "//a", "/a b", "/{a}", "/a/../b", "/%41"] {
            assert!(!is_prefix(bad), "{bad}");
        }
    }
}
