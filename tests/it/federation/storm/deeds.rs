//! What people do in a room, by chance.

use ruma::{OwnedServerName, OwnedUserId};
use serde_json::json;
use yurt::actions::{
    ActionError, Actions, Caller, Direction, levels,
    members::{self, Measure},
    messages::{self, NewMessage},
    profile::{self, NewProfile},
    room_state, rooms, timeline,
};

use super::world::World;

/// Somebody with an account.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) server: OwnedServerName,
    pub(super) caller: Caller,
}

/// One deed of one person. What the room does not allow is not done.
pub(super) async fn deed(world: &World, actions: &Actions, person: &Person, people: &[Person], number: u64) {
    let dice = world.below(100);
    let target = world.pick(people).caller.user_id.clone();
    let (name, outcome) = match dice {
        0..34 => ("speaks", say(world, actions, person, number).await),
        34..44 => ("names", set(world, actions, person, number).await),
        44..50 => ("calls themselves", profile(actions, person, number).await),
        50..56 => ("leaves", leave(world, actions, person).await),
        56..66 => ("joins", join(world, actions, person, people).await),
        66..71 => ("invites", invite(world, actions, person, &target).await),
        71..75 => ("kicks", measure(world, actions, person, Measure::Kick, &target).await),
        75..79 => ("bans", measure(world, actions, person, Measure::Ban, &target).await),
        79..82 => ("unbans", measure(world, actions, person, Measure::Unban, &target).await),
        82..90 => ("empowers", empower(world, actions, person, &target).await),
        90..93 => ("sets who may join", rule(world, actions, person).await),
        93..97 => ("redacts", redact(world, actions, person).await),
        _ => ("notes", note(world, actions, person, number).await),
    };
    world.log(|| match &outcome {
        Ok(what) => format!("{} {name} {what}", person.caller.user_id),
        Err(error) => format!("{} {name} in vain: {error}", person.caller.user_id),
    });
}

type Done = Result<String, ActionError>;

fn room(world: &World) -> String {
    world.room_id.lock().as_ref().unwrap().to_string()
}

pub(super) async fn say(world: &World, actions: &Actions, person: &Person, number: u64) -> Done {
    let message = NewMessage {
        event_type: "m.room.message".to_owned(),
        content: json!({ "msgtype": "m.text", "body": format!("{number}") }),
        reply_to: None,
        transaction_id: None,
        fingerprint: [0; 32],
    };
    Ok(messages::send(actions, &person.caller, &room(world), message).await?.event_id.to_string())
}

async fn set(world: &World, actions: &Actions, person: &Person, number: u64) -> Done {
    let text = format!("by {number}");
    let done = match world.chance(50) {
        true => rooms::set_name(actions, &person.caller, &room(world), &text).await,
        false => rooms::set_topic(actions, &person.caller, &room(world), &text).await,
    };
    done.map(|_| number.to_string())
}

async fn note(world: &World, actions: &Actions, person: &Person, number: u64) -> Done {
    let key = world.below(3).to_string();
    let content = json!({ "number": number });
    let id = room_state::set(actions, &person.caller, &room(world), "com.example.note", &key, content).await?;
    Ok(id.to_string())
}

async fn profile(actions: &Actions, person: &Person, number: u64) -> Done {
    let new = NewProfile { display_name: Some(Some(format!("nr {number}"))), ..NewProfile::default() };
    profile::set(actions, &person.caller, new).await.map(|_| number.to_string())
}

async fn leave(world: &World, actions: &Actions, person: &Person) -> Done {
    members::leave(actions, &person.caller, &room(world)).await.map(|()| String::new())
}

pub(super) async fn join(world: &World, actions: &Actions, person: &Person, people: &[Person]) -> Done {
    let via: Vec<String> = (0..3).map(|_| world.pick(people).server.to_string()).collect();
    members::join(actions, &person.caller, &room(world), &via, None).await.map(|_| format!("{via:?}"))
}

async fn invite(world: &World, actions: &Actions, person: &Person, target: &OwnedUserId) -> Done {
    members::invite(actions, &person.caller, &room(world), target, None).await.map(|_| target.to_string())
}

async fn measure(world: &World, actions: &Actions, person: &Person, measure: Measure, target: &OwnedUserId) -> Done {
    let done = members::take_measure(actions, &person.caller, &room(world), measure, target, None).await;
    done.map(|_| target.to_string())
}

pub(super) async fn empower(world: &World, actions: &Actions, person: &Person, target: &OwnedUserId) -> Done {
    let level = *world.pick(&[0, 25, 50, 50, 75, 100]);
    let done = levels::set_member(actions, &person.caller, &room(world), target, level).await;
    done.map(|_| format!("{target} {level}"))
}

async fn rule(world: &World, actions: &Actions, person: &Person) -> Done {
    let rule = *world.pick(&["public", "public", "invite", "knock"]);
    let content = json!({ "join_rule": rule });
    let id = room_state::set(actions, &person.caller, &room(world), "m.room.join_rules", "", content).await?;
    Ok(format!("{rule} {id}"))
}

async fn redact(world: &World, actions: &Actions, person: &Person) -> Done {
    let page = timeline::page(actions, &person.caller, &room(world), None, Direction::Down, 20).await?;
    if page.events.is_empty() {
        return Ok("nothing".to_owned());
    }
    let target = world.pick(&page.events).event.event_id().to_string();
    messages::redact(actions, &person.caller, &room(world), &target, None, None).await.map(|_| target)
}
