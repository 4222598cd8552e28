//! A bundle of a room that is here: what it lacks is added as if a peer had sent it. What stands before what is here comes in as history does, and nobody is
//! notified; what stands behind it is judged by what the room says now.

use std::sync::Arc;

use ruma::{EventId, OwnedEventId};

use super::{
    import::{Imported, Outcome, REJECTED_NAMED_MAX, RejectedEvent, Task},
    keys, media_in,
    reading::{self, Ready},
};
use crate::{
    actions::{
        ActionError,
        append::{self, Arriving, Before, Coming, Present, Remote, Slot, UnderWay},
        audit::{Act, Actor},
        incoming::{claims, guests::Met, judging::Purpose},
    },
    bundle::events::Around,
    storage::{
        Commit, Home, Pending,
        admin::{Importing, Phase},
        keyspaces::IMPORTS,
    },
};

mod plan;

use plan::Plan;

/// Adds what the room lacks. With [`Outcome::Merged`] that is all, and is written down.
///
/// # Errors
/// When storage fails.
pub(super) async fn merge(task: &Task<'_>, outcome: Outcome) -> Result<Imported, ActionError> {
    let Task { actions, opened, verified, wish, job_id, .. } = *task;
    let room = actions.room(&opened.manifest.room_id);
    let view = room.view().await?.ok_or(ActionError::RoomNotFound)?;
    let met = Met { room, view };
    let mut imported = Imported::of(&met.room.id, outcome, verified);
    imported.room_alias.clone_from(&met.view.summary.alias);
    let plan = Arc::new(Plan::of(task, &met).await?);
    let known_count = plan.known_count();
    imported.events.known = known_count;
    if wish.dry_run {
        imported.events.stored = verified.events.saturating_sub(known_count);
        return Ok(imported);
    }
    let mut commit = Commit::new(Home::server());
    let importing = Importing { job_id: job_id.to_owned(), phase: Phase::Merging };
    commit.put(&IMPORTS, &met.room.id, &importing);
    actions.store().commit(commit).await?;
    let by_plan = Arc::clone(&plan);
    let purpose = move |id: &EventId| if by_plan.slot(id) == Slot::End { Purpose::Timeline } else { Purpose::History };
    // Who only makes a successor of a room that lives here adds nothing to it but what stands behind what is held.
    let only_history = outcome == Outcome::Succeeded && met.view.summary.local_joined() > 0;
    let by_plan = Arc::clone(&plan);
    let mut batches = reading::ready(opened, move |id| by_plan.is_known(id), purpose);
    let (mut done, mut under_way) = (known_count, UnderWay::default());
    while let Some(batch) = batches.recv().await {
        let batch = batch?;
        done = done.saturating_add(u64::try_from(batch.len()).unwrap_or_default());
        let (outcomes, durable) = take_in(task, &met, (&plan, only_history), batch).await?;
        for (event_id, outcome) in outcomes {
            note(&mut imported, event_id, outcome);
        }
        under_way.push(durable).await?;
        task.report(done);
    }
    under_way.end().await?;
    if !only_history {
        imported.media = media_in::take_in(actions, opened, &met.room).await?;
    }
    keys::keep(&met.room, &opened.believed).await?;
    let mut commit = Commit::new(Home::server());
    commit.delete(&IMPORTS, &met.room.id);
    if wish.is_admin && outcome == Outcome::Merged {
        let actor = if wish.is_command_line { Actor::CommandLine } else { Actor::Admin(&wish.by) };
        let details = vec![("outcome", "merged".to_owned()), ("events", imported.events.stored.to_string())];
        Act { actor, action: "room.import", target: met.room.id.to_string(), details }.record(actions, &mut commit);
    }
    actions.store().commit(commit).await?;
    Ok(imported)
}

fn note(imported: &mut Imported, event_id: OwnedEventId, outcome: Remote) {
    let reason = match outcome {
        Remote::Accepted => {
            imported.events.stored += 1;
            return;
        }
        Remote::Known | Remote::Ignored => {
            imported.events.known += 1;
            return;
        }
        Remote::SoftFailed(refusal) | Remote::Rejected(refusal) => refusal.reason().to_owned(),
        Remote::Missing(_) => "what stands before it is not taken in here".to_owned(),
    };
    if imported.events.rejected.len() < REJECTED_NAMED_MAX {
        imported.events.rejected.push(RejectedEvent { event_id, reason });
    }
}

async fn take_in(
    task: &Task<'_>,
    met: &Met,
    (plan, only_history): (&Plan, bool),
    batch: Vec<Ready>,
) -> Result<(Vec<(OwnedEventId, Remote)>, Pending), ActionError> {
    let Task { actions, opened, .. } = *task;
    let peer = opened.manifest.server_name.clone();
    let (mut coming, mut ids, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
    for Ready { event_id, around, checked } in batch {
        if let Some(reason) = task.doors.refusal(&checked.event) {
            outcomes.push((event_id, Remote::Rejected(rules::authorization::Refusal::new(reason))));
            continue;
        }
        let slot = plan.slot(&event_id);
        if only_history && around != Around::Unknown && slot == Slot::End {
            outcomes.push((event_id, Remote::Ignored));
            continue;
        }
        let before = match around {
            Around::Unknown => None,
            Around::Parents => Some(Before::Parents),
            Around::Claimed(state) => {
                let outcome = append::several(actions, &met.room, std::mem::take(&mut coming)).await?;
                outcomes.extend(ids.drain(..).zip(outcome));
                before_hole(met, checked.event.prev_events(), &state).await?
            }
        };
        ids.push(event_id);
        coming.push(match before {
            None => Coming::Leant(checked, peer.clone()),
            Some(before) => {
                let (event, refused) = checked.refused_by_itself();
                let (event, peer, present) = (Arc::unwrap_or_clone(event), Some(peer.clone()), Present::Decides);
                let arriving = Arriving {
                    event,
                    peer,
                    refused,
                    hidden: None,
                    before,
                    slot,
                    staged: None,
                    handed_in: false,
                    present,
                };
                Coming::Placed(Box::new(arriving))
            }
        });
    }
    let (outcome, durable) = append::several_handed_over(actions, &met.room, coming).await?;
    outcomes.extend(ids.into_iter().zip(outcome));
    Ok((outcomes, durable))
}

/// The state before an event behind a hole of the bundle. Where we hold what the bundle lacks, we know better.
async fn before_hole(
    met: &Met,
    prev_events: &[OwnedEventId],
    state: &[OwnedEventId],
) -> Result<Option<Before>, ActionError> {
    let mut is_whole = true;
    for id in prev_events {
        is_whole &= met.rows().is_in_room(id).await?;
    }
    if is_whole {
        return Ok(Some(Before::Parents));
    }
    let entries = claims::entries(met, state).await.map_err(ActionError::internal)?;
    Ok(Some(Before::Claimed(vec![entries])))
}
