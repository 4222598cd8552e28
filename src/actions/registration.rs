//! Registration over the network, and the tokens that it may take.

use rules::UnixMs;
use ruma::OwnedUserId;

use super::{
    ActionError, Actions, Caller, ErrorKind, Registration,
    accounts::{self, NewAccount, must_be_admin},
    audit::{Act, Actor},
    rows,
    sessions::{self, Issued, hash},
};
use crate::storage::{Commit, Home, KeyRange, admin::RegistrationToken, keyspaces::REGISTRATION_TOKENS};

/// Registration tokens of one tenant, those that are used up included.
pub const REGISTRATION_TOKENS_MAX: usize = 1_000;
/// Registrations that one token may be good for.
pub const USES_MAX: u64 = 1_000_000;
/// Characters of a token: 130 random bits that can be told over the telephone.
const TOKEN_CHARACTERS: usize = 26;

/// Makes an account for whoever asks over the network.
///
/// # Errors
/// Registration is closed, or wants a registration token; as [`accounts::create`].
pub async fn register(
    actions: &Actions,
    new: NewAccount,
    token: Option<&str>,
    client: &str,
) -> Result<(OwnedUserId, Issued), ActionError> {
    let taken = match actions.settings.registration {
        Registration::Open => None,
        Registration::Token => Some(take(actions, token.unwrap_or_default()).await?),
        Registration::Closed => {
            let refused = "registration is closed here; ask the admin of this server for an account";
            return Err(ActionError::InsufficientPermission(refused.to_owned()));
        }
    };
    let made = accounts::create(actions, NewAccount { is_admin: false, ..new }).await;
    if let (Err(error), Some(key)) = (&made, taken)
        && !matches!(error.kind(), ErrorKind::Busy | ErrorKind::Internal)
    {
        give_back(actions, key).await?;
    }
    let user_id = made?.user_id;
    let issued = sessions::issue(actions, &user_id, client).await?;
    Ok((user_id, issued))
}

/// Takes one use of a token before the account is made: a crash in between leaves a use counted, never one too many.
async fn take(actions: &Actions, token: &str) -> Result<[u8; 32], ActionError> {
    let key = hash(token);
    let is_taken = change(actions, key, |token| {
        let is_good =
            token.expires_at.is_none_or(|end| end > actions.now()) && token.uses.is_none_or(|uses| token.used < uses);
        is_good.then(|| RegistrationToken { used: token.used + 1, ..token.clone() })
    });
    if is_taken.await? {
        return Ok(key);
    }
    let refused = "registration needs a valid `registration_token`; ask the admin of this server for one";
    Err(ActionError::InsufficientPermission(refused.to_owned()))
}

/// Gives back a use that came to nothing.
async fn give_back(actions: &Actions, key: [u8; 32]) -> Result<(), ActionError> {
    let given =
        change(actions, key, |token| Some(RegistrationToken { used: token.used.saturating_sub(1), ..token.clone() }));
    given.await.map(drop)
}

/// Changes a token, one request after the other; whether there was something to change.
async fn change(
    actions: &Actions,
    key: [u8; 32],
    apply: impl Fn(&RegistrationToken) -> Option<RegistrationToken>,
) -> Result<bool, ActionError> {
    let _gate = gate(actions).await?;
    let home = Home::server();
    let present = actions.store.get(&REGISTRATION_TOKENS, &home, &key).await?;
    let Some((before, after)) = present.and_then(|before| apply(&before).map(|after| (before, after))) else {
        return Ok(false);
    };
    let mut commit = Commit::new(home);
    commit.require_same(&REGISTRATION_TOKENS, &key, &before).put(&REGISTRATION_TOKENS, &key, &after);
    actions.store.commit(commit).await?;
    Ok(true)
}

async fn gate(actions: &Actions) -> Result<super::gate::Gate, ActionError> {
    actions.gates.enter("admin", "registration-tokens").await
}

/// Makes a registration token; the token itself is told once and stored nowhere.
///
/// # Errors
/// A caller who is no admin; a number of uses out of range, a time that has passed; too many tokens.
pub async fn create(
    actions: &Actions,
    caller: &Caller,
    uses: Option<u64>,
    expires_at: Option<UnixMs>,
) -> Result<(RegistrationToken, String), ActionError> {
    must_be_admin(caller)?;
    if uses.is_some_and(|uses| !(1..=USES_MAX).contains(&uses)) {
        return Err(ActionError::invalid("uses", format!("must be from 1 to {USES_MAX}, or left out for any number")));
    }
    if expires_at.is_some_and(|end| end <= actions.now()) {
        return Err(ActionError::invalid("expires_at", "lies in the past"));
    }
    let _gate = gate(actions).await?;
    if all(actions).await?.len() >= REGISTRATION_TOKENS_MAX {
        let full = format!("there are {REGISTRATION_TOKENS_MAX} registration tokens; delete those that are used up");
        return Err(ActionError::TenantCapacity(full));
    }
    let token = actions.random_word(TOKEN_CHARACTERS);
    let row = RegistrationToken {
        id: actions.timed_id(),
        uses,
        used: 0,
        expires_at,
        created_at: actions.now(),
        created_by: caller.user_id.clone(),
    };
    let mut commit = Commit::new(Home::server());
    commit.put(&REGISTRATION_TOKENS, &hash(&token), &row);
    act(caller, "registration_token.create", &row).record(actions, &mut commit);
    actions.store.commit(commit).await?;
    Ok((row, token))
}

/// All registration tokens, oldest first.
///
/// # Errors
/// A caller who is no admin.
pub async fn list(actions: &Actions, caller: &Caller) -> Result<Vec<RegistrationToken>, ActionError> {
    must_be_admin(caller)?;
    let mut tokens: Vec<RegistrationToken> = all(actions).await?.into_iter().map(|(_, token)| token).collect();
    tokens.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(tokens)
}

/// Deletes a registration token; the accounts that it made stay.
///
/// # Errors
/// A caller who is no admin; [`ActionError::NotFound`].
pub async fn delete(actions: &Actions, caller: &Caller, id: &str) -> Result<(), ActionError> {
    must_be_admin(caller)?;
    let _gate = gate(actions).await?;
    let found = all(actions).await?.into_iter().find(|(_, token)| token.id == id);
    let (key, row) = found.ok_or(ActionError::NotFound("registration token"))?;
    let mut commit = Commit::new(Home::server());
    commit.delete(&REGISTRATION_TOKENS, &key);
    act(caller, "registration_token.delete", &row).record(actions, &mut commit);
    actions.store.commit(commit).await?;
    Ok(())
}

async fn all(actions: &Actions) -> Result<Vec<([u8; 32], RegistrationToken)>, ActionError> {
    rows::all(&actions.store, &REGISTRATION_TOKENS, &Home::server(), KeyRange::all()).await
}

fn act<'a>(caller: &'a Caller, action: &'static str, token: &RegistrationToken) -> Act<'a> {
    let uses = token.uses.map_or_else(|| "any".to_owned(), |uses| uses.to_string());
    Act { actor: Actor::Admin(&caller.user_id), action, target: token.id.clone(), details: vec![("uses", uses)] }
}
