//! What a command does: one call of an action, in the name of an administrator. Who can open the socket, or the database, is
//! one.
//!
//! May import: actions. The only place where commands meet them.

use ruma::OwnedUserId;

use super::{AccountLine, Answer, Command, JobLine, Secret};
use crate::{
    actions::{
        ActionError, Actions, Caller, Window,
        accounts::{self, AccountView, NewAccount, Search},
        audit::Actor,
        bundle::{self, Content, Whose},
        jobs::{self, JobView},
        sessions, workspaces,
    },
    storage::accounts::AccountState,
};

/// Accounts on a page of the list.
const PAGE: usize = 200;

/// Runs a command on a tenant.
pub async fn run(actions: &Actions, command: Command) -> Answer {
    match try_run(actions, command).await {
        Ok(answer) => answer,
        Err(error) => Answer::Refused { message: error.to_string() },
    }
}

async fn try_run(actions: &Actions, command: Command) -> Result<Answer, ActionError> {
    match command {
        Command::CreateAccount { username, password, is_admin } => {
            let password = password.map(|password| password.0);
            let new = NewAccount { username, password, is_admin, display_name: None };
            let made = accounts::create_by(actions, Actor::CommandLine, new).await?;
            Ok(Answer::Account { participant_id: made.user_id.to_string() })
        }
        Command::SetPassword { username, password } => {
            let user_id = find(actions, &username).await?.user_id;
            accounts::set_password(actions, Actor::CommandLine, &user_id, password.0).await?;
            Ok(Answer::Done)
        }
        Command::IssueToken { username } => {
            let user_id = active(actions, &username).await?;
            let issued = sessions::issue_for(actions, &user_id, Actor::CommandLine).await?;
            Ok(Answer::Token { access_token: Secret(issued.token) })
        }
        Command::ListAccounts { offset } => {
            let command_line = Caller::local(&actions.parse_participant("username", "command-line")?, true);
            let window = Window { offset, limit: PAGE };
            let found = accounts::list(actions, &command_line, &Search::default(), window).await?;
            let next = (found.passed == PAGE).then_some(offset.saturating_add(PAGE));
            Ok(Answer::Accounts { accounts: found.page.map(line).entries, next })
        }
        Command::ExportBundle { room, out, media, personal } => {
            let personal = if personal { Whose::Everybodys } else { Whose::Nobodys };
            let job_id = bundle::export_to_file(actions, &room, Content { media, personal }, out).await?;
            Ok(Answer::Begun { job_id })
        }
        Command::ImportBundle { file, by, dry_run, accept_bundle_keys, workspace_id, participants, same_names } => {
            let by = Caller::local(&active(actions, &by).await?, true);
            let parsed = |name: &str| actions.parse_participant("participants", name);
            let workspace_id = workspace_id.as_deref().map(workspaces::parse_id).transpose()?;
            let participants = participants.iter().map(|(old, new)| Ok((parsed(old)?, parsed(new)?)));
            let participants = participants.collect::<Result<_, ActionError>>()?;
            let options = bundle::Options { dry_run, accept_bundle_keys, workspace_id, participants, same_names };
            let spooled = bundle::spool_file(actions, &by, &file).await?;
            let (job_id, _) = bundle::begin(actions, &by, spooled, options, true).await?;
            Ok(Answer::Begun { job_id })
        }
        Command::Job { id } => {
            let command_line = Caller::local(&actions.parse_participant("username", "command-line")?, true);
            let JobView { job, progress, .. } = jobs::get(actions, &command_line, &id).await?;
            let jobs::Progress { done, total } = progress;
            let is_over = job.state.is_over();
            Ok(Answer::Job(JobLine { done, total, is_over, result: job.result, error: job.error }))
        }
    }
}

/// Somebody in whose name something may be done.
async fn active(actions: &Actions, username: &str) -> Result<OwnedUserId, ActionError> {
    let AccountView { user_id, account } = find(actions, username).await?;
    if account.state != AccountState::Active {
        let problem = format!("the account {user_id} is {}", word(account.state));
        return Err(ActionError::invalid("username", problem));
    }
    Ok(user_id)
}

async fn find(actions: &Actions, username: &str) -> Result<AccountView, ActionError> {
    let user_id: OwnedUserId = actions.parse_participant("username", username)?;
    match accounts::get(actions, &user_id).await? {
        Some(account) => Ok(AccountView { user_id, account }),
        None => Err(ActionError::ParticipantNotFound(user_id.to_string())),
    }
}

fn line(AccountView { user_id, account }: AccountView) -> AccountLine {
    let state = word(account.state).to_owned();
    AccountLine { participant_id: user_id.to_string(), is_admin: account.is_admin, state }
}

fn word(state: AccountState) -> &'static str {
    match state {
        AccountState::Active => "active",
        AccountState::Disabled => "disabled",
        AccountState::Deactivated => "deactivated",
        AccountState::Locked => "locked",
    }
}
