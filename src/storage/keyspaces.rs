//! The list of all keyspaces: number, name, whose rows they are, how they are used. It only grows; a number is never used twice.
//!
//! | keyspace | home | key → value |
//! |---|---|---|
//! | `events` | room | arrival → event |
//! | `timeline` | room | place → arrival |
//! | `tip` | room | → heads, counters, present state |
//! | `summary` | room | → what the room is |
//! | `state_keys` | room | type, state key → number |
//! | `state_nodes` | room | number → nodes of the state tree |
//! | `members` | room | person → membership |
//! | `own_messages` | room | person, place → how many of theirs up to there |
//! | `redactions` | room | redacted event → redaction |
//! | `sent_under` | room | person, transaction id → event |
//! | `room_settings` | room | → settings of this server for it |
//! | `workspace_rooms` | room (a space) | room → |
//! | `staged` | room | number → event of a peer that cannot be judged yet |
//! | `entering` | room | event that another server tells of while the room is entered → its text |
//! | `missing` | room | event that is not held → shown events that name it |
//! | `servers` | room | other server → its joined people |
//! | `come_again` | room | number in the order of arrival → arrival that an outlier had before |
//! | `waiting_redactions` | room | event that is not held → its redactions |
//! | `room_media` | room | medium, event that names it → what its sender called it |
//! | `event_ids` | content | event id → room, arrival |
//! | `account` | person | → account |
//! | `sessions` | person | hash of a token → session |
//! | `in_rooms` | person | room → membership |
//! | `personal` | person | room → read marker, mute, mode |
//! | `mentions` | person | room, place → |
//! | `direct_pairs` | person | other person → reserved room |
//! | `direct_rooms` | person | other person, room → |
//! | `creations` | person | request → reserved room |
//! | `answers` | person | request → stored answer |
//! | `uploads` | person | medium → what it was uploaded as |
//! | `profile_changed` | person | → the person's rooms may not know yet |
//! | `invites` | person | room that nobody of this server is in → who invites there, or that the person knocks |
//! | `names` | server | local name → |
//! | `aliases` | name (the alias) | → room |
//! | `media_rooms` | name (the medium) | room whose `room_media` may have it → |
//! | `media_people` | name (the medium) | person whose picture it may be → what they called it |
//! | `rooms` | server | room → listing |
//! | `chores` | server | room, space → work that is left |
//! | `jobs` | server | id → long work and what became of it |
//! | `audit` | server | id (by time) → act of an admin |
//! | `registration_tokens` | server | hash of a token → how often it may be used |
//! | `app_tokens` | server | hash of a token → the server that has it |
//! | `purged` | server | room → when it was purged |
//! | `staged_rooms` | server | room that has `staged` rows → |
//! | `entering_rooms` | server | room that has rows in `entering` → |
//! | `since` | room | other server with joined people → the event behind which it gets what happens |
//! | `left` | room | last event that it gets, other server → as `since` |
//! | `held` | room | other server that is kept out → the event behind which it got nothing |
//! | `sent_on` | room | number of an event of a peer that we tell the others → who brought it |
//! | `server_keys` | peer | key id → public key |
//! | `peer_state` | peer | → failures, when it is tried again |
//! | `peer_facts` | peer | → when it was seen, what went wrong |
//! | `answered` | peer | transaction → our answer |
//! | `answered_at` | peer | time, transaction → |
//! | `peer_rooms` | peer | room that its people were in → |
//! | `behind` | server | other server that lacks something → how far in the feed it is |
//! | `imports` | server | room that a bundle is taken into → the work |
//! | `successors` | server | room of a bundle, who took it in → the room that follows it |
//! | `seam` | room | → the room before it, and up to which place |
//! | `seam_events` | room | first arrival of some in a row in the room before it → the last of them; only these belong to its past |
//! | `locked_names` | server | room that is being taken in, person in it → |
//! | `bundle_keys` | room | server, key id → public key that only a bundle vouched for |
//! | `brought_media` | room | address of another server's medium → what a bundle brought as that |
//! | `outbox` | server | → how far in the feed everybody else is |
//! | `policy` | server | → which other servers this one has to do with |
//! | `policy_names` | server | list, name of a server → |
//! | `numbers` | server | room or person → number |
//! | `numbered` | server | number → room or person |
//! | `mirage_names` | server | name → room of that name that was made through `/api/create_room` |
//! | `agora_rooms` | server | room that was made through `/{org}/{app}/chatrooms` → |

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};

