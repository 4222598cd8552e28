//! Media: kept once, read by those whom the contract names, never served as something that runs.

use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::MISSING_ROOM;
use crate::{
    client::{Answer, Caller, SERVER_NAME, Setup, TestServer, encoded, png, server, server_with, text},
    process::{Home, Peer, Server},
};

const FELT: &[u8] = b"felt, wood and rope";

async fn reads(caller: &Caller, medium: &Value) -> Answer {
    caller.get(&format!("/v1/media/{}", text(&medium["sha256"]))).await
}

#[track_caller]
fn check_bytes(answer: Answer, bytes: &[u8]) {
    assert_eq!(answer.expect_status(200).body, bytes);
}

#[track_caller]
fn check_hidden(answer: Answer) {
    answer.refused(404, "SW_MEDIA_NOT_FOUND");
}

/// The files of the media of a stopped server.
fn files(server: &TestServer) -> Vec<PathBuf> {
    let all = server.written().into_iter().map(|(path, _)| path);
    all.filter(|path| path.components().any(|part| part.as_os_str() == "media")).collect()
}

#[tokio::test]
async fn an_upload_says_what_it_became_and_comes_back_to_its_uploader() {
    let server = server().await;
    let alice = server.account("alice").await;
    let hash: String = Sha256::digest(FELT).iter().map(|byte| format!("{byte:02x}")).collect();
    let caller = alice.with_header("content-type", "text/plain; charset=utf-8");
    let answer = caller.send("POST", "/v1/media?name=felt.txt", Some(FELT.to_vec())).await.created();
    let expected = json!({
        "sha256": hash, "mxc": format!("mxc://{SERVER_NAME}/{hash}"), "size": FELT.len(),
        "content_type": "text/plain; charset=utf-8", "name": "felt.txt",
    });
    assert_eq!(answer, expected);
    let back = reads(&alice, &answer).await.expect_status(200);
    assert_eq!(back.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(back.headers["content-disposition"], "inline; filename*=UTF-8''felt.txt");
    assert_eq!(back.headers["content-length"], FELT.len().to_string());
    check_bytes(back, FELT);
    check_bytes(alice.get(&format!("/v1/media/{SERVER_NAME}/{hash}")).await, FELT);
    let nothing = alice.post_nothing("/v1/media").await.created();
    assert_eq!((&nothing["size"], &nothing["name"]), (&json!(0), &json!(null)));
    assert_eq!(nothing["content_type"], "application/octet-stream");
    check_bytes(reads(&alice, &nothing).await, b"");
}

#[tokio::test]
async fn what_one_may_not_read_is_what_does_not_exist() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let medium = alice.uploads(FELT, "text/plain").await;
    let hidden = reads(&bob, &medium).await;
    let hash = text(&medium["sha256"]);
    for path in [
        format!("/v1/media/{}", "0".repeat(64)),
        "/v1/media/x".to_owned(),
        format!("/v1/media/{}", hash.to_uppercase()),
        format!("/v1/media/{hash}0"),
        format!("/v1/media/{SERVER_NAME}/{hash}"),
        format!("/v1/media/elsewhere.example/{hash}"),
        "/v1/media/%ff".to_owned(),
        "/v1/media/..%2f..%2fsigning.key".to_owned(),
    ] {
        let missing = server.raw_get(&bob, &path).await;
        assert_eq!(missing.body, hidden.body, "{path}");
        check_hidden(missing);
    }
    check_hidden(hidden);
    check_hidden(alice.get(&format!("/v1/media/elsewhere.example/{hash}")).await);
    server.nameless().get(&format!("/v1/media/{hash}")).await.refused(401, "SW_AUTH_INVALID_TOKEN");
}

#[tokio::test]
async fn the_same_content_is_one_file_with_each_uploaders_name_and_type() {
    let mut server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let room = alice.group_with("Tents", &[&bob, &carol]).await;
    let medium = alice.uploads(FELT, "application/pdf").await;
    let bobs = bob.with_header("content-type", "text/csv");
    let again = bobs.send("POST", "/v1/media?name=b.csv", Some(FELT.to_vec())).await.created();
    assert_eq!((&again["sha256"], &again["content_type"]), (&medium["sha256"], &json!("text/csv")));
    alice.shows(&room, &text(&medium["mxc"])).await;
    for (caller, content_type, disposition) in [
        (&alice, "application/pdf", "attachment"),
        (&bob, "text/csv", "attachment; filename*=UTF-8''b.csv"),
        (&carol, "application/pdf", "attachment"),
    ] {
        let answer = reads(caller, &medium).await.expect_status(200);
        assert_eq!(answer.headers["content-type"], content_type);
        assert_eq!(answer.headers["content-disposition"], disposition);
    }
    let renamed = alice.with_header("content-type", "application/zip");
    renamed.send("POST", "/v1/media?name=a.zip", Some(FELT.to_vec())).await.created();
    assert_eq!(reads(&alice, &medium).await.headers["content-type"], "application/zip");
    assert_eq!(reads(&carol, &medium).await.headers["content-type"], "application/pdf", "as it was shown");
    server.stop().await;
    assert_eq!(files(&server).len(), 1);
}

