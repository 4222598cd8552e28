//! A disk that fails while people talk: what was refused is not there, what was acknowledged is there once, and the room goes on without help.
#![cfg(test)]

use std::sync::Arc;

use rules::kind::RoomKind;
use serde_json::json;
use tempfile::TempDir;
use yurt::{
    actions::{
        ActionError, Actions, Caller, Direction, ErrorKind, JobState,
        accounts::{self, NewAccount},
        creation::{self, NewRoom},
        jobs,
        messages::{self, NewMessage, Sent},
        purge, rooms,
        settings::{self, Changes},
        timeline,
    },
    clock,
    config::{Config, Tenant},
    server::{self, Engines, Running, ServerError},
    storage::memory::{Fault, MemoryEngine},
};

/// A server on a memory engine whose faults the test decides.
pub(crate) struct Scene {
    running: Running,
    pub(crate) engine: Arc<MemoryEngine>,
    pub(crate) actions: Actions,
    pub(crate) alice: Caller,
    pub(crate) room: String,
    pub(crate) folder: TempDir,
}

async fn start(folder: &TempDir, engine: &Arc<MemoryEngine>) -> Result<(Running, Actions), ServerError> {
    let mut config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
    config.listen.api = "127.0.0.1:0".parse().unwrap();
    config.listen.federation = "127.0.0.1:0".parse().unwrap();
    config.tenant.push(Tenant::new("main", "localhost".try_into().unwrap()));
    let given = Arc::clone(engine);
    let engines = Engines::StrictMemory(Arc::new(move |_| given.reopened()));
    let running = server::start_on(config, Arc::new(clock::System), engines).await?;
    let actions = running.tenants().named("main").unwrap().actions().await.unwrap();
    Ok((running, actions))
}

/// How often in a row a disk that is full refuses: long enough to stop a server that tries again and again.
const REFUSALS: usize = 4;

/// So many writes later the disk is full.
fn full_after(engine: &MemoryEngine, steps: usize) {
    engine.decide_nothing();
    (0..steps).for_each(|_| engine.spare_next());
    (0..REFUSALS).for_each(|_| engine.fail_next(Fault::Full));
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Arc::new(MemoryEngine::strict());
        let (running, actions) = start(&folder, &engine).await.unwrap();
        accounts::create(&actions, NewAccount { username: "alice".to_owned(), ..NewAccount::default() }).await.unwrap();
        let alice = Caller::local(&accounts::user_id(&actions, "alice").unwrap(), false);
        let new = NewRoom { kind: Some(RoomKind::Group), name: Some("Faults".to_owned()), ..NewRoom::default() };
        let room = creation::create(&actions, &alice, new).await.unwrap().to_string();
        Self { running, engine, actions, alice, room, folder }
    }

    /// Stops the server, and starts it again on what is on its disk.
    async fn restarted(self) -> Self {
        let Self { running, engine, actions, alice, room, folder } = self;
        drop(actions);
        running.stop().await.unwrap();
        let (running, actions) = start(&folder, &engine).await.unwrap();
        Self { running, engine, actions, alice, room, folder }
    }

    /// Stops the server and starts it again; so many steps later its disk is full.
    async fn restarted_for(self, mut steps: usize) -> Self {
        let Self { running, engine, actions, alice, room, folder } = self;
        drop(actions);
        running.stop().await.unwrap();
        loop {
            full_after(&engine, steps);
            if let Ok((running, actions)) = start(&folder, &engine).await {
                return Self { running, engine, actions, alice, room, folder };
            }
            // What the stop had left over took all of them.
            steps += 1;
        }
    }

    pub(crate) async fn send(&self, id: &str) -> Result<Sent, ActionError> {
        send(&self.actions, &self.alice, &self.room, id).await
    }

    /// The transaction ids of the messages in the room, oldest first.
    async fn said(&self) -> Vec<String> {
        let page = timeline::page(&self.actions, &self.alice, &self.room, None, Direction::Up, 200).await.unwrap();
        page.events.into_iter().filter_map(|view| view.transaction_id).collect()
    }
}

async fn send(actions: &Actions, alice: &Caller, room: &str, id: &str) -> Result<Sent, ActionError> {
    let message = NewMessage {
        event_type: "m.room.message".to_owned(),
        content: json!({ "msgtype": "m.text", "body": id }),
        reply_to: None,
        transaction_id: Some(id.to_owned()),
        fingerprint: [0; 32],
    };
    messages::send(actions, alice, room, message).await
}

