//! Kinds and states of rooms, levels, freezing, and who sees what.

use std::sync::Arc;

use proptest::prelude::*;
use rules::{
    Event, canonical,
    draft::Draft,
    freeze::{ARCHIVE_LEVEL, frozen, thawed},
    kind::{
        ARCHIVED, CLOSED, RoomKind, RoomState, history_visibility, initial_power_levels, is_listed, join_rule,
        refused_members_only, refused_message_type, refused_password, refused_state_type,
    },
    permission::Membership,
    power::{Level, Levels},
    visibility::{HistoryVisibility, may_see_event, membership_of},
};
use ruma::{CanonicalJsonObject, UserId, events::StateEventType};
use serde_json::{Value, json};

use crate::world::{Branch, World, object, version};

const ALICE: &str = "@alice:a.example";
const BOB: &str = "@bob:b.example";
const CAROL: &str = "@carol:c.example";

fn user(id: &str) -> &UserId {
    id.try_into().unwrap()
}

fn levels_of(world: &World, branch: &Branch) -> Levels {
    let create = branch.entry(StateEventType::RoomCreate).unwrap();
    let power_levels = branch.entry(StateEventType::RoomPowerLevels);
    Levels::read(&world.version, &create, power_levels.as_deref())
}

#[test]
fn levels_come_from_the_event_and_from_the_defaults() {
    let world = World::new("11");
    let content =
        json!({"users": {ALICE: 100, BOB: 50}, "users_default": 5, "events": {"m.room.name": 60}, "invite": 10});
    let branch = world.found(ALICE, content.clone(), "public");
    let levels = levels_of(&world, &branch);
    assert_eq!(levels.of(user(ALICE)), Level::Number(100));
    assert_eq!(levels.of(user(BOB)), Level::Number(50));
    assert_eq!(levels.of(user(CAROL)), Level::Number(5));
    assert_eq!((levels.to_send("m.room.name", true), levels.to_send("m.room.topic", true)), (60, 50));
    assert_eq!(levels.to_send("m.room.message", false), 0);
    assert_eq!((levels.invite(), levels.kick(), levels.ban(), levels.redact()), (10, 50, 50, 50));
    assert_eq!((levels.users_default(), levels.events_default(), levels.state_default()), (5, 0, 50));
    assert_eq!(levels.users().count(), 2);
    assert_eq!(*levels.content(), object(content));
    assert!(!levels.is_creator(user(ALICE)), "before version 12 the level decides");
}

#[test]
fn without_an_event_the_creator_has_100_or_stands_above_all() {
    for (name, expected) in [("10", Level::Number(100)), ("11", Level::Number(100)), ("12", Level::Creator)] {
        let world = World::new(name);
        let mut branch = world.found(ALICE, json!({}), "public");
        branch.state.remove(&(StateEventType::RoomPowerLevels, String::new()));
        let levels = levels_of(&world, &branch);
        assert_eq!(levels.of(user(ALICE)), expected, "version {name}");
        assert_eq!(levels.of(user(BOB)), Level::Number(0));
        assert_eq!(levels.to_send("m.room.name", true), 50);
        assert!(levels.content().is_empty());
    }
}

/// S2S 14 ids compare as bytes.
#[test]
fn creators_of_version_12_are_the_sender_and_those_it_names() {
    let world = World::new("12");
    let create = json!({"room_version": "12", "additional_creators": [BOB]});
    let branch = world.found_with(ALICE, create, json!({"users": {CAROL: 1000}}), "public");
    let levels = levels_of(&world, &branch);
    assert!(levels.is_creator(user(ALICE)) && levels.is_creator(user(BOB)) && !levels.is_creator(user(CAROL)));
    assert_eq!(levels.creators().count(), 2);
    assert!(levels.of(user(BOB)) > levels.of(user(CAROL)));
    assert_eq!((levels.of(user(BOB)).reported(), levels.of(user(CAROL)).reported()), (100, 1000));
    assert!(levels.of(user(BOB)).reaches(i64::MAX));
}

