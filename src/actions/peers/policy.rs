//! Which other servers this one has to do with at all: set by administrators, kept on disk, in force from the next request on, both ways.

use std::collections::BTreeSet;

use federation::policy::{Admission, PolicyError, Rules};

use crate::{
    actions::{
        ActionError, Actions, Caller,
        accounts::must_be_admin,
        audit::{Act, Actor},
        rows,
    },
    storage::{
        Commit, Home, KeyRange,
        keyspaces::{POLICY, POLICY_NAMES},
        peers::{PolicyList, PolicyMode},
    },
};

/// Names on both lists together.
pub const NAMES_MAX: usize = 1_000;

/// Who is let in, and who is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerPolicy {
    /// Who is let in where no name is denied.
    pub mode: PolicyMode,
    /// Who is let in with [`PolicyMode::AllowList`]: host names, and `*.` with the end of host names.
    pub allow: BTreeSet<String>,
    /// Who never is.
    pub deny: BTreeSet<String>,
}

impl ServerPolicy {
    fn rules(&self) -> Result<Rules, PolicyError> {
        let admission = match self.mode {
            PolicyMode::Open => Admission::Open,
            PolicyMode::AllowList => Admission::Listed,
            PolicyMode::Closed => Admission::Closed,
        };
        Rules::new(admission, self.allow.iter().map(String::as_str), self.deny.iter().map(String::as_str))
    }

    fn names(&self) -> impl Iterator<Item = (PolicyList, String)> {
        let allow = self.allow.iter().map(|name| (PolicyList::Allow, name.clone()));
        allow.chain(self.deny.iter().map(|name| (PolicyList::Deny, name.clone())))
    }
}

/// The policy that is in force.
///
/// # Errors
/// A caller who is no admin.
pub async fn policy(actions: &Actions, caller: &Caller) -> Result<ServerPolicy, ActionError> {
    must_be_admin(caller)?;
    read(actions).await
}

/// Puts another policy in force. What is owed to servers that are let in again is sent to them.
///
/// # Errors
/// A caller who is no admin; a list that is too long or holds something else than host names.
pub async fn set_policy(actions: &Actions, caller: &Caller, policy: ServerPolicy) -> Result<ServerPolicy, ActionError> {
    must_be_admin(caller)?;
    if policy.allow.len() + policy.deny.len() > NAMES_MAX {
        return Err(ActionError::invalid("allow", format!("with `deny` has more than {NAMES_MAX} names")));
    }
    let wrong = |error: PolicyError| ActionError::invalid("allow", format!("or `deny` cannot be used: {error}"));
    let rules = policy.rules().map_err(wrong)?;
    let _gate = actions.gates.enter("policy", "").await?;
    let before: BTreeSet<_> = read(actions).await?.names().collect();
    let now: BTreeSet<_> = policy.names().collect();
    let mut commit = Commit::new(Home::server());
    commit.put(&POLICY, &(), &policy.mode);
    for (list, name) in before.difference(&now) {
        commit.delete(&POLICY_NAMES, &(list.key(), name.clone()));
    }
    for (list, name) in now.difference(&before) {
        commit.put(&POLICY_NAMES, &(list.key(), name.clone()), &());
    }
    let count = |names: &BTreeSet<String>| names.len().to_string();
    let details =
        vec![("mode", policy.mode.as_str().to_owned()), ("allow", count(&policy.allow)), ("deny", count(&policy.deny))];
    let (actor, target) = (Actor::Admin(&caller.user_id), actions.server_name.to_string());
    Act { actor, action: "federation.policy", target, details }.record(actions, &mut commit);
    actions.store.commit(commit).await?;
    actions.policy.set(rules);
    if let Some(sending) = actions.outgoing.sending() {
        sending.wake(actions.outgoing.servers_behind());
    }
    Ok(policy)
}

/// Puts the policy in force that is on disk.
///
/// # Errors
/// When storage cannot be read.
pub(in crate::actions) async fn load(actions: &Actions) -> Result<(), ActionError> {
    let rules = read(actions).await?.rules().map_err(ActionError::internal)?;
    actions.policy.set(rules);
    Ok(())
}

async fn read(actions: &Actions) -> Result<ServerPolicy, ActionError> {
    let (store, home) = (actions.store(), Home::server());
    let mode = store.get(&POLICY, &home, &()).await?.unwrap_or_default();
    let mut policy = ServerPolicy { mode, ..ServerPolicy::default() };
    for ((list, name), ()) in rows::all(store, &POLICY_NAMES, &home, KeyRange::all()).await? {
        let names = if list == PolicyList::Allow.key() { &mut policy.allow } else { &mut policy.deny };
        names.insert(name);
    }
    Ok(policy)
}
