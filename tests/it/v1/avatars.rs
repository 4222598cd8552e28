//! The pictures of rooms: images only, bounded, shown whole and smaller.

use image::{DynamicImage, GenericImageView as _, ImageFormat, Rgba, RgbaImage};
use serde_json::{Value, json};

use crate::client::{Answer, Caller, png, server, text};

fn written(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut written = std::io::Cursor::new(Vec::new());
    image.write_to(&mut written, format).expect("an image is written");
    written.into_inner()
}

/// An image of so many pixels, half transparent if it can be.
fn image(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let image = DynamicImage::from(RgbaImage::from_pixel(width, height, Rgba([200, 100, 50, 128])));
    let image = if format == ImageFormat::Jpeg { DynamicImage::from(image.into_rgb8()) } else { image };
    written(&image, format)
}

/// A PNG that says it has so many pixels, and has none.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(1, 1);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let check = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&check.to_be_bytes());
    bytes
}

/// The check sum of a part of a PNG.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 })
    })
}

fn path(room: &str) -> String {
    format!("/v1/rooms/{room}/avatar")
}

async fn sets(caller: &Caller, room: &str, image: Vec<u8>) -> Value {
    caller.sets_avatar(room, image).await.ok()
}

#[track_caller]
fn no_picture(answer: Answer) {
    answer.refused(404, "SW_MEDIA_NOT_FOUND");
}

#[tokio::test]
async fn a_picture_is_set_shown_and_taken_away() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    assert_eq!(alice.sees(&room).await["avatar_url"], json!(null));
    no_picture(alice.get(&path(&room)).await);
    for (format, content_type) in [
        (ImageFormat::Png, "image/png"),
        (ImageFormat::Jpeg, "image/jpeg"),
        (ImageFormat::Gif, "image/gif"),
        (ImageFormat::WebP, "image/webp"),
    ] {
        let bytes = image(7, 5, format);
        let url = sets(&alice, &room, bytes.clone()).await["avatar_url"].clone();
        let event = alice.state(&room, "m.room.avatar").await;
        let info = json!({"w": 7, "h": 5, "mimetype": content_type, "size": bytes.len()});
        assert_eq!(event, json!({"url": url, "info": info}));
        let shown = alice.get(&path(&room)).await.expect_status(200);
        assert_eq!((shown.headers["content-type"].as_str(), shown.body), (content_type, bytes));
    }
    assert_eq!(alice.delete(&path(&room)).await.ok()["avatar_url"], json!(null));
    no_picture(alice.get(&path(&room)).await);
    no_picture(alice.get(&format!("{}?size=64", path(&room))).await);
}

#[tokio::test]
async fn what_stands_already_changes_nothing() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    alice.delete(&path(&room)).await.ok();
    sets(&alice, &room, png(4, 4)).await;
    let before = alice.timeline(&room).await.len();
    sets(&alice, &room, png(4, 4)).await;
    assert_eq!(alice.timeline(&room).await.len(), before);
    let event = text(&alice.get(&format!("/v1/rooms/{room}/state/m.room.avatar")).await.ok()["event_id"]);
    alice.post_nothing(&format!("/v1/rooms/{room}/events/{event}/redact")).await.created();
    no_picture(alice.get(&path(&room)).await);
    sets(&alice, &room, png(4, 4)).await;
    alice.get(&path(&room)).await.expect_status(200);
}

#[tokio::test]
async fn a_smaller_picture_is_the_next_size_not_smaller_than_asked() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    sets(&alice, &room, png(1_200, 600)).await;
    for (size, side) in [(1, 32), (32, 32), (33, 64), (96, 96), (100, 128), (200, 256), (257, 512), (512, 512)] {
        let answer = alice.get(&format!("{}?size={size}", path(&room))).await.expect_status(200);
        assert_eq!(answer.headers["content-type"], "image/jpeg");
        let made = image::load_from_memory(&answer.body).expect("an image");
        assert_eq!(made.dimensions(), (side, side / 2), "{size}");
        let again = alice.get(&format!("{}?size={size}", path(&room))).await.expect_status(200);
        assert_eq!((again.body, &again.headers["etag"]), (answer.body, &answer.headers["etag"]));
    }
    for size in ["0", "-1", "513", "x", ""] {
        alice.get(&format!("{}?size={size}", path(&room))).await.invalid("size");
    }
    sets(&alice, &room, image(40, 20, ImageFormat::Png)).await;
    let small = alice.get(&format!("{}?size=512", path(&room))).await.expect_status(200);
    assert_eq!(small.headers["content-type"], "image/png", "it is transparent");
    assert_eq!(image::load_from_memory(&small.body).expect("an image").dimensions(), (40, 20));
}

