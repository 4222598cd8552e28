//! The data folder: whose it is, and that one process uses it at a time.
//!
//! `lock` is held while a process uses the folder; `control.sock` belongs to `control`; `tenants/NAME/` is a tenant: its keys
//! (see `keys`), the `server_name` it had at its first start, its database in `db/`, its media in `media/`, and bundles
//! that are being taken in, in `spool/`.
//! May import: `config` (a tenant), `clock`, `random`, the keys of `federation`.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use federation::our_keys::{KeyFileLineError, RetiredKeys, SigningKeys};
use rules::UnixMs;

use crate::{config::Tenant, random::Random};

mod keys;

pub use keys::KeysOnDisk;

/// A data folder that this process has to itself until this is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// The system lets go of the lock when the file is closed, however the process ends.
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if it is missing, and takes its lock.
    ///
    /// # Errors
    /// [`FolderError::InUse`] when another process has it; else when it cannot be made or written.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        make_folder(path)?;
        let file = path.join("lock");
        let lock = File::options().create(true).append(true).mode(0o600).open(&file).map_err(at(&file))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(at(&file)(error)),
        }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a tenant's folder. At the first start it is made, with a new key; keys that were put beside the current ones
    /// since the last start take their place.
    ///
    /// # Errors
    /// [`FolderError::OtherServerName`] when the folder belongs to another server; else when it cannot be read or written.
    pub fn open_tenant(&self, tenant: &Tenant, now: UnixMs, random: &dyn Random) -> Result<TenantFolder, FolderError> {
        let path = tenant_path(&self.path, tenant);
        make_folder(&path)?;
        remember_server_name(&path, tenant)?;
        let on_disk = KeysOnDisk::of(&self.path, tenant);
        let (keys, retired) = on_disk.take_up(now, random)?;
        Ok(TenantFolder {
            database: path.join(DATABASE),
            media: path.join(MEDIA),
            spool: path.join(SPOOL),
            keys,
            retired,
        })
    }
}

/// The folder of a tenant's database, within the tenant's own.
const DATABASE: &str = "db";

/// The folder of a tenant's media, within the tenant's own.
const MEDIA: &str = "media";

/// The folder of uploads that are looked through before anything of them is kept, within the tenant's own.
const SPOOL: &str = "spool";

/// A tenant's part of the data folder.
#[derive(Debug)]
pub struct TenantFolder {
    /// The folder of its database. It is made by the database.
    pub database: PathBuf,
    /// The folder of its media. It is made when they are opened.
    pub media: PathBuf,
    /// The folder of its uploads under way. It is made when it is needed.
    pub spool: PathBuf,
    /// The keys that it signs with.
    pub keys: SigningKeys,
    /// The keys that it signed with once.
    pub retired: RetiredKeys,
}

/// Why a data folder cannot be used. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process has it.
    #[error("the data folder `{}` is in use by another process; stop that one, or choose another `data_dir`", .0.display())]
    InUse(PathBuf),
    /// It was another server's before.
    #[error(
        "`{}` belongs to the server `{remembered}`, but the configuration says `{configured}`: a server's name is part of \
         every id it gave and cannot change; set `server_name` back, or give this tenant another `name`",
        .folder.display()
    )]
    OtherServerName {
        /// The tenant's folder.
        folder: PathBuf,
        /// The name of its first start.
        remembered: String,
        /// The name that it has now.
        configured: String,
    },
    /// A key file that is none.
    #[error("`{}`: {error}", .file.display())]
    KeyFile {
        /// The file.
        file: PathBuf,
        /// Line and reason.
        error: KeyFileLineError,
    },
    /// The list of old keys is not one.
    #[error("`{}`: {error}", .file.display())]
    RetiredKeys {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// A key under the id of another.
    #[error("this server has signed with another key named `{0}`; other servers would take its signatures for forged")]
    KeyClash(String),
    /// The system said no.
    #[error("`{}`: {error}", .file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// Its reason.
        error: io::Error,
    },
}

