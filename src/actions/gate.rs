//! One at a time for the same name: an alias, a pair of people, a user name, a request. Unlike a lane, a gate may be held while a commit is waited for.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::ActionError;

/// Names in memory from which unused ones are cleared away first.
const GATES_SWEEP: usize = 1_024;

/// How long somebody waits for the others before him.
const GATE_WAIT_MAX: Duration = Duration::from_secs(20);

/// The names that somebody works on.
#[derive(Default)]
pub struct Gates(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

/// The name is ours until this is dropped.
#[must_use]
pub struct Gate(#[expect(dead_code, reason = "held, never looked at")] OwnedMutexGuard<()>);

impl Gates {
    /// Waits until nobody else works on this name.
    ///
    /// # Errors
    /// [`ActionError::Busy`] when the turn does not come in time.
    pub async fn enter(&self, sort: &str, name: &str) -> Result<Gate, ActionError> {
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
        match tokio::time::timeout(GATE_WAIT_MAX, gate.lock_owned()).await {
            Ok(held) => Ok(Gate(held)),
            Err(_) => Err(ActionError::Busy),
        }
    }
}
