//! What admins do and give out: long work, the record of their acts, tokens, purged rooms.

use std::collections::BTreeMap;

use rules::UnixMs;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::Place;

/// Long work and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What is to be done.
    pub kind: JobKind,
    /// How far it is.
    pub state: JobState,
    /// Who asked for it.
    pub started_by: OwnedUserId,
    /// When.
    pub created_at: UnixMs,
    /// Steps done when it was last written down.
    pub done: u64,
    /// Steps in all, once that was known.
    pub total: Option<u64>,
    /// When it was done or failed.
    pub finished_at: Option<UnixMs>,
    /// What was done, as a JSON object.
    pub result: Option<String>,
    /// Why it failed, for a person.
    pub error: Option<String>,
}

/// What is to be done. Stored: new kinds are added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobKind {
    /// A deactivated person leaves all rooms.
    Deactivate(OwnedUserId),
    /// A room is deleted; none: an incognito room, which nothing durable names.
    Purge(Option<OwnedRoomId>),
    /// Somebody enters a room of other servers.
    Join {
        /// Who.
        user_id: OwnedUserId,
        /// Which room.
        room_id: OwnedRoomId,
        /// The servers that may help, the likeliest first.
        servers: Vec<OwnedServerName>,
    },
    /// Other servers take part in a room again: they get what they missed, and are asked for what they have.
    Resume(OwnedRoomId),
    /// A room is taken in from a bundle.
    Import(Box<ImportWish>),
    /// A room is written into a file of this machine.
    Export(Box<ExportWish>),
}

/// What whoever exports to a file wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportWish {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The file.
    pub out: String,
    /// The media come along.
    pub media: bool,
    /// What everybody has set for themselves comes along.
    pub personal: bool,
}

impl JobKind {
    /// The work keeps this server busy, so only a few do it at a time; other work mostly waits for other servers.
    #[must_use]
    pub fn takes_a_turn(&self) -> bool {
        match self {
            Self::Deactivate(_) | Self::Purge(_) | Self::Import(_) | Self::Export(_) | Self::Resume(_) => true,
            Self::Join { .. } => false,
        }
    }

    /// The word of the contract.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Deactivate(_) => "deactivate",
            Self::Purge(_) => "purge",
            Self::Import(_) => "import",
            Self::Export(_) => "export",
            Self::Join { .. } => "join",
            Self::Resume(_) => "resume",
        }
    }
}

/// How far long work is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Waits for its turn.
    Queued,
    /// Is being done.
    Running,
    /// Was done.
    Done,
    /// Was given up.
    Failed,
}

impl JobState {
    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// Nothing will happen any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

/// What whoever imports a bundle wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportWish {
    /// The upload, in the spool.
    pub file: String,
    /// Only say what would become of it.
    pub dry_run: bool,
    /// Believe the keys that the bundle brings where they cannot be asked for.
    pub accept_bundle_keys: bool,
    /// Who asks administers the tenant.
    pub is_admin: bool,
    /// The command line asks, for somebody.
    pub is_command_line: bool,
    /// Who asks.
    pub by: OwnedUserId,
    /// Where a successor of the room belongs; none: the personal workspace of who asks.
    pub workspace_id: Option<OwnedRoomId>,
    /// Who in the room is who else in its successor.
    pub participants: BTreeMap<OwnedUserId, OwnedUserId>,
    /// Whoever has an account with the same local name here is the same person.
    pub same_names: bool,
}

/// A room that a bundle is being taken into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Importing {
    /// The work.
    pub job_id: String,
    /// What a crash leaves behind.
    pub phase: Phase,
}

/// How far a bundle is taken in.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The room is being built, and nobody finds it: what is there of it goes.
    Building,
    /// The room was here before: what was added is part of it, and the rest is added as well.
    Merging,
}

/// Where the timeline of a room goes on into that of the room before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seam {
    /// The room before it.
    pub room_id: OwnedRoomId,
    /// The last place there that belongs to it.
    pub until: Place,
}

/// One act of an admin, of the command line or of a server with an app token. Holds no secret, and names no incognito room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// When.
    pub at: UnixMs,
    /// A full user id, `command-line`, or `app:` and the name of an app token.
    pub actor: String,
    /// What was done, as `noun.verb`.
    pub action: String,
    /// To whom or what: a user id, a room id, the id of a token.
    pub target: Option<String>,
    /// What else is worth knowing, by name.
    pub details: Vec<(String, String)>,
}

/// A token that lets people register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationToken {
    /// Names the token without giving it away.
    pub id: String,
    /// Registrations that it is good for; none: any number.
    pub uses: Option<u64>,
    /// Registrations that used it.
    pub used: u64,
    /// When it ceases to be good; none: never.
    pub expires_at: Option<UnixMs>,
    /// When it was made.
    pub created_at: UnixMs,
    /// Who made it.
    pub created_by: OwnedUserId,
}

/// The token of a server that calls us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppToken {
    /// Names the token without giving it away.
    pub id: String,
    /// What the admin calls that server.
    pub name: String,
    /// When it was made.
    pub created_at: UnixMs,
    /// Who made it.
    pub created_by: OwnedUserId,
    /// When it was used last, to the hour; none: never.
    pub last_used_at: Option<UnixMs>,
}

/// A room that is being purged, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// The work.
    pub job_id: String,
    /// Who asked for it.
    pub by: OwnedUserId,
    /// Bytes of the rows that go, once they are counted.
    pub bytes: Option<u64>,
    /// When the last row went; none: it is under way.
    pub finished_at: Option<UnixMs>,
}
