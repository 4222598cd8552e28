//! `yurt key …`: the keys that a server signs with. These commands work on the data folder itself; a running server takes up
//! new keys at its next start, and until then signs with those that its file names.

use std::{fs, path::PathBuf};

use clap::Subcommand;
use federation::our_keys::{RetiredKey, SigningKey, SigningKeys};
use ruma::serde::{Base64, base64::Standard};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use yurt::{
    clock::{Clock as _, System},
    config::{Config, Tenant},
    data_folder::{DataFolder, FolderError, KeysOnDisk},
    random,
};

use super::{CliError, remark, say};

#[derive(Debug, Subcommand)]
pub(super) enum Task {
    /// List the keys: those that sign, those that wait for the next start, those that signed once.
    Show,
    /// Make a new key and put it in the place of the present one.
    Generate,
    /// Put the keys of a file in the place of the present one.
    Import {
        /// A `signing.key` as Synapse writes it; the first of its keys will sign.
        file: PathBuf,
    },
}

pub(super) fn run(task: Task, config: &Config, tenant: &Tenant) -> Result<(), CliError> {
    match task {
        Task::Show => show(&KeysOnDisk::of(&config.data_dir, tenant)),
        Task::Generate => {
            let keys = SigningKeys::one(SigningKey::from_random(&random::bytes(&random::System::default())));
            replace(config, tenant, &keys)
        }
        Task::Import { file } => {
            let text = fs::read_to_string(&file).map_err(CliError::io(format!("`{}`", file.display())))?;
            let keys = SigningKeys::parse(&text).map_err(|error| FolderError::KeyFile { file, error })?;
            replace(config, tenant, &keys)
        }
    }
}

fn show(on_disk: &KeysOnDisk) -> Result<(), CliError> {
    let current = on_disk.current()?;
    if current.is_none() {
        remark(
            "No key signs yet: one is made at the first start, or by `yurt key generate` or `yurt key import FILE`.",
        )?;
    }
    for (keys, role) in [(current, "signs"), (on_disk.next()?, "signs from the next start")] {
        for (number, key) in keys.iter().flat_map(SigningKeys::iter).enumerate() {
            let role = if number == 0 { role } else { "published" };
            say(&format!("{} {} {role}", key.key_id(), unpadded(&key.public_key())))?;
        }
    }
    for (key_id, key) in on_disk.retired()?.iter() {
        say(&format!("{key_id} {} signed until {}", key.key.encode(), end_of(key)))?;
    }
    Ok(())
}

/// Puts keys in the place of the present ones: now when no server runs, else at its next start.
fn replace(config: &Config, tenant: &Tenant, keys: &SigningKeys) -> Result<(), CliError> {
    let on_disk = KeysOnDisk::of(&config.data_dir, tenant);
    on_disk.put_next(keys)?;
    let new = keys.current().key_id();
    match DataFolder::open(&config.data_dir) {
        Ok(folder) => {
            folder.open_tenant(tenant, System.now(), &random::System::default())?;
            say(&format!("{new} signs from now on"))
        }
        Err(FolderError::InUse(_)) => {
            let present = on_disk.current()?.map_or_else(|| "its key".to_owned(), |keys| keys.current().key_id());
            say(&format!("{new} signs from the next start on; until then the running server signs with {present}"))
        }
        Err(error) => Err(error.into()),
    }
}

fn end_of(key: &RetiredKey) -> String {
    let end = OffsetDateTime::from_unix_timestamp(i64::from(key.expired_ts.as_secs())).ok();
    end.and_then(|end| end.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{} ms", key.expired_ts.get()))
}

fn unpadded(bytes: &[u8]) -> String {
    Base64::<Standard, &[u8]>::new(bytes).encode()
}
