//! What is kept of other servers: their keys, whether they answer, what they were answered, and how far they are behind.

use rules::UnixMs;
use serde::{Deserialize, Serialize};

use super::value::Value;

/// A public key of another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownKey {
    /// Its bytes.
    pub key: Vec<u8>,
    /// The server has said that it no longer signs with it.
    pub is_expired: bool,
    /// Until when it is, or was, good.
    pub until: UnixMs,
}

/// A document in which another server published its keys, as that server signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDocument {
    /// Its JSON.
    pub text: String,
    /// When it was fetched.
    pub fetched_at: UnixMs,
    /// Until when it is good, as it says.
    pub valid_until: UnixMs,
}

/// How it stands with another server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    /// Failures in a row.
    pub failures: u32,
    /// It is left alone until then.
    pub next_try: Option<UnixMs>,
}

/// What administrators are told of another server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFacts {
    /// When it last answered, or asked us something.
    pub last_seen: Option<UnixMs>,
    /// What went wrong last, and when.
    pub last_error: Option<(UnixMs, String)>,
}

/// What a transaction of another server was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// When.
    pub at: UnixMs,
    /// The JSON of the answer.
    pub answer: String,
}

/// Which other servers this one has to do with, but for those that are denied. Stored: new modes are added at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyMode {
    /// All.
    #[default]
    Open,
    /// Those on the list of allowed ones.
    AllowList,
    /// None.
    Closed,
}

impl PolicyMode {
    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::AllowList => "allow_list",
            Self::Closed => "closed",
        }
    }
}

/// One of the two lists of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyList {
    /// Who is let in.
    Allow,
    /// Who is not.
    Deny,
}

impl PolicyList {
    /// How rows name it.
    #[must_use]
    pub fn key(self) -> u64 {
        match self {
            Self::Allow => 0,
            Self::Deny => 1,
        }
    }
}

impl Value for PolicyMode {}
impl Value for KnownKey {}
impl Value for KnownDocument {}
impl Value for PeerState {}
impl Value for PeerFacts {}
impl Value for Answered {}