#[test]
fn text_levels_count_where_the_version_reads_them() {
    for (name, expected) in [("9", 40), ("10", 0)] {
        let world = World::new(name);
        let branch = world.found(ALICE, json!({}), "public");
        let levels = Draft::state("m.room.power_levels", "", object(json!({"users": {BOB: " 40 "}})));
        let event = world.make(ALICE, levels, &branch.heads, &branch.state);
        let create = branch.entry(StateEventType::RoomCreate).unwrap();
        let levels = Levels::read(&world.version, &create, Some(&event));
        assert_eq!(levels.of(user(BOB)), Level::Number(expected), "version {name}");
    }
}

/// S2S 7 redactions are applied.
#[test]
fn a_redaction_takes_effect_by_level_or_by_server() {
    let world = World::new("11");
    let mut branch = world.found(ALICE, json!({"users": {ALICE: 100, BOB: 50}}), "public");
    for member in [BOB, CAROL, "@cara:c.example"] {
        branch.member(&world, member, member, "join").unwrap();
    }
    let levels = levels_of(&world, &branch);
    let target = world.make(CAROL, Draft::message("m.room.message", object(json!({}))), &branch.heads, &branch.state);
    let redaction = |sender: &str, target: &Event| {
        let draft = Draft::redaction(target.event_id().clone(), CanonicalJsonObject::new());
        world.make(sender, draft, &branch.heads, &branch.state)
    };
    assert!(levels.lets_redact(&redaction(BOB, &target), &target), "50 suffices");
    assert!(levels.lets_redact(&redaction("@cara:c.example", &target), &target), "her server vouches for her");
    let of_bob = world.make(BOB, Draft::message("m.room.message", object(json!({}))), &branch.heads, &branch.state);
    assert!(!levels.lets_redact(&redaction(CAROL, &of_bob), &of_bob));
    assert!(!levels.lets_redact(&redaction(BOB, &of_bob), &target), "it aims at another event");
    let create = branch.entry(StateEventType::RoomCreate).unwrap();
    assert!(!levels.lets_redact(&redaction(ALICE, &create), &create));
}

#[test]
fn the_kind_of_a_room_follows_from_its_events() {
    let cases = [
        // io.yurt.type,      create type,     direct, join rule,      kind
        (Some("group"), None, true, Some("public"), RoomKind::Group),
        (Some("incognito"), None, false, Some("invite"), RoomKind::Incognito),
        (Some("dm"), None, false, None, RoomKind::Direct),
        (Some("workspace"), None, false, None, RoomKind::Workspace),
        (Some("castle"), Some("m.space"), false, None, RoomKind::Workspace),
        (None, Some("m.space"), true, Some("public"), RoomKind::Workspace),
        (None, None, true, Some("public"), RoomKind::Direct),
        (None, Some("x.y"), false, Some("public"), RoomKind::Public),
        (None, None, false, Some("knock"), RoomKind::Group),
        (None, None, false, None, RoomKind::Group),
    ];
    for (yurt_type, create_type, is_direct, rule, kind) in cases {
        assert_eq!(
            RoomKind::of(yurt_type, create_type, is_direct, rule),
            kind,
            "{yurt_type:?} {create_type:?} {rule:?}"
        );
    }
    for kind in [RoomKind::Group, RoomKind::Public, RoomKind::Incognito, RoomKind::Direct, RoomKind::Workspace] {
        assert_eq!(RoomKind::parse(kind.as_str()), Some(kind));
    }

    let world = World::new("12");
    let create = json!({"room_version": "12", "type": "m.space", "io.yurt.type": 5});
    let branch = world.found_with(ALICE, create, json!({}), "public");
    let create = branch.entry(StateEventType::RoomCreate).unwrap();
    let rules = branch.entry(StateEventType::RoomJoinRules);
    assert_eq!(RoomKind::read(&create, false, rules.as_deref()), RoomKind::Workspace);
}

