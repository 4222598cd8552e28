//! A tenant's signing keys on disk, and how one takes another's place.
//!
//! `signing.key` holds the keys that sign. New ones wait in `signing.key.next` until the tenant is opened next, so that no
//! server signs with a key that its file no longer names; the replaced ones are then in `old_signing_keys.json` with the time.
//! May import: the keys of `federation`, `random`.

use std::path::{Path, PathBuf};

use federation::our_keys::{RetiredKeys, SigningKey, SigningKeys};
use rules::UnixMs;
use ruma::{MilliSecondsSinceUnixEpoch, UInt};

use super::{DATABASE, FolderError, make_folder, read_if_there, rename, tenant_path, write_whole};
use crate::{
    config::Tenant,
    random::{self, Random},
};

/// The key files of one tenant. They can be looked at, and new keys put beside them, while a server runs.
#[derive(Debug)]
pub struct KeysOnDisk {
    folder: PathBuf,
}

impl KeysOnDisk {
    /// The key files of a tenant, which may not be there yet.
    pub fn of(data_dir: &Path, tenant: &Tenant) -> Self {
        Self { folder: tenant_path(data_dir, tenant) }
    }

    /// The keys that sign; `None` before the first start.
    ///
    /// # Errors
    /// When the file is no key file or cannot be read.
    pub fn current(&self) -> Result<Option<SigningKeys>, FolderError> {
        read_keys(&self.current_file())
    }

    /// The keys that wait for the next start.
    ///
    /// # Errors
    /// When the file is no key file or cannot be read.
    pub fn next(&self) -> Result<Option<SigningKeys>, FolderError> {
        read_keys(&self.next_file())
    }

    /// The keys that signed once.
    ///
    /// # Errors
    /// When the file is not what this server writes, or cannot be read.
    pub fn retired(&self) -> Result<RetiredKeys, FolderError> {
        let file = self.retired_file();
        match read_if_there(&file)? {
            Some(text) => serde_json::from_str(&text).map_err(|error| FolderError::RetiredKeys { file, error }),
            None => Ok(RetiredKeys::default()),
        }
    }

    /// Puts keys beside the current ones. They take their place when the tenant is opened next.
    ///
    /// # Errors
    /// [`FolderError::KeyClash`] when one of them has the id of another key that signed; else when a file cannot be written.
    pub fn put_next(&self, keys: &SigningKeys) -> Result<(), FolderError> {
        let mut known = self.retired()?;
        for key in self.current()?.iter().flat_map(SigningKeys::iter) {
            known.retire(key, MilliSecondsSinceUnixEpoch(UInt::MIN));
        }
        if let Some(key) = known.clash(keys) {
            return Err(FolderError::KeyClash(key.key_id()));
        }
        make_folder(&self.folder)?;
        write_whole(&self.next_file(), keys.to_text().as_bytes())
    }

    /// The keys to sign with from now on: those that wait, else the current ones, else a new one.
    pub(super) fn take_up(&self, now: UnixMs, random: &dyn Random) -> Result<(SigningKeys, RetiredKeys), FolderError> {
        let current = self.current()?;
        if let Some(next) = self.next()? {
            let retired = self.replace(current.as_ref(), &next, now)?;
            return Ok((next, retired));
        }
        let keys = match current {
            Some(keys) => keys,
            None => {
                let keys = SigningKeys::one(SigningKey::from_random(&random::bytes(random)));
                write_whole(&self.current_file(), keys.to_text().as_bytes())?;
                keys
            }
        };
        Ok((keys, self.retired()?))
    }

    /// First the old keys are noted, then the new ones get their name: a crash in between repeats both.
    fn replace(
        &self,
        current: Option<&SigningKeys>,
        next: &SigningKeys,
        now: UnixMs,
    ) -> Result<RetiredKeys, FolderError> {
        let mut retired = self.retired()?;
        let now = MilliSecondsSinceUnixEpoch(UInt::new_saturating(now.0));
        // Before there is a database, nothing was signed.
        if self.folder.join(DATABASE).exists() {
            for key in current.iter().flat_map(|keys| keys.iter()) {
                retired.retire(key, now);
            }
        }
        for key in next.iter() {
            retired.revive(key);
        }
        let text = serde_json::to_vec_pretty(&retired)
            .map_err(|error| FolderError::RetiredKeys { file: self.retired_file(), error })?;
        write_whole(&self.retired_file(), &text)?;
        rename(&self.next_file(), &self.current_file())?;
        Ok(retired)
    }

    fn current_file(&self) -> PathBuf {
        self.folder.join("signing.key")
    }

    fn next_file(&self) -> PathBuf {
        self.folder.join("signing.key.next")
    }

    fn retired_file(&self) -> PathBuf {
        self.folder.join("old_signing_keys.json")
    }
}

