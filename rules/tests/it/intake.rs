//! Taking in events from peers: which facts are asked for, in which order, and what the verdict is.

use std::{collections::HashMap, sync::Arc};

use rules::{
    Event, RawPdu, Version, canonical,
    draft::Draft,
    format::Caps,
    intake::{Facts, Intake, Need, Step, Verdict},
    keys::KeyRing,
    state::StateMap,
};
use ruma::{
    OwnedEventId,
    events::{StateEventType, TimelineEventType},
};
use serde_json::{Value, json};

use crate::world::{Branch, World, keys_of, object, raw, raw_text};

const ALICE: &str = "@alice:a.example";
const BOB: &str = "@bob:b.example";

/// What a test knows about the room around an event.
struct Known<'a> {
    world: &'a World,
    keys: KeyRing,
    before: StateMap<Arc<Event>>,
    current: StateMap<Arc<Event>>,
}

impl<'a> Known<'a> {
    fn new(world: &'a World, before: &Branch, current: &Branch) -> Self {
        let keys = keys_of(&["a.example", "b.example"]);
        Self { world, keys, before: before.state.clone(), current: current.state.clone() }
    }

    fn answer(&self, need: &Need) -> Facts {
        match need {
            Need::Keys(_) => Facts::Keys(self.keys.clone()),
            Need::Events(ids) => {
                let held = ids.iter().filter_map(|id| Some((id.clone(), self.world.get(id)?)));
                Facts::Events(held.collect::<HashMap<OwnedEventId, Arc<Event>>>())
            }
            Need::StateBefore { keys, .. } => Facts::State(part(&self.before, keys)),
            Need::CurrentState { keys } => Facts::State(part(&self.current, keys)),
        }
    }

    /// Drives the stepper as a server would.
    fn judge(&self, mut intake: Intake) -> (Vec<Need>, Verdict) {
        let mut asked = Vec::new();
        let mut step = intake.step(Facts::Start);
        loop {
            match step {
                Step::Done(verdict) => return (asked, verdict),
                Step::Need(need) => {
                    step = intake.step(self.answer(&need));
                    asked.push(need);
                }
            }
        }
    }

    fn verdict(&self, raw: RawPdu) -> Verdict {
        self.judge(Intake::new(self.world.version, raw, Caps::Enforced)).1
    }
}

/// Only the entries asked for: a stepper that needs more than it asks for fails its test.
fn part(state: &StateMap<Arc<Event>>, keys: &[(StateEventType, String)]) -> StateMap<Arc<Event>> {
    keys.iter().filter_map(|key| Some((key.clone(), Arc::clone(state.get(key)?)))).collect()
}

fn message() -> Draft {
    Draft::message("m.room.message", object(json!({"body": "hello"})))
}

fn room_with_bob(name: &str) -> (World, Branch) {
    let world = World::new(name);
    let levels = if name == "12" { json!({}) } else { json!({"users": {ALICE: 100}}) };
    let mut branch = world.found(ALICE, levels, "public");
    branch.member(&world, BOB, BOB, "join").unwrap();
    (world, branch)
}

#[test]
fn a_good_event_is_accepted_after_four_questions() {
    for name in ["6", "10", "11", "12"] {
        let (world, branch) = room_with_bob(name);
        let event = world.make(BOB, message(), &branch.heads, &branch.state);
        let known = Known::new(&world, &branch, &branch);
        let (asked, verdict) = known.judge(Intake::new(world.version, raw(&event), Caps::Enforced));
        let Verdict::Accept(accepted) = verdict else { panic!("{verdict:?}") };
        assert_eq!((accepted.event_id(), accepted.json()), (event.event_id(), event.json()));
        assert!(!accepted.rejected());
        let [Need::Keys(keys), Need::Events(events), Need::StateBefore { prev_events, .. }, Need::CurrentState { .. }] =
            &asked[..]
        else {
            panic!("{asked:?}")
        };
        assert_eq!(
            keys.iter().map(|(server, id)| (server.as_str(), id.as_str())).collect::<Vec<_>>(),
            [("b.example", "ed25519:a_1")]
        );
        assert_eq!(events.len(), event.auth_events().len() + usize::from(name == "12"));
        assert_eq!(prev_events, &branch.heads);
    }
}

#[test]
fn every_event_that_founds_a_room_is_accepted() {
    for version in Version::all() {
        let (world, _) = room_with_bob(version.as_str());
        let mut events: Vec<_> = world.events.borrow().values().cloned().collect();
        events.sort_by_key(|event| event.depth());
        let mut state = StateMap::new();
        for event in events {
            let so_far = Branch { heads: Vec::new(), state: state.clone() };
            let verdict = Known::new(&world, &so_far, &so_far).verdict(raw(&event));
            assert!(matches!(verdict, Verdict::Accept(_)), "{event:?} in {version:?}: {verdict:?}");
            state.insert((event.type_str().into(), event.state_key().unwrap().to_owned()), event);
        }
    }
}