use super::{
    Arrival, Place,
    accounts::{Account, Reservation, Session, StoredAnswer},
    admin::{AppToken, AuditRow, Importing, Job, Purge, RegistrationToken, Seam},
    chores::Chore,
    history::{Arrivals, EventAt, Redaction, RoomListing, SentUnder, Staged, StoredEvent, Summary, Tip},
    keyspace::keyspaces,
    media::{BroughtMedium, CachedMedium, MediumInfo, Sha256, Uploaded},
    members::{InRoom, Invited, Member, Personal},
    peers::{Answered, KnownDocument, KnownKey, PeerFacts, PeerState, PolicyMode},
    room_settings::RoomSettings,
    state::NodeRow,
    value::Value,
};

impl Value for EventAt {}
impl Value for Redaction {}
impl Value for RoomListing {}
impl Value for Tip {}
impl Value for Arrivals {}
impl Value for SentUnder {}
impl Value for Staged {}
impl Value for InRoom {}
impl Value for Invited {}
impl Value for Reservation {}
impl Value for StoredAnswer {}
impl Value for Chore {}
impl Value for Job {}
impl Value for AuditRow {}
impl Value for RegistrationToken {}
impl Value for AppToken {}
impl Value for Purge {}
impl Value for Importing {}
impl Value for Seam {}

