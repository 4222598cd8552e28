//! The record of what admins, the command line and servers with app tokens did: written with the act itself, never changed.

use ruma::UserId;

use super::{ActionError, Actions, Caller, Page, Window, accounts::must_be_admin, rows};
use crate::storage::{Commit, Direction, Effect, Home, admin::AuditRow, keyspaces::AUDIT};

/// How the record names the command line.
const COMMAND_LINE: &str = "command-line";
/// What stands in the record before the name of a server with an app token.
const APP: &str = "app:";

/// Who acts on accounts that are not their own.
#[derive(Copy, Clone, Debug)]
pub enum Actor<'a> {
    /// An admin.
    Admin(&'a UserId),
    /// Whoever can open the socket of the command line, or the database.
    CommandLine,
    /// A server with an app token of this name.
    App(&'a str),
}

impl Actor<'_> {
    fn name(self) -> String {
        match self {
            Self::Admin(user_id) => user_id.to_string(),
            Self::CommandLine => COMMAND_LINE.to_owned(),
            Self::App(name) => format!("{APP}{name}"),
        }
    }
}

/// One act. Its words are stored as they are: no secret, and nothing of an incognito room.
#[derive(Clone, Debug)]
pub struct Act<'a> {
    /// Who acts.
    pub actor: Actor<'a>,
    /// What is done, as `noun.verb`.
    pub action: &'static str,
    /// To whom or what.
    pub target: String,
    /// What else is worth knowing, by name.
    pub details: Vec<(&'static str, String)>,
}

impl Act<'_> {
    /// Writes the act down with the commit that does it.
    pub fn record(self, actions: &Actions, commit: &mut Commit) {
        let row = AuditRow {
            at: actions.now(),
            actor: self.actor.name(),
            action: self.action.to_owned(),
            target: Some(self.target),
            details: self.details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        let id = actions.timed_id();
        if *commit.home() == Home::server() {
            commit.put(&AUDIT, &id, &row);
        } else {
            commit.effect(Effect::new(Home::server()).put(&AUDIT, &id, &row));
        }
    }
}

/// What is looked for in the record; what is none, does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The whole name of who acted.
    pub actor: Option<String>,
    /// The whole word for what was done.
    pub action: Option<String>,
    /// The whole name of whom or what it was done to.
    pub target: Option<String>,
}

/// A page of the record, newest first, and how many acts there are in all.
///
/// # Errors
/// A caller who is no admin.
pub async fn list(
    actions: &Actions,
    caller: &Caller,
    filter: &Filter,
    window: Window,
) -> Result<Page<(String, AuditRow)>, ActionError> {
    must_be_admin(caller)?;
    let is =
        |wanted: &Option<String>, value: Option<&str>| wanted.as_deref().is_none_or(|wanted| Some(wanted) == value);
    let is_wanted = |row: &AuditRow| {
        is(&filter.actor, Some(&row.actor))
            && is(&filter.action, Some(&row.action))
            && is(&filter.target, row.target.as_deref())
    };
    rows::page(actions.store(), &AUDIT, &Home::server(), Direction::Down, is_wanted, None, window).await
}
