//! The end of the process does not wait for those who have nothing to say, nor for those who do not end.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use rustix::process::Signal;

use crate::process::Home;

#[test]
fn a_thousand_idle_connections_and_a_stalled_upload_do_not_hold_up_the_stop() {
    let home = Home::new("");
    let server = home.serve();
    let address = server.api.trim_start_matches("http://").to_owned();
    let mut idle: Vec<TcpStream> = (0..1_000).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for stream in idle.iter_mut().take(500) {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
    }
    let mut stalled = TcpStream::connect(&address).unwrap();
    let head = "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    stalled.write_all(head.as_bytes()).unwrap();
    let (status, _) = server.stop(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    for mut stream in idle {
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}