#[test]
fn new_rooms_follow_the_table_of_the_contract() {
    let cases = [
        // kind,               public, join rule, history,  listed
        (RoomKind::Group, false, "invite", "shared", false),
        (RoomKind::Group, true, "public", "shared", true),
        (RoomKind::Public, true, "public", "shared", true),
        (RoomKind::Direct, false, "invite", "invited", false),
        (RoomKind::Incognito, false, "invite", "joined", false),
        (RoomKind::Workspace, false, "invite", "shared", false),
    ];
    for (kind, is_public, rule, visibility, listed) in cases {
        let row = (join_rule(kind, is_public), history_visibility(kind), is_listed(kind, is_public));
        assert_eq!(row, (rule, visibility, listed), "{kind:?} {is_public}");
    }
}

#[test]
fn new_levels_are_accepted_by_the_rules_in_every_version_we_create() {
    for name in ["10", "11", "12"] {
        let world = World::new(name);
        for (kind, partner) in [(RoomKind::Group, None), (RoomKind::Direct, Some(user(BOB)))] {
            let content = initial_power_levels(&world.version, kind, user(ALICE), partner);
            let mut create = json!({"room_version": name, "creator": ALICE});
            if partner.is_some() && name == "12" {
                create["additional_creators"] = json!([BOB]);
            }
            let value: Value = serde_json::from_str(&canonical::to_string(&content)).unwrap();
            let branch = world.found_with(ALICE, create, value, "invite");
            let levels = levels_of(&world, &branch);
            assert_eq!(levels.of(user(ALICE)).reported(), 100);
            assert_eq!(levels.of(user(BOB)).reported(), if partner.is_some() { 100 } else { 0 });
            assert_eq!(levels.to_send(CLOSED, true), 100);
            assert_eq!(levels.to_send(ARCHIVED, true), 50);
            assert_eq!(levels.to_send("m.room.tombstone", true), if name == "12" { 150 } else { 100 });
            assert_eq!(levels.users().count(), if name == "12" { 0 } else { 1 + usize::from(partner.is_some()) });
            world.room_id.replace(None);
        }
    }
}

#[test]
fn archiving_is_undone_and_closing_counts_only_with_the_right() {
    let world = World::new("11");
    let state_of = |archived: Option<Value>, closer: Option<&str>, level: Option<i64>| {
        let mut power_levels = json!({"users": {ALICE: 100, BOB: 50}});
        if let Some(level) = level {
            power_levels["events"] = json!({CLOSED: level});
        }
        let mut branch = world.found(ALICE, power_levels, "public");
        branch.member(&world, BOB, BOB, "join").unwrap();
        let make = |sender: &str, kind: &str, content: Value| {
            world.make(sender, Draft::state(kind, "", object(content)), &branch.heads, &branch.state)
        };
        let archived = archived.map(|content| make(ALICE, ARCHIVED, content));
        let closed = closer.map(|sender| make(sender, CLOSED, json!({})));
        RoomState::of(archived.as_deref(), closed.as_deref(), &levels_of(&world, &branch))
    };
    let on = || Some(json!({"archived": true}));
    assert_eq!(state_of(None, None, None), RoomState::Open);
    assert_eq!(state_of(on(), None, None), RoomState::Archived);
    assert_eq!(state_of(Some(json!({"archived": false})), None, None), RoomState::Open);
    assert_eq!(state_of(Some(json!({})), None, None), RoomState::Open);
    assert_eq!(state_of(Some(json!({"archived": "yes"})), None, None), RoomState::Open);
    assert_eq!(state_of(on(), Some(BOB), None), RoomState::Archived, "the room asks only 50 for closing");
    assert_eq!(state_of(on(), Some(ALICE), Some(100)), RoomState::Closed);
    assert_eq!(state_of(None, Some(ALICE), Some(99)), RoomState::Open);
    assert!(RoomState::Closed.is_frozen() && RoomState::Archived.is_frozen() && !RoomState::Open.is_frozen());
    let words: Vec<&str> = [RoomState::Open, RoomState::Archived, RoomState::Closed].map(RoomState::as_str).into();
    assert_eq!(words, ["open", "archived", "closed"]);
}