keyspaces! {
    /// The events of a room, in the order in which they were stored.
    10 EVENTS: Arrival => StoredEvent, in Room, as Log;

    /// The event at each place of a room's timeline.
    11 TIMELINE: Place => Arrival, in Room, as Log;

    /// The moving end of a room.
    12 TIP: () => Tip, in Room, as Rows;

    /// What a room is.
    13 SUMMARY: () => Summary, in Room, as Rows;

    /// The members of a room, past ones included.
    14 MEMBERS: OwnedUserId => Member, in Room, as Rows;

    /// How many messages of their own a person had sent at each of them.
    15 OWN_MESSAGES: (OwnedUserId, Place) => u64, in Room, as Log;

    /// The redaction of each redacted event.
    16 REDACTIONS: OwnedEventId => Redaction, in Room, as Rows;

    /// The event that each transaction id of a person became.
    17 SENT_UNDER: (OwnedUserId, String) => SentUnder, in Room, as Rows;

    /// Settings of this server for a room.
    18 ROOM_SETTINGS: () => RoomSettings, in Room, as Rows;

    /// The rooms of a workspace: those that name it as their canonical parent.
    19 WORKSPACE_ROOMS: OwnedRoomId => (), in Room, as Rows;

    /// The number of each type and state key that a room's state ever had.
    20 STATE_KEYS: (String, String) => u32, in Room, as Rows;

    /// The nodes of a room's state trees, as many as one update made.
    21 STATE_NODES: u64 => NodeRow, in Room, as Log;

    /// The media that a room's events name, by those who could read them: while a row is there, the members of the room can.
    22 ROOM_MEDIA: (Sha256, OwnedEventId) => MediumInfo, in Room, as Rows;

    /// Events of peers that cannot be judged yet, in the order in which they came.
    23 STAGED: u64 => Staged, in Room, as Rows;

    /// The events that a room does not hold and the shown events that name them as previous ones: where its history has holes.
    24 MISSING: OwnedEventId => Arrivals, in Room, as Rows;

    /// The other servers that are in a room, and how many of their people have joined.
    27 SERVERS: OwnedServerName => u64, in Room, as Rows;

    /// An outlier that came again as an event of the timeline keeps its arrival; here the feed finds it under the number of its second coming.
    28 COME_AGAIN: Arrival => Arrival, in Room, as Log;

    /// Redactions whose target is not held.
    29 WAITING_REDACTIONS: OwnedEventId => Arrivals, in Room, as Rows;

    /// The rooms whose media may have a medium: where to look, no more.
    31 MEDIA_ROOMS: OwnedRoomId => (), in Name, as Rows;

    /// The people whose picture a medium may be, and what they called it.
    32 MEDIA_PEOPLE: OwnedUserId => MediumInfo, in Name, as Rows;

    /// Where each event is.
    30 EVENT_IDS: OwnedEventId => EventAt, in Content, as Rows;

    /// A person's account.
    40 ACCOUNT: () => Account, in Person, as Rows;

    /// A person's sessions, by the SHA-256 of their tokens.
    41 SESSIONS: [u8; 32] => Session, in Person, as Rows;

    /// A person's rooms, past ones included.
    42 IN_ROOMS: OwnedRoomId => InRoom, in Person, as Rows;

    /// What a person has set for themselves in a room.
    43 PERSONAL: OwnedRoomId => Personal, in Person, as Rows;

    /// Messages that name a person.
    44 MENTIONS: (OwnedRoomId, Place) => (), in Person, as Rows;

    /// The direct message of two people, with the one whose id sorts first.
    45 DIRECT_PAIRS: OwnedUserId => Reservation, in Person, as Rows;

    /// The direct messages of a person, by the other one.
    48 DIRECT_ROOMS: (OwnedUserId, OwnedRoomId) => (), in Person, as Rows;

    /// Rooms that a request has promised and perhaps not finished.
    46 CREATIONS: String => Reservation, in Person, as Rows;

    /// Answers to requests with an `Idempotency-Key`.
    47 ANSWERS: String => StoredAnswer, in Person, as Rows;

    /// The media that a person uploaded.
    49 UPLOADS: Sha256 => Uploaded, in Person, as Rows;

    /// The person's profile changed, and not all of their rooms know it yet.
    50 PROFILE_CHANGED: () => (), in Person, as Rows;

    /// The invites of a person to rooms that nobody of this server is in, and their knocks there.
    51 INVITES: OwnedRoomId => Invited, in Person, as Rows;

    /// The local names that are taken, for good.
    60 NAMES: String => (), in Server, as Rows;

    /// The room of each alias.
    61 ALIASES: () => OwnedRoomId, in Name, as Rows;

    /// All rooms that this server holds.
    62 ROOMS: OwnedRoomId => RoomListing, in Server, as Rows;

    /// Work that a commit left for another room.
    63 CHORES: (OwnedRoomId, OwnedRoomId) => Chore, in Server, as Rows;

    /// Long work, by an id that sorts by the time it was asked for.
    64 JOBS: String => Job, in Server, as Rows;

    /// What admins and the command line did, by an id that sorts by time. Only added to.
    65 AUDIT: String => AuditRow, in Server, as Log;

    /// Tokens that let people register, by their SHA-256.
    66 REGISTRATION_TOKENS: [u8; 32] => RegistrationToken, in Server, as Rows;

    /// Tokens of servers that call us, by their SHA-256.
    67 APP_TOKENS: [u8; 32] => AppToken, in Server, as Rows;

    /// Rooms that are being purged or were; their ids are never used again.
    68 PURGED: OwnedRoomId => Purge, in Server, as Rows;

    /// The rooms that have events which cannot be judged yet.
    69 STAGED_ROOMS: OwnedRoomId => (), in Server, as Rows;

    /// The other servers whose people are in a room: the number of the event behind which they get what happens there.
    33 SINCE: OwnedServerName => u64, in Room, as Rows;

    /// The times that other servers were in a room: the number of the last event that they get, and of the one behind which they got any. Who was only invited
    /// gets the event that withdraws the invite.
    34 LEFT: (u64, String) => u64, in Room, as Rows;

    /// The events of peers that we tell the other servers of a room, by their number, and who brought them.
    35 SENT_ON: Arrival => OwnedServerName, in Room, as Log;

    /// The media of other servers that a room's events name, by the hash of their address: the members of the room can read them.
    36 NAMED_MEDIA: (Sha256, OwnedEventId) => (), in Room, as Rows;

    /// The other servers that are kept out of a room although they are owed something of it: the number of the event behind which they got nothing.
    37 HELD: OwnedServerName => u64, in Room, as Rows;

    /// Events of a room that is being entered, as another server tells of them, until they are part of the room.
    38 ENTERING: OwnedEventId => String, in Room, as Rows;

    /// The rooms that have such events.
    89 ENTERING_ROOMS: OwnedRoomId => (), in Server, as Rows;

    /// The public keys that another server ever had, by key id.
    70 SERVER_KEYS: String => KnownKey, in Peer, as Rows;

    /// Whether another server answers.
    71 PEER_STATE: () => PeerState, in Peer, as Rows;

    /// What administrators are told of another server.
    72 PEER_FACTS: () => PeerFacts, in Peer, as Rows;

    /// What transactions of another server were answered, by their ids.
    73 ANSWERED: String => Answered, in Peer, as Rows;

    /// The same in the order of time, so that they can be forgotten.
    74 ANSWERED_AT: (u64, String) => (), in Peer, as Rows;

    /// The rooms that people of another server are or were in.
    75 PEER_ROOMS: OwnedRoomId => (), in Peer, as Rows;

    /// The other servers that lack something: behind which position of the feed it is.
    76 BEHIND: OwnedServerName => String, in Server, as Rows;

    /// Up to which position of the feed all servers have everything, but those that are behind.
    77 OUTBOX: () => String, in Server, as Rows;

    /// Which other servers this one has to do with.
    78 POLICY: () => PolicyMode, in Server, as Rows;

    /// The names on the lists of that: allowed ones and denied ones.
    79 POLICY_NAMES: (u64, String) => (), in Server, as Rows;

    /// The media of other servers that are kept here for a while, by the hash of their address.
    80 CACHED_MEDIA: Sha256 => CachedMedium, in Server, as Rows;

    /// The whole numbers of rooms and people, for clients whose ids are numbers.
    90 NUMBERS: String => u64, in Server, as Rows;

    /// The rooms and people of the numbers; what is gone keeps its number.
    91 NUMBERED: u64 => String, in Server, as Rows;

    /// The rooms that were made through `/api/create_room`, by the name that they were given.
    92 MIRAGE_NAMES: String => OwnedRoomId, in Server, as Rows;

    /// The rooms that were made through `/{org}/{app}/chatrooms`.
    93 AGORA_ROOMS: OwnedRoomId => (), in Server, as Rows;

    /// The document in which another server published its keys last.
    81 KEY_DOCUMENT: () => KnownDocument, in Peer, as Rows;

    /// The rooms that a bundle is being taken into.
    82 IMPORTS: OwnedRoomId => Importing, in Server, as Rows;

    /// The rooms that follow rooms of bundles, by who took them in.
    83 SUCCESSORS: (OwnedRoomId, OwnedUserId) => OwnedRoomId, in Server, as Rows;

    /// The room that the timeline of this one goes on into. Written by imports alone.
    84 SEAM: () => Seam, in Room, as Rows;

    /// The keys that only the bundle of the room vouched for. They count for this room and for nothing else.
    85 BUNDLE_KEYS: (OwnedServerName, String) => KnownKey, in Room, as Rows;

    /// The media of other servers that a bundle of the room brought, by the hash of their address. They are read by those who read the room.
    86 BROUGHT_MEDIA: Sha256 => BroughtMedium, in Room, as Rows;

    /// The events of the room before this one that belong to its past, as arrivals there: the first of some in a row, and the last of them.
    94 SEAM_EVENTS: Arrival => Arrival, in Room, as Rows;

    /// The people of a room that is being taken in for whom accounts were made that nobody can use. They go with the room if it is not to be.
    95 LOCKED_NAMES: (OwnedRoomId, OwnedUserId) => (), in Server, as Rows;
}
