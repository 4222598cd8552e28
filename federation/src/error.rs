//! What can go wrong between us and a peer, and what follows from it. May import: ruma's unit of time, http, `peers`.

use http::StatusCode;
use ruma::{MilliSecondsSinceUnixEpoch, RoomVersionId};

use crate::StorageUnavailable;

/// Why a peer did not give what was asked of it.
///
/// The texts name addresses and reasons and are for administrators and logs; others get [`FederationError::public_text`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FederationError {
    /// The name leads nowhere.
    #[error("the server has no address: {0}")]
    NoAddress(String),
    /// All it leads to is inside our own network, and no exception is configured.
    #[error("the addresses of the server are internal ones")]
    InternalAddress,
    /// No connection, or not one with a certificate for the name.
    #[error("no connection: {0}")]
    NoConnection(String),
    /// The connection broke while the request ran.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer did not come in time.
    #[error("no answer in time")]
    TimedOut,
    /// It failed before and is left alone for now. Nothing was sent.
    #[error("left alone until {}", .next_try.0)]
    LeftAlone {
        /// When it is tried again.
        next_try: MilliSecondsSinceUnixEpoch,
    },
    /// The policy of this server has nothing to do with it. Nothing was sent.
    #[error("this server's policy keeps it out")]
    NotAdmitted,
    /// Too many of our requests to it are running. Nothing was sent.
    #[error("too many requests to this server are running")]
    Busy,
    /// It answered with an error.
    #[error("{0}")]
    Refused(PeerRefusal),
    /// Its answer is not what the specification says.
    #[error("the answer is not as it should be: {0}")]
    BadAnswer(&'static str),
    /// Its answer is larger than we read.
    #[error("the answer is too large")]
    TooLarge,
    /// What we wanted to send cannot be sent.
    #[error("the request cannot be made: {0}")]
    Unsendable(&'static str),
    /// Our own store failed.
    #[error(transparent)]
    Storage(#[from] StorageUnavailable),
}

/// A peer's error answer. Everything in it but the status is the peer's word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("answered {} {}", .status.as_u16(), .errcode.as_deref().unwrap_or("without a code"))]
pub struct PeerRefusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// `errcode`, at most 255 bytes.
    pub errcode: Option<String>,
    /// With `M_INCOMPATIBLE_ROOM_VERSION`, the version that the room has.
    pub room_version: Option<RoomVersionId>,
    /// When the peer wants to be asked again.
    pub retry_at: Option<MilliSecondsSinceUnixEpoch>,
}

impl FederationError {
    /// The peer was there: what went wrong is not the way to it.
    pub fn is_reachable(&self) -> bool {
        match self {
            Self::Refused(refusal) => !refusal.status.is_server_error(),
            Self::BadAnswer(_)
            | Self::TooLarge
            | Self::NotAdmitted
            | Self::Busy
            | Self::Unsendable(_)
            | Self::Storage(_) => true,
            Self::NoAddress(_)
            | Self::InternalAddress
            | Self::NoConnection(_)
            | Self::Broken(_)
            | Self::TimedOut
            | Self::LeftAlone { .. } => false,
        }
    }

    /// The same request may succeed later.
    pub fn is_worth_retrying(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                refusal.status.is_server_error() || matches!(refusal.status.as_u16(), 401 | 403 | 404 | 408 | 429)
            }
            Self::BadAnswer(_) | Self::TooLarge | Self::Unsendable(_) => false,
            Self::NoAddress(_)
            | Self::InternalAddress
            | Self::NoConnection(_)
            | Self::Broken(_)
            | Self::TimedOut
            | Self::LeftAlone { .. }
            | Self::NotAdmitted
            | Self::Busy
            | Self::Storage(_) => true,
        }
    }

    /// The peer's error code.
    pub fn errcode(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => refusal.errcode.as_deref(),
            _ => None,
        }
    }

    /// The status of the peer's error answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// What a user who is no administrator may read: nothing about the network that this server stands in.
    pub fn public_text(&self) -> &'static str {
        "The other server is not reachable"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> FederationError {
        let status = StatusCode::from_u16(status).unwrap();
        FederationError::Refused(PeerRefusal { status, errcode: None, room_version: None, retry_at: None })
    }

    #[test]
    fn a_refusal_is_an_answer_and_a_broken_server_is_not() {
        assert!(refused(403).is_reachable() && refused(403).is_worth_retrying());
        assert!(refused(400).is_reachable() && !refused(400).is_worth_retrying());
        assert!(!refused(502).is_reachable() && refused(502).is_worth_retrying());
        assert!(!FederationError::TimedOut.is_reachable() && FederationError::TimedOut.is_worth_retrying());
    }

    #[test]
    fn users_learn_nothing_about_our_network() {
        for error in [FederationError::InternalAddress, FederationError::NoConnection("10.0.0.1:22 refused".to_owned())]
        {
            assert_eq!(error.public_text(), "The other server is not reachable");
        }
    }
}
