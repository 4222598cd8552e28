//! Everything that the server can be asked to do, once, whoever asks: fetch facts, let `rules` decide, commit.
//!
//! May import: rules, storage, federation (ports, peer), clock, live. Never: api, axum, http. Knows exactly one tenant.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use federation::policy::Policy;
use parking_lot::RwLock;
use rules::{UnixMs, keys::KeyRing, signature::Signer};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId};

pub mod accounts;
pub mod admin;
pub mod agora_rooms;
pub mod aliases;
pub mod announcements;
pub mod app_tokens;
pub mod append;
pub mod audit;
pub mod avatars;
pub mod backfill;
pub mod bringing;
pub mod bundle;
pub mod caller;
pub mod capacity;
pub mod chores;
pub mod completeness;
pub mod creation;
pub mod deactivation;
pub mod direct;
pub mod directory;
pub mod error;
pub mod federate;
pub mod figures;
pub mod gate;
pub mod handshakes;
pub mod images;
pub mod incognito;
pub mod incoming;
pub mod invites;
pub mod jobs;
pub mod knocks;
pub mod lane;
pub mod levels;
pub mod lifecycle;
pub mod lookups;
pub mod media;
pub mod members;
pub mod merge;
pub mod messages;
pub mod mirage_rooms;
pub mod numbers;
pub mod outgoing;
pub mod page;
pub mod passwords;
pub mod peers;
pub mod permissions;
pub mod personal;
mod policy_servers;
pub mod presence;
pub mod profile;
pub mod purge;
pub mod quotas;
mod receipts;
pub mod registration;
pub mod remote_invite;
pub mod remote_join;
pub mod remote_leave;
pub mod remote_media;
pub mod requests;
pub mod resume;
pub mod room_passwords;
pub mod room_state;
pub mod rooms;
pub mod rows;
pub mod ryos_rooms;
pub mod seam;
pub mod server_acl;
pub mod sessions;
pub mod settings;
pub mod silence;
pub mod stream;
pub mod summary;
pub mod texts;
pub mod timeline;
pub mod typing;
pub mod view;
pub mod visitors;
pub mod workspaces;

pub use caller::Caller;
pub use error::{ActionError, ErrorKind};
pub use page::{Page, Window};

/// What the edges need of storage's vocabulary; they never see storage itself.
pub use crate::storage::{
    Cursor, Direction, Place,
    accounts::{AccountState, StoredAnswer},
    admin::{AppToken, AuditRow, JobKind, JobState, RegistrationToken},
    members::{Mute, NotificationMode, Silence},
    peers::PolicyMode,
    room_settings::{FederationMode, MadeThrough},
};

use crate::{
    clock::Clock,
    jobs::Jobs,
    random::Random,
    storage::{Home, Store, keyspaces::ALIASES},
};
use lane::{Room, Rooms};

/// The handle that all edges get. Cheap to copy.
#[derive(Clone)]
pub struct Actions(Arc<Inner>);

/// What the actions of one tenant share: what they are made of, and what they keep in memory.
pub struct Inner {
    parts: Parts,
    /// The tenant's Matrix server name.
    pub server_name: OwnedServerName,
    /// What goes on beside the requests.
    pub jobs: Jobs,
    incognito_rooms: RwLock<HashSet<OwnedRoomId>>,
    /// Rooms whose rows are about to go: nobody enters them any more.
    purging: RwLock<HashSet<OwnedRoomId>>,
    rooms: Rooms,
    /// The listed rooms, as the directory shows them.
    pub directory: Arc<directory::Index>,
    sessions: sessions::Sessions,
    gates: gate::Gates,
    capacity: capacity::Capacity,
    answers_kept: AtomicU64,
    room_guesses: room_passwords::Guesses,
    ids: AtomicU64,
    live: stream::Live,
    typing: typing::Typing,
    seen: presence::Seen,
    numbers: numbers::Numbers,
    members_known: visitors::Known,
    network: peers::Network,
    /// What other servers are still to be told.
    pub outgoing: Arc<outgoing::Outgoing>,
    server_acls: server_acl::ServerAcls,
    policy_servers: policy_servers::PolicyServers,
    staging: incoming::Staging,
    entering: remote_join::Runs,
    quotas: quotas::Quotas,
    bundles: bundle::Bundles,
    remote_media: remote_media::RemoteMedia,
    history_pauses: backfill::Pauses,
    /// Which other servers this one has to do with.
    pub policy: Policy,
}