fn at(file: &Path) -> impl Fn(io::Error) -> FolderError + '_ {
    |error| FolderError::Io { file: file.to_owned(), error }
}

fn tenant_path(data_dir: &Path, tenant: &Tenant) -> PathBuf {
    data_dir.join("tenants").join(&tenant.name)
}

/// Makes a folder that only its owner can enter. One that exists keeps its mode: somebody chose it.
fn make_folder(path: &Path) -> Result<(), FolderError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

fn remember_server_name(folder: &Path, tenant: &Tenant) -> Result<(), FolderError> {
    let file = folder.join("server_name");
    match read_if_there(&file)? {
        None => write_whole(&file, format!("{}\n", tenant.server_name).as_bytes()),
        Some(remembered) if remembered.trim_end() == tenant.server_name => Ok(()),
        Some(remembered) => Err(FolderError::OtherServerName {
            folder: folder.to_owned(),
            remembered: remembered.trim_end().to_owned(),
            configured: tenant.server_name.to_string(),
        }),
    }
}

fn read_if_there(file: &Path) -> Result<Option<String>, FolderError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(file)(error)),
    }
}

/// Writes a file that only its owner can read, so that after a crash there is the old one or the new one, whole.
fn write_whole(file: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    remove_if_there(&unfinished)?;
    let mut open =
        File::options().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(at(&unfinished))?;
    open.write_all(bytes).and_then(|()| open.sync_all()).map_err(at(&unfinished))?;
    rename(&unfinished, file)
}

/// Gives a file its name, for good.
fn rename(from: &Path, to: &Path) -> Result<(), FolderError> {
    fs::rename(from, to).map_err(at(to))?;
    let folder = to.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

fn remove_if_there(file: &Path) -> Result<(), FolderError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(file)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use ruma::owned_server_name;

    use super::*;
    use crate::random::Seeded;

    fn tenant(server_name: &str) -> Tenant {
        Tenant::new("main", server_name.try_into().unwrap())
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_first_start_makes_a_folder_and_a_key_that_only_the_owner_can_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("deep/data");
        let folder = DataFolder::open(&path).unwrap();
        let first = folder.open_tenant(&tenant("example.org"), UnixMs(1), &Seeded::new(1)).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("tenants/main/signing.key")), 0o600);
        assert_eq!(first.database, path.join("tenants/main/db"));

        let again = folder.open_tenant(&tenant("example.org"), UnixMs(2), &Seeded::new(2)).unwrap();
        assert_eq!(again.keys.to_text(), first.keys.to_text());
    }

    #[test]
    fn one_process_at_a_time_has_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(place.path()).unwrap();
        assert!(matches!(DataFolder::open(place.path()), Err(FolderError::InUse(_))));
        drop(folder);
        DataFolder::open(place.path()).unwrap();
    }

    #[test]
    fn the_folder_of_another_server_stops_the_start() {
        let place = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(place.path()).unwrap();
        folder.open_tenant(&tenant("example.org"), UnixMs(1), &Seeded::new(1)).unwrap();
        let error = folder.open_tenant(&tenant("other.example"), UnixMs(1), &Seeded::new(1)).unwrap_err().to_string();
        assert!(error.contains("`example.org`") && error.contains("`other.example`"), "{error}");
    }

    #[test]
    fn two_tenants_have_two_keys() {
        let place = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(place.path()).unwrap();
        let random = Seeded::new(1);
        let one = folder.open_tenant(&tenant("one.example"), UnixMs(1), &random).unwrap();
        let two = Tenant::new("two", owned_server_name!("two.example"));
        let two = folder.open_tenant(&two, UnixMs(1), &random).unwrap();
        assert_ne!(one.keys.current().key_id(), two.keys.current().key_id());
    }

    #[test]
    fn what_a_crash_left_unfinished_is_written_anew() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(place.path().join("file.unfinished"), "half").unwrap();
        write_whole(&file, b"whole").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "whole");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
