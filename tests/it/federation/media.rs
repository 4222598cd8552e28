//! Media of other servers: whom they are shown to, how they are fetched and kept. And ours, as peers get them.

use std::sync::Arc;

use ::federation::{Refusal, local::Directory};
use futures_util::{StreamExt as _, future::join_all};
use ruma::OwnedServerName;
use serde_json::json;
use tokio::sync::Notify;
use yurt::{
    actions::{
        ErrorKind,
        media::{self, Found},
        members, messages,
        peers::PeerError,
        profile::{self, NewProfile},
        quotas,
    },
    storage::room_settings::FederationMode,
};

use super::{
    Scene, message, object,
    servers::{eventually, together},
    world::File,
};
use crate::{
    client::{encoded, png, text},
    federation::Draft,
};

const FELT: &[u8] = b"felt, wood and rope";

fn image(url: &str) -> Draft {
    Draft::message("m.room.message", object(json!({ "msgtype": "m.image", "body": "a picture", "url": url })))
}

fn file(pieces: &[&[u8]]) -> File {
    File {
        content_type: Some("text/plain".to_owned()),
        name: Some("felt.txt".to_owned()),
        pieces: pieces.iter().map(|piece| piece.to_vec()).collect(),
        ..File::default()
    }
}

impl Scene {
    fn has_file(&self, id: &str, file: File) {
        self.world.lock().files.insert(id.to_owned(), file);
    }

    async fn finds(&self, id: &str) -> Result<Found, ErrorKind> {
        self.finds_as(&self.alice, id).await
    }

    async fn finds_as(&self, caller: &yurt::actions::Caller, id: &str) -> Result<Found, ErrorKind> {
        media::find(&self.actions, caller, Some("peer.example"), id).await.map_err(|error| error.kind())
    }

    async fn bytes(&self, found: &Found) -> Vec<u8> {
        let read = media::read(&self.actions, found, 0..found.info.size).await.unwrap();
        let parts: Vec<_> = read.collect().await;
        parts.into_iter().flat_map(|part| part.unwrap().to_vec()).collect()
    }

    /// Rita shows a file of her server.
    async fn is_shown(&self, id: &str) -> Arc<rules::event::Event> {
        let shown = self.make(&self.rita, &self.heads().await, image(&format!("mxc://peer.example/{id}")));
        assert_eq!(self.receive(&[&shown]).await, [Ok(())]);
        shown
    }

    /// How many files of other servers are in the data folder, whole or not.
    fn files_kept(&self) -> usize {
        let written = self.server.as_ref().unwrap().written();
        let is_one = |path: &std::path::Path| {
            path.components().any(|part| ["cached", "uploads"].iter().any(|name| part.as_os_str() == *name))
        };
        written.iter().filter(|(path, _)| is_one(path)).count()
    }
}

#[tokio::test]
async fn a_file_that_an_event_names_is_fetched_once_for_the_members_of_its_room() {
    let mut scene = Scene::new("12").await;
    scene.has_file("abc-_1", file(&[FELT, FELT]));
    assert_eq!(scene.finds("abc-_1").await.unwrap_err(), ErrorKind::MediaNotFound, "nobody has named it");
    assert_eq!(scene.asked("medium"), 0);
    scene.is_shown("abc-_1").await;
    let stranger = super::engines::caller(&scene.actions, "stranger").await;
    assert_eq!(scene.finds_as(&stranger, "abc-_1").await.unwrap_err(), ErrorKind::MediaNotFound);
    let found = scene.finds("abc-_1").await.unwrap();
    assert_eq!((found.info.content_type.as_str(), found.info.name.as_deref()), ("text/plain", Some("felt.txt")));
    assert_eq!(scene.bytes(&found).await, [FELT, FELT].concat());
    scene.restart().await;
    assert_eq!(scene.bytes(&scene.finds("abc-_1").await.unwrap()).await, [FELT, FELT].concat());
    assert_eq!(scene.asked("medium"), 1);
    scene.server.as_mut().unwrap().stop().await;
    assert_eq!(scene.files_kept(), 1);
}

#[tokio::test]
async fn what_the_disk_has_lost_is_fetched_again() {
    let scene = Scene::new("12").await;
    scene.has_file("abc", file(&[FELT]));
    scene.is_shown("abc").await;
    let found = scene.finds("abc").await.unwrap();
    let mut folders = vec![scene.server.as_ref().unwrap().folder().to_owned()];
    while let Some(folder) = folders.pop() {
        if folder.ends_with("cached") {
            std::fs::remove_dir_all(folder).unwrap();
        } else {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            folders.extend(entries.filter(|path| path.is_dir()));
        }
    }
    let read = media::read(&scene.actions, &found, 0..found.info.size).await;
    assert_eq!(read.err().unwrap().kind(), ErrorKind::Busy);
    let found = scene.finds("abc").await.unwrap();
    assert_eq!(scene.bytes(&found).await, FELT);
    assert_eq!(scene.asked("medium"), 2);
}