#[tokio::test]
async fn members_read_what_an_event_of_the_room_names_and_nobody_else() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (invited, former, stranger) =
        (server.account("invited").await, server.account("former").await, server.account("stranger").await);
    let room = alice.group_with("Tents", &[&bob, &former]).await;
    alice.does("invite", &room, &invited).await.ok();
    let medium = alice.uploads(FELT, "text/plain").await;
    check_hidden(reads(&bob, &medium).await);
    alice.shows(&room, &text(&medium["mxc"])).await;
    check_bytes(reads(&bob, &medium).await, FELT);
    check_bytes(reads(&former, &medium).await, FELT);
    former.leaves(&room).await.ok();
    for caller in [&invited, &former, &stranger] {
        check_hidden(reads(caller, &medium).await);
    }
    invited.joins(&room).await.ok();
    check_bytes(reads(&invited, &medium).await, FELT);
    alice.does("kick", &room, &invited).await.ok();
    check_hidden(reads(&invited, &medium).await);
}

#[tokio::test]
async fn a_medium_may_be_named_anywhere_in_an_event() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let path = |room: &str| format!("/v1/rooms/{room}/messages");
    let contents = |mxc: &str| {
        [
            json!({"type": "m.room.message", "content": {"msgtype": "m.file", "body": "f", "file": {"url": mxc}}}),
            json!({"type": "m.room.message", "content": {"msgtype": "m.text", "body": "f", "formatted_body": format!("<img src=\"{mxc}\">")}}),
            json!({"type": "com.example.any", "content": {"deep": [{"list": ["a", mxc]}]}}),
            json!({"type": "m.room.encrypted", "content": {"algorithm": "x", "ciphertext": "y", "media": [mxc]}}),
        ]
    };
    for number in 0..4_u8 {
        let room = alice.group_with("Tents", &[&bob]).await;
        let medium = alice.uploads(&[number], "text/plain").await;
        let message = contents(&text(&medium["mxc"]))[usize::from(number)].clone();
        alice.post(&path(&room), message).await.created();
        check_bytes(reads(&bob, &medium).await, &[number]);
    }
    let room = alice.group_with("Tents", &[&bob]).await;
    let (state, plain) = (alice.uploads(b"state", "text/plain").await, alice.uploads(b"plain", "text/plain").await);
    let any = format!("/v1/rooms/{room}/state/com.example.any");
    alice.put(&any, json!({"picture": state["mxc"]})).await.created();
    alice.put(&any, json!({"picture": "none"})).await.created();
    check_bytes(reads(&bob, &state).await, b"state");
    for near in [format!("{}0", text(&plain["mxc"])), text(&plain["mxc"]).replace("mxc", "mxd"), text(&plain["sha256"])]
    {
        alice.says(&room, &near).await;
    }
    check_hidden(reads(&bob, &plain).await);
    let mut all = Vec::new();
    for number in 0..21_u8 {
        all.push(alice.uploads(&[number, number], "text/plain").await);
    }
    let urls: Vec<&Value> = all.iter().map(|medium| &medium["mxc"]).collect();
    alice.post(&path(&room), json!({"type": "com.example.any", "content": {"urls": urls}})).await.created();
    for medium in &all[..20] {
        reads(&bob, medium).await.expect_status(200);
    }
    check_hidden(reads(&bob, &all[20]).await);
}

#[tokio::test]
async fn a_reference_counts_only_if_its_sender_could_read_the_medium() {
    let server = server().await;
    let (alice, mallory, bob) =
        (server.account("alice").await, server.account("mallory").await, server.account("bob").await);
    let medium = alice.uploads(FELT, "text/plain").await;
    let mxc = text(&medium["mxc"]);
    let early = mallory.group_with("Early", &[&bob, &alice]).await;
    mallory.shows(&early, &mxc).await;
    check_hidden(reads(&mallory, &medium).await);
    check_hidden(reads(&bob, &medium).await);
    let shared = alice.group_with("Shared", &[&mallory]).await;
    alice.shows(&shared, &mxc).await;
    check_bytes(reads(&mallory, &medium).await, FELT);
    check_hidden(reads(&bob, &medium).await);
    let later = mallory.group_with("Later", &[&bob]).await;
    mallory.shows(&later, &mxc).await;
    check_bytes(reads(&bob, &medium).await, FELT);
    mallory.leaves(&shared).await.ok();
    check_bytes(reads(&bob, &medium).await, FELT);
}