#[test]
fn a_creator_of_version_12_closes_whatever_the_level_says() {
    let world = World::new("12");
    let branch = world.found(ALICE, json!({}), "public");
    let closed = world.make(ALICE, Draft::state(CLOSED, "", object(json!({}))), &branch.heads, &branch.state);
    assert_eq!(RoomState::of(None, Some(&closed), &levels_of(&world, &branch)), RoomState::Closed);
}

#[test]
fn freezing_lifts_what_is_lower_and_thawing_puts_it_back() {
    let content = object(json!({
        "invite": 0, "state_default": 60, "kick": 50, "users": {ALICE: 100},
        "events": {"m.room.name": 20, "m.room.power_levels": 10, ARCHIVED: 5, CLOSED: 5, "m.room.topic": 70},
    }));
    let (change, former) = frozen(&content, Some("public"), ARCHIVE_LEVEL);
    let expected = object(json!({
        "invite": 50, "events_default": 50, "state_default": 60, "kick": 50, "users": {ALICE: 100},
        "events": {"m.room.name": 50, "m.room.power_levels": 10, ARCHIVED: 5, CLOSED: 5, "m.room.topic": 70},
    }));
    assert_eq!(change.power_levels.as_ref(), Some(&expected));
    assert_eq!(change.join_rule.as_deref(), Some("invite"));
    let noted = json!({"invite": 0, "events_default": null, "events": {"m.room.name": 20}, "join_rule": "public"});
    assert_eq!(former, object(noted));
    let back = thawed(&expected, &former);
    assert_eq!(back.power_levels, Some(content));
    assert_eq!(back.join_rule.as_deref(), Some("public"));
}

#[test]
fn freezing_a_room_that_asks_enough_changes_nothing() {
    let content = object(json!({"invite": 50, "events_default": 50}));
    let (change, former) = frozen(&content, Some("invite"), ARCHIVE_LEVEL);
    assert_eq!((change.power_levels, change.join_rule), (None, None));
    assert!(former.is_empty());
    assert_eq!(thawed(&content, &former).power_levels, None);
}

#[test]
fn thawing_ignores_what_freezing_does_not_note() {
    let content = object(json!({"ban": 50, "events": {"m.room.power_levels": 100, "x.y": 50}}));
    let crafted = object(json!({
        "ban": 0, "users": {BOB: 100}, "invite": "0", "join_rule": "x",
        "events": {"m.room.power_levels": 0, CLOSED: 0, "x.gone": 1, "x.y": "1"},
    }));
    let change = thawed(&content, &crafted);
    assert_eq!((change.power_levels, change.join_rule), (None, None));
}

proptest! {
    #[test]
    fn what_was_frozen_thaws_to_what_it_was(
        fields in proptest::collection::btree_map("events_default|invite|state_default|ban|kick", -10_i64..120, 0..5),
        events in proptest::collection::btree_map("m.room.(name|topic|power_levels)|io.yurt.(archived|closed)|x.y", -10_i64..120, 0..5),
        level in 0_i64..=100,
    ) {
        let mut content = object(json!(fields));
        content.insert("events".to_owned(), object(json!(events)).into());
        let (change, former) = frozen(&content, None, level);
        let lifted = change.power_levels.unwrap_or_else(|| content.clone());
        prop_assert_eq!(thawed(&lifted, &former).power_levels.unwrap_or(lifted), content);
    }
}

