//! Which other servers take part: in one room, and at all. For administrators.

use std::collections::BTreeSet;

use axum::Json as Answer;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, ServerName};
use serde::{Deserialize, Serialize};

use super::{error::V1Error, path::Ids, wire::Data};
use crate::{
    actions::{
        ActionError, Actions, FederationMode, PolicyMode,
        federate::{self, NAMED_MAX, Switched},
        peers::{self, ServerPolicy},
    },
    api::{body::Json, caller::Admin},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Switch {
    enabled: Option<bool>,
    mode: Option<Mode>,
    servers: Option<Vec<String>>,
    #[serde(default)]
    evict: bool,
    #[serde(default)]
    acl: bool,
    r#as: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Off,
    AllowList,
    Open,
}

impl Switch {
    fn read(self, actions: &Actions) -> Result<federate::Switch, ActionError> {
        let mode = match (self.enabled, self.mode) {
            (Some(true), None) => Mode::Open,
            (Some(false), None) => Mode::Off,
            (None, Some(mode)) => mode,
            _ => return Err(ActionError::invalid("mode", "give either `mode` or `enabled`")),
        };
        let mode = match (mode, self.servers) {
            (Mode::AllowList, Some(servers)) => FederationMode::Listed(read_servers(&servers)?),
            (Mode::AllowList, None) => {
                return Err(ActionError::invalid("servers", "is missing: an allow list names its servers"));
            }
            (_, Some(_)) => return Err(ActionError::invalid("servers", "goes with the mode `allow_list` only")),
            (Mode::Off, None) => FederationMode::Off,
            (Mode::Open, None) => FederationMode::Open,
        };
        let as_member = self.r#as.map(|name| actions.parse_participant("as", &name)).transpose()?;
        Ok(federate::Switch { mode, evict: self.evict, acl: self.acl, as_member, dry_run: self.dry_run })
    }
}

/// Each once, in lower case, by name.
fn read_servers(names: &[String]) -> Result<Vec<OwnedServerName>, ActionError> {
    let mut servers = BTreeSet::new();
    for name in names {
        let server = ServerName::parse(name.to_ascii_lowercase());
        let not_one = |_| ActionError::invalid("servers", format!("`{}` is no server name", name.escape_debug()));
        servers.insert(server.map_err(not_one)?);
    }
    Ok(servers.into_iter().collect())
}

#[derive(Serialize)]
pub(super) struct SwitchedAnswer {
    room_id: OwnedRoomId,
    mode: &'static str,
    allowed: Vec<OwnedServerName>,
    dry_run: bool,
    members: Vec<OwnedUserId>,
    members_count: usize,
    servers: Vec<OwnedServerName>,
    servers_count: usize,
    untold: Vec<OwnedServerName>,
    job_id: Option<String>,
}

impl SwitchedAnswer {
    fn of(switched: Switched, dry_run: bool) -> Self {
        let affected = switched.affected;
        Self {
            room_id: switched.room_id,
            mode: switched.mode.as_str(),
            allowed: match switched.mode {
                FederationMode::Listed(servers) => servers,
                FederationMode::Open | FederationMode::Off => Vec::new(),
            },
            dry_run,
            members: affected.members,
            members_count: affected.members_count,
            servers_count: affected.servers.len(),
            servers: affected.servers.into_iter().take(NAMED_MAX).collect(),
            untold: switched.untold.into_iter().take(NAMED_MAX).collect(),
            job_id: switched.job_id,
        }
    }
}

/// `PUT /v1/admin/rooms/{room_id}/federate`
pub(super) async fn switch(
    Admin { actions, caller }: Admin,
    Ids(room): Ids<String>,
    body: Json<Switch>,
) -> Result<Answer<Data<SwitchedAnswer>>, V1Error> {
    let switch = body.value.read(&actions)?;
    let dry_run = switch.dry_run;
    let switched = federate::switch(&actions, &caller, &room, switch).await?;
    Ok(Data::json(SwitchedAnswer::of(switched, dry_run)))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    mode: Admission,
    #[serde(default)]
    allow: BTreeSet<String>,
    #[serde(default)]
    deny: BTreeSet<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Admission {
    Open,
    AllowList,
    Closed,
}

impl From<ServerPolicy> for Policy {
    fn from(policy: ServerPolicy) -> Self {
        let ServerPolicy { mode, allow, deny } = policy;
        let mode = match mode {
            PolicyMode::Open => Admission::Open,
            PolicyMode::AllowList => Admission::AllowList,
            PolicyMode::Closed => Admission::Closed,
        };
        Self { mode, allow, deny }
    }
}

impl From<Policy> for ServerPolicy {
    fn from(policy: Policy) -> Self {
        let Policy { mode, allow, deny } = policy;
        let mode = match mode {
            Admission::Open => PolicyMode::Open,
            Admission::AllowList => PolicyMode::AllowList,
            Admission::Closed => PolicyMode::Closed,
        };
        let lower = |names: BTreeSet<String>| names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { mode, allow: lower(allow), deny: lower(deny) }
    }
}

/// `GET /v1/admin/federation/policy`
pub(super) async fn policy(Admin { actions, caller }: Admin) -> Result<Answer<Data<Policy>>, V1Error> {
    Ok(Data::json(peers::policy(&actions, &caller).await?.into()))
}

/// `PUT /v1/admin/federation/policy`
pub(super) async fn set_policy(
    Admin { actions, caller }: Admin,
    body: Json<Policy>,
) -> Result<Answer<Data<Policy>>, V1Error> {
    Ok(Data::json(peers::set_policy(&actions, &caller, body.value.into()).await?.into()))
}