fn read_keys(file: &Path) -> Result<Option<SigningKeys>, FolderError> {
    let Some(text) = read_if_there(file)? else { return Ok(None) };
    match SigningKeys::parse(&text) {
        Ok(keys) => Ok(Some(keys)),
        Err(error) => Err(FolderError::KeyFile { file: file.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_server_name;

    use super::*;
    use crate::{data_folder::DataFolder, random::Seeded};

    struct Scene {
        place: tempfile::TempDir,
        tenant: Tenant,
        on_disk: KeysOnDisk,
    }

    fn scene() -> Scene {
        let place = tempfile::tempdir().unwrap();
        let tenant = Tenant::new("main", owned_server_name!("example.org"));
        let on_disk = KeysOnDisk::of(place.path(), &tenant);
        Scene { place, tenant, on_disk }
    }

    impl Scene {
        /// Starts and stops a server at a time. Answers the key it signs with and the ids of its old ones with their ends.
        fn start(&self, now: u64) -> (String, Vec<(String, u64)>) {
            let folder = DataFolder::open(self.place.path()).unwrap();
            let opened = folder.open_tenant(&self.tenant, UnixMs(now), &Seeded::new(now)).unwrap();
            std::fs::create_dir_all(&opened.database).unwrap();
            let retired = opened.retired.iter().map(|(id, key)| (id.to_owned(), key.expired_ts.0.into())).collect();
            (opened.keys.current().key_id(), retired)
        }
    }

    fn key(version: &str, seed: u8) -> SigningKeys {
        SigningKeys::one(SigningKey::new(version, &[seed; 32]).unwrap())
    }

    #[test]
    fn a_key_imported_before_the_first_start_is_the_only_one() {
        let scene = scene();
        scene.on_disk.put_next(&key("a_1", 1)).unwrap();
        assert_eq!(scene.start(10), ("ed25519:a_1".to_owned(), vec![]));
        assert!(scene.on_disk.next().unwrap().is_none());
    }

    #[test]
    fn a_replaced_key_signs_until_the_next_start_and_is_then_an_old_one() {
        let scene = scene();
        let (first, _) = scene.start(10);
        scene.on_disk.put_next(&key("a_1", 1)).unwrap();
        assert_eq!(scene.on_disk.current().unwrap().unwrap().current().key_id(), first);
        assert_eq!(scene.start(20), ("ed25519:a_1".to_owned(), vec![(first.clone(), 20)]));
        assert_eq!(scene.start(30), ("ed25519:a_1".to_owned(), vec![(first, 20)]));
    }

    #[test]
    fn a_key_that_signed_nothing_is_not_kept() {
        let scene = scene();
        let folder = DataFolder::open(scene.place.path()).unwrap();
        folder.open_tenant(&scene.tenant, UnixMs(1), &Seeded::new(1)).unwrap();
        drop(folder);
        scene.on_disk.put_next(&key("a_1", 1)).unwrap();
        assert_eq!(scene.start(10), ("ed25519:a_1".to_owned(), vec![]));
    }

    #[test]
    fn an_old_key_can_come_back() {
        let scene = scene();
        scene.on_disk.put_next(&key("a_1", 1)).unwrap();
        scene.start(10);
        scene.on_disk.put_next(&key("a_2", 2)).unwrap();
        scene.start(20);
        scene.on_disk.put_next(&key("a_1", 1)).unwrap();
        assert_eq!(scene.start(30), ("ed25519:a_1".to_owned(), vec![("ed25519:a_2".to_owned(), 30)]));
    }

    #[test]
    fn another_key_under_a_used_id_is_refused() {
        let scene = scene();
        scene.on_disk.put_next(&key("a_1", 1)).unwrap();
        scene.start(10);
        assert!(matches!(scene.on_disk.put_next(&key("a_1", 2)), Err(FolderError::KeyClash(_))));
        scene.on_disk.put_next(&key("a_2", 2)).unwrap();
        scene.start(20);
        assert!(matches!(scene.on_disk.put_next(&key("a_1", 3)), Err(FolderError::KeyClash(_))));
        scene.on_disk.put_next(&key("a_1", 1)).unwrap();
    }

    #[test]
    fn a_crash_between_the_two_steps_of_a_replacement_is_made_good() {
        let scene = scene();
        let (first, _) = scene.start(10);
        scene.on_disk.put_next(&key("a_1", 1)).unwrap();
        let mut retired = RetiredKeys::default();
        let current = scene.on_disk.current().unwrap().unwrap();
        retired.retire(current.current(), MilliSecondsSinceUnixEpoch(UInt::from(15_u32)));
        write_whole(&scene.on_disk.retired_file(), &serde_json::to_vec(&retired).unwrap()).unwrap();
        assert_eq!(scene.start(20), ("ed25519:a_1".to_owned(), vec![(first, 20)]));
    }

    #[test]
    fn a_broken_key_file_stops_the_start_with_its_name_and_line() {
        let scene = scene();
        scene.start(10);
        std::fs::write(scene.on_disk.current_file(), "not a key\n").unwrap();
        let folder = DataFolder::open(scene.place.path()).unwrap();
        let error = folder.open_tenant(&scene.tenant, UnixMs(1), &Seeded::new(1)).unwrap_err().to_string();
        assert!(error.contains("signing.key") && error.contains("line 1"), "{error}");
    }
}
