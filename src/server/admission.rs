//! How many connections there may be: in all, and from one address. A place is held as long as the connection, also when it became a WebSocket.
//!
//! May import: config (networks).

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{api, config::Network};

/// Files that the process needs besides connections: databases, media, sockets of its own.
const OTHER_FILES: u64 = 1_000;

/// The connections of a listener.
pub(super) struct Admission {
    connections_max: usize,
    per_address_max: usize,
    uncounted: Arc<[Network]>,
    open: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A place for one connection, given back when it is dropped.
pub(super) struct Place {
    admission: Arc<Admission>,
    counted: Option<IpAddr>,
}

impl Admission {
    /// So many connections in all, and so many from an address that is not among the uncounted, nor of this machine.
    pub(super) fn new(connections_max: usize, per_address_max: usize, uncounted: Arc<[Network]>) -> Arc<Self> {
        let (open, by_address) = (AtomicUsize::new(0), Mutex::default());
        Arc::new(Self { connections_max, per_address_max, uncounted, open, by_address })
    }

    /// A place for a connection from this address; none: there are too many.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let is_uncounted = address.is_loopback() || self.uncounted.iter().any(|network| network.contains(address));
        let counted = (!is_uncounted).then(|| api::network_of(address));
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.connections_max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        // From here on, dropping the place gives back what was taken.
        let mut place = Place { admission: Arc::clone(self), counted: None };
        if let Some(network) = counted {
            let mut by_address = self.by_address.lock();
            let connections = by_address.entry(network).or_default();
            if *connections >= self.per_address_max {
                drop(by_address);
                return None;
            }
            *connections += 1;
            place.counted = counted;
        }
        Some(place)
    }

    /// Connections that are open now.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        let Some(network) = self.counted else { return };
        let mut by_address = self.admission.by_address.lock();
        if let Some(connections) = by_address.get_mut(&network) {
            *connections -= 1;
            if *connections == 0 {
                by_address.remove(&network);
            }
        }
    }
}

/// Raises the process's limit of open files as far as it may.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "The limit of open files stays at {:?}", limit.current);
    }
}

/// The connections that the limit of open files leaves of those wanted.
pub(super) fn affordable(wanted: usize) -> usize {
    let Some(files) = getrlimit(Resource::Nofile).current else { return wanted };
    // Where there are few files at all, half of them are for connections.
    let left = files.saturating_sub(OTHER_FILES).max(files / 2);
    let affordable = usize::try_from(left).unwrap_or(usize::MAX).min(wanted);
    if affordable < wanted {
        let advice = "raise the limit of open files (`ulimit -n`, `LimitNOFILE`), or lower `limits.connections_max`";
        tracing::warn!("Only {affordable} of {wanted} connections fit the limit of {files} open files: {advice}");
    }
    affordable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_last_place_is_given_back_when_its_connection_ends() {
        let admission = Admission::new(2, 2, Arc::default());
        let (first, _second) = (admission.enter(address("192.0.2.1")), admission.enter(address("192.0.2.2")));
        assert!(first.is_some() && admission.enter(address("192.0.2.3")).is_none());
        drop(first);
        assert_eq!(admission.open(), 1);
        assert!(admission.enter(address("192.0.2.3")).is_some());
    }

    #[test]
    fn one_address_has_its_own_bound_and_a_refusal_takes_no_place() {
        let admission = Admission::new(10, 1, Arc::default());
        let held = admission.enter(address("192.0.2.1"));
        assert!(held.is_some() && admission.enter(address("192.0.2.1")).is_none());
        assert!(admission.enter(address("::ffff:192.0.2.1")).is_none(), "the same address in other words");
        assert_eq!(admission.open(), 1);
        drop(held);
        assert!(admission.by_address.lock().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let admission = Admission::new(10, 1, Arc::default());
        let _held = admission.enter(address("2001:db8::1")).unwrap();
        assert!(admission.enter(address("2001:db8::2")).is_none());
        assert!(admission.enter(address("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn this_machine_and_proxies_are_bound_only_by_the_whole() {
        let admission = Admission::new(4, 1, Arc::from(["10.0.0.0/8".parse().unwrap()]));
        let held: Vec<_> =
            ["127.0.0.1", "127.0.0.1", "10.1.1.1", "10.1.1.1"].map(|text| admission.enter(address(text))).into();
        assert!(held.iter().all(Option::is_some));
        assert!(admission.enter(address("127.0.0.1")).is_none());
    }
}