#[tokio::test]
async fn who_has_left_can_no_longer_pass_a_medium_on() {
    let server = server().await;
    let (alice, bob, carol) =
        (server.account("alice").await, server.account("bob").await, server.account("carol").await);
    let medium = alice.uploads(FELT, "text/plain").await;
    let room = alice.group_with("Tents", &[&bob]).await;
    alice.shows(&room, &text(&medium["mxc"])).await;
    bob.leaves(&room).await.ok();
    let other = bob.group_with("Other", &[&carol]).await;
    bob.shows(&other, &text(&medium["mxc"])).await;
    check_hidden(reads(&carol, &medium).await);
    check_hidden(reads(&bob, &medium).await);
}

#[tokio::test]
async fn a_redacted_event_no_longer_refers() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let medium = alice.uploads(FELT, "text/plain").await;
    let mxc = text(&medium["mxc"]);
    let (first, second) = (alice.shows(&room, &mxc).await, alice.shows(&room, &mxc).await);
    let redact = |event: &str| format!("/v1/rooms/{room}/events/{event}/redact");
    alice.post_nothing(&redact(&first)).await.created();
    check_bytes(reads(&bob, &medium).await, FELT);
    alice.post_nothing(&redact(&second)).await.created();
    check_hidden(reads(&bob, &medium).await);
    check_bytes(reads(&alice, &medium).await, FELT);
}

#[tokio::test]
async fn the_present_picture_of_a_listed_room_is_for_every_account() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let (listed, private) = (alice.public("Open").await, alice.group("Closed").await);
    let (first, second) = (png(3, 3), png(4, 4));
    let url = |room: &Value| text(&room["avatar_url"]).trim_start_matches("mxc://").to_owned();
    let of = |url: &str| format!("/v1/media/{url}");
    let hidden = of(&url(&alice.sets_avatar(&private, png(5, 5)).await.ok()));
    check_hidden(bob.get(&hidden).await);
    let shown = of(&url(&alice.sets_avatar(&listed, first.clone()).await.ok()));
    check_bytes(bob.get(&shown).await, &first);
    server.nameless().get(&shown).await.refused(401, "SW_AUTH_INVALID_TOKEN");
    let next = of(&url(&alice.sets_avatar(&listed, second.clone()).await.ok()));
    check_bytes(bob.get(&next).await, &second);
    check_hidden(bob.get(&shown).await);
    let other = alice.uploads(FELT, "text/plain").await;
    alice.shows(&listed, &text(&other["mxc"])).await;
    check_hidden(reads(&bob, &other).await);
    alice.delete(&format!("/v1/rooms/{listed}/avatar")).await.ok();
    check_hidden(bob.get(&next).await);
}