/// S2S 8 required fields and their types. S2S 11 check 1.
#[test]
fn what_is_no_event_is_dropped() {
    let (world, branch) = room_with_bob("11");
    let known = Known::new(&world, &branch, &branch);
    let event = world.make(BOB, message(), &branch.heads, &branch.state);
    let text: Value = serde_json::from_str(event.json()).unwrap();
    let mut unsigned = text.clone();
    unsigned["signatures"] = json!({});
    let mut foreign = text.clone();
    foreign["sender"] = json!(ALICE);
    let mut forged = text.clone();
    forged["depth"] = json!(1);
    for broken in [json!([]), json!({}), unsigned, foreign, forged] {
        let verdict = known.verdict(raw_text(&broken.to_string()));
        assert!(matches!(verdict, Verdict::Drop(_)), "{broken}: {verdict:?}");
    }
}

/// S2S 11 check 3.
#[test]
fn an_event_whose_content_was_changed_goes_on_redacted() {
    let (world, branch) = room_with_bob("11");
    let event = world.make(BOB, message(), &branch.heads, &branch.state);
    let changed = raw_text(&event.json().replace("hello", "howdy"));
    let verdict = Known::new(&world, &branch, &branch).verdict(changed);
    let Verdict::Accept(accepted) = verdict else { panic!("{verdict:?}") };
    assert_eq!(accepted.content().get(), "{}");
    assert_eq!(accepted.event_id(), event.event_id());
    assert_eq!(accepted.json(), event.redacted(&world.version).unwrap().json());
}

/// S2S 11 check 4.
#[test]
fn what_its_own_auth_events_do_not_allow_is_rejected() {
    let (world, branch) = room_with_bob("11");
    let ban = Draft::member(ALICE.try_into().unwrap(), "ban", canonical::read_object("{}").unwrap());
    let event = world.make(BOB, ban, &branch.heads, &branch.state);
    let (asked, verdict) =
        Known::new(&world, &branch, &branch).judge(Intake::new(world.version, raw(&event), Caps::Enforced));
    assert_eq!(asked.len(), 2, "the state is not asked for");
    let Verdict::Reject(rejected, refusal) = verdict else { panic!("{verdict:?}") };
    assert!(rejected.rejected());
    assert!(refusal.reason().contains("power"), "{refusal}");
}

/// S2S 11 missing auth events are asked for and checked. S2S 14 rejected events as inputs.
#[test]
fn what_leans_on_a_rejected_event_is_rejected() {
    let (world, branch) = room_with_bob("11");
    let event = world.make(BOB, message(), &branch.heads, &branch.state);
    let join = branch.state[&(StateEventType::RoomMember, BOB.to_owned())].clone();
    let rejected = Arc::new(Event::clone(&join).into_rejected());
    world.events.borrow_mut().insert(join.event_id().clone(), rejected);
    let verdict = Known::new(&world, &branch, &branch).verdict(raw(&event));
    assert!(matches!(&verdict, Verdict::Reject(_, refusal) if refusal.reason().contains("rejected")), "{verdict:?}");
}

/// S2S 11 check 5.
#[test]
fn what_the_state_before_does_not_allow_is_rejected() {
    let (world, branch) = room_with_bob("12");
    let mut banned = branch.clone();
    banned.member(&world, ALICE, BOB, "ban").unwrap();
    let event = world.make(BOB, message(), &banned.heads, &branch.state);
    let verdict = Known::new(&world, &banned, &branch).verdict(raw(&event));
    assert!(matches!(verdict, Verdict::Reject(..)), "{verdict:?}");
}

/// S2S 11 check 6.
#[test]
fn what_the_current_state_does_not_allow_soft_fails_but_not_in_history() {
    let (world, branch) = room_with_bob("12");
    let mut banned = branch.clone();
    banned.member(&world, ALICE, BOB, "ban").unwrap();
    let event = world.make(BOB, message(), &branch.heads, &branch.state);
    let known = Known::new(&world, &branch, &banned);
    let verdict = known.verdict(raw(&event));
    assert!(matches!(&verdict, Verdict::SoftFail(event, _) if !event.rejected()), "{verdict:?}");

    let (asked, verdict) = known.judge(Intake::of_history(world.version, raw(&event)));
    assert!(matches!(verdict, Verdict::Accept(_)), "{verdict:?}");
    assert!(!asked.iter().any(|need| matches!(need, Need::CurrentState { .. })));
}

