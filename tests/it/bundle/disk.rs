//! A disk that is full while a bundle comes in: a clear refusal, nothing of the room, nothing in the spool, and a later try gives the room.

use std::fs;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use yurt::{
    actions::{
        ActionError, Caller, Direction, ErrorKind, JobState,
        audit::Actor,
        bundle::{self, Answered, Content, Imported, Options, Outcome, Whose},
        jobs, purge, rooms, timeline,
    },
    storage::memory::Fault,
};

use super::{
    cli::home_with_room,
    forged::Forged,
    import::{BOUNDARY, form},
};
use crate::{
    faults::Scene,
    federation::servers::eventually,
    process::{Home, Peer, segment},
};

/// Writes that fail one after the other: more than are tried again.
const REFUSALS: usize = 200;
/// Writes before that, at most: more than an import of a small room takes.
const STEPS_MAX: usize = 400;

/// So many writes later the disk is full, until somebody makes room.
fn full_after(scene: &Scene, steps: usize) {
    scene.engine.decide_nothing();
    (0..steps).for_each(|_| scene.engine.spare_next());
    (0..REFUSALS).for_each(|_| scene.engine.fail_next(Fault::Full));
}

/// None: it was done, and could be told only when there was room again.
async fn imported(scene: &Scene, admin: &Caller, file: &Bytes) -> Result<Option<Imported>, ActionError> {
    let body = futures_util::stream::iter([Ok::<_, std::io::Error>(file.clone())]);
    let spooled = bundle::spool(&scene.actions, admin, body).await?;
    match bundle::import(&scene.actions, admin, spooled, Options::default()).await? {
        Answered::Done(imported) => Ok(Some(*imported)),
        Answered::Later(job_id) => {
            scene.engine.decide_nothing();
            let state = async || jobs::get(&scene.actions, admin, &job_id).await.unwrap().job.state;
            eventually("the job is over", async || state().await.is_over()).await;
            assert_eq!(state().await, JobState::Done);
            Ok(None)
        }
    }
}

/// The ids of the events of the room, oldest first.
async fn held(scene: &Scene) -> Vec<String> {
    let page = timeline::page(&scene.actions, &scene.alice, &scene.room, None, Direction::Up, 200).await.unwrap();
    page.events.into_iter().map(|view| view.event.event_id().to_string()).collect()
}

async fn purged(scene: &Scene, admin: &Caller) {
    let job = purge::start(&scene.actions, admin, &scene.room).await.unwrap();
    drop(job);
    let room_id = scene.room.as_str().try_into().unwrap();
    eventually("the room is purged", async || !scene.actions.is_purging(room_id)).await;
    eventually("its job is written down", async || scene.actions.jobs.running() == 0).await;
}

#[tokio::test]
async fn whenever_the_disk_is_full_while_a_room_is_built_nothing_is_there_and_a_later_try_gives_it() {
    let scene = Scene::new().await;
    for number in 0..20 {
        scene.send(&number.to_string()).await.unwrap();
    }
    let (held, admin) = (held(&scene).await, Caller::local(&scene.alice.user_id, true));
    let content = Content { media: true, personal: Whose::Everybodys };
    let export =
        bundle::export_as_admin(&scene.actions, &admin, Actor::CommandLine, &scene.room, content).await.unwrap();
    let pieces: Vec<Bytes> = export.into_stream().try_collect().await.unwrap();
    let file: Bytes = pieces.concat().into();
    let spool = scene.folder.path().join("tenants/main/spool");
    let left = || fs::read_dir(&spool).map_or(0, Iterator::count);
    let mut refused = 0;
    for steps in 0..STEPS_MAX {
        purged(&scene, &admin).await;
        full_after(&scene, steps);
        let outcome = imported(&scene, &admin, &file).await;
        if let Err(error) = &outcome {
            refused += 1;
            assert_eq!(error.kind(), ErrorKind::ImportRefused, "after {steps} writes: {error}");
            assert!(error.to_string().contains("no room"), "{error}");
            let found = rooms::details(&scene.actions, &scene.alice, &scene.room).await;
            assert_eq!(found.err().unwrap().kind(), ErrorKind::RoomNotFound, "after {steps} writes");
            assert_eq!(left(), 0, "after {steps} writes something lies in the spool");
        }
        scene.engine.decide_nothing();
        let again = imported(&scene, &admin, &file).await.unwrap().unwrap();
        let expected = if outcome.is_ok() { Outcome::Merged } else { Outcome::Restored };
        assert_eq!((again.outcome, again.events.rejected.len()), (expected, 0), "after {steps} writes");
        assert_eq!(self::held(&scene).await, held, "after {steps} writes");
        if outcome.is_ok() {
            break;
        }
    }
    assert!((2..STEPS_MAX).contains(&refused), "{refused} tries were refused");
}