#[tokio::test]
async fn nothing_that_could_run_is_served_as_what_it_is() {
    let server = server().await;
    let alice = server.account("alice").await;
    let page = b"<html><script>alert(1)</script></html>";
    for (given, served, disposition) in [
        ("text/html", "application/octet-stream", "attachment"),
        ("text/html; charset=utf-8", "application/octet-stream", "attachment"),
        ("image/svg+xml", "application/octet-stream", "attachment"),
        ("application/xhtml+xml", "application/octet-stream", "attachment"),
        ("text/javascript", "application/octet-stream", "attachment"),
        ("application/xml", "application/octet-stream", "attachment"),
        ("application/pdf", "application/pdf", "attachment"),
        ("text/plain; charset=utf-7", "text/plain; charset=utf-8", "inline"),
        ("image/png", "image/png", "inline"),
        ("video/mp4", "video/mp4", "inline"),
    ] {
        let answer = reads(&alice, &alice.uploads(page, given).await).await.expect_status(200);
        assert_eq!(answer.headers["content-type"], served, "{given}");
        assert_eq!(answer.headers["content-disposition"], disposition, "{given}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert!(answer.headers["content-security-policy"].contains("sandbox"));
        assert_eq!(answer.headers["cross-origin-resource-policy"], "same-site");
        assert!(answer.headers["cache-control"].starts_with("private"));
    }
}

#[tokio::test]
async fn parts_tags_and_heads_are_answered_as_the_protocol_has_them() {
    let server = server().await;
    let alice = server.account("alice").await;
    let medium = alice.uploads(FELT, "text/plain").await;
    let path = format!("/v1/media/{}", text(&medium["sha256"]));
    let tag = format!("\"{}\"", text(&medium["sha256"]));
    assert_eq!(reads(&alice, &medium).await.headers["etag"], tag);
    for (range, bytes, said) in [
        ("bytes=0-3", &FELT[..4], "bytes 0-3/19"),
        ("bytes=6-", &FELT[6..], "bytes 6-18/19"),
        ("bytes=-4", &FELT[15..], "bytes 15-18/19"),
    ] {
        let part = alice.with_header("range", range).get(&path).await.expect_status(206);
        assert_eq!((part.body.as_slice(), part.headers["content-range"].as_str()), (bytes, said), "{range}");
        assert_eq!(part.headers["content-length"], bytes.len().to_string());
    }
    check_bytes(alice.with_header("range", "bytes=0-1,3-4").get(&path).await, FELT);
    check_bytes(alice.with_header("range", "bytes=0-1").with_header("if-range", "\"other\"").get(&path).await, FELT);
    let behind = alice.with_header("range", "bytes=19-").get(&path).await;
    assert_eq!(behind.headers["content-range"], "bytes */19");
    behind.refused(416, "SW_REQUEST_INVALID");
    for known in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
        let answer = alice.with_header("if-none-match", &known).get(&path).await.expect_status(304);
        assert!(answer.body.is_empty());
    }
    check_bytes(alice.with_header("if-none-match", "\"x\"").get(&path).await, FELT);
    let head = alice.send("HEAD", &path, None).await.expect_status(200);
    assert_eq!((head.headers["content-length"].as_str(), head.body.len()), ("19", 0));
    // A range is for GET alone.
    for range in ["bytes=0-3", "bytes=19-"] {
        let head = alice.with_header("range", range).send("HEAD", &path, None).await.expect_status(200);
        assert_eq!((head.headers["content-length"].as_str(), head.headers.get("content-range")), ("19", None));
    }
    let bob = server.account("bob").await;
    check_hidden(bob.with_header("if-none-match", &tag).get(&path).await);
}

#[tokio::test]
async fn an_upload_holds_to_its_limit_by_the_byte_and_leaves_nothing_beyond_it() {
    let mut server = server_with(Setup { more: "[media]\nupload_bytes_max = 1000", ..Setup::default() }).await;
    let alice = server.account("alice").await;
    alice.uploads(&[7; 1_000], "text/plain").await;
    let caller = alice.with_header("content-type", "text/plain");
    caller.send("POST", "/v1/media", Some(vec![7; 1_001])).await.refused(413, "SW_CONTENT_TOO_LARGE");
    let token = alice.token.clone().expect("a token");
    let head = |length: &str| {
        format!("POST /v1/media HTTP/1.1\r\nHost: {SERVER_NAME}\r\nAuthorization: Bearer {token}\r\n{length}")
    };
    server.raw(&head("Content-Length: 1000000000"), b"").await.refused(413, "SW_CONTENT_TOO_LARGE");
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "7".repeat(1_001));
    server.raw(&head("Transfer-Encoding: chunked"), chunk.as_bytes()).await.refused(413, "SW_CONTENT_TOO_LARGE");
    server.stop().await;
    assert_eq!(files(&server).len(), 1);
}

#[tokio::test]
async fn a_file_may_be_larger_than_any_other_body() {
    let server = server().await;
    let alice = server.account("alice").await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let medium = alice.uploads(&large, "video/mp4").await;
    check_bytes(reads(&alice, &medium).await, &large);
    let part = alice.with_header("range", "bytes=1500000-1500009");
    let part = part.get(&format!("/v1/media/{}", text(&medium["sha256"]))).await.expect_status(206);
    assert_eq!(part.body, &large[1_500_000..1_500_010]);
}

