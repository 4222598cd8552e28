//! Media in two parts, and what one HTTP parser makes of hostile bytes.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::world::{Answer, Peer, World};

const F: &str = "/_matrix/federation/v1/media";

async fn get(world: &World, target: &str) -> Answer {
    Peer::new("a.example").get(world, &format!("{F}/{target}")).await
}

/// Section 20: both delimiters, the closing one, CRLF, the exact header of the first part.
#[tokio::test]
async fn media_come_in_two_parts() {
    let world = World::new().await;
    let boundary = "00000000000000000000000000000abc";
    for target in [
        "download/Abc_-9",
        "download/Abc_-9?timeout_ms=5",
        "thumbnail/Abc_-9?width=9999&height=32&method=crop&animated=true",
    ] {
        let answer = get(&world, target).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], format!("multipart/mixed; boundary={boundary}"));
        assert_eq!(answer.headers["content-security-policy"], "sandbox");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        let expected = format!(
            "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\nContent-Type: image/png\r\n\
             Content-Disposition: inline; filename*=utf-8''p%C3%A4.png\r\n\r\nbytes\r\n--{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8_lossy(&answer.body), expected);
    }
    let asked = ["medium Abc_-9", "medium Abc_-9", "thumbnail Abc_-9 1600x32 true", "medium Abc_-9"];
    assert_eq!(world.local.calls(), asked.map(|call| format!("a.example {call}")));
}

#[tokio::test]
async fn what_an_uploader_chose_adds_no_header() {
    let world = World::new().await;
    let body = get(&world, "download/evil").await.body;
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename*=utf-8''a%22%0D%0AX%3A%20y\r\n\r\n"), "{text}");
}

/// Hard case 58, as far as the door goes: an id of a medium is a plain word.
#[tokio::test]
async fn media_ids_lead_nowhere_else() {
    let world = World::new().await;
    for id in ["..%2F..%2Fetc%2Fpasswd", "%2e%2e", "a.b", "a%00", "%C3%A4", &"a".repeat(256)] {
        assert_eq!(get(&world, &format!("download/{id}")).await.error(), (404, "M_NOT_FOUND".to_owned()), "{id}");
        assert_eq!(get(&world, &format!("thumbnail/{id}?width=1&height=1")).await.status, 404, "{id}");
    }
    assert!(world.local.calls().is_empty());
    assert_eq!(get(&world, "download/notfound").await.error(), (404, "M_NOT_FOUND".to_owned()));
    for query in ["", "?width=1", "?width=0&height=1", "?width=a&height=1", "?width=1&height=1&method=x"] {
        assert_eq!(get(&world, &format!("thumbnail/a{query}")).await.status, 400, "{query}");
    }
}

/// Writes bytes as they are and reads all that comes back.
async fn bytes(world: &World, request: &str) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Hard case 60.
#[tokio::test]
async fn requests_that_two_parsers_could_read_differently_are_refused() {
    let world = World::new().await;
    let head = "POST /_matrix/key/v2/query HTTP/1.1\r\nHost: us.example\r\nConnection: close\r\n";
    for hostile in [
        format!("{head}Content-Length: 2\r\nContent-Length: 30\r\n\r\n{{}}"),
        format!("{head}Content-Length: 2, 30\r\n\r\n{{}}"),
        format!("{head}Content-Length: +2\r\n\r\n{{}}"),
        format!("{head}X: a\r\n folded\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("{head}Content-Length : 2\r\n\r\n{{}}"),
        format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("{head}X: a\rb\r\nContent-Length: 2\r\n\r\n{{}}"),
    ] {
        let answer = bytes(&world, &hostile).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{hostile:?} {answer:?}");
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{answer:?}");
    }
}

/// Hard case 60.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::new().await;
    let get = |path: &str, close: &str| format!("GET {path} HTTP/1.1\r\nHost: us.example\r\n{close}\r\n");
    let three = get("/_matrix/federation/v1/version", "")
        + &get("/nothing", "")
        + &get("/.well-known/matrix/server", "Connection: close\r\n");
    let answers = bytes(&world, &three).await;
    let places = ["\"Yurt\"", "M_UNRECOGNIZED", "m.server"].map(|word| answers.find(word).expect("answered"));
    assert!(places.is_sorted(), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1").count(), 3);
}
