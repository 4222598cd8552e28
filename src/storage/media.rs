//! Media: their bytes as objects under their SHA-256, in a folder or in S3; what rows say of them. The bytes never pass through a [`super::Store`].
//! May import: rules (time), object_store, rustls.
//!
//! Objects: `ab/cd/abcd…` is a medium, `thumbnails/abcd…/96` a picture made from it, `cached/abcd…` a medium of another server under the hash of its address,
//! `uploads/…` what is on its way. Only a rename gives an object its name, so one that has its name is whole. Objects are never changed.

use std::{fmt::Write as _, io, io::SeekFrom, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, GetResultPayload, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, path::Path,
};
use rules::UnixMs;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256 as Hasher};
use tokio::{
    io::{AsyncReadExt, AsyncSeekExt},
    sync::Semaphore,
};
use tokio_util::io::ReaderStream;

use super::{Home, value::Value};

mod cached;
mod place;

pub use cached::{BroughtMedium, CachedMedium};
pub use place::{MediaPlace, S3Place};

/// The SHA-256 of a medium: its name.
pub type Sha256 = [u8; 32];

/// Media that one tenant takes in at the same time. More: the next one is told that the server is busy.
pub const UPLOADS_MAX: usize = 32;
/// Bytes of an upload that wait in memory until they are written to a file.
const FILE_PART_BYTES: usize = 256 * 1024;
/// Bytes of an upload that wait in memory until they are sent to S3, which takes no smaller parts.
const S3_PART_BYTES: usize = 5 * 1024 * 1024;
/// Bytes that are read from a file at a time.
const READ_BYTES: usize = 64 * 1024;
/// Where objects are that have no name yet.
const UPLOADS: &str = "uploads";

/// What somebody calls a medium, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediumInfo {
    /// Its file name, without a path.
    pub name: Option<String>,
    /// Its MIME type, as it was given.
    pub content_type: String,
    /// Bytes.
    pub size: u64,
}

impl Value for MediumInfo {}

/// That somebody uploaded a medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// As the person has it.
    pub info: MediumInfo,
    /// When, the last time.
    pub at: UnixMs,
}

impl Value for Uploaded {}

/// The home of what is known of a medium as such.
#[must_use]
pub fn home(sha256: &Sha256) -> Home {
    Home::name(&hex(sha256))
}

/// A hash as it is written: 64 lower-case digits.
#[must_use]
pub fn hex(sha256: &Sha256) -> String {
    sha256.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a text does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// Why media cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// More bytes than are taken.
    #[error("the medium is larger than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: u64,
    },
    /// The sender broke off.
    #[error("the body ended early: {0}")]
    Body(String),
    /// Too many uploads at once.
    #[error("too many uploads at once")]
    Busy,
    /// The folder, or S3, does not do what it should.
    #[error("media cannot be kept or read: {0}")]
    Objects(#[from] object_store::Error),
    /// The folder cannot be used.
    #[error("the folder of the media cannot be used: {0}")]
    Folder(#[from] io::Error),
}

impl MediaError {
    /// The object is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Objects(object_store::Error::NotFound { .. }))
    }
}

/// The media of one tenant. Cheap to copy.
#[derive(Clone, Debug)]
pub struct MediaStore {
    objects: Arc<dyn ObjectStore>,
    part_bytes: usize,
    uploads: Arc<Semaphore>,
}

/// A medium that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its hash.
    pub sha256: Sha256,
    /// Its bytes.
    pub size: u64,
}

impl MediaStore {
    /// Opens the place and removes what a crash left unfinished. (Parts that S3 holds of a broken upload are removed by a rule of the bucket.)
    ///
    /// # Errors
    /// When the place cannot be used.
    pub async fn open(place: MediaPlace) -> Result<Self, MediaError> {
        let (objects, part_bytes): (Arc<dyn ObjectStore>, usize) = match place {
            MediaPlace::Folder(folder) => (Arc::new(place::open_folder(folder).await?), FILE_PART_BYTES),
            MediaPlace::S3(place) => (Arc::new(place::open_s3(&place)?), S3_PART_BYTES),
        };
        let store = Self { objects, part_bytes, uploads: Arc::new(Semaphore::new(UPLOADS_MAX)) };
        let mut left_over = store.objects.list(Some(&Path::from(UPLOADS)));
        while let Some(object) = left_over.next().await {
            store.objects.delete(&object?.location).await?;
        }
        Ok(store)
    }

    /// Keeps a medium as it comes in, holding no more of it in memory than one part; it is on disk when this returns. `word` is a name that no other
    /// upload has.
    ///
    /// # Errors
    /// [`MediaError`]; nothing is kept then.
    pub async fn keep<E: std::fmt::Display>(
        &self,
        word: &str,
        body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
        bytes_max: u64,
    ) -> Result<Kept, MediaError> {
        let _place = self.uploads.try_acquire().map_err(|_full| MediaError::Busy)?;
        self.take_in(word, body, bytes_max, path_of).await
    }

