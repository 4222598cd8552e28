//! Somebody who talks to the server, and the sentences that tests say most often.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, RwLock},
    time::Duration,
};

use serde_json::{Value, json};

use super::answer::Answer;

/// How often a test looks whether work beside the requests is done, and how long it rests in between.
pub(crate) const LOOKS_MAX: usize = 1_500;
pub(crate) const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Where the server is; a restart moves it.
pub(crate) struct Link {
    pub(crate) http: reqwest::Client,
    pub(crate) address: RwLock<SocketAddr>,
}

/// Somebody who talks to the server: with a token, with a cookie, or nameless.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) link: Arc<Link>,
    /// The full user id; empty for the nameless.
    pub(crate) id: String,
    pub(crate) token: Option<String>,
    /// Sent with every request.
    pub(crate) headers: Vec<(String, String)>,
}

impl Caller {
    /// The same caller with one more header on every request.
    pub(crate) fn with_header(&self, name: &str, value: &str) -> Self {
        let mut caller = self.clone();
        caller.headers.push((name.to_owned(), value.to_owned()));
        caller
    }

    /// The same caller with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same caller under this full user id.
    pub(crate) fn named(self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, Some(body.to_string().into_bytes())).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, Some(body.to_string().into_bytes())).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None).await
    }

    /// A POST without body and content type.
    pub(crate) async fn post_nothing(&self, path: &str) -> Answer {
        self.send("POST", path, None).await
    }

    /// A call under an `Idempotency-Key`.
    pub(crate) async fn keyed(&self, key: &str, method: &str, path: &str, body: Value) -> Answer {
        self.with_header("Idempotency-Key", key).send(method, path, Some(body.to_string().into_bytes())).await
    }

    /// Sends and judges. A body goes as JSON unless the caller's headers name a content type.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Answer {
        let (status, headers, body) = self.exchange(method, path, body).await;
        Answer::judged(method, path, status, headers, body)
    }

    /// Sends, and answers status, headers and body as they come.
    pub(crate) async fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> (u16, BTreeMap<String, String>, Vec<u8>) {
        let address = *self.link.address.read().expect("nobody panics with the address");
        let method_name = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.link.http.request(method_name, format!("http://{address}{path}"));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.body(body);
            if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                request = request.header("content-type", "application/json");
            }
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = request.send().await.expect("the server answers");
        let status = response.status().as_u16();
        let headers: BTreeMap<String, String> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let body = response.bytes().await.expect("the answer arrives whole").to_vec();
        (status, headers, body)
    }

    /// Waits until a job is over, and answers it.
    pub(crate) async fn awaits(&self, job: &str) -> Value {
        for _ in 0..LOOKS_MAX {
            let job = self.get(&format!("/v1/jobs/{job}")).await.ok();
            if job["state"] == "done" || job["state"] == "failed" {
                return job;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        panic!("the job {job} does not end");
    }

    /// Waits until the newest job of this kind is over, and answers it. The caller is an admin.
    pub(crate) async fn awaits_newest(&self, kind: &str) -> Value {
        let jobs = self.get(&format!("/v1/admin/jobs?kind={kind}")).await.list();
        self.awaits(&text(&jobs.first().expect("a job of the kind")["id"])).await
    }

    /// Uploads bytes as a file of this type and answers what became of them.
    pub(crate) async fn uploads(&self, bytes: &[u8], content_type: &str) -> Value {
        let caller = self.with_header("content-type", content_type);
        caller.send("POST", "/v1/media", Some(bytes.to_vec())).await.created()
    }

    /// Sends a message that names a medium and answers the event's id.
    pub(crate) async fn shows(&self, room: &str, mxc: &str) -> String {
        let content = json!({"msgtype": "m.image", "body": "a picture", "url": mxc});
        let body = json!({"type": "m.room.message", "content": content});
        text(&self.post(&format!("/v1/rooms/{room}/messages"), body).await.created()["event_id"])
    }

    /// Tries to set the picture of a room.
    pub(crate) async fn sets_avatar(&self, room: &str, image: Vec<u8>) -> Answer {
        let caller = self.with_header("content-type", "image/png");
        caller.send("PUT", &format!("/v1/rooms/{room}/avatar"), Some(image)).await
    }

    /// Makes a room and answers its id.
    pub(crate) async fn creates(&self, body: Value) -> String {
        text(&self.post("/v1/rooms", body).await.created()["id"])
    }

    /// Makes a private group and answers its id.
    pub(crate) async fn group(&self, name: &str) -> String {
        self.creates(json!({"room_type": "group", "name": name})).await
    }

    /// Makes a public room and answers its id.
    pub(crate) async fn public(&self, name: &str) -> String {
        self.creates(json!({"room_type": "public", "name": name})).await
    }

    /// Makes a private group in which others are joined members.
    pub(crate) async fn group_with(&self, name: &str, others: &[&Self]) -> String {
        let room = self.group(name).await;
        for other in others {
            self.brings_in(&room, other).await;
        }
        room
    }

    /// Invites somebody, who joins.
    pub(crate) async fn brings_in(&self, room: &str, other: &Self) {
        self.post(&format!("/v1/rooms/{room}/invite"), json!({"participant_id": other.id})).await.ok();
        other.joins(room).await.ok();
    }

    pub(crate) async fn joins(&self, room: &str) -> Answer {
        self.post_nothing(&format!("/v1/rooms/{room}/join")).await
    }

    pub(crate) async fn leaves(&self, room: &str) -> Answer {
        self.post_nothing(&format!("/v1/rooms/{room}/leave")).await
    }

    /// Tries an action that names a person: invite, kick, ban, unban.
    pub(crate) async fn does(&self, action: &str, room: &str, to: &Self) -> Answer {
        self.post(&format!("/v1/rooms/{room}/{action}"), json!({"participant_id": to.id})).await
    }

    /// Opens the direct room with somebody and answers its id.
    pub(crate) async fn direct(&self, other: &Self) -> String {
        text(&self.post("/v1/rooms/dm", json!({"participant_id": other.id})).await.data()["id"])
    }

    /// The room as the caller sees it.
    pub(crate) async fn sees(&self, room: &str) -> Value {
        self.get(&format!("/v1/rooms/{room}")).await.ok()
    }

    /// Sends a text and answers the event's id.
    pub(crate) async fn says(&self, room: &str, body: &str) -> String {
        text(&self.tries_to_say(room, body).await.created()["event_id"])
    }

    pub(crate) async fn tries_to_say(&self, room: &str, body: &str) -> Answer {
        self.post(&format!("/v1/rooms/{room}/messages"), json!({"body": body})).await
    }

    /// Gives a member a level.
    pub(crate) async fn gives_level(&self, room: &str, to: &Self, level: i64) -> Answer {
        let path = format!("/v1/rooms/{room}/members/{}/power-level", to.id);
        self.put(&path, json!({"power_level": level})).await
    }

    /// The whole timeline, oldest first, over as many pages as it takes.
    pub(crate) async fn timeline(&self, room: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/v1/rooms/{room}/messages?direction=forward&limit=200{from}");
            let page = self.get(&path).await.expect_status(200);
            let meta = page.meta();
            events.extend(page.list());
            if meta["has_more"] != json!(true) {
                return events;
            }
            from = format!("&from={}", encoded(&text(&meta["next_cursor"])));
        }
    }

    /// The bodies of the messages in the timeline, oldest first.
    pub(crate) async fn hears(&self, room: &str) -> Vec<String> {
        let timeline = self.timeline(room).await;
        let messages = timeline.iter().filter(|event| event["type"] == "m.room.message");
        messages.filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
    }

    /// The signed form of an event.
    pub(crate) async fn pdu(&self, room: &str, event_id: &str) -> Value {
        self.get(&format!("/v1/rooms/{room}/events/{event_id}?format=pdu")).await.ok()
    }

    /// The content of a state event with an empty key.
    pub(crate) async fn state(&self, room: &str, event_type: &str) -> Value {
        self.get(&format!("/v1/rooms/{room}/state/{event_type}")).await.ok()["content"].clone()
    }

    /// The ids in a list of rooms.
    pub(crate) async fn room_ids(&self, path: &str) -> Vec<String> {
        self.get(path).await.list().iter().map(|room| text(&room["id"])).collect()
    }

    /// The ids of the members with a membership.
    pub(crate) async fn members(&self, room: &str, membership: &str) -> Vec<String> {
        let path = format!("/v1/rooms/{room}/members?membership={membership}&limit=200");
        self.get(&path).await.list().iter().map(|member| text(&member["participant_id"])).collect()
    }
}

/// The text that a value is.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text was expected, not {value}")).to_owned()
}

/// Percent-encodes all but letters, digits, `-`, `_`, `.` and `~`.
pub(crate) fn encoded(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string()
}
