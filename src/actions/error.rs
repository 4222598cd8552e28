//! What can go wrong with an action, in words for the person who asked. Names no status code: `api/error.rs` maps the kinds.

use std::time::Duration;

use rules::{
    authorization::Refusal,
    draft::DraftError,
    permission::{Denial, Reason},
};

use super::peers::Errcode;
use crate::{
    bundle::Fault,
    storage::{CommitError, StorageError},
};

/// Why an action was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// Unknown, or hidden from the caller: both look the same.
    #[error("no such room, or you may not see it")]
    RoomNotFound,
    /// The caller may see the room, but not do that.
    #[error("{message}")]
    RoomForbidden {
        /// Why, for programs.
        reason: Reason,
        /// Why, for people.
        message: String,
    },
    /// Archived or closed.
    #[error("{0}")]
    RoomFrozen(String),
    /// No place left in the room.
    #[error("{0}")]
    RoomCapacity(String),
    /// The room's type does not know this.
    #[error("{0}")]
    TypeInvariant(String),
    /// The room may not be made into a bundle.
    #[error("{0}")]
    ExportRefused(String),
    /// The bundle is not taken: which entry and event, and why.
    #[error("{0}")]
    ImportRefused(String),
    /// The room has no such event, or the caller may not see it.
    #[error("this room has no such event, or you may not see it")]
    EventNotFound,
    /// Neither the author nor a moderator.
    #[error("{0}")]
    RedactForbidden(String),
    /// Unknown, or hidden from the caller.
    #[error("no such workspace, or you may not see it")]
    WorkspaceNotFound,
    /// The caller's role does not suffice.
    #[error("{0}")]
    WorkspaceForbidden(String),
    /// No such medium, or not for the caller.
    #[error("no such medium, or you may not read it")]
    MediaNotFound,
    /// Bytes of a kind that is not taken here.
    #[error("{0}")]
    UnsupportedMedia(String),
    /// No such person on this server.
    #[error("there is no participant `{0}` on this server")]
    ParticipantNotFound(String),
    /// The person has nothing to do with the room, and whoever asks sees its members.
    #[error("`{0}` is not in this room")]
    NotInRoom(String),
    /// The person has nothing to do with the workspace, and whoever asks sees its members.
    #[error("`{0}` is not in this workspace")]
    NotInWorkspace(String),
    /// Nothing to approve.
    #[error("`{0}` has not knocked here")]
    HasNotKnocked(String),
    /// No session, token or job of that id, or it is not the caller's.
    #[error("there is no such {0}, or it is not yours")]
    NotFound(&'static str),
    /// A limit of the tenant is reached.
    #[error("{0}")]
    TenantCapacity(String),
    /// The token is missing, unknown or revoked; or the name or password is wrong.
    #[error("{0}")]
    InvalidToken(String),
    /// The token's time is over.
    #[error("this access token has expired; log in again")]
    ExpiredToken,
    /// Not for this caller, whatever the room.
    #[error("{0}")]
    InsufficientPermission(String),
    /// A field has a value that cannot be right.
    #[error("`{field}`: {problem}")]
    RequestInvalid {
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Larger than an event may be.
    #[error("{0}")]
    ContentTooLarge(String),
    /// Too often.
    #[error("too many requests; try again in {:.0} s", .retry_after.as_secs_f64().ceil().max(1.0))]
    RateLimited {
        /// When it may work.
        retry_after: Duration,
    },
    /// Needs another server, and this one does not talk to others.
    #[error("{0}")]
    FederationDisabled(String),
    /// No other server that could help was reached.
    #[error("{0}")]
    PeerUnreachable(String),
    /// Another server was reached, and does not do it.
    #[error("{message}")]
    PeerRefused {
        /// In words.
        message: String,
        /// The code that it gave; none: its answer could not be used.
        errcode: Option<Errcode>,
    },
    /// It goes on beside the request that began it, as a job. No failure: who asked is told where to look.
    #[error("entering this room takes long and goes on as job `{job_id}`; GET /v1/jobs/{job_id} says how far it is")]
    Underway {
        /// The job.
        job_id: String,
        /// The room that is being entered.
        room_id: ruma::OwnedRoomId,
    },
    /// A name that exists already.
    #[error("{0}")]
    NameTaken(String),
    /// The same key with another request.
    #[error("{0}")]
    IdempotencyMismatch(String),
    /// Too many wait for the same, or the disk is full: nothing was done.
    #[error("the server is busy; try again in a moment")]
    Busy,
    /// The disk takes nothing, for instance because it is full: nothing was done. The text is for the log only.
    #[error("the server is busy; try again in a moment")]
    NotWritten(String),
    /// Our fault. The text is for the log only.
    #[error("{0}")]
    Internal(String),
}

/// What an error means to whoever asked; each dialect has its own code for it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named as the variants of ActionError, which say what they mean")]
pub enum ErrorKind {
    RoomNotFound,
    RoomForbidden,
    RoomFrozen,
    RoomCapacity,
    TypeInvariant,
    ExportRefused,
    ImportRefused,
    EventNotFound,
    RedactForbidden,
    WorkspaceNotFound,
    WorkspaceForbidden,
    MediaNotFound,
    UnsupportedMedia,
    ParticipantNotFound,
    NotFound,
    TenantCapacity,
    InvalidToken,
    ExpiredToken,
    InsufficientPermission,
    RequestInvalid,
    ContentTooLarge,
    RateLimited,
    FederationDisabled,
    PeerUnreachable,
    PeerRefused,
    NameTaken,
    IdempotencyMismatch,
    Busy,
    Internal,
}

impl ActionError {
    /// What the error means.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RoomNotFound => ErrorKind::RoomNotFound,
            Self::RoomForbidden { .. } => ErrorKind::RoomForbidden,
            Self::RoomFrozen(_) => ErrorKind::RoomFrozen,
            Self::RoomCapacity(_) => ErrorKind::RoomCapacity,
            Self::TypeInvariant(_) => ErrorKind::TypeInvariant,
            Self::ExportRefused(_) => ErrorKind::ExportRefused,
            Self::ImportRefused(_) => ErrorKind::ImportRefused,
            Self::EventNotFound => ErrorKind::EventNotFound,
            Self::RedactForbidden(_) => ErrorKind::RedactForbidden,
            Self::WorkspaceNotFound => ErrorKind::WorkspaceNotFound,
            Self::WorkspaceForbidden(_) => ErrorKind::WorkspaceForbidden,
            Self::MediaNotFound => ErrorKind::MediaNotFound,
            Self::UnsupportedMedia(_) => ErrorKind::UnsupportedMedia,
            Self::ParticipantNotFound(_) | Self::NotInRoom(_) | Self::NotInWorkspace(_) | Self::HasNotKnocked(_) => {
                ErrorKind::ParticipantNotFound
            }
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::TenantCapacity(_) => ErrorKind::TenantCapacity,
            Self::InvalidToken(_) => ErrorKind::InvalidToken,
            Self::ExpiredToken => ErrorKind::ExpiredToken,
            Self::InsufficientPermission(_) => ErrorKind::InsufficientPermission,
            Self::RequestInvalid { .. } => ErrorKind::RequestInvalid,
            Self::ContentTooLarge(_) => ErrorKind::ContentTooLarge,
            Self::RateLimited { .. } => ErrorKind::RateLimited,
            Self::FederationDisabled(_) => ErrorKind::FederationDisabled,
            Self::PeerUnreachable(_) => ErrorKind::PeerUnreachable,
            Self::PeerRefused { .. } => ErrorKind::PeerRefused,
            Self::Underway { .. } => ErrorKind::Busy,
            Self::NameTaken(_) => ErrorKind::NameTaken,
            Self::IdempotencyMismatch(_) => ErrorKind::IdempotencyMismatch,
            Self::Busy | Self::NotWritten(_) => ErrorKind::Busy,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// The word of `/permissions` for it, where there is one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::RoomForbidden { reason, .. } => Some(*reason),
            Self::RoomFrozen(_) => Some(Reason::Frozen),
            Self::RoomCapacity(_) => Some(Reason::Capacity),
            Self::TypeInvariant(_) => Some(Reason::Type),
            Self::TenantCapacity(_) => Some(Reason::Tenant),
            Self::FederationDisabled(_) => Some(Reason::Federation),
            _ => None,
        }
    }

    /// A field with a value that cannot be right.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::RequestInvalid { field: field.into(), problem: problem.into() }
    }

    /// What the room's type does not know.
    pub fn type_invariant(message: impl Into<String>) -> Self {
        Self::TypeInvariant(message.into())
    }

    /// Something that cannot be, unless there is a fault of ours.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::Internal(cause.to_string())
    }

    /// No server that could help was reached: why, only admins learn elsewhere.
    pub fn unreachable() -> Self {
        Self::PeerUnreachable("the other server cannot be reached".to_owned())
    }

    /// Another server answered with something that is no use.
    pub fn unusable() -> Self {
        Self::PeerRefused { message: "the other server's answer cannot be used".to_owned(), errcode: None }
    }

    /// Another server does not do it.
    pub fn peer_refused(errcode: Errcode) -> Self {
        let message = match errcode {
            Errcode::INCOMPATIBLE_ROOM_VERSION => "the room has a version that this server does not speak",
            Errcode::NOT_FOUND => "the other server knows no such room, or does not tell of it",
            _ => "the other server does not allow it",
        };
        Self::PeerRefused { message: message.to_owned(), errcode: Some(errcode) }
    }

    /// What needs another server, until this one talks to others.
    pub fn needs_federation(what: &str) -> Self {
        Self::FederationDisabled(format!("{what} needs another server, and federation is not enabled here"))
    }
}