#[tokio::test]
async fn names_and_types_that_are_none_are_refused_by_name() {
    let server = server().await;
    let alice = server.account("alice").await;
    for content_type in ["image", "a/b/c", "text/pl ain"] {
        let caller = alice.with_header("content-type", content_type);
        caller.send("POST", "/v1/media", Some(FELT.to_vec())).await.invalid("Content-Type");
    }
    let caller = alice.with_header("content-type", "text/plain");
    for name in ["a%00b".to_owned(), "a%0ab".to_owned(), "n".repeat(256)] {
        caller.send("POST", &format!("/v1/media?name={name}"), Some(FELT.to_vec())).await.invalid("name");
    }
    caller.send("POST", "/v1/media?title=x", Some(FELT.to_vec())).await.invalid("title");
    for (given, kept) in [("../../etc/passwd", json!("passwd")), ("C:\\a\\b.txt", json!("b.txt")), ("..", json!(null))]
    {
        let path = format!("/v1/media?name={}", encoded(given));
        assert_eq!(caller.send("POST", &path, Some(FELT.to_vec())).await.created()["name"], kept);
    }
}

#[tokio::test]
async fn a_key_of_a_request_is_ignored_on_uploads() {
    let server = server().await;
    let alice = server.account("alice").await.with_header("idempotency-key", "k");
    let (first, second) = (alice.uploads(b"one", "text/plain").await, alice.uploads(b"two", "text/plain").await);
    assert_ne!(first["sha256"], second["sha256"]);
    assert_eq!(alice.uploads(b"one", "text/plain").await, first);
}

#[tokio::test]
async fn media_and_references_outlast_a_restart() {
    let mut server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    let medium = alice.uploads(FELT, "text/plain").await;
    alice.shows(&room, &text(&medium["mxc"])).await;
    server.restart().await;
    check_bytes(reads(&bob, &medium).await, FELT);
}

#[tokio::test]
async fn an_acknowledged_upload_outlasts_a_kill_and_a_broken_one_leaves_nothing() {
    let home = Home::new("");
    home.succeed(&["account", "create", "alice"]);
    let token = home.succeed(&["account", "token", "alice"]);
    let server = home.serve();
    let answer = sends(&server, &token, FELT.into()).await.expect("an answer");
    let medium: Value = serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON");
    let broken = futures_util::stream::iter(
        (0..4).map(|_| Ok(vec![1; 300_000])).chain([Err(std::io::Error::other("the sender broke off"))]),
    );
    sends(&server, &token, reqwest::Body::wrap_stream(broken)).await.expect_err("no answer");
    server.kill();
    let uploads = home.path().join("data/tenants").join("main/media/uploads");
    let server = home.serve();
    let left = std::fs::read_dir(&uploads).map_or(0, |entries| entries.count());
    assert_eq!(left, 0, "{} is not empty", uploads.display());
    let path = format!("{}/v1/media/{}", server.api, text(&medium["data"]["sha256"]));
    let back = Peer::new(&server, &token).http.get(path).bearer_auth(&token);
    let back = back.send().await.expect("an answer").bytes().await.expect("a body");
    assert_eq!(back, FELT);
}

async fn sends(server: &Server, token: &str, body: reqwest::Body) -> reqwest::Result<reqwest::Response> {
    Peer::new(server, token).http.post(format!("{}/v1/media", server.api)).bearer_auth(token).body(body).send().await
}

#[tokio::test]
async fn a_room_is_made_only_with_a_picture_that_its_creator_may_read() {
    let server = server().await;
    let (alice, mallory) = (server.account("alice").await, server.account("mallory").await);
    let medium = alice.uploads(&png(2, 2), "image/png").await;
    let body = |url: &str| json!({"room_type": "public", "name": "Tents", "avatar_url": url});
    mallory.post("/v1/rooms", body(&text(&medium["mxc"]))).await.invalid("avatar_url");
    alice.post("/v1/rooms", body(&format!("mxc://{SERVER_NAME}/abc"))).await.invalid("avatar_url");
    let room = alice.post("/v1/rooms", body(&text(&medium["mxc"]))).await.created();
    assert_eq!(room["avatar_url"], medium["mxc"]);
    check_bytes(reads(&mallory, &medium).await, &png(2, 2));
    let other = mallory.uploads(FELT, "text/plain").await;
    let path = format!("/v1/rooms/{}/state/m.room.avatar", text(&room["id"]));
    alice.put(&path, json!({"url": other["mxc"]})).await.invalid("url");
    alice.put(&path, json!({"url": 1})).await.invalid("url");
    alice.put(&path, json!({"url": "mxc://elsewhere.example/abc"})).await.created();
    // It is one of another server, which is asked for it.
    alice.get(&format!("/v1/rooms/{}/avatar", text(&room["id"]))).await.refused(502, "SW_FED_PEER_UNREACHABLE");
    alice.get(&format!("/v1/rooms/{MISSING_ROOM}/avatar")).await.no_such_room();
}
