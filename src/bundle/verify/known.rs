//! The state events that were read: others lean on them and states are made of them. They lie in a file without a name; some stay at hand.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::{self, File},
    hash::{BuildHasher as _, RandomState},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rules::{event::Event, version::Version};
use ruma::{EventId, OwnedRoomId};
use rustix::fs::{Mode, OFlags};

/// Events at hand.
const AT_HAND_MAX: usize = 4_096;

/// The state events that were read so far.
pub(crate) struct Known {
    version: Version,
    room_id: OwnedRoomId,
    hash: RandomState,
    file: File,
    end: u64,
    places: HashMap<u64, Place>,
    at_hand: RefCell<HashMap<u64, Arc<Event>>>,
}

#[derive(Clone, Copy)]
struct Place {
    at: u64,
    bytes: u32,
    is_rejected: bool,
}

impl Known {
    /// Nothing yet.
    pub(crate) fn new(version: Version, room_id: OwnedRoomId, scratch: &Path) -> io::Result<Self> {
        let (hash, places, at_hand) = (RandomState::new(), HashMap::new(), RefCell::default());
        Ok(Self { version, room_id, hash, file: nameless_file(scratch)?, end: 0, places, at_hand })
    }

    /// Keeps a state event.
    pub(crate) fn keep(&mut self, event: &Arc<Event>) -> io::Result<()> {
        let key = self.hash.hash_one(event.event_id());
        let json = event.json().as_bytes();
        let bytes = u32::try_from(json.len()).map_err(io::Error::other)?;
        self.file.write_all(json)?;
        self.places.insert(key, Place { at: self.end, bytes, is_rejected: event.rejected() });
        self.end += u64::from(bytes);
        self.put_at_hand(key, Arc::clone(event));
        Ok(())
    }

    fn put_at_hand(&self, key: u64, event: Arc<Event>) {
        let mut at_hand = self.at_hand.borrow_mut();
        if at_hand.len() >= AT_HAND_MAX {
            at_hand.clear();
        }
        at_hand.insert(key, event);
    }

    /// An event by its id; none: no state event of that id was read so far.
    pub(crate) fn get(&self, id: &EventId) -> Option<Arc<Event>> {
        let key = self.hash.hash_one(id);
        if let Some(event) = self.at_hand.borrow().get(&key) {
            return Some(Arc::clone(event)).filter(|event| event.event_id() == id);
        }
        let place = self.places.get(&key)?;
        let mut json = vec![0; usize::try_from(place.bytes).ok()?];
        self.file.read_exact_at(&mut json, place.at).ok()?;
        let (json, room_id) = (String::from_utf8(json).ok()?, self.room_id.clone());
        let event = Event::from_stored(id.to_owned(), room_id, &self.version, json, place.is_rejected).ok()?;
        let event = Arc::new(event);
        self.put_at_hand(key, Arc::clone(&event));
        Some(event)
    }
}

/// A file that is gone when it is closed, however the process ends. Where the file system knows no files without names, it loses its name at once.
fn nameless_file(folder: &Path) -> io::Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    if let Ok(opened) = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        return Ok(File::from(opened));
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".yurt-{}-{number}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}
