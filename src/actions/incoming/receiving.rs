//! The events of one room in a transaction. Each is checked by itself, for which the network may be asked; then a part of them at a time is judged with one turn in
//! the room's lane, and stored with one commit.

use federation::{Pdu, Refusal};
use futures_util::{StreamExt as _, stream};
use rules::event::RawPdu;
use ruma::{OwnedEventId, ServerName};
use tracing::Instrument as _;

use super::{
    Come, Taken, failed,
    guests::Met,
    judging::{self, First},
    log, oldest_first, prepare, staging, take,
};
use crate::{
    actions::{
        ActionError, Actions,
        append::{self, Arriving, Before, Remote, Slot},
    },
    storage::Pending,
};

/// Events that one commit takes in, and their bytes. What they change may be many times as much.
const EVENTS_AT_A_TIME: usize = 25;
const BYTES_AT_A_TIME: usize = 128 * 1024;
/// Parts of a transaction whose signatures are checked at the same time.
const PARTS_CHECKED_AT_ONCE: usize = 3;

type Answer = Result<(), Refusal>;

/// An event that was checked.
struct Ready {
    /// Which of the transaction it is.
    number: usize,
    event_id: OwnedEventId,
    /// As it came, for the case that it has to wait.
    text: Pdu,
    arriving: Arriving,
}

/// What became of some events, true once it is durable.
struct Judged {
    answers: Vec<(usize, Answer)>,
    durable: Option<Pending>,
}

/// Takes events in; what they are answered with is on disk.
pub(super) async fn receive(
    actions: &Actions,
    met: &Met,
    origin: &ServerName,
    come: Vec<Come>,
) -> Vec<(OwnedEventId, Answer)> {
    let (mut answers, mut unknown) = (Vec::with_capacity(come.len()), Vec::with_capacity(come.len()));
    for (number, come) in oldest_first(come, |come| (&come.event_id, &come.prev_events)).into_iter().enumerate() {
        let known = known(actions, met, &come).await;
        let is_known = known.is_some();
        answers.push((come.event_id.clone(), known.unwrap_or(Err(Refusal::Unavailable))));
        if !is_known {
            unknown.push((number, come));
        }
    }
    // While a part is judged, the signatures of the next ones are checked.
    let mut checked = stream::iter(parts(unknown)).map(|part| check(actions, part)).buffered(PARTS_CHECKED_AT_ONCE);
    let mut judged = Vec::new();
    while let Some(part) = checked.next().await {
        let mut ready = Vec::with_capacity(part.len());
        for (number, event_id, text, first) in part {
            match prepare(actions, met, origin, first, Before::Parents, Slot::End, None).await {
                Ok(Ok(arriving)) => ready.push(Ready { number, event_id, text, arriving }),
                Ok(Err(taken)) => {
                    answer(&mut answers, number, told(actions, met, origin, (&event_id, &text), taken).await);
                }
                Err(error) => answer(&mut answers, number, Err(failed(error))),
            }
        }
        if !ready.is_empty() {
            judged.push(take_part(actions, met, origin, ready).await);
        }
    }
    // They share the waits for the disk.
    for Judged { answers: of_part, durable } in judged {
        let written = match durable {
            Some(durable) => durable.await.map(|_position| ()).map_err(|error| failed(error.into())),
            None => Ok(()),
        };
        for (number, of_one) in of_part {
            answer(&mut answers, number, written.clone().and(of_one));
        }
    }
    answers
}

fn answer(answers: &mut [(OwnedEventId, Answer)], number: usize, of_one: Answer) {
    if let Some((_, answered)) = answers.get_mut(number) {
        *answered = of_one;
    }
}

/// The events in their order, a part for each commit.
fn parts(come: Vec<(usize, Come)>) -> Vec<Vec<(usize, Come)>> {
    let (mut parts, mut bytes) = (Vec::<Vec<(usize, Come)>>::new(), 0);
    for one in come {
        let length = one.1.text.get().len();
        bytes += length;
        match parts.last_mut() {
            Some(part) if part.len() < EVENTS_AT_A_TIME && bytes <= BYTES_AT_A_TIME => part.push(one),
            _ => {
                bytes = length;
                parts.push(vec![one]);
            }
        }
    }
    parts
}

