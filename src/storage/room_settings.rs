//! What this server has set for a room. It is not part of the room and does not travel with its events.

use ruma::{OwnedServerName, ServerName};
use serde::{Deserialize, Serialize};

use super::value::{BadValue, Value, fields};

/// Settings of this server for a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomSettings {
    /// Joined members at most; none: only the tenant's limit.
    pub max_members: Option<u64>,
    /// Which other servers may take part.
    pub federation: FederationMode,
    /// Argon2id in PHC form of the word that lets people of this server in; none: there is no such word.
    pub password_hash: Option<String>,
    /// Which API it was made through; some rules hold only for rooms that were made through theirs.
    pub made_through: MadeThrough,
    /// It is removed, with everything said in it, as soon as somebody leaves and at most one member remains.
    pub is_transient: bool,
}

/// The API that a room was made through. Stored: new ones are added at the end.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MadeThrough {
    /// The native one; or the room came from another server.
    #[default]
    Native,
    /// `/api/rooms`.
    Ryos,
    /// `/{org}/{app}/chatrooms`.
    Agora,
    /// `/api/create_room`.
    Mirage,
}

impl MadeThrough {
    /// The word for it in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "v1",
            Self::Ryos => "ryos",
            Self::Agora => "agora",
            Self::Mirage => "mirage",
        }
    }
}

/// Which other servers may take part in a room. For all others the room does not exist. Stored: new modes are added at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FederationMode {
    /// All.
    #[default]
    Open,
    /// None.
    Off,
    /// These, each with its port where it has one, in lower case.
    Listed(Vec<OwnedServerName>),
}

impl FederationMode {
    /// The server may take part.
    #[must_use]
    pub fn admits(&self, server: &ServerName) -> bool {
        match self {
            Self::Open => true,
            Self::Off => false,
            Self::Listed(servers) => servers.iter().any(|listed| listed.as_str().eq_ignore_ascii_case(server.as_str())),
        }
    }

    /// The word of the contract.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Off => "off",
            Self::Listed(_) => "allow_list",
        }
    }
}

impl Value for RoomSettings {
    const VERSION: u8 = 4;

    fn upgrade(version: u8, bytes: &[u8]) -> Result<Self, BadValue> {
        match version {
            1 => fields::<RoomSettingsV1>(bytes).map(|old| RoomSettingsV3::from(RoomSettingsV2::from(old)).into()),
            2 => fields::<RoomSettingsV2>(bytes).map(|old| RoomSettingsV3::from(old).into()),
            3 => fields::<RoomSettingsV3>(bytes).map(Self::from),
            other => Err(BadValue::Version(other)),
        }
    }
}

/// Before rooms had passwords.
#[derive(Serialize, Deserialize)]
struct RoomSettingsV1 {
    max_members: Option<u64>,
    federation_off: bool,
}

/// Before single servers could be let in.
#[derive(Serialize, Deserialize)]
struct RoomSettingsV2 {
    max_members: Option<u64>,
    federation_off: bool,
    password_hash: Option<String>,
}

/// Before there were other APIs.
#[derive(Serialize, Deserialize)]
struct RoomSettingsV3 {
    max_members: Option<u64>,
    federation: FederationMode,
    password_hash: Option<String>,
}

impl From<RoomSettingsV3> for RoomSettings {
    fn from(RoomSettingsV3 { max_members, federation, password_hash }: RoomSettingsV3) -> Self {
        Self { max_members, federation, password_hash, ..Self::default() }
    }
}

impl From<RoomSettingsV1> for RoomSettingsV2 {
    fn from(RoomSettingsV1 { max_members, federation_off }: RoomSettingsV1) -> Self {
        Self { max_members, federation_off, password_hash: None }
    }
}

impl From<RoomSettingsV2> for RoomSettingsV3 {
    fn from(RoomSettingsV2 { max_members, federation_off, password_hash }: RoomSettingsV2) -> Self {
        let federation = if federation_off { FederationMode::Off } else { FederationMode::Open };
        Self { max_members, federation, password_hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::value::{from_bytes, to_bytes};

    impl Value for RoomSettingsV1 {}
    impl Value for RoomSettingsV2 {
        const VERSION: u8 = 2;
    }
    impl Value for RoomSettingsV3 {
        const VERSION: u8 = 3;
    }

    #[test]
    fn settings_of_older_versions_are_read() {
        let first = to_bytes(&RoomSettingsV1 { max_members: Some(3), federation_off: true }).unwrap();
        let expected =
            RoomSettings { max_members: Some(3), federation: FederationMode::Off, ..RoomSettings::default() };
        assert_eq!(from_bytes::<RoomSettings>(&first).unwrap(), expected);
        let hash = Some("hash".to_owned());
        let second = RoomSettingsV2 { max_members: None, federation_off: false, password_hash: hash.clone() };
        let expected = RoomSettings { password_hash: hash.clone(), ..RoomSettings::default() };
        assert_eq!(from_bytes::<RoomSettings>(&to_bytes(&second).unwrap()).unwrap(), expected);
        let listed = FederationMode::Listed(vec!["b.example".try_into().unwrap()]);
        let third = RoomSettingsV3 { max_members: None, federation: listed.clone(), password_hash: hash.clone() };
        let expected = RoomSettings { federation: listed, password_hash: hash, ..RoomSettings::default() };
        assert_eq!(from_bytes::<RoomSettings>(&to_bytes(&third).unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_listed_server_is_known_in_any_case_and_with_its_port_only() {
        let mode = FederationMode::Listed(vec!["b.example:8448".try_into().unwrap()]);
        for (server, is_in) in [("b.example:8448", true), ("B.Example:8448", true), ("b.example", false)] {
            assert_eq!(mode.admits(server.try_into().unwrap()), is_in, "{server}");
        }
    }
}