#[tokio::test]
async fn readers_who_ask_together_share_one_fetch() {
    let scene = Scene::new("12").await;
    let gate = Arc::new(Notify::new());
    scene.has_file("abc", File { gate: Some(Arc::clone(&gate)), ..file(&[FELT]) });
    scene.is_shown("abc").await;
    let reading = join_all((0..20).map(|_| scene.finds("abc")));
    let opening = async {
        eventually("the file is asked for", async || scene.asked("medium") > 0).await;
        gate.notify_one();
    };
    let (found, ()) = tokio::join!(reading, opening);
    assert!(found.iter().all(Result::is_ok));
    assert_eq!(scene.asked("medium"), 1);
}

#[tokio::test]
async fn a_fetch_goes_on_when_its_reader_is_gone() {
    let scene = Scene::new("12").await;
    let gate = Arc::new(Notify::new());
    scene.has_file("abc", File { gate: Some(Arc::clone(&gate)), ..file(&[FELT]) });
    scene.is_shown("abc").await;
    {
        let reading = scene.finds("abc");
        tokio::pin!(reading);
        let asked = eventually("the file is asked for", async || scene.asked("medium") > 0);
        tokio::select! {
            _ = &mut reading => panic!("nothing has come yet"),
            () = asked => {}
        }
    }
    gate.notify_one();
    assert!(scene.finds("abc").await.is_ok());
    assert_eq!(scene.asked("medium"), 1);
}

/// Hard case 58.
#[tokio::test]
async fn what_breaks_off_or_is_too_large_leaves_no_file() {
    let mut scene = Scene::new("12").await;
    let broken = |error| File { breaks: Some(error), ..file(&[FELT]) };
    let much = vec![0_u8; 1024 * 1024];
    for (id, file, kind) in [
        ("broken", broken(PeerError::Unreachable), ErrorKind::PeerUnreachable),
        ("large", file(&[much.as_slice(); 101]), ErrorKind::PeerRefused),
        ("larger", broken(PeerError::Unreadable), ErrorKind::PeerRefused),
    ] {
        scene.has_file(id, file);
        scene.is_shown(id).await;
        assert_eq!(scene.finds(id).await.unwrap_err(), kind, "{id}");
    }
    scene.server.as_mut().unwrap().stop().await;
    assert_eq!(scene.files_kept(), 0);
}

#[tokio::test]
async fn a_server_that_does_not_have_it_is_not_asked_again_at_once() {
    let scene = Scene::new("12").await;
    scene.is_shown("abc").await;
    for _ in 0..3 {
        assert_eq!(scene.finds("abc").await.unwrap_err(), ErrorKind::MediaNotFound);
    }
    assert_eq!(scene.asked("medium"), 1);
    scene.advance(std::time::Duration::from_secs(6 * 60));
    scene.has_file("abc", file(&[FELT]));
    assert!(scene.finds("abc").await.is_ok());
}

/// Hard case 58.
#[tokio::test]
async fn an_account_fetches_no_more_than_its_share() {
    let scene = Scene::new("12").await;
    for number in 0..quotas::CALLS_TO_SERVER_MAX {
        let id = format!("missing{number}");
        if number % 20 == 0 {
            let urls: Vec<String> =
                (0..20).map(|more| format!("mxc://peer.example/missing{}", number + more)).collect();
            let many = Draft::message("m.room.message", object(json!({ "msgtype": "m.text", "body": urls.join(" ") })));
            let many = scene.make(&scene.rita, &scene.heads().await, many);
            assert_eq!(scene.receive(&[&many]).await, [Ok(())]);
        }
        assert_eq!(scene.finds(&id).await.unwrap_err(), ErrorKind::MediaNotFound);
    }
    scene.is_shown("one-more").await;
    scene.has_file("one-more", file(&[FELT]));
    assert_eq!(scene.finds("one-more").await.unwrap_err(), ErrorKind::RateLimited);
    scene.advance(std::time::Duration::from_millis(quotas::WINDOW_MS));
    assert!(scene.finds("one-more").await.is_ok());
}

