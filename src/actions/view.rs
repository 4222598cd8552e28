//! A room at one point of its life: an immutable picture that readers share and writers build on.

use std::sync::Arc;

use rules::{
    kind::{RoomKind, RoomState},
    permission::{Door, Membership, Standing},
    power::Level,
    version::Version,
};
use ruma::{ServerName, UserId};

use super::{Actions, Caller, error::ActionError, members::membership, rows::Rows, summary::Basis};
use crate::storage::{
    Arrival, Home, Store,
    history::{Summary, Tip},
    keyspaces::{ROOM_SETTINGS, SUMMARY, TIP},
    members::Member,
    room_settings::{FederationMode, RoomSettings},
};

/// A room at one point of its life.
#[derive(Clone, Debug)]
pub struct RoomView {
    /// Its heads, counters and present state.
    pub tip: Tip,
    /// What it is.
    pub summary: Arc<Summary>,
    /// The state events behind nearly every decision.
    pub basis: Arc<Basis>,
    /// What this server has set for it.
    pub settings: Arc<RoomSettings>,
}

impl RoomView {
    /// Reads a room from disk; none: there is no such room.
    ///
    /// # Errors
    /// When storage cannot be read or the room is damaged.
    pub async fn load(store: &Store, home: &Home) -> Result<Option<Self>, ActionError> {
        let Some(tip) = store.get(&TIP, home, &()).await? else { return Ok(None) };
        let damaged = |what: &str| ActionError::internal(format!("{home:?} lacks its {what}"));
        let summary = store.get(&SUMMARY, home, &()).await?.ok_or_else(|| damaged("summary"))?;
        let settings = store.get(&ROOM_SETTINGS, home, &()).await?.unwrap_or_default();
        let version = Version::parse(&summary.version).ok_or_else(|| damaged("version"))?;
        let rows = Rows::on_disk(store, home);
        // Found by its number: while the room is purged, the row of its id may be gone already.
        let (_, create) = rows.event(&version, Arrival::FIRST).await?;
        if *create.event_id() != summary.create_event_id {
            return Err(damaged("create event"));
        }
        let mut basis = Basis::new(version, create);
        for event_type in ["m.room.power_levels", "io.yurt.archived", "io.yurt.closed"] {
            if let Some(event) = rows.state_event(&version, tip.state, event_type, "").await? {
                basis = basis.with(event_type, "", Some(&event)).unwrap_or(basis);
            }
        }
        Ok(Some(Self { tip, summary: Arc::new(summary), basis: Arc::new(basis), settings: Arc::new(settings) }))
    }

    /// Joined members that this room may have: by its own limit or the tenant's, whichever is smaller.
    pub fn members_max(&self, tenant_max: u64) -> u64 {
        self.settings.max_members.unwrap_or(u64::MAX).min(tenant_max)
    }

    /// A person's level in the room.
    pub fn level(&self, user_id: &UserId) -> Level {
        self.basis.levels.of(user_id)
    }

    /// A person in this room, for [`Standing::may`].
    pub fn standing(&self, actions: &Actions, caller: &Caller, member: Option<&Member>) -> Standing<'_> {
        let silence = member.and_then(|member| member.silence);
        Standing {
            kind: self.summary.kind,
            state: self.summary.state,
            membership: membership(member),
            level: self.level(&caller.user_id),
            levels: &self.basis.levels,
            door: self.door(),
            is_full: self.summary.joined >= self.members_max(actions.settings.max_participants),
            levels_are_lifted: self.levels_are_lifted(),
            sees_whole_history: !self.summary.history_was_narrow,
            is_admin: caller.is_admin,
            is_silenced: silence.is_some_and(|silence| silence.holds(actions.now())),
        }
    }

    /// Who may enter without an invite.
    pub fn door(&self) -> Door {
        match self.summary.join_rule.as_str() {
            "public" => Door::Public,
            "knock" | "knock_restricted" => Door::Knock,
            _ => Door::Invite,
        }
    }

    /// A word lets people of this server in.
    pub fn has_password(&self) -> bool {
        self.settings.password_hash.is_some()
    }

    /// Every member may invite.
    pub fn allows_invites(&self) -> bool {
        self.basis.levels.invite() <= 0
    }

    /// The archive changed levels, so that restoring the room changes them back.
    fn levels_are_lifted(&self) -> bool {
        let levels = self.basis.archived.as_deref().map(super::summary::content);
        levels.is_some_and(|content| content.get("levels").is_some_and(serde_json::Value::is_object))
    }

    /// Everybody may see that the room exists: it is listed, or the person is or was part of it. A closed workspace is deleted, and seen by nobody.
    pub fn is_visible_to(&self, member: Option<&Member>) -> bool {
        // A room without heads is one that is still being entered through another server.
        if self.tip.heads.is_empty() {
            return false;
        }
        if self.summary.kind == RoomKind::Workspace && self.summary.state == RoomState::Closed {
            return false;
        }
        if super::summary::is_listed(&self.summary) {
            return true;
        }
        member.is_some_and(|member| match member.membership {
            Membership::Join | Membership::Invite | Membership::Knock => true,
            Membership::Leave | Membership::Ban => member.was_joined,
            Membership::None => false,
        })
    }

    /// Other servers can be in the room at all, whatever this server sets.
    pub fn can_federate(&self) -> bool {
        let says =
            || super::summary::content(&self.basis.create).get("m.federate").and_then(serde_json::Value::as_bool);
        self.summary.kind != RoomKind::Incognito && says() != Some(false)
    }

    /// At least one other server may take part in the room, as far as this server has a say.
    pub fn takes_part(&self) -> bool {
        self.can_federate() && self.settings.federation != FederationMode::Off
    }

    /// The other server may take part in the room, as far as this server has a say.
    pub fn admits(&self, server: &ServerName) -> bool {
        self.can_federate() && self.settings.federation.admits(server)
    }

    /// The create event says that the room follows another one. Anybody can say so.
    pub fn names_predecessor(&self) -> bool {
        super::summary::content(&self.basis.create).get("predecessor").is_some()
    }

    /// The room is a direct message.
    pub fn is_direct(&self) -> bool {
        self.summary.kind == RoomKind::Direct
    }
}
