//! Passwords: argon2id, a few runs at a time for the whole process, so that log-ins cannot take the machine's memory.

use std::{sync::Arc, time::Duration};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;

use super::ActionError;

/// Runs at the same time; each takes 19 MiB.
const RUNS_MAX: usize = 2;
/// Runs that may wait. More: the caller is told to come back.
const WAITING_MAX: usize = 32;
/// When a caller who found the pool full may try again.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Characters of a password.
pub const PASSWORD_CHARACTERS_MAX: usize = 1_024;

/// Runs argon2id. Cheap to copy; all tenants of a process share one.
#[derive(Clone)]
pub struct Passwords(Arc<Pool>);

struct Pool {
    runs: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Default for Passwords {
    fn default() -> Self {
        Self(Arc::new(Pool {
            runs: Arc::new(Semaphore::new(RUNS_MAX)),
            waiting: Semaphore::new(RUNS_MAX + WAITING_MAX),
        }))
    }
}

impl Passwords {
    /// The hash of a password, in PHC form.
    ///
    /// # Errors
    /// [`ActionError::RateLimited`] when too many wait.
    pub async fn hash(&self, password: String, salt: [u8; 16]) -> Result<String, ActionError> {
        self.run(move || {
            let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
            hash.map(|hash| hash.to_string()).map_err(ActionError::internal)
        })
        .await?
    }

    /// Whether this is the password. Without a hash the work is done all the same, so that time tells nothing of who has an account.
    ///
    /// # Errors
    /// [`ActionError::RateLimited`] when too many wait.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, ActionError> {
        self.run(move || match hash.as_deref().map(PasswordHash::new) {
            Some(Ok(hash)) => Argon2::default().verify_password(password.as_bytes(), &hash).is_ok(),
            _ => {
                let spent = Argon2::default().hash_password_with_salt(password.as_bytes(), &[0; 16]);
                std::hint::black_box(spent.is_ok());
                false
            }
        })
        .await
    }

    /// Runs under way, and those that wait for their turn.
    pub fn runs(&self) -> usize {
        (RUNS_MAX + WAITING_MAX).saturating_sub(self.0.waiting.available_permits())
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ActionError> {
        let full = |_| ActionError::RateLimited { retry_after: RETRY_AFTER };
        let _place = self.0.waiting.try_acquire().map_err(full)?;
        let turn = Arc::clone(&self.0.runs).acquire_owned().await.map_err(ActionError::internal)?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
        .map_err(ActionError::internal)
    }
}