#[tokio::test]
async fn a_redacted_event_names_nothing_any_more() {
    let scene = Scene::new("12").await;
    scene.has_file("abc", file(&[FELT]));
    let shown = scene.is_shown("abc").await;
    assert!(scene.finds("abc").await.is_ok());
    let redaction = object(json!({ "redacts": shown.event_id() }));
    let redaction = Draft::message("m.room.redaction", redaction);
    let redaction = scene.make(&scene.rita, &scene.heads().await, redaction);
    assert_eq!(scene.receive(&[&redaction]).await, [Ok(())]);
    assert_eq!(scene.finds("abc").await.unwrap_err(), ErrorKind::MediaNotFound);
}

#[tokio::test]
async fn who_has_left_reads_nothing_that_comes_later() {
    let scene = Scene::new("12").await;
    scene.has_file("abc", file(&[FELT]));
    scene.is_shown("abc").await;
    let bob = super::engines::caller(&scene.actions, "bob").await;
    members::join(&scene.actions, &bob, scene.room_id.as_str(), &[], None).await.unwrap();
    assert!(scene.finds_as(&bob, "abc").await.is_ok());
    members::leave(&scene.actions, &bob, scene.room_id.as_str()).await.unwrap();
    assert_eq!(scene.finds_as(&bob, "abc").await.unwrap_err(), ErrorKind::MediaNotFound);
}

/// Hard case 58.
#[tokio::test]
async fn what_a_peer_calls_a_file_breaks_nothing() {
    let scene = Scene::new("12").await;
    let odd = File {
        content_type: Some("text/html\r\nX: y".to_owned()),
        name: Some("../../etc/passwd".to_owned()),
        ..file(&[FELT])
    };
    scene.has_file("abc", odd);
    scene.is_shown("abc").await;
    let found = scene.finds("abc").await.unwrap();
    assert_eq!(
        (found.info.content_type.as_str(), found.info.name.as_deref()),
        (media::CONTENT_TYPE_DEFAULT, Some("passwd"))
    );
    for id in ["..", "a%2fb", "a/b", "", "ä"] {
        assert_eq!(scene.finds(id).await.unwrap_err(), ErrorKind::MediaNotFound, "{id}");
    }
    let text = scene.make(&scene.rita, &scene.heads().await, message("mxc://peer.example/../../x mxc:///a mxc://x"));
    assert_eq!(scene.receive(&[&text]).await, [Ok(())]);
}

impl Scene {
    /// Alice uploads something.
    async fn uploads(&self, bytes: &'static [u8]) -> media::NewMedium {
        let body = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(bytes))]);
        media::upload(&self.actions, &self.alice, body, Some("felt.txt"), Some("text/plain")).await.unwrap()
    }

    /// How many bytes a server gets of a medium of ours.
    async fn gives(&self, origin: &str, medium: &media::NewMedium) -> Result<u64, Refusal> {
        let origin = OwnedServerName::try_from(origin).unwrap();
        let given = Directory::medium(&self.actions, &origin, &medium.sha256).await;
        given.map(|given| given.bytes)
    }

    async fn shows(&self, url: &str) -> ruma::OwnedEventId {
        let message = messages::NewMessage {
            event_type: "m.room.message".to_owned(),
            content: json!({ "msgtype": "m.image", "body": "a picture", "url": url }),
            reply_to: None,
            transaction_id: None,
            fingerprint: [0; 32],
        };
        messages::send(&self.actions, &self.alice, self.room_id.as_str(), message).await.unwrap().event_id
    }
}

#[tokio::test]
async fn a_peer_gets_a_medium_of_ours_that_counts_in_a_room_of_its_people_or_is_somebodys_picture() {
    let scene = Scene::new("12").await;
    let (felt, wood, face) = (scene.uploads(FELT).await, scene.uploads(b"wood").await, scene.uploads(b"a face").await);
    let all = Ok(u64::try_from(FELT.len()).unwrap());
    assert_eq!(scene.gives("peer.example", &felt).await, Err(Refusal::NotFound), "it is only uploaded");
    let shown = scene.shows(&felt.mxc).await;
    assert_eq!(scene.gives("peer.example", &felt).await, all);
    assert_eq!(scene.gives("elsewhere.example", &felt).await, Err(Refusal::NotFound));
    // An event of a peer opens nothing of ours.
    scene.learn_ours().await;
    let named = scene.make(&scene.rita, &scene.heads().await, image(&wood.mxc));
    assert_eq!(scene.receive(&[&named]).await, [Ok(())]);
    assert_eq!(scene.gives("peer.example", &wood).await, Err(Refusal::NotFound));
    members::take_measure(
        &scene.actions,
        &scene.alice,
        scene.room_id.as_str(),
        members::Measure::Kick,
        &scene.sam,
        None,
    )
    .await
    .unwrap();
    assert_eq!(scene.gives("other.example", &felt).await, Err(Refusal::NotFound), "nobody of it is there any more");
    messages::redact(&scene.actions, &scene.alice, scene.room_id.as_str(), shown.as_str(), None, None).await.unwrap();
    assert_eq!(scene.gives("peer.example", &felt).await, Err(Refusal::NotFound));
    let profile = NewProfile { avatar_url: Some(Some(face.mxc.clone())), ..NewProfile::default() };
    profile::set(&scene.actions, &scene.alice, profile).await.unwrap();
    assert_eq!(scene.gives("elsewhere.example", &face).await, Ok(6));
}

