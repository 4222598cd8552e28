//! A client that dawdles, sends too much, or opens too many connections holds nobody up.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{answer, sent, until_closed};
use crate::client::{Answer, Caller, LOOK_PAUSE, LOOKS_MAX, Setup, TestServer, Way, png, server, server_with};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: yurt.test\r\n\r\n";

#[tokio::test]
async fn a_request_whose_head_does_not_end_is_given_up_however_it_trickles() {
    let server = server_with(Setup { limits: "enabled = false\nhead_timeout_s = 1", ..Setup::default() }).await;
    let mut silent = sent(&server, "").await;
    let mut begun = sent(&server, "GET /healthz HTTP/1.1\r\nX: ").await;
    let (mut reading, mut writing) = sent(&server, "GET /healthz HTTP/1.1\r\nX: ").await.into_split();
    let trickle = async {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut received = Vec::new();
    tokio::select! {
        _ = reading.read_to_end(&mut received) => {}
        () = trickle => {}
    }
    for stream in [&mut silent, &mut begun] {
        assert_eq!(until_closed(stream).await, "");
    }
}

#[tokio::test]
async fn the_pause_between_requests_may_be_longer_than_a_head() {
    let limits = "enabled = false\nhead_timeout_s = 1\nidle_timeout_s = 5";
    let server = server_with(Setup { limits, ..Setup::default() }).await;
    let (mut pausing, mut begun) = (sent(&server, HEALTH).await, sent(&server, HEALTH).await);
    answer(&mut pausing).await;
    answer(&mut begun).await;
    begun.write_all(b"GET /healthz").await.unwrap();
    let (mut one, mut other) = ([0; 256], [0; 256]);
    tokio::select! {
        biased;
        read = begun.read(&mut one) => assert_eq!(read.unwrap_or(0), 0, "what was begun and not ended is given up"),
        _ = pausing.read(&mut other) => panic!("the pause was taken for a head"),
    }
    pausing.write_all(HEALTH.as_bytes()).await.unwrap();
    assert!(answer(&mut pausing).await.starts_with("HTTP/1.1 200"));
    assert_eq!(until_closed(&mut pausing).await, "", "and the pause has an end");
}

#[tokio::test]
async fn a_huge_head_is_refused() {
    let server = server().await;
    let long = format!("GET /healthz HTTP/1.1\r\nHost: yurt.test\r\nX: {}\r\n\r\n", "x".repeat(17_000));
    let many = format!("GET /healthz HTTP/1.1\r\nHost: yurt.test\r\n{}\r\n", "X: x\r\n".repeat(101));
    for request in [long, many] {
        let mut stream = sent(&server, &request).await;
        assert!(until_closed(&mut stream).await.starts_with("HTTP/1.1 431"));
    }
    let large = format!("GET /healthz HTTP/1.1\r\nHost: yurt.test\r\nX: {}\r\n\r\n", "x".repeat(15_000));
    assert!(answer(&mut sent(&server, &large).await).await.starts_with("HTTP/1.1 200"));
}

const POST: &str =
    "POST /v1/auth/login HTTP/1.1\r\nHost: yurt.test\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";

#[tokio::test]
async fn a_body_that_stops_is_given_up_with_an_answer() {
    let server = server_with(Setup { limits: "enabled = false\nbody_timeout_s = 1", ..Setup::default() }).await;
    let answer = until_closed(&mut sent(&server, POST).await).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("SW_REQUEST_INVALID"), "{answer}");
}

