//! Where the bytes of media are: a folder, or a bucket of S3.

use std::{fs, io, path::PathBuf};

use object_store::{ObjectStore, aws::AmazonS3Builder, local::LocalFileSystem, path::Path, prefix::PrefixStore};

use super::{MediaError, UPLOADS};

/// Where the media of a tenant are.
#[derive(Debug, Clone)]
pub enum MediaPlace {
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket of S3, or of something that speaks like it.
    S3(S3Place),
}

/// A bucket, and how to get at it. Empty texts leave a choice to the environment of the machine.
#[derive(Clone)]
pub struct S3Place {
    /// The bucket.
    pub bucket: String,
    /// What the names of this tenant's objects begin with.
    pub prefix: String,
    /// The address of the service; empty: that of Amazon for the region.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// The id of the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: String,
}

impl std::fmt::Debug for S3Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "S3Place({}/{})", self.bucket, self.prefix)
    }
}

pub(super) async fn open_folder(folder: PathBuf) -> Result<LocalFileSystem, MediaError> {
    let make = move || -> Result<LocalFileSystem, MediaError> {
        let is_new = !folder.exists();
        fs::create_dir_all(&folder)?;
        if let Some(parent) = folder.parent().filter(|_| is_new) {
            fs::File::open(parent)?.sync_all()?;
        }
        // Files under way have names that a list of the objects leaves out.
        match fs::remove_dir_all(folder.join(UPLOADS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        Ok(LocalFileSystem::new_with_prefix(&folder)?.with_fsync(true))
    };
    tokio::task::spawn_blocking(make).await.map_err(io::Error::from)?
}

pub(super) fn open_s3(place: &S3Place) -> Result<PrefixStore<impl ObjectStore + use<>>, MediaError> {
    // Somebody else may have chosen the same one before.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut builder = AmazonS3Builder::new().with_bucket_name(&place.bucket).with_region(&place.region);
    if !place.endpoint.is_empty() {
        builder = builder.with_endpoint(&place.endpoint).with_allow_http(place.endpoint.starts_with("http://"));
    }
    if !place.access_key_id.is_empty() {
        builder = builder.with_access_key_id(&place.access_key_id).with_secret_access_key(&place.secret_access_key);
    }
    Ok(PrefixStore::new(builder.build()?, Path::from(place.prefix.as_str())))
}
