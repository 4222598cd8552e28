//! One at a time for the same name: an alias, a pair of people, a user name, a request. Unlike a lane, a gate may be held while a commit is waited for.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Names in memory from which unused ones are cleared away first.
const GATES_SWEEP: usize = 1_024;

/// The names that somebody works on.
#[derive(Default)]
pub struct Gates(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

/// The name is ours until this is dropped.
#[must_use]
pub struct Gate(#[expect(dead_code, reason = "held, never looked at")] OwnedMutexGuard<()>);

impl Gates {
    /// Waits until nobody else works on this name.
    pub async fn enter(&self, sort: &str, name: &str) -> Gate {
        let gate = {
            let mut gates = self.0.lock();
            if gates.len() >= GATES_SWEEP {
                gates.retain(|_, gate| gate.strong_count() > 0);
            }
            let slot = gates.entry(format!("{sort} {name}")).or_default();
            slot.upgrade().unwrap_or_else(|| {
                let fresh = Arc::default();
                *slot = Arc::downgrade(&fresh);
                fresh
            })
        };
        Gate(gate.lock_owned().await)
    }
}
