//! A room that this server gives up, as the other servers see it.

use rules::permission::Membership;
use yurt::actions::{ErrorKind, members, purge, rooms};

use super::{
    party::{Party, agree, caller},
    servers::{Authority, Server, eventually},
};

#[tokio::test]
async fn who_purges_a_room_leaves_it_first_and_comes_back_by_an_admin_only() {
    let authority = Authority::new();
    let alice = Party::new(Server::new(&authority).await, "alice").await;
    let bob = Party::new(Server::new(&authority).await, "bob").await;
    let room_id = alice.room("12").await;
    let room = room_id.as_str();
    bob.joins(&room_id, &alice).await;
    agree(&alice, &bob, &room_id).await;
    let carol = caller(&bob.actions, "carol").await;
    members::join(&bob.actions, &carol, room, &[], None).await.unwrap();
    agree(&alice, &bob, &room_id).await;
    let job_id = purge::start(&bob.actions, &bob.admin(), room).await.unwrap();
    bob.is_done(&job_id).await;
    // They were told before the rows went.
    let there = alice.actions.room(&room_id).view().await.unwrap().unwrap();
    assert_eq!((there.summary.joined, there.summary.foreign_joined), (1, 0));

    alice.says(&room_id, "is anybody there?").await;
    alice.has_told(&bob.name).await;
    assert!(bob.actions.room(&room_id).view().await.unwrap().is_none());
    let via = [alice.name.to_string()];
    let alias = alice.actions.room(&room_id).view().await.unwrap().unwrap().summary.alias.clone().unwrap();
    for reference in [room, alias.as_str()] {
        let join = members::join(&bob.actions, &bob.person, reference, &via, None).await;
        assert_eq!(join.unwrap_err().kind(), ErrorKind::RoomNotFound, "{reference}");
    }
    let admin = yurt::actions::Caller { is_admin: true, ..bob.person.clone() };
    members::join(&bob.actions, &admin, room, &via, None).await.unwrap();
    members::join(&bob.actions, &carol, room, &[], None).await.unwrap();
    eventually("Alice sees both", async || {
        let there = rooms::details(&alice.actions, &alice.person, room).await.unwrap();
        there.view.summary.foreign_joined == 2
    })
    .await;
    let here = rooms::details(&bob.actions, &carol, room).await.unwrap();
    assert_eq!(here.membership, Membership::Join);
    let said = alice.says(&room_id, "welcome back").await;
    eventually("it is a room again", async || bob.holds(&room_id, &said).await).await;
}