/// What the configuration sets for the actions of a tenant.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Joined members of one room at most.
    pub max_participants: u64,
    /// Accounts at most.
    pub max_accounts: u64,
    /// Rooms at most, workspaces and incognito rooms not counted.
    pub max_rooms: u64,
    /// Who may register.
    pub registration: Registration,
    /// How long an access token lives, in milliseconds; none: for ever.
    pub token_lifetime_ms: Option<u64>,
    /// Local parts of aliases that only admins may take.
    pub reserved_aliases: Vec<String>,
    /// What holds only of other APIs than the native one.
    pub dialects: Dialects,
    /// Which other servers may take part in a new room.
    pub room_federation: FederationMode,
    /// Events that are sent to, and taken from, a server that may take part in a room again. Of more, only the last ones.
    pub resume_events_max: u64,
    /// Rows of the feed that another server may be behind. One that is further behind gets only the newest event of each room, and asks for what is before
    /// that. Source: <https://spec.matrix.org/v1.19/server-server-api/#transactions>
    pub behind_rows_max: u64,
}

/// What the configuration sets for the APIs beside the native one.
#[derive(Clone, Debug, Default)]
pub struct Dialects {
    /// Local names of those who may make and remove public rooms through `/api/rooms`, beside the admins.
    pub ryos_admins: Vec<String>,
    /// Public rooms of the tenant with which one more can be made through `/api/create_room`, and not with more.
    pub mirage_public_rooms_max: u64,
    /// Members that a room made through `/{org}/{app}/chatrooms` may have where nothing is said.
    pub agora_users_max: u64,
    /// A name or description changed there may hold spaces and slashes.
    pub agora_spaces_in_changes: bool,
    /// The version of the rooms that are made there; none: that of all new rooms.
    pub agora_room_version: Option<&'static str>,
}

/// Who may register.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// Nobody; an admin makes the accounts.
    #[default]
    Closed,
    /// Whoever has a registration token.
    Token,
    /// Everybody.
    Open,
}

impl std::ops::Deref for Actions {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl std::ops::Deref for Inner {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// What a tenant's actions are made of.
pub struct Parts {
    /// The tenant's name in the configuration; part of its access tokens.
    pub tenant: String,
    /// Signs what this server says.
    pub signer: Signer,
    /// What this server's keys look like, those included that sign no more.
    pub own_keys: KeyRing,
    /// The folder of uploads that are looked through before anything of them is kept.
    pub spool: PathBuf,
    /// How large a bundle may be.
    pub bundle_limits: crate::bundle::Limits,
    /// How long whoever uploads a bundle waits for the room.
    pub bundle_answer_wait: Duration,
    /// The durable store.
    pub store: Store,
    /// The store of incognito rooms, in memory.
    pub incognito: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The dice.
    pub random: Arc<dyn Random>,
    /// What the configuration sets.
    pub settings: Settings,
    /// Runs argon2id, a few at a time; shared by all tenants of the process.
    pub passwords: passwords::Passwords,
    /// Its media.
    pub media: media::Media,
}

impl Actions {
    /// The actions of one tenant, with the work done that a crash left over.
    ///
    /// # Errors
    /// When storage cannot be read or written.
    pub async fn open(parts: Parts) -> Result<Self, ActionError> {
        let live = stream::Live::new(&parts.signer);
        let actions = Self(Arc::new(Inner {
            server_name: parts.signer.server_name().to_owned(),
            parts,
            jobs: Jobs::default(),
            incognito_rooms: RwLock::default(),
            purging: RwLock::default(),
            rooms: Rooms::default(),
            directory: Arc::default(),
            sessions: sessions::Sessions::default(),
            gates: gate::Gates::default(),
            capacity: capacity::Capacity::default(),
            answers_kept: AtomicU64::new(0),
            room_guesses: room_passwords::Guesses::default(),
            ids: AtomicU64::new(0),
            live,
            typing: typing::Typing::default(),
            seen: presence::Seen::default(),
            numbers: numbers::Numbers::default(),
            members_known: visitors::Known::default(),
            network: peers::Network::default(),
            outgoing: Arc::default(),
            server_acls: server_acl::ServerAcls::default(),
            policy_servers: policy_servers::PolicyServers::default(),
            staging: incoming::Staging::default(),
            entering: remote_join::Runs::default(),
            quotas: quotas::Quotas::default(),
            bundles: bundle::Bundles::default(),
            remote_media: remote_media::RemoteMedia::default(),
            history_pauses: backfill::Pauses::default(),
            policy: Policy::default(),
        }));
        purge::load(&actions).await?;
        peers::load_policy(&actions).await?;
        bundle::clean(&actions).await?;
        chores::finish_all(&actions).await?;
        profile::finish_all(&actions).await?;
        remote_join::spool::clear_all(&actions).await?;
        jobs::resume(&actions).await?;
        incoming::resume(&actions).await?;
        Ok(actions)
    }