    async fn take_in<E: std::fmt::Display>(
        &self,
        word: &str,
        body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
        bytes_max: u64,
        name: impl FnOnce(&Sha256) -> Path + Send,
    ) -> Result<Kept, MediaError> {
        let path = Path::from_iter([UPLOADS, word]);
        let mut upload =
            Upload { store: self, path, parts: None, waiting: BytesMut::new(), bytes: 0, hasher: Hasher::new() };
        let kept = upload.run(body, bytes_max, name).await;
        if kept.is_err() {
            upload.give_up().await;
        }
        kept
    }

    /// A part of a medium, as it is asked for.
    ///
    /// # Errors
    /// [`MediaError`], see [`MediaError::is_missing`].
    pub async fn read(
        &self,
        sha256: &Sha256,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, MediaError> {
        self.read_object(path_of(sha256), range).await
    }

    async fn read_object(
        &self,
        path: Path,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, MediaError> {
        if range.is_empty() {
            return Ok(futures_util::stream::empty().boxed());
        }
        let bytes = range.end - range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = self.objects.get_opts(&path, options).await?;
        let start = found.range.start;
        match found.payload {
            GetResultPayload::File(file, _) => {
                let mut file = tokio::fs::File::from_std(file);
                file.seek(SeekFrom::Start(start)).await?;
                Ok(ReaderStream::with_capacity(file.take(bytes), READ_BYTES).boxed())
            }
            GetResultPayload::Stream(stream) => Ok(stream.map(|some| some.map_err(io::Error::from)).boxed()),
        }
    }

    /// A whole medium; the caller knows that it is small.
    ///
    /// # Errors
    /// As [`MediaStore::read`].
    pub async fn read_whole(&self, sha256: &Sha256) -> Result<Bytes, MediaError> {
        Ok(self.objects.get(&path_of(sha256)).await?.bytes().await?)
    }

    /// A picture that was made from a medium earlier.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn thumbnail(&self, sha256: &Sha256, pixels: u32) -> Result<Option<Bytes>, MediaError> {
        match self.objects.get(&thumbnail_path(sha256, pixels)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps a picture that was made from a medium.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep_thumbnail(
        &self,
        word: &str,
        (sha256, pixels): (&Sha256, u32),
        picture: Bytes,
    ) -> Result<(), MediaError> {
        let path = Path::from_iter([UPLOADS, word]);
        self.objects.put(&path, PutPayload::from(picture)).await?;
        Ok(self.objects.rename(&path, &thumbnail_path(sha256, pixels)).await?)
    }
}

/// An upload on its way.
struct Upload<'a> {
    store: &'a MediaStore,
    path: Path,
    /// What was written already; none: everything so far fits into memory.
    parts: Option<Box<dyn MultipartUpload>>,
    /// Copied together: what comes in pieces of a byte would hold a buffer for each.
    waiting: BytesMut,
    bytes: u64,
    hasher: Hasher,
}

impl Upload<'_> {
    async fn run<E: std::fmt::Display>(
        &mut self,
        mut body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
        bytes_max: u64,
        name: impl FnOnce(&Sha256) -> Path + Send,
    ) -> Result<Kept, MediaError> {
        while let Some(some) = body.next().await {
            let some = some.map_err(|error| MediaError::Body(error.to_string()))?;
            self.bytes += u64::try_from(some.len()).unwrap_or(u64::MAX);
            if self.bytes > bytes_max {
                return Err(MediaError::TooLarge { bytes_max });
            }
            self.hasher.update(&some);
            self.waiting.extend_from_slice(&some);
            if self.waiting.len() >= self.store.part_bytes {
                self.write_part().await?;
            }
        }
        let objects = &self.store.objects;
        match &mut self.parts {
            None => drop(objects.put(&self.path, PutPayload::from(self.waiting.split().freeze())).await?),
            Some(_) => {
                self.write_part().await?;
                if let Some(parts) = &mut self.parts {
                    parts.complete().await?;
                }
            }
        }
        let sha256 = std::mem::take(&mut self.hasher).finalize().into();
        // The same content may be there already: then this replaces it by itself, and is as durable as the first.
        objects.rename(&self.path, &name(&sha256)).await?;
        Ok(Kept { sha256, size: self.bytes })
    }

    async fn write_part(&mut self) -> Result<(), MediaError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let parts = match &mut self.parts {
            Some(parts) => parts,
            None => self.parts.insert(self.store.objects.put_multipart(&self.path).await?),
        };
        Ok(parts.put_part(PutPayload::from(self.waiting.split().freeze())).await?)
    }

