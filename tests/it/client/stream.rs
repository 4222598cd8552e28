//! Somebody who listens: the same frames as server-sent events or over a WebSocket, each held to the contract.

use std::sync::OnceLock;

use futures_util::{SinkExt, StreamExt};
use jsonschema::Validator;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderValue},
};

use super::{
    ANSWER_WAIT_MAX, Caller,
    contract::{compile, contract},
    encoded, text,
};

/// How one listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Events,
    Socket,
}

/// Both ways to listen.
pub(crate) const WAYS: [Way; 2] = [Way::Events, Way::Socket];

/// An open stream. It reads only when it is asked for something.
pub(crate) struct Ear {
    line: Line,
    /// The cursor of the last frame that had one.
    pub(crate) cursor: String,
}

enum Line {
    Events { response: reqwest::Response, received: String },
    Socket(Box<WebSocketStream<TcpStream>>),
}

/// What one hears next.
#[derive(Debug)]
pub(crate) enum Heard {
    Frame(Value),
    /// The end, with the code of a WebSocket.
    End(Option<u16>),
}

impl Caller {
    /// Opens a stream from now on; what it begins with is heard already.
    pub(crate) async fn listens(&self, way: Way) -> Ear {
        let mut ear = self.tries_to_listen(way, None).await.expect("the stream opens");
        assert_eq!(ear.frame().await["type"], "resync", "a stream begins by telling from where");
        ear
    }

    /// Opens a stream behind a cursor.
    pub(crate) async fn listens_from(&self, way: Way, cursor: &str) -> Ear {
        let mut ear = self.tries_to_listen(way, Some(cursor)).await.expect("the stream opens");
        ear.cursor = cursor.to_owned();
        ear
    }

    /// Tries to open a stream; an error is the status of the refusal.
    pub(crate) async fn tries_to_listen(&self, way: Way, cursor: Option<&str>) -> Result<Ear, u16> {
        let address = *self.link.address.read().expect("nobody panics with the address");
        let from = cursor.map(|cursor| format!("?from={}", encoded(cursor))).unwrap_or_default();
        let line = match way {
            Way::Events => {
                let mut request = self.link.http.get(format!("http://{address}/v1/stream{from}"));
                for (name, value) in self.sent_headers() {
                    request = request.header(name, value);
                }
                let response = request.send().await.expect("the server answers");
                if response.status() != 200 {
                    return Err(response.status().as_u16());
                }
                let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
                assert_eq!(header("content-type"), "text/event-stream");
                assert_eq!(
                    (header("cache-control").as_str(), header("x-accel-buffering").as_str()),
                    ("no-store", "no")
                );
                Line::Events { response, received: String::new() }
            }
            Way::Socket => {
                let request = format!("ws://{address}/v1/stream{from}");
                let mut request = request.into_client_request().expect("a request");
                for (name, value) in self.sent_headers() {
                    request.headers_mut().insert(name, HeaderValue::from_str(&value).expect("a header"));
                }
                let connection = TcpStream::connect(address).await.expect("the server listens");
                match tokio_tungstenite::client_async(request, connection).await {
                    Ok((socket, _)) => Line::Socket(Box::new(socket)),
                    Err(Error::Http(response)) => return Err(response.status().as_u16()),
                    Err(error) => panic!("no WebSocket: {error}"),
                }
            }
        };
        Ok(Ear { line, cursor: String::new() })
    }

    fn sent_headers(&self) -> Vec<(reqwest::header::HeaderName, String)> {
        let token = self.token.iter().map(|token| ("authorization".to_owned(), format!("Bearer {token}")));
        let named = |(name, value): (String, String)| (name.parse().expect("a name"), value);
        token.chain(self.headers.iter().cloned()).map(named).collect()
    }
}

impl Ear {
    /// Sends a text over the WebSocket.
    pub(crate) async fn sends(&mut self, text: &str) {
        let Line::Socket(socket) = &mut self.line else { panic!("events go one way") };
        socket.send(Message::text(text)).await.expect("the server reads");
    }

    /// What comes next.
    pub(crate) async fn hears(&mut self) -> Heard {
        let heard = tokio::time::timeout(ANSWER_WAIT_MAX, self.line.next()).await.expect("something is heard in time");
        if let Heard::Frame(frame) = &heard {
            judge(frame);
            if let Some(cursor) = frame["cursor"].as_str() {
                cursor.clone_into(&mut self.cursor);
            }
        }
        heard
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Value {
        match self.hears().await {
            Heard::Frame(frame) => frame,
            Heard::End(code) => panic!("the stream has ended: {code:?}"),
        }
    }

    /// The frames up to one that is wanted, and that one.
    pub(crate) async fn until(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().await;
            let found = is_wanted(&frame);
            frames.push(frame);
            if found {
                return frames;
            }
        }
    }

    /// The frames up to the event with this id, and that one.
    pub(crate) async fn until_event(&mut self, event_id: &str) -> Vec<Value> {
        self.until(|frame| frame["event"]["event_id"] == event_id).await
    }

    /// The frames up to one of this type, and that one.
    pub(crate) async fn until_type(&mut self, name: &str) -> Value {
        self.until(|frame| frame["type"] == name).await.pop().expect("the last frame is the wanted one")
    }

    /// Reads to the end; answers the code with which a WebSocket was closed.
    pub(crate) async fn end(&mut self) -> Option<u16> {
        loop {
            if let Heard::End(code) = self.hears().await {
                return code;
            }
        }
    }
}

impl Line {
    async fn next(&mut self) -> Heard {
        match self {
            Self::Events { response, received } => loop {
                if let Some(end) = received.find("\n\n") {
                    let block: String = received.drain(..end + 2).collect();
                    if let Some(frame) = event(block.trim_end()) {
                        return Heard::Frame(frame);
                    }
                    continue;
                }
                match response.chunk().await {
                    Ok(Some(bytes)) => received.push_str(std::str::from_utf8(&bytes).expect("whole frames of text")),
                    Ok(None) | Err(_) => return Heard::End(None),
                }
            },
            Self::Socket(socket) => loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => return Heard::Frame(json(&text)),
                    Some(Ok(Message::Close(frame))) => return Heard::End(frame.map(|frame| frame.code.into())),
                    Some(Ok(Message::Binary(bytes))) => panic!("the server sent {bytes:?}"),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Heard::End(None),
                }
            },
        }
    }
}

/// The frame of a server-sent event; none: it has no data.
fn event(block: &str) -> Option<Value> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let frame = json(&field("data: ")?);
    assert_eq!(field("id: ").as_deref(), frame["cursor"].as_str(), "the id is the cursor");
    assert_eq!(field("event: "), Some(text(&frame["type"])));
    Some(frame)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("a frame is JSON")
}

fn judge(frame: &Value) {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    let schema =
        SCHEMA.get_or_init(|| compile(&contract().document, &json!({"$ref": "#/components/schemas/StreamFrame"})));
    let faults: Vec<String> = schema.iter_errors(frame).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "outside the contract: {frame}: {}", faults.join("; "));
}