impl From<Denial> for ActionError {
    fn from(denial: Denial) -> Self {
        let Denial { reason, message } = denial;
        match reason {
            Reason::Frozen => Self::RoomFrozen(message),
            Reason::Capacity => Self::RoomCapacity(message),
            Reason::Type => Self::TypeInvariant(message),
            Reason::Federation => Self::FederationDisabled(message),
            Reason::Tenant => Self::TenantCapacity(message),
            Reason::Level | Reason::Creator | Reason::Membership | Reason::Silenced | Reason::History => {
                Self::RoomForbidden { reason, message }
            }
        }
    }
}

/// The Matrix rules refused an event that the contract's own rules let pass: the level is what they know and we do not.
impl From<Refusal> for ActionError {
    fn from(refusal: Refusal) -> Self {
        Self::RoomForbidden { reason: Reason::Level, message: format!("the rules of this room forbid it: {refusal}") }
    }
}

impl From<DraftError> for ActionError {
    fn from(error: DraftError) -> Self {
        match error {
            DraftError::TooLarge { .. } => Self::ContentTooLarge(error.to_string()),
            DraftError::FieldTooLong { field, .. } => Self::invalid(field, error.to_string()),
            other => Self::invalid("content", other.to_string()),
        }
    }
}

impl From<Fault> for ActionError {
    fn from(fault: Fault) -> Self {
        Self::ImportRefused(fault.to_string())
    }
}

impl From<StorageError> for ActionError {
    fn from(error: StorageError) -> Self {
        Self::Internal(format!("storage: {error}"))
    }
}

impl From<CommitError> for ActionError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::TooLarge => {
                Self::ContentTooLarge("this is more than one step may write; do it in parts".to_owned())
            }
            CommitError::Invalid(mistake) => Self::Internal(mistake),
            CommitError::Conflict | CommitError::Fenced | CommitError::Unknown => {
                tracing::warn!(%error, "A commit was not done: {error}");
                Self::Busy
            }
            CommitError::Unavailable(reason) => {
                tracing::warn!(error = %reason, "A commit was not done: {reason}");
                Self::NotWritten(reason)
            }
        }
    }
}