    /// The time now.
    pub fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// The user is of this server.
    pub fn is_local(&self, user_id: &UserId) -> bool {
        user_id.server_name() == &*self.server_name
    }

    /// The room with its lane, whether or not it exists.
    pub fn room(&self, room_id: &RoomId) -> Arc<Room> {
        self.rooms.get(room_id, self.store_of(room_id))
    }

    /// The id, alias or number is of a room that lives in memory only: nothing durable may name it.
    ///
    /// # Errors
    /// When the store in memory is closed.
    pub async fn is_incognito(&self, reference: &str) -> Result<bool, ActionError> {
        if reference.starts_with('#') {
            return Ok(self.incognito.get(&ALIASES, &Home::name(reference), &()).await?.is_some());
        }
        if reference.parse().is_ok_and(|number: u64| number >= numbers::IN_MEMORY_FROM) {
            return Ok(true);
        }
        Ok(RoomId::parse(reference).is_ok_and(|room_id| self.incognito_rooms.read().contains(&room_id)))
    }

    /// The room's rows are about to go, or are gone.
    pub fn is_purging(&self, room_id: &RoomId) -> bool {
        self.purging.read().contains(room_id)
    }

    /// An id that sorts by the time at which it was made, and within a millisecond by the order in which this process made it.
    pub fn timed_id(&self) -> String {
        let count = self.ids.fetch_add(1, Ordering::Relaxed) & 0xff_ffff;
        format!("{:012x}{count:06x}{}", self.now().0, self.random_word(8))
    }

    /// The durable store: everything but incognito rooms.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where the rows about a room are, those of its members included.
    pub fn store_of(&self, room_id: &RoomId) -> &Store {
        if self.incognito_rooms.read().contains(room_id) { &self.incognito } else { &self.store }
    }

    /// Both stores, the durable one first.
    pub fn stores(&self) -> [&Store; 2] {
        [&self.store, &self.incognito]
    }

    /// A local participant by full id or bare local name.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse_participant(&self, field: &str, name: &str) -> Result<OwnedUserId, ActionError> {
        let full = if name.starts_with('@') { name.to_owned() } else { format!("@{name}:{}", self.server_name) };
        let is_right = |user_id: &OwnedUserId| !user_id.localpart().is_empty() && !full.contains('\0');
        UserId::parse(&full).ok().filter(is_right).ok_or_else(|| {
            ActionError::invalid(
                field,
                format!("`{name}` is neither a user id such as @alice:{} nor a local name", self.server_name),
            )
        })
    }

    /// Nobody but who asks has this handle, nothing lives in memory only, and nothing is owed to other servers: closing the tenant would be noticed by nobody.
    pub fn is_unused(&self) -> bool {
        let is_alone = self.outgoing.idle_handles().is_some_and(|handles| Arc::strong_count(&self.0) == 1 + handles);
        is_alone && self.incognito_rooms.read().is_empty()
    }

    /// Ends what goes on beside the requests, waits until everything that was submitted is on disk, and closes both stores.
    ///
    /// # Errors
    /// When storage cannot be closed.
    pub async fn close(&self) -> Result<(), ActionError> {
        self.end_streams().await;
        outgoing::unplug(self).await;
        self.disconnect();
        self.jobs.stop().await;
        self.incognito.close().await?;
        Ok(self.store.close().await?)
    }

    /// Ends all live streams, and lets no new one begin: the first thing that a server does when it stops.
    pub async fn end_streams(&self) {
        self.live.close().await;
    }

    /// Live streams that are open now: a tenant that has some is not idle.
    pub fn open_streams(&self) -> usize {
        self.live.open_streams()
    }

    /// Random bytes, as lower-case letters and digits.
    pub fn random_word(&self, characters: usize) -> String {
        crate::random::word(&*self.random, characters)
    }
}