#[test]
fn state_and_messages_with_a_call_of_their_own_are_refused_as_plain_ones() {
    for refused in [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.third_party_invite",
        "m.room.tombstone",
        "m.space.child",
        "m.space.parent",
        "io.yurt.archived",
        "io.yurt.closed",
        "io.yurt.anything",
    ] {
        assert!(refused_state_type(refused, RoomKind::Group, false).is_some(), "{refused}");
    }
    for allowed in ["m.room.name", "m.room.topic", "m.room.server_acl", "x.note", "m.roommate"] {
        assert_eq!(refused_state_type(allowed, RoomKind::Public, true), None);
    }
    let join_rules = |kind, has_password| refused_state_type("m.room.join_rules", kind, has_password).is_some();
    assert!(join_rules(RoomKind::Public, false) && join_rules(RoomKind::Direct, false));
    assert!(join_rules(RoomKind::Incognito, false) && join_rules(RoomKind::Group, true));
    assert!(!join_rules(RoomKind::Group, false) && !join_rules(RoomKind::Workspace, false));

    for allowed in ["m.room.message", "m.room.encrypted", "m.reaction", "x.y"] {
        assert_eq!(refused_message_type(allowed), None);
    }
    for refused in ["m.room.redaction", "m.room.member", "m.room.anything", "io.yurt.archived"] {
        assert!(refused_message_type(refused).is_some(), "{refused}");
    }
}

#[test]
fn passwords_and_knocks_are_for_groups_entered_by_invite_and_exclude_each_other() {
    let kinds = [RoomKind::Group, RoomKind::Public, RoomKind::Incognito, RoomKind::Direct, RoomKind::Workspace];
    for kind in kinds {
        for join_rule in ["invite", "public", "knock", "knock_restricted", "restricted"] {
            let is_group = kind == RoomKind::Group;
            assert_eq!(refused_password(kind, join_rule).is_none(), is_group && join_rule == "invite");
            assert_eq!(refused_members_only(kind, join_rule, false).is_none(), is_group && join_rule != "public");
            assert!(refused_members_only(kind, join_rule, true).is_some());
        }
    }
}

#[test]
fn history_visibility_decides_who_sees_an_event() {
    use HistoryVisibility::{Invited, Joined, Shared, WorldReadable};
    let cases = [
        // visibility,  membership then,    joined since, sees
        (WorldReadable, Membership::None, false, true),
        (Shared, Membership::None, false, false),
        (Shared, Membership::None, true, true),
        (Shared, Membership::Join, false, true),
        (Invited, Membership::None, true, false),
        (Invited, Membership::Knock, true, false),
        (Invited, Membership::Invite, false, true),
        (Invited, Membership::Join, false, true),
        (Joined, Membership::Invite, true, false),
        (Joined, Membership::Leave, true, false),
        (Joined, Membership::Join, false, true),
        (Joined, Membership::Ban, true, false),
    ];
    for (visibility, then, joined_since, sees) in cases {
        assert_eq!(may_see_event(visibility, then, joined_since), sees, "{visibility:?} {then:?} {joined_since}");
    }
    assert_eq!(HistoryVisibility::at_change(Joined, WorldReadable), WorldReadable);
    assert_eq!(HistoryVisibility::parse("nonsense"), Shared);
    assert_eq!(HistoryVisibility::of(None), Shared);
}

#[test]
fn memberships_and_visibility_are_read_from_hostile_events_too() {
    let world = World::new("11");
    let branch = world.found(ALICE, json!({}), "public");
    let make = |kind: &str, content: Value| -> Arc<Event> {
        world.make(ALICE, Draft::state(kind, BOB, object(content)), &branch.heads, &branch.state)
    };
    let member = |content: Value| membership_of(Some(&make("m.room.member", content)));
    assert_eq!(membership_of(None), Membership::None);
    assert_eq!(member(json!({"membership": "ban"})), Membership::Ban);
    assert_eq!(member(json!({"membership": "asleep"})), Membership::Leave);
    assert_eq!(member(json!({"membership": 5})), Membership::Leave);
    let visibility = |content: Value| HistoryVisibility::of(Some(&make("m.room.history_visibility", content)));
    assert_eq!(visibility(json!({"history_visibility": "joined"})), HistoryVisibility::Joined);
    assert_eq!(visibility(json!({"history_visibility": []})), HistoryVisibility::Shared);
}

#[test]
fn versions_write_the_creator_where_they_should() {
    assert!(version("10").creator_in_content());
    assert!(!version("11").creator_in_content());
}
