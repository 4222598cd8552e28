//! A room that is larger than what is kept of an answer in memory.

use serde_json::json;
use yurt::{
    actions::{ActionError, Window, jobs, members, rooms},
    storage::{
        Direction, Home, KeyRange, Limit,
        keyspaces::{ENTERING, ENTERING_ROOMS},
    },
};

use super::{old_versions, servers::eventually};

/// People of the room: their events are some three times what is kept in memory.
const PEOPLE: usize = 5_000;

#[tokio::test]
async fn a_room_of_five_thousand_people_is_entered_through_rows_that_are_gone_afterwards() {
    let (scene, host) = old_versions::far("11", json!({ "join_rule": "public" })).await;
    host.fills(PEOPLE, 2_500);
    let (room, via) = (scene.room_id.as_str(), ["peer.example".to_owned()]);
    let store = scene.actions.store();
    let all = Limit::rows(10);
    let read = async || {
        let rooms = store.scan(&ENTERING_ROOMS, &Home::server(), KeyRange::all(), Direction::Up, all).await.unwrap();
        let home = Home::room(&scene.room_id);
        let events = store.scan(&ENTERING, &home, KeyRange::all(), Direction::Up, all).await.unwrap();
        (rooms.rows.len(), events.rows.len())
    };
    let (joined, ()) = tokio::join!(
        members::join(&scene.actions, &scene.alice, room, &via, None),
        eventually("a part of it waits on disk", async || read().await == (1, 10))
    );
    match joined {
        Err(ActionError::Underway { job_id, .. }) => {
            eventually("the job is over", async || {
                jobs::get(&scene.actions, &scene.alice, &job_id).await.unwrap().job.state.is_over()
            })
            .await;
        }
        joined => drop(joined.unwrap()),
    }
    let joined = rooms::details(&scene.actions, &scene.alice, room).await.unwrap();
    assert_eq!(joined.view.summary.joined, u64::try_from(PEOPLE + 2).unwrap());
    let list = members::list(&scene.actions, &scene.alice, room, None, Window { offset: 0, limit: 10 });
    assert_eq!(list.await.unwrap().total, PEOPLE + 2);
    assert_eq!(rooms::own(&scene.actions, &scene.alice, Window::ALL).await.unwrap().entries.len(), 1);
    assert_eq!(read().await, (0, 0));
}