#[tokio::test]
async fn what_is_no_image_or_a_hostile_one_is_refused_and_changes_nothing() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let whole = png(300, 300);
    let cases: [(Vec<u8>, u16, &str); 9] = [
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(), 415, "SW_REQUEST_INVALID"),
        (b"BM is another format".to_vec(), 415, "SW_REQUEST_INVALID"),
        (Vec::new(), 415, "SW_REQUEST_INVALID"),
        (whole[..whole.len() / 2].to_vec(), 400, "SW_REQUEST_INVALID"),
        (b"\x89PNG\r\n\x1a\nnot so".to_vec(), 400, "SW_REQUEST_INVALID"),
        (bomb(16_385, 1), 413, "SW_CONTENT_TOO_LARGE"),
        (bomb(10_000, 10_000), 413, "SW_CONTENT_TOO_LARGE"),
        (bomb(u32::MAX >> 1, u32::MAX >> 1), 413, "SW_CONTENT_TOO_LARGE"),
        (vec![0x89; 10 * 1024 * 1024 + 1], 413, "SW_CONTENT_TOO_LARGE"),
    ];
    for (number, (bytes, status, code)) in cases.into_iter().enumerate() {
        let answer = alice.sets_avatar(&room, bytes).await;
        assert_eq!(answer.status, status, "case {number}: {}", String::from_utf8_lossy(&answer.body));
        answer.refused(status, code);
    }
    no_picture(alice.get(&path(&room)).await);
    let lies = alice.with_header("content-type", "text/html");
    lies.send("PUT", &path(&room), Some(png(2, 2))).await.ok();
    assert_eq!(alice.get(&path(&room)).await.headers["content-type"], "image/png");
}

#[tokio::test]
async fn the_picture_is_for_those_who_may_see_the_room() {
    let server = server().await;
    let (alice, bob, stranger) =
        (server.account("alice").await, server.account("bob").await, server.account("stranger").await);
    let (private, listed) = (alice.group_with("Tents", &[&bob]).await, alice.public("Open").await);
    for room in [&private, &listed] {
        sets(&alice, room, png(8, 8)).await;
    }
    bob.get(&path(&private)).await.expect_status(200);
    bob.leaves(&private).await.ok();
    bob.get(&path(&private)).await.expect_status(200);
    stranger.get(&path(&private)).await.no_such_room();
    stranger.get(&format!("{}?size=32", path(&private))).await.no_such_room();
    stranger.get(&path(&listed)).await.expect_status(200);
    alice.does("invite", &private, &stranger).await.ok();
    stranger.get(&format!("{}?size=32", path(&private))).await.expect_status(200);
}

#[tokio::test]
async fn the_picture_needs_its_level_and_an_open_room() {
    let server = server().await;
    let (alice, bob, stranger) =
        (server.account("alice").await, server.account("bob").await, server.account("stranger").await);
    let room = alice.group_with("Tents", &[&bob]).await;
    bob.sets_avatar(&room, png(2, 2)).await.forbidden_for("level");
    bob.delete(&path(&room)).await.forbidden_for("level");
    stranger.sets_avatar(&room, png(2, 2)).await.no_such_room();
    stranger.delete(&path(&room)).await.no_such_room();
    alice.gives_level(&room, &bob, 50).await.ok();
    sets(&bob, &room, png(2, 2)).await;
    alice.post_nothing(&format!("/v1/rooms/{room}/archive")).await.ok();
    alice.sets_avatar(&room, png(3, 3)).await.frozen();
    alice.delete(&path(&room)).await.frozen();
    alice.get(&path(&room)).await.expect_status(200);
    let whispers = alice.creates(json!({"room_type": "incognito"})).await;
    alice.sets_avatar(&whispers, png(2, 2)).await.type_invariant();
    alice.delete(&path(&whispers)).await.type_invariant();
    let direct = alice.direct(&bob).await;
    sets(&bob, &direct, png(2, 2)).await;
}

#[tokio::test]
async fn a_picture_that_is_no_image_has_no_smaller_ones() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    let medium = alice.uploads(b"<html>", "text/html").await;
    alice.put(&format!("/v1/rooms/{room}/state/m.room.avatar"), json!({"url": medium["mxc"]})).await.created();
    let whole = alice.get(&path(&room)).await.expect_status(200);
    assert_eq!(whole.headers["content-type"], "application/octet-stream");
    no_picture(alice.get(&format!("{}?size=64", path(&room))).await);
}

#[tokio::test]
async fn a_reader_asks_each_time_whether_the_picture_is_still_the_one_and_never_about_a_medium() {
    let server = server().await;
    let alice = server.account("alice").await;
    let room = alice.group("Tents").await;
    alice.sets_avatar(&room, png(2, 2)).await.expect_status(200);
    for address in [path(&room), format!("{}?size=32", path(&room))] {
        let answer = alice.get(&address).await.expect_status(200);
        assert_eq!(answer.headers["cache-control"], "private, no-cache", "{address}");
        let tag = answer.headers["etag"].clone();
        let known = alice.with_header("if-none-match", &tag);
        assert_eq!(known.get(&address).await.expect_status(304).headers["cache-control"], "private, no-cache");
        alice.sets_avatar(&room, png(3, 3)).await.expect_status(200);
        known.get(&address).await.expect_status(200);
        alice.sets_avatar(&room, png(2, 2)).await.expect_status(200);
    }
    let medium = alice.uploads(b"felt", "text/plain").await;
    let answer = alice.get(&format!("/v1/media/{}", text(&medium["sha256"]))).await.expect_status(200);
    assert_eq!(answer.headers["cache-control"], "private, max-age=86400, immutable");
}
