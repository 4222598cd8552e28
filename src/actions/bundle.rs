//! Rooms as bundles: making one from a room, and a room from one. What the file looks like and how it proves itself is in `crate::bundle`; what is taken in goes
//! the way of every event of a peer.

use std::sync::Arc;

use tokio::sync::Semaphore;

mod export;
mod order;

pub use export::{Content, Export, Whose, export, export_as_admin};

/// Exports of one tenant at the same time.
const EXPORTS_MAX: usize = 4;

/// What is going on with bundles.
pub struct Bundles {
    exports: Arc<Semaphore>,
}

impl Default for Bundles {
    fn default() -> Self {
        Self { exports: Arc::new(Semaphore::new(EXPORTS_MAX)) }
    }
}