#[test]
fn a_state_that_changed_before_the_commit_is_judged_by_again() {
    let (world, branch) = room_with_bob("12");
    let mut banned = branch.clone();
    banned.member(&world, ALICE, BOB, "ban").unwrap();
    let event = world.make(BOB, message(), &branch.heads, &branch.state);
    let known = Known::new(&world, &branch, &branch);
    let mut intake = Intake::new(world.version, raw(&event), Caps::Enforced);
    let mut step = intake.step(Facts::Start);
    while let Step::Need(need) = step {
        step = intake.step(known.answer(&need));
    }
    assert!(matches!(step, Step::Done(Verdict::Accept(_))));
    assert!(matches!(intake.step(Facts::State(banned.state.clone())), Step::Done(Verdict::SoftFail(..))));
    assert!(matches!(intake.step(Facts::State(branch.state.clone())), Step::Done(Verdict::Accept(_))));
    assert_eq!(intake.event().unwrap().event_id(), event.event_id());
}

/// S2S 11 what cannot be judged is not rejected.
#[test]
fn what_cannot_be_found_out_holds_the_event_and_does_not_reject_it() {
    let (world, branch) = room_with_bob("11");
    let event = world.make(BOB, message(), &branch.heads, &branch.state);
    let known = Known::new(&world, &branch, &branch);
    for unknown_at in 0..4 {
        let mut intake = Intake::new(world.version, raw(&event), Caps::Enforced);
        let mut step = intake.step(Facts::Start);
        for _ in 0..unknown_at {
            let Step::Need(need) = &step else { panic!("{step:?}") };
            step = intake.step(known.answer(need));
        }
        let step = intake.step(Facts::Unknown);
        assert!(matches!(step, Step::Done(Verdict::Hold(_))), "at question {unknown_at}: {step:?}");
    }

    let without_keys = Known { keys: KeyRing::new(), ..Known::new(&world, &branch, &branch) };
    assert!(matches!(without_keys.verdict(raw(&event)), Verdict::Hold(_)));
    world.events.borrow_mut().remove(&event.auth_events()[0]);
    assert!(matches!(known.verdict(raw(&event)), Verdict::Hold(_)), "a missing auth event");
}

#[test]
fn an_event_of_an_auth_chain_needs_no_state() {
    let (world, branch) = room_with_bob("11");
    let join = branch.state[&(StateEventType::RoomMember, BOB.to_owned())].clone();
    let (asked, verdict) = Known::new(&world, &branch, &branch).judge(Intake::of_auth_chain(world.version, raw(&join)));
    assert!(matches!(verdict, Verdict::Accept(_)), "{verdict:?}");
    assert_eq!(asked.len(), 2);
}

/// S2S 8 255 bytes of ids and types.
#[test]
fn a_field_that_is_too_long_rejects_before_version_11_and_drops_after() {
    for (name, is_kept) in [("10", true), ("11", false)] {
        let (world, branch) = room_with_bob(name);
        let event = world.make(ALICE, Draft::state("x.note", "n", object(json!({}))), &branch.heads, &branch.state);
        let mut text = canonical::read_object(event.json()).unwrap();
        text.insert("state_key".to_owned(), ruma::CanonicalJsonValue::String("é".repeat(200)));
        let hash = rules::hash::content_hash_text(&text);
        text.insert("hashes".to_owned(), object(json!({"sha256": hash})).into());
        crate::world::signer("a.example".try_into().unwrap()).sign_event(&mut text, &world.version);
        let verdict = Known::new(&world, &branch, &branch).verdict(raw_text(&canonical::to_string(&text)));
        assert_eq!(matches!(verdict, Verdict::Reject(..)), is_kept, "{verdict:?}");
        assert_eq!(matches!(verdict, Verdict::Drop(_)), !is_kept, "{verdict:?}");
    }
}

#[test]
fn a_redaction_names_its_target_wherever_the_version_has_it() {
    for name in ["10", "11", "12"] {
        let (world, branch) = room_with_bob(name);
        let target = world.make(BOB, message(), &branch.heads, &branch.state);
        let draft = Draft::redaction(target.event_id().clone(), object(json!({"reason": "typo"})));
        let event = world.make(BOB, draft, &branch.heads, &branch.state);
        assert_eq!(*event.kind(), TimelineEventType::RoomRedaction);
        let verdict = Known::new(&world, &branch, &branch).verdict(raw(&event));
        let Verdict::Accept(accepted) = verdict else { panic!("{verdict:?}") };
        assert_eq!(accepted.redacts(), Some(target.event_id()));
        let stored =
            Event::from_stored(event.event_id().clone(), event.room_id().clone(), &world.version, event.json(), false);
        assert_eq!(stored.unwrap().redacts(), Some(target.event_id()));
    }
}