#[tokio::test]
async fn an_upload_that_stops_is_given_up_with_the_same_answer() {
    let server = server_with(Setup { limits: "enabled = false\nbody_timeout_s = 1", ..Setup::default() }).await;
    let alice = server.account("alice").await;
    let token = alice.token.as_deref().expect("a token");
    let head = format!("POST /v1/media HTTP/1.1\r\nHost: yurt.test\r\nAuthorization: Bearer {token}\r\n");
    let answer = until_closed(&mut sent(&server, &format!("{head}Content-Length: 100\r\n\r\nfelt")).await).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("SW_REQUEST_INVALID"), "{answer}");
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up_with_an_answer() {
    let server = server_with(Setup { limits: "enabled = false\nrequest_timeout_s = 2", ..Setup::default() }).await;
    let (mut reading, mut writing) = sent(&server, POST).await.into_split();
    let trickle = async {
        loop {
            writing.write_all(b" ").await.ok();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut answer = [0; 12];
    tokio::select! {
        read = reading.read_exact(&mut answer) => { read.expect("an answer"); }
        () = trickle => {}
    }
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_answered_and_what_it_began_is_done() {
    let server = server_with(Setup { limits: "enabled = false\nrequest_timeout_s = 1", ..Setup::default() }).await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let lane = server.actions().await.room(room.as_str().try_into().unwrap()).enter().await.unwrap();
    let refused = alice.tries_to_say(&room, "hello").await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.refused(503, "SW_BUSY");
    drop(lane);
    // The next writer comes behind it.
    alice.says(&room, "world").await;
    assert_eq!(alice.hears(&room).await, ["hello", "world"]);
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_cut_off() {
    let server = server_with(Setup { limits: "enabled = false\nidle_timeout_s = 1", ..Setup::default() }).await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    for _ in 0..20 {
        alice.says(&room, &"x".repeat(50_000)).await;
    }
    let token = alice.token.as_deref().expect("a token");
    let page =
        format!("GET /v1/rooms/{room}/messages HTTP/1.1\r\nHost: yurt.test\r\nAuthorization: Bearer {token}\r\n\r\n");
    let mut stream = sent(&server, &page.repeat(40)).await;
    // Far more than the buffers between the two hold, and then nothing is taken: the end comes from the other side.
    tokio::time::timeout(super::WAIT_MAX, async {
        while stream.write_all(b"\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the server gives up");
}

#[tokio::test]
async fn beyond_its_bound_a_connection_is_closed_at_once_and_a_closed_one_makes_room() {
    let server = server_with(Setup { limits: "enabled = false\nconnections_max = 2", ..Setup::default() }).await;
    let (mut first, mut second) = (sent(&server, HEALTH).await, sent(&server, HEALTH).await);
    answer(&mut first).await;
    answer(&mut second).await;
    assert_eq!(until_closed(&mut sent(&server, "").await).await, "");
    drop(first);
    let mut answered = false;
    while !answered {
        let mut next = TcpStream::connect(server.address()).await.unwrap();
        next.write_all(HEALTH.as_bytes()).await.ok();
        answered = next.read(&mut [0; 64]).await.is_ok_and(|read| read > 0);
    }
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_order() {
    let server = server().await;
    let alice = server.account("alice").await;
    let token = alice.token.as_deref().expect("a token");
    let me = format!("GET /v1/me HTTP/1.1\r\nHost: yurt.test\r\nAuthorization: Bearer {token}\r\n\r\n");
    let last = "GET /healthz HTTP/1.1\r\nHost: yurt.test\r\nConnection: close\r\n\r\n";
    let answers = until_closed(&mut sent(&server, &format!("{me}{HEALTH}{me}{last}")).await).await;
    let order: Vec<bool> =
        answers.split("HTTP/1.1 200").skip(1).map(|answer| answer.contains(&json!(alice.id).to_string())).collect();
    assert_eq!(order, [true, false, true, false], "{answers}");
}

/// Requests with a body that begins and does not end.
async fn begun(server: &TestServer, caller: &Caller, call: &str, count: usize) -> Vec<TcpStream> {
    let token = caller.token.as_deref().expect("a token");
    let head =
        format!("{call} HTTP/1.1\r\nHost: yurt.test\r\nAuthorization: Bearer {token}\r\nContent-Type: image/png");
    let mut begun = Vec::new();
    for _ in 0..count {
        begun.push(sent(server, &format!("{head}\r\nContent-Length: 1000\r\n\r\nfelt")).await);
    }
    begun
}

/// Asks again until the answer has this status: what others began or gave up is noticed a moment later.
async fn until_status(status: u16, ask: impl AsyncFn() -> Answer) -> Answer {
    for _ in 0..LOOKS_MAX {
        let answer = ask().await;
        if answer.status == status {
            return answer;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    panic!("never answered {status}");
}

#[tokio::test]
async fn one_person_uploads_four_files_at_the_same_time_and_keeps_nobody_else_out() {
    let server = server().await;
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let mut held = begun(&server, &alice, "POST /v1/media", 4).await;
    let file = alice.with_header("content-type", "text/plain");
    let refused = until_status(429, async || file.send("POST", "/v1/media", Some(b"felt".to_vec())).await).await;
    assert_eq!(refused.headers["retry-after"], "5");
    refused.refused(429, "SW_RATE_LIMIT_EXCEEDED");
    let room = alice.group("Tents").await;
    alice.sets_avatar(&room, png(2, 2)).await.refused(429, "SW_RATE_LIMIT_EXCEEDED");
    bob.uploads(b"felt", "text/plain").await;
    drop(held.pop());
    until_status(201, async || file.send("POST", "/v1/media", Some(b"felt".to_vec())).await).await;
    assert_eq!(held.len(), 3);
}

#[tokio::test]
async fn sixteen_pictures_come_in_at_the_same_time_and_no_more() {
    let server = server().await;
    let (people, alice) = (server.accounts("tent", 4).await, server.account("alice").await);
    let mut held = Vec::new();
    for person in &people {
        let room = person.group("Tents").await;
        held.extend(begun(&server, person, &format!("PUT /v1/rooms/{room}/avatar"), 4).await);
    }
    let room = alice.group("Yurts").await;
    let refused = until_status(503, async || alice.sets_avatar(&room, png(2, 2)).await).await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.refused(503, "SW_BUSY");
    alice.uploads(b"felt", "text/plain").await;
    drop(held.pop());
    until_status(200, async || alice.sets_avatar(&room, png(2, 2)).await).await;
    assert_eq!(held.len(), 15);
}

#[tokio::test]
async fn a_socket_whose_client_answers_no_ping_is_closed_and_one_that_answers_stays() {
    let server = server_with(Setup { limits: "enabled = false\nstream_ping_s = 1", ..Setup::default() }).await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let mut ear = alice.listens(Way::Socket).await;
    let token = alice.token.as_deref().expect("a token");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let head = format!("GET /v1/stream HTTP/1.1\r\nHost: yurt.test\r\nAuthorization: Bearer {token}\r\n");
    let mut silent = sent(&server, &format!("{head}{upgrade}")).await;
    let silence = async {
        assert!(until_closed(&mut silent).await.starts_with("HTTP/1.1 101"));
        alice.says(&room, "still there?").await;
    };
    let is_asked = |frame: &serde_json::Value| frame["event"]["content"]["body"] == "still there?";
    tokio::join!(silence, ear.until(is_asked));
}

#[tokio::test]
async fn a_socket_that_does_not_say_in_time_who_it_is_is_closed() {
    let limits = "enabled = false\nstream_token_timeout_s = 1";
    let server = server_with(Setup { limits, ..Setup::default() }).await;
    let mut ear = server.nameless().tries_to_listen(Way::Socket, None).await.expect("a socket");
    assert_eq!(ear.end().await, Some(4408));
}
