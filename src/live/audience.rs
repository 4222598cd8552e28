//! Who listens to which room: for each person with a stream the rooms they are in, and for each such room its listeners.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

/// A person who listens, as a number: short, and never used twice.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listener(u64);

/// People and the rooms they have joined, looked up both ways.
#[derive(Default)]
pub struct Audience {
    people: HashMap<OwnedUserId, Person>,
    rooms: HashMap<OwnedRoomId, Arc<Vec<Listener>>>,
    last: u64,
}

struct Person {
    listener: Listener,
    rooms: HashSet<OwnedRoomId>,
}

impl Audience {
    /// Adds a person with the rooms that they are in.
    pub fn add(&mut self, user_id: &UserId, rooms: impl IntoIterator<Item = OwnedRoomId>) -> Listener {
        self.last += 1;
        let listener = Listener(self.last);
        self.remove(user_id);
        self.people.insert(user_id.to_owned(), Person { listener, rooms: HashSet::new() });
        for room_id in rooms {
            self.set(user_id, &room_id, true);
        }
        listener
    }

    /// The person no longer listens.
    pub fn remove(&mut self, user_id: &UserId) {
        for room_id in self.rooms_of(user_id) {
            self.set(user_id, &room_id, false);
        }
        self.people.remove(user_id);
    }

    /// The person is, or is not, in this room; answers whether that is new. Nobody else is noticed.
    pub fn set(&mut self, user_id: &UserId, room_id: &RoomId, is_in: bool) -> bool {
        let Some(person) = self.people.get_mut(user_id) else { return false };
        let changed = if is_in { person.rooms.insert(room_id.to_owned()) } else { person.rooms.remove(room_id) };
        if changed && is_in {
            Arc::make_mut(self.rooms.entry(room_id.to_owned()).or_default()).push(person.listener);
        } else if changed && let Some(listeners) = self.rooms.get_mut(room_id) {
            let left = Arc::make_mut(listeners);
            left.retain(|listener| *listener != person.listener);
            if left.is_empty() {
                self.rooms.remove(room_id);
            }
        }
        changed
    }

    /// The person's number, if they listen.
    pub fn listener(&self, user_id: &UserId) -> Option<Listener> {
        self.people.get(user_id).map(|person| person.listener)
    }

    /// The rooms that the person is in.
    pub fn rooms_of(&self, user_id: &UserId) -> Vec<OwnedRoomId> {
        self.people.get(user_id).map(|person| person.rooms.iter().cloned().collect()).unwrap_or_default()
    }

    /// The person listens and is in the room.
    pub fn is_in(&self, user_id: &UserId, room_id: &RoomId) -> bool {
        self.people.get(user_id).is_some_and(|person| person.rooms.contains(room_id))
    }

    /// Who listens to a room.
    pub fn of_room(&self, room_id: &RoomId) -> Arc<Vec<Listener>> {
        self.rooms.get(room_id).cloned().unwrap_or_default()
    }

    /// Who listens to a room, with their names. Looks at everybody: for rare news.
    pub fn people_of(&self, room_id: &RoomId) -> Vec<(OwnedUserId, Listener)> {
        let there = self.people.iter().filter(|(_, person)| person.rooms.contains(room_id));
        there.map(|(user_id, person)| (user_id.clone(), person.listener)).collect()
    }

    /// Nobody listens.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_room_id, user_id};

    use super::*;

    #[test]
    fn rooms_and_people_find_each_other_until_one_leaves() {
        let (one, two) = (owned_room_id!("!one:a.example"), owned_room_id!("!two:a.example"));
        let (alice, bob) = (user_id!("@alice:a.example"), user_id!("@bob:a.example"));
        let mut audience = Audience::default();
        let first = audience.add(alice, [one.clone(), two.clone()]);
        let second = audience.add(bob, [one.clone()]);
        assert_eq!(*audience.of_room(&one), [first, second]);
        assert!(!audience.set(bob, &one, true), "nothing new");
        assert!(audience.set(alice, &one, false));
        assert_eq!(*audience.of_room(&one), [second]);
        audience.remove(alice);
        assert_eq!((audience.of_room(&two).len(), audience.listener(alice)), (0, None));
        assert!(!audience.set(alice, &two, true), "nobody listens there");
        audience.remove(bob);
        assert!(audience.is_empty() && audience.rooms.is_empty());
    }
}