/// The path under which the other server has a medium.
fn path_of(mxc: &serde_json::Value) -> String {
    format!("/v1/media/{}", text(mxc).strip_prefix("mxc://").unwrap())
}

#[tokio::test]
async fn files_and_pictures_travel_between_servers() {
    let (_authority, mut ours, mut theirs, alice, bob, room) = together().await;
    let carol = theirs.account("carol").await;
    let caller = alice.with_header("content-type", "application/pdf");
    let felt = caller.send("POST", "/v1/media?name=felt.pdf", Some(FELT.to_vec())).await.created();
    let unseen = alice.uploads(b"never shown", "text/plain").await;
    let later = alice.uploads(b"too late", "text/plain").await;
    for medium in [&felt, &later] {
        alice.shows(&room, &text(&medium["mxc"])).await;
    }
    alice.sets_avatar(&room, png(64, 48)).await.ok();
    let face = alice.uploads(&png(8, 8), "image/png").await;
    alice.put("/v1/me/profile", json!({ "avatar_url": face["mxc"] })).await.ok();
    eventually("all of it has come", async || {
        let here = format!("/v1/rooms/{}", encoded(&room));
        let member = bob.get(&format!("{here}/state/m.room.member/{}", encoded(&alice.id))).await;
        member.status == 200 && member.ok()["content"]["avatar_url"] == face["mxc"]
    })
    .await;

    let got = bob.get(&path_of(&felt["mxc"])).await.expect_status(200);
    assert_eq!(got.body, FELT);
    assert_eq!(got.headers["content-type"], "application/octet-stream", "what a peer says it is could run");
    assert_eq!(got.headers["content-disposition"], "attachment; filename*=UTF-8''felt.pdf");
    assert_eq!(bob.get(&path_of(&felt["mxc"])).await.expect_status(200).body, FELT, "it is kept");
    let part = bob.with_header("range", "bytes=6-9").get(&path_of(&felt["mxc"])).await.expect_status(206);
    assert_eq!(part.body, &FELT[6..10]);
    assert_eq!(bob.get(&path_of(&face["mxc"])).await.expect_status(200).body, png(8, 8));
    let whole = bob.get(&format!("/v1/rooms/{}/avatar", encoded(&room))).await.expect_status(200);
    assert_eq!(whole.body, png(64, 48));
    let small = bob.get(&format!("/v1/rooms/{}/avatar?size=32", encoded(&room))).await.expect_status(200);
    assert!(small.headers["content-type"].starts_with("image/") && small.body != whole.body);
    bob.get(&path_of(&unseen["mxc"])).await.refused(404, "SW_MEDIA_NOT_FOUND");
    carol.get(&path_of(&felt["mxc"])).await.refused(404, "SW_MEDIA_NOT_FOUND");

    ours.stop().await;
    assert_eq!(bob.get(&path_of(&felt["mxc"])).await.expect_status(200).body, FELT, "it is kept");
    bob.get(&path_of(&later["mxc"])).await.refused(502, "SW_FED_PEER_UNREACHABLE");
    theirs.stop().await;
}

#[tokio::test]
async fn a_room_that_is_switched_off_opens_no_medium_until_it_is_on_again() {
    let scene = Scene::new("12").await;
    let felt = scene.uploads(FELT).await;
    scene.shows(&felt.mxc).await;
    let all = Ok(u64::try_from(FELT.len()).unwrap());
    for (mode, given) in [
        (FederationMode::Off, Err(Refusal::NotFound)),
        (FederationMode::Listed(vec!["other.example".try_into().unwrap()]), Err(Refusal::NotFound)),
        (FederationMode::Open, all.clone()),
    ] {
        scene.switches(mode).await;
        assert_eq!(scene.gives("peer.example", &felt).await, given);
    }
}
