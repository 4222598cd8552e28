//! Media of other servers, kept for a while under the hash of their address.

use std::{io, ops::Range};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::BoxStream};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use rules::UnixMs;
use serde::{Deserialize, Serialize};

use super::{Kept, MediaError, MediaStore, MediumInfo, Sha256, hex};
use crate::storage::value::Value;

/// Where they are.
const CACHED: &str = "cached";

/// A medium of another server that is kept here for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedMedium {
    /// As the other server has it.
    pub info: MediumInfo,
    /// The hash of its bytes.
    pub sha256: Sha256,
    /// When it came.
    pub at: UnixMs,
}

impl Value for CachedMedium {}

/// A medium of another server that a bundle brought. It is kept as our own media are, under the hash of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroughtMedium {
    /// As the bundle has it.
    pub info: MediumInfo,
    /// The hash of its bytes.
    pub sha256: Sha256,
    /// Its own server, or this one, has said so. Else its server is asked first.
    pub is_vouched: bool,
}

impl Value for BroughtMedium {}

impl MediaStore {
    /// Keeps a medium of another server as it comes in, under the hash of its address. How many come at once, the caller bounds.
    ///
    /// # Errors
    /// As [`MediaStore::keep`].
    pub async fn keep_cached<E: std::fmt::Display>(
        &self,
        word: &str,
        address: &Sha256,
        body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
        bytes_max: u64,
    ) -> Result<Kept, MediaError> {
        self.take_in(word, body, bytes_max, |_| cached_path(address)).await
    }

    /// Removes a medium of another server, if it is there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn forget_cached(&self, address: &Sha256) -> Result<(), MediaError> {
        match self.objects.delete(&cached_path(address)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the media of other servers that `is_known` does not know: a crash left them behind.
    ///
    /// # Errors
    /// When they cannot be listed or removed.
    pub async fn sweep_cached(&self, is_known: impl Fn(&str) -> bool + Send) -> Result<(), MediaError> {
        let mut found = self.objects.list(Some(&Path::from(CACHED)));
        while let Some(object) = found.next().await {
            let path = object?.location;
            if !path.filename().is_some_and(&is_known) {
                self.objects.delete(&path).await?;
            }
        }
        Ok(())
    }

    /// A part of a medium of another server.
    ///
    /// # Errors
    /// As [`MediaStore::read`].
    pub async fn read_cached(
        &self,
        address: &Sha256,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, MediaError> {
        self.read_object(cached_path(address), range).await
    }

    /// A whole medium of another server; the caller knows that it is small.
    ///
    /// # Errors
    /// As [`MediaStore::read`].
    pub async fn read_whole_cached(&self, address: &Sha256) -> Result<Bytes, MediaError> {
        Ok(self.objects.get(&cached_path(address)).await?.bytes().await?)
    }
}

fn cached_path(address: &Sha256) -> Path {
    Path::from_iter([CACHED, hex(address).as_str()])
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::storage::media::MediaPlace;

    #[tokio::test]
    async fn what_no_row_knows_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let store = MediaStore::open(MediaPlace::Folder(folder.path().join("media"))).await.unwrap();
        for address in [[1; 32], [2; 32]] {
            let body = stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"felt"))]);
            store.keep_cached("word", &address, body, 4).await.unwrap();
        }
        let known = hex(&[1; 32]);
        store.sweep_cached(|name| name == known).await.unwrap();
        assert_eq!(store.read_whole_cached(&[1; 32]).await.unwrap(), "felt");
        assert!(store.read_whole_cached(&[2; 32]).await.unwrap_err().is_missing());
        store.forget_cached(&[1; 32]).await.unwrap();
        store.forget_cached(&[1; 32]).await.unwrap();
        assert!(store.read_whole_cached(&[1; 32]).await.unwrap_err().is_missing());
    }
}