    /// Removes what was written; what cannot be removed now is when the store is opened again.
    async fn give_up(mut self) {
        if let Some(mut parts) = self.parts.take() {
            parts.abort().await.ok();
        }
        self.store.objects.delete(&self.path).await.ok();
    }
}

fn path_of(sha256: &Sha256) -> Path {
    let name = hex(sha256);
    let part = |range: Range<usize>| name.get(range).unwrap_or_default();
    Path::from_iter([part(0..2), part(2..4), name.as_str()])
}

fn thumbnail_path(sha256: &Sha256, pixels: u32) -> Path {
    Path::from_iter(["thumbnails", &hex(sha256), &pixels.to_string()])
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use futures_util::stream;

    use super::*;

    async fn store_in(folder: &std::path::Path) -> MediaStore {
        MediaStore::open(MediaPlace::Folder(folder.join("media"))).await.unwrap()
    }

    fn body(chunks: usize, bytes: usize) -> impl Stream<Item = Result<Bytes, io::Error>> + Unpin {
        stream::iter((0..chunks).map(move |chunk| Ok(Bytes::from(vec![u8::try_from(chunk % 251).unwrap(); bytes]))))
    }

    /// Every file below a folder.
    fn files(folder: &std::path::Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
        }
        found
    }

    async fn all(store: &MediaStore, sha256: &Sha256, range: Range<u64>) -> Vec<u8> {
        let parts: Vec<_> = store.read(sha256, range).await.unwrap().collect().await;
        parts.into_iter().flat_map(|part| part.unwrap().to_vec()).collect()
    }

    #[tokio::test]
    async fn a_medium_lies_once_under_its_hash_and_reads_back_by_range() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path()).await;
        for (chunks, bytes) in [(0, 0), (1, 5), (3, FILE_PART_BYTES - 1), (40, 100_000)] {
            let whole: Vec<u8> =
                body(chunks, bytes).map(|some| some.unwrap().to_vec()).collect::<Vec<_>>().await.concat();
            let size = u64::try_from(whole.len()).unwrap();
            let before = files(folder.path()).len();
            let kept = store.keep("one", body(chunks, bytes), size).await.unwrap();
            assert_eq!(kept, store.keep("two", body(chunks, bytes), size).await.unwrap());
            assert_eq!(kept, Kept { sha256: Hasher::digest(&whole).into(), size });
            assert_eq!(files(folder.path()).len(), before + 1, "twice the same is one file");
            assert_eq!(all(&store, &kept.sha256, 0..size).await, whole);
            if size > 3 {
                assert_eq!(all(&store, &kept.sha256, 1..size - 1).await, whole[1..whole.len() - 1]);
            }
        }
    }

    #[tokio::test]
    async fn what_is_too_large_or_broken_off_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path()).await;
        let too_large = store.keep("one", body(10, 100_000), 999_999).await;
        assert!(matches!(too_large, Err(MediaError::TooLarge { bytes_max: 999_999 })));
        let broken = body(10, 100_000).chain(stream::iter([Err(io::Error::other("gone"))]));
        assert!(matches!(store.keep("two", broken, u64::MAX).await, Err(MediaError::Body(_))));
        assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn what_a_crash_left_unfinished_is_swept_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let kept = store_in(folder.path()).await.keep("one", body(1, 5), 5).await.unwrap();
        let uploads = folder.path().join("media/uploads");
        fs::create_dir_all(&uploads).unwrap();
        fs::write(uploads.join("word#1"), "half").unwrap();
        fs::write(uploads.join("word"), "whole, without its name").unwrap();
        let store = store_in(folder.path()).await;
        assert_eq!(files(folder.path()).len(), 1);
        assert_eq!(all(&store, &kept.sha256, 0..5).await.len(), 5);
    }

    #[tokio::test]
    async fn more_uploads_than_may_be_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path()).await;
        let places = store.uploads.acquire_many(u32::try_from(UPLOADS_MAX).unwrap()).await.unwrap();
        assert!(matches!(store.keep("one", body(1, 1), 1).await, Err(MediaError::Busy)));
        drop(places);
        store.keep("one", body(1, 1), 1).await.unwrap();
    }

    #[tokio::test]
    async fn a_missing_medium_is_told_from_a_broken_store() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path()).await;
        assert!(store.read(&[7; 32], 0..1).await.err().unwrap().is_missing());
        assert_eq!(store.thumbnail(&[7; 32], 64).await.unwrap(), None);
        store.keep_thumbnail("one", (&[7; 32], 64), Bytes::from_static(b"picture")).await.unwrap();
        assert_eq!(store.thumbnail(&[7; 32], 64).await.unwrap().unwrap(), "picture");
    }
}