async fn upload(peer: &Peer, file: &Bytes) -> (u16, Value) {
    let url = format!("{}/v1/rooms/import", peer.api);
    let request = peer.http.post(url).bearer_auth(&peer.token).body(form(file, json!({})));
    let request = request.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

fn spooled(home: &Home) -> usize {
    fs::read_dir(home.path().join("data/tenants/main/spool")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_or_a_medium_for_which_the_disk_has_no_room_is_refused_and_a_later_try_gives_the_room() {
    let (home, room, token) = home_with_room(3).await;
    let server = home.serve();
    let peer = Peer::new(&server, &token);
    // It is small as long as it is deflated.
    let medium = (0..6 * 1024 * 1024_u32).map(|number| u8::try_from((number % 251) ^ (number >> 15)).unwrap());
    let medium: Vec<u8> = medium.collect();
    let request = peer.http.post(format!("{}/v1/media", peer.api)).bearer_auth(&token).body(medium);
    let kept: Value = request.send().await.unwrap().json_of().await;
    let content = json!({ "msgtype": "m.file", "body": "felt", "url": kept["data"]["mxc"] });
    let message = json!({ "type": "m.room.message", "content": content });
    let path = format!("/v1/rooms/{}", segment(&room));
    assert_eq!(peer.post(&format!("{path}/messages"), &message).await.unwrap().0, 201);
    server.stop(Signal::TERM);
    home.succeed(&["bundle", "export", &room, "--out", "room.zip"]);
    let whole: Bytes = fs::read(home.path().join("room.zip")).unwrap().into();
    let deflated = Forged::of(&whole).file();
    assert!(deflated.len() < 1024 * 1024, "{} bytes", deflated.len());
    fs::remove_dir_all(home.path().join("data/tenants/main/media")).unwrap();
    // Nearly all of the upload fits; of the deflated one all does, and its medium does not.
    for (file, bytes_max) in [(&whole, whole.len() - 1_000), (&deflated, 3 * 1024 * 1024)] {
        let server = home.serve_boundable();
        let peer = Peer::new(&server, &token);
        super::crash::purge(&peer, &room).await;
        server.bound_files(Some(u64::try_from(bytes_max).unwrap()));
        let (status, refused) = upload(&peer, file).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &json!("SW_ROOM_IMPORT_REFUSED")), "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains("no room"), "{refused}");
        assert_eq!(peer.get(&path).await.unwrap().0, 404);
        eventually("the spool is empty", async || spooled(&home) == 0).await;
        server.bound_files(None);
        let (status, taken) = upload(&peer, file).await;
        assert_eq!((status, &taken["data"]["outcome"]), (201, &json!("restored")), "{taken}");
        assert_eq!(taken["data"]["media"]["stored"], 1);
        assert_eq!(peer.get(&path).await.unwrap().0, 200);
        server.stop(Signal::TERM);
        fs::remove_dir_all(home.path().join("data/tenants/main/media")).unwrap();
    }
}

trait JsonOf {
    async fn json_of(self) -> Value;
}

impl JsonOf for reqwest::Response {
    async fn json_of(self) -> Value {
        serde_json::from_slice(&self.bytes().await.unwrap()).unwrap()
    }
}
