//! What no event of the room carries and comes along: settings of this server, names, what people have set for themselves.

use ruma::OwnedUserId;

use super::{Making, Whose};
use crate::{
    actions::{
        ActionError, NotificationMode, aliases,
        rows::{self, Rows},
        summary,
    },
    bundle::{Local, manifest::BundledPersonal},
    storage::{
        Home, KeyRange,
        keyspaces::{MEMBERS, PERSONAL, REDACTIONS},
        room_settings::FederationMode,
    },
};

impl Making {
    pub(super) async fn local(&self, rows: &Rows<'_>) -> Result<Local, ActionError> {
        let (view, version) = (&self.view, self.view.basis.version);
        let event = rows.state_event(&version, view.tip.state, rules::kind::ANNOUNCEMENT, "").await?;
        let announcement = match event {
            Some(event) if rows.get(&REDACTIONS, event.event_id()).await?.is_none() => {
                let text = summary::content(&event);
                text.get("announcement")
                    .and_then(|text| text.as_str())
                    .filter(|text| !text.is_empty())
                    .map(str::to_owned)
            }
            _ => None,
        };
        let mut names = Vec::new();
        if let Some(alias) = &view.summary.alias
            && aliases::resolve(&self.actions, alias).await?.as_ref() == Some(&self.room.id)
        {
            names.push(alias.clone());
        }
        let federation = &view.settings.federation;
        let federation_servers = match federation {
            FederationMode::Listed(servers) => servers.clone(),
            FederationMode::Open | FederationMode::Off => Vec::new(),
        };
        Ok(Local {
            announcement,
            aliases: names,
            max_members: view.settings.max_members,
            federation: Some(federation.as_str().to_owned()),
            federation_servers,
            personal: self.personal().await?,
        })
    }

    async fn personal(&self) -> Result<Vec<BundledPersonal>, ActionError> {
        let people: Vec<OwnedUserId> = match self.content.personal {
            Whose::Nobodys => Vec::new(),
            Whose::Own => vec![self.asked_by.clone()],
            Whose::Everybodys => {
                let members = rows::all(&self.room.store, &MEMBERS, &self.room.home, KeyRange::all()).await?;
                members
                    .into_iter()
                    .map(|(user_id, _)| user_id)
                    .filter(|user_id| self.actions.is_local(user_id))
                    .collect()
            }
        };
        let mut settings = Vec::new();
        for participant_id in people {
            let row = self.room.store.get(&PERSONAL, &Home::person(&participant_id), &self.room.id).await?;
            let Some(row) = row else { continue };
            settings.push(BundledPersonal {
                participant_id,
                read_event_id: row.read.map(|read| read.event_id),
                notification_mode: row.notification_mode.map(|mode| word(mode).to_owned()),
                pinned: row.pinned,
            });
        }
        Ok(settings)
    }
}

fn word(mode: NotificationMode) -> &'static str {
    match mode {
        NotificationMode::All => "all",
        NotificationMode::Mentions => "mentions",
        NotificationMode::None => "none",
        NotificationMode::Inherit => "inherit",
    }
}
