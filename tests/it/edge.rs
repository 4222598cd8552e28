//! The edge of the process: connections and their time-outs, TLS, rates, request ids, figures, readiness, tenants that nobody uses. Each test a statement.
#![cfg(test)]

mod connections;
mod figures;
mod proxies;
mod rates;
mod requests;
mod stop;
mod tenants;
mod tls;

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::client::TestServer;

/// How long a test waits for what it expects before it fails.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A connection on which this was sent.
async fn sent(server: &TestServer, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.expect("the server listens");
    stream.write_all(bytes.as_bytes()).await.expect("the server reads");
    stream
}

/// Everything that comes until the server closes the connection.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let read = tokio::time::timeout(WAIT_MAX, stream.read_to_end(&mut received)).await;
    // A reset is an end too.
    read.expect("the server closes the connection").ok();
    String::from_utf8_lossy(&received).into_owned()
}

/// The next answer on a connection that stays open.
async fn answer(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = header(head, "content-length").map_or(0, |length| length.parse().expect("a length"));
            if body.len() >= length {
                return text;
            }
        }
        let read = tokio::time::timeout(WAIT_MAX, stream.read_buf(&mut received)).await.expect("an answer in time");
        assert_ne!(read.expect("an answer"), 0, "the server closed the connection after {text}");
    }
}

/// The value of a header in a head; its name in lower case.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().filter_map(|line| line.split_once(": ")).find(|(found, _)| *found == name).map(|(_, value)| value)
}
