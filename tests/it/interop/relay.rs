//! The way to a server: connections to the port in its name are passed on to where it listens, until the link is cut.

use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A link to one server.
#[derive(Default)]
pub(crate) struct Relay(Mutex<State>);

#[derive(Default)]
struct State {
    is_cut: bool,
    open: Vec<TcpStream>,
}

impl Relay {
    /// Passes connections on from one port of this machine to another, for as long as the process runs.
    pub(crate) fn between(from: u16, to: u16) -> Arc<Self> {
        let listener = TcpListener::bind(("127.0.0.1", from)).unwrap();
        let relay = Arc::new(Self::default());
        let passing = Arc::clone(&relay);
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| passing.pass_on(stream, to)));
        relay
    }

    /// Breaks all connections; new ones are closed at once.
    pub(crate) fn cut(&self) {
        let mut state = self.0.lock().unwrap();
        state.is_cut = true;
        for stream in state.open.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    pub(crate) fn mend(&self) {
        self.0.lock().unwrap().is_cut = false;
    }

    fn pass_on(&self, near: TcpStream, to: u16) {
        let mut state = self.0.lock().unwrap();
        if state.is_cut {
            return;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { return };
        let ends = [&near, &far].map(|stream| [(); 2].map(|()| stream.try_clone().unwrap()));
        let [[near_in, near_out], [far_in, far_out]] = ends;
        thread::spawn(|| copy(near_in, far_out));
        thread::spawn(|| copy(far_in, near_out));
        state.open.retain(|stream| stream.peer_addr().is_ok());
        state.open.extend([near, far]);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    io::copy(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
}
