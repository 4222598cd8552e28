//! Scenes: small rooms as JSON in `fixtures/scenes`, each played in every room version it names.
//!
//! A step is an event that its sender tries to send; `is` says what the rules say, for all versions or for each. What is
//! allowed becomes part of the room, so that the next step builds on it.

use std::collections::BTreeMap;

use rules::{authorization::Refusal, draft::Draft};
use ruma::CanonicalJsonObject;
use serde::Deserialize;
use serde_json::Value;

use crate::world::{Branch, World, object};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scene {
    about: String,
    versions: Vec<String>,
    creator: String,
    #[serde(default)]
    create: serde_json::Map<String, Value>,
    power_levels: BTreeMap<String, Value>,
    join_rule: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    about: String,
    sender: String,
    #[serde(rename = "type")]
    kind: String,
    state_key: Option<String>,
    content: Value,
    /// The content in versions that need another one.
    #[serde(default)]
    content_in: BTreeMap<String, Value>,
    is: Expected,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expected {
    Everywhere(Word),
    ByVersion(BTreeMap<String, Word>),
}

#[derive(Deserialize, Copy, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allowed,
    Refused,
}

impl Expected {
    fn in_version(&self, name: &str) -> Word {
        match self {
            Self::Everywhere(word) => *word,
            Self::ByVersion(words) => words[name],
        }
    }
}

fn play(scene: &Scene, name: &str) {
    let world = World::new(name);
    let mut create = scene.create.clone();
    create.insert("room_version".to_owned(), name.into());
    if world.version.creator_in_content() {
        create.insert("creator".to_owned(), scene.creator.as_str().into());
    }
    let levels = scene.power_levels.get(name).unwrap_or(&scene.power_levels["*"]).clone();
    let mut room = world.found_with(&scene.creator, create.into(), levels, &scene.join_rule);
    for step in &scene.steps {
        let outcome = attempt(step, &world, &mut room);
        let word = if outcome.is_ok() { Word::Allowed } else { Word::Refused };
        let place = format!("{}, version {name}: {} ({outcome:?})", scene.about, step.about);
        assert_eq!(word, step.is.in_version(name), "{place}");
    }
}

fn attempt(step: &Step, world: &World, room: &mut Branch) -> Result<(), Refusal> {
    let content = step.content_in.get(world.version.as_str()).unwrap_or(&step.content);
    let content: CanonicalJsonObject = object(content.clone());
    let draft = Draft { kind: step.kind.as_str().into(), state_key: step.state_key.clone(), content, redacts: None };
    room.send(world, &step.sender, draft).map(|_| ())
}

macro_rules! scenes {
    ($($name:ident: $file:literal,)*) => {$(
        #[test]
        fn $name() {
            let scene: Scene = serde_json::from_str(include_str!(concat!("../../fixtures/scenes/", $file))).unwrap();
            assert!(!scene.versions.is_empty() && !scene.steps.is_empty());
            for name in &scene.versions {
                play(&scene, name);
            }
        }
    )*};
}

scenes! {
    join_rules_and_memberships_decide_who_enters: "join.json",
    invites_need_a_member_with_the_level: "invite.json",
    only_who_stands_higher_may_kick: "kick.json",
    only_who_stands_higher_may_ban_and_the_banned_stay_out: "ban.json",
    nobody_gives_or_takes_more_power_than_he_has: "levels.json",
    creators_stand_above_all_levels_in_version_12: "creators.json",
    knocking_needs_a_rule_for_it: "knock.json",
    a_restricted_room_lets_in_whom_a_member_vouches_for: "restricted.json",
    a_room_that_is_not_federated_takes_no_foreign_events: "unfederated.json",
    state_needs_the_level_for_its_type: "state.json",
}