/// What can be answered without looking at the event any closer.
async fn known(actions: &Actions, met: &Met, come: &Come) -> Option<Answer> {
    if !come.in_room {
        return Some(Err(Refusal::Invalid("the event is of another room")));
    }
    match met.rows().is_in_room(&come.event_id).await {
        Ok(false) if !actions.staging.has(&met.room.id, &come.event_id) => None,
        Ok(_) => Some(Ok(())),
        Err(error) => Some(Err(failed(error))),
    }
}

/// What can be said of events without the room: on another processor, if one is free.
async fn check(actions: &Actions, part: Vec<(usize, Come)>) -> Vec<(usize, OwnedEventId, Pdu, First)> {
    let actions = actions.clone();
    let checks = async move {
        let (named, formed): (Vec<_>, Vec<_>) =
            part.into_iter().map(|(number, come)| ((number, come.event_id, come.text), come.formed)).unzip();
        let checked = judging::check_all(&actions, formed).await;
        named
            .into_iter()
            .zip(checked)
            .map(|((number, event_id, text), first)| (number, event_id, text, first))
            .collect()
    };
    match tokio::spawn(checks.in_current_span()).await {
        Ok(checked) => checked,
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The server ends, and this task with it.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

async fn take_part(actions: &Actions, met: &Met, origin: &ServerName, part: Vec<Ready>) -> Judged {
    let (mut kept, mut arriving) = (Vec::with_capacity(part.len()), Vec::with_capacity(part.len()));
    for one in part {
        kept.push((one.number, one.event_id, one.text));
        arriving.push(one.arriving);
    }
    let together = append::hand_in_all(actions, &met.room, arriving).await;
    let mut answers = Vec::with_capacity(kept.len());
    match together {
        Ok((outcomes, durable)) => {
            for ((number, event_id, text), outcome) in kept.into_iter().zip(outcomes) {
                log(met, origin, &event_id, &outcome);
                answers.push((number, told(actions, met, origin, (&event_id, &text), Taken::Judged(outcome)).await));
            }
            Judged { answers, durable }
        }
        // Each would wait as long again.
        Err(ActionError::Busy) => {
            let answers = kept.into_iter().map(|(number, ..)| (number, Err(failed(ActionError::Busy)))).collect();
            Judged { answers, durable: None }
        }
        // One of them may change more than a commit holds: the others do not suffer for it.
        Err(error) => {
            tracing::info!(room.id = %met.room.id, peer = %origin, %error, "Events of `{origin}` are taken in one by one: {error}");
            for (number, event_id, text) in kept {
                let taken = take_alone(actions, met, origin, &text).await;
                answers.push((
                    number,
                    match taken {
                        Ok(taken) => told(actions, met, origin, (&event_id, &text), taken).await,
                        Err(error) => Err(failed(error)),
                    },
                ));
            }
            Judged { answers, durable: None }
        }
    }
}

async fn take_alone(actions: &Actions, met: &Met, origin: &ServerName, text: &Pdu) -> Result<Taken, ActionError> {
    take(actions, met, origin, RawPdu(text.clone()), Before::Parents, Slot::End, None).await
}

/// What the peer is told; what lacks something waits. The peer learns no more than that the event is not part of the room.
async fn told(
    actions: &Actions,
    met: &Met,
    origin: &ServerName,
    (event_id, text): (&OwnedEventId, &Pdu),
    taken: Taken,
) -> Answer {
    let missing = match taken {
        Taken::Judged(Remote::Accepted | Remote::Known | Remote::SoftFailed(_)) => return Ok(()),
        Taken::Judged(Remote::Rejected(_)) => return Err(Refusal::Forbidden),
        Taken::Judged(Remote::Ignored) => return Err(Refusal::NotFound),
        Taken::Dropped => return Err(Refusal::Invalid("it is no event of its sender")),
        Taken::Judged(Remote::Missing(missing)) => missing,
        Taken::Held => Vec::new(),
    };
    staging::stage(actions, met, origin, (event_id, text.get().to_owned()), missing).await
}