#[tokio::test]
async fn while_the_disk_is_full_a_message_is_refused_and_the_next_one_works() {
    let scene = Scene::new().await;
    scene.send("one").await.unwrap();
    scene.engine.fail_next(Fault::Full);
    assert_eq!(scene.send("two").await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(scene.said().await, ["one"]);
    scene.send("three").await.unwrap();
    scene.send("two").await.unwrap();
    assert_eq!(scene.said().await, ["one", "three", "two"]);
    let details = rooms::details(&scene.actions, &scene.alice, &scene.room).await.unwrap();
    assert_eq!(details.view.tip.messages, 3);
    scene.running.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_is_sent_once_however_often_it_is_tried() {
    for fault in [Fault::LostAfter, Fault::LostBefore] {
        let scene = Scene::new().await;
        scene.engine.fail_next(fault);
        let mut answer = scene.send("once").await;
        for _ in 0..5 {
            if answer.is_ok() {
                break;
            }
            answer = scene.send("once").await;
        }
        let sent = answer.unwrap();
        assert_eq!(scene.send("once").await.unwrap().event_id, sent.event_id);
        assert_eq!(scene.said().await, ["once"], "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_messages_at_once_on_a_failing_disk_exactly_the_acknowledged_ones_are_there() {
    let scene = Scene::new().await;
    for _ in 0..6 {
        scene.engine.spare_next();
        scene.engine.fail_next(Fault::Full);
        scene.engine.spare_next();
        scene.engine.fail_next(Fault::LostAfter);
    }
    let mut tasks = Vec::new();
    for number in 0..80 {
        let (actions, alice, room) = (scene.actions.clone(), scene.alice.clone(), scene.room.clone());
        tasks.push(tokio::spawn(async move {
            let id = format!("m{number}");
            send(&actions, &alice, &room, &id).await.map(|_| id)
        }));
    }
    let mut acknowledged = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(id) => acknowledged.push(id),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
        }
    }
    for number in 0..80 {
        let id = format!("m{number}");
        for _ in 0..40 {
            if send(&scene.actions, &scene.alice, &scene.room, &id).await.is_ok() {
                break;
            }
        }
    }
    let mut said = scene.said().await;
    assert!(acknowledged.iter().all(|id| said.contains(id)), "an acknowledged message is missing");
    said.sort();
    said.dedup();
    assert_eq!((said.len(), scene.said().await.len()), (80, 80), "each message once");
    let details = rooms::details(&scene.actions, &scene.alice, &scene.room).await.unwrap();
    assert_eq!((details.view.tip.messages, details.view.tip.heads.len()), (80, 1));
}

#[tokio::test]
async fn a_purge_goes_on_when_the_disk_has_room_again() {
    let scene = Scene::new().await;
    for number in 0..10 {
        scene.send(&format!("m{number}")).await.unwrap();
    }
    let admin = Caller::local(&scene.alice.user_id, true);
    // The purge itself is promised; then its steps meet one fault after the other.
    scene.engine.spare_next();
    for fault in [Fault::Full, Fault::LostAfter, Fault::LostBefore] {
        scene.engine.fail_next(fault);
        scene.engine.spare_next();
        scene.engine.spare_next();
    }
    let job = purge::start(&scene.actions, &admin, &scene.room).await.unwrap();
    let state = loop {
        let state = jobs::get(&scene.actions, &admin, &job).await.unwrap().job.state;
        if state.is_over() {
            break state;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(state, JobState::Done);
    let seen = rooms::details(&scene.actions, &scene.alice, &scene.room).await.unwrap_err();
    assert_eq!(seen.kind(), ErrorKind::RoomNotFound);
    scene.running.stop().await.unwrap();
}

#[tokio::test]
async fn a_purge_that_is_stopped_at_any_of_its_steps_goes_on_at_the_next_start() {
    let mut scene = Scene::new().await;
    // More events than one step removes.
    for number in 0..600 {
        scene.send(&format!("m{number}")).await.unwrap();
    }
    let admin = Caller::local(&scene.alice.user_id, true);
    full_after(&scene.engine, 1);
    let job = purge::start(&scene.actions, &admin, &scene.room).await.unwrap();
    let mut stops = 0;
    let state = loop {
        let state = jobs::get(&scene.actions, &admin, &job).await.unwrap().job.state;
        if state.is_over() {
            break state;
        }
        if scene.engine.decided() >= REFUSALS {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            continue;
        }
        // Whatever is left of the room can be looked at.
        if let Err(error) = purge::preview(&scene.actions, &admin, &scene.room).await {
            assert_eq!(error.kind(), ErrorKind::RoomNotFound, "after {stops} stops: {error}");
        }
        stops += 1;
        scene = scene.restarted_for(stops).await;
    };
    assert_eq!(state, JobState::Done, "after {stops} stops");
    assert!(stops > 5, "it was stopped {stops} times only");
    scene.engine.decide_nothing();
    let scene = scene.restarted().await;
    for seen in [
        rooms::details(&scene.actions, &scene.alice, &scene.room).await.map(drop),
        purge::preview(&scene.actions, &admin, &scene.room).await.map(drop),
    ] {
        assert_eq!(seen.unwrap_err().kind(), ErrorKind::RoomNotFound);
    }
    scene.running.stop().await.unwrap();
}

#[tokio::test]
async fn a_setting_that_was_not_written_is_not_taken_for_written_because_of_a_message_behind_it() {
    let scene = Scene::new().await;
    let limited = || async {
        let changes = Changes { max_members: Some(Some(7)), ..Changes::default() };
        settings::change(&scene.actions, &scene.alice, &scene.room, changes).await
    };
    let mut halt = scene.engine.halt_next();
    scene.engine.fail_next(Fault::Full);
    let behind = async {
        halt.came().await;
        let (actions, alice, room) = (scene.actions.clone(), scene.alice.clone(), scene.room.clone());
        let message = tokio::spawn(async move { send(&actions, &alice, &room, "one").await });
        tokio::task::yield_now().await;
        // Whoever has the lane next comes behind the message, which was handed over with the setting in mind.
        drop(scene.actions.room(scene.room.as_str().try_into().unwrap()).enter().await.unwrap());
        drop(halt);
        message.await.unwrap()
    };
    let (refused, sent) = tokio::join!(limited(), behind);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Busy);
    sent.unwrap();
    let details = rooms::details(&scene.actions, &scene.alice, &scene.room).await.unwrap();
    assert_eq!((details.view.settings.max_members, details.view.tip.messages), (None, 1));
    assert_eq!(limited().await.unwrap().view.settings.max_members, Some(7));
    let scene = scene.restarted().await;
    let details = rooms::details(&scene.actions, &scene.alice, &scene.room).await.unwrap();
    assert_eq!((details.view.settings.max_members, details.view.tip.messages), (Some(7), 1));
    scene.running.stop().await.unwrap();
}
