//! What the caller may do in a room: every act with the answer that the action itself would get.

use rules::permission::{Act, Denial};

use super::{ActionError, Actions, Caller, rooms};

/// Every act, and what stands in its way.
///
/// # Errors
/// An unknown or hidden room.
pub async fn of(
    actions: &Actions,
    caller: &Caller,
    reference: &str,
) -> Result<Vec<(Act, Result<(), Denial>)>, ActionError> {
    let opened = rooms::open(actions, caller, reference).await?;
    let standing = opened.view.standing(actions, caller, opened.member.as_ref());
    Ok(Act::ALL.into_iter().map(|act| (act, standing.may(act))).collect())
}
