//! Pictures: what a picture is, judged by decoding it, and smaller ones made of it. A few at a time for the whole process, off the threads that serve.

use std::{io::Cursor, sync::Arc, time::Duration};

use bytes::Bytes;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::ActionError;

/// Pictures that are decoded at the same time.
const RUNS_MAX: usize = 2;
/// Pictures that may wait. More: the caller is told to come back.
const WAITING_MAX: usize = 32;
/// Pictures that come in at the same time: each is held in memory whole.
const COLLECTING_MAX: usize = 16;
/// How long a caller waits for a picture, his turn included. A decoder that has begun goes on to its end, which the bounds below set.
const PICTURE_WAIT_MAX: Duration = Duration::from_secs(20);
/// Width and height of a picture.
pub const SIDE_PIXELS_MAX: u32 = 16_384;
/// Pixels of a picture.
pub const PIXELS_MAX: u64 = 40_000_000;
/// Bytes that a decoder may take: 40 megapixels with four bytes each, and its own rows.
const DECODER_BYTES_MAX: u64 = 200 * 1024 * 1024;

const _: () = assert!(PIXELS_MAX * 4 < DECODER_BYTES_MAX);

/// What a picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Its MIME type.
    pub content_type: &'static str,
    /// Pixels, as it is shown.
    pub width: u32,
    /// Pixels, as it is shown.
    pub height: u32,
}

/// Why bytes are no picture that this server takes.
#[derive(Debug, thiserror::Error)]
enum BadPicture {
    #[error("this is no PNG, JPEG, GIF or WebP image")]
    Format,
    #[error("an image has at most {SIDE_PIXELS_MAX} pixels a side and {PIXELS_MAX} in all")]
    TooLarge,
    #[error("the image cannot be decoded: {0}")]
    Broken(ImageError),
}

impl From<ImageError> for BadPicture {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(_) => Self::TooLarge,
            ImageError::Unsupported(_) => Self::Format,
            other => Self::Broken(other),
        }
    }
}

impl From<BadPicture> for ActionError {
    fn from(bad: BadPicture) -> Self {
        match bad {
            BadPicture::Format => Self::UnsupportedMedia(format!("{bad}; send one of these")),
            BadPicture::TooLarge => Self::ContentTooLarge(bad.to_string()),
            BadPicture::Broken(_) => Self::invalid("body", bad.to_string()),
        }
    }
}

/// Decodes pictures. Cheap to copy; all tenants of a process share one.
#[derive(Clone)]
pub struct Images(Arc<Pool>);

struct Pool {
    runs: Arc<Semaphore>,
    waiting: Semaphore,
    collecting: Semaphore,
}

impl Default for Images {
    fn default() -> Self {
        Self(Arc::new(Pool {
            runs: Arc::new(Semaphore::new(RUNS_MAX)),
            waiting: Semaphore::new(RUNS_MAX + WAITING_MAX),
            collecting: Semaphore::new(COLLECTING_MAX),
        }))
    }
}

impl Images {
    /// A place among the pictures that come in.
    ///
    /// # Errors
    /// [`ActionError::Busy`] when too many do.
    pub(super) fn collecting(&self) -> Result<SemaphorePermit<'_>, ActionError> {
        self.0.collecting.try_acquire().map_err(|_full| ActionError::Busy)
    }

    /// What these bytes are, the whole picture decoded.
    ///
    /// # Errors
    /// [`ActionError::UnsupportedMedia`] for another format, [`ActionError::ContentTooLarge`] for too many pixels, [`ActionError::RequestInvalid`] for a
    /// broken picture, [`ActionError::Busy`].
    pub async fn inspect(&self, bytes: Bytes) -> Result<Picture, ActionError> {
        Ok(self.run(move || decode(&bytes).map(|(picture, _)| picture)).await??)
    }

    /// The picture within a square of so many pixels a side; a smaller one keeps its size. PNG where it has transparent parts, else JPEG.
    ///
    /// # Errors
    /// As [`Images::inspect`].
    pub async fn thumbnail(&self, bytes: Bytes, pixels: u32) -> Result<Bytes, ActionError> {
        Ok(self.run(move || shrink(&bytes, pixels)).await??)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ActionError> {
        let _place = self.0.waiting.try_acquire().map_err(|_full| ActionError::Busy)?;
        let runs = Arc::clone(&self.0.runs);
        let done = async move {
            let turn = runs.acquire_owned().await.map_err(ActionError::internal)?;
            let running = tokio::task::spawn_blocking(move || {
                let done = work();
                drop(turn);
                done
            });
            running.await.map_err(ActionError::internal)
        };
        tokio::time::timeout(PICTURE_WAIT_MAX, done).await.map_err(|_elapsed| ActionError::Busy)?
    }
}

/// The type of a picture that this server made.
pub fn thumbnail_type(picture: &[u8]) -> &'static str {
    if picture.first() == Some(&0x89) { "image/png" } else { "image/jpeg" }
}

fn decode(bytes: &[u8]) -> Result<(Picture, DynamicImage), BadPicture> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|_io| BadPicture::Format)?;
    let content_type = match reader.format() {
        Some(ImageFormat::Png) => "image/png",
        Some(ImageFormat::Jpeg) => "image/jpeg",
        Some(ImageFormat::Gif) => "image/gif",
        Some(ImageFormat::WebP) => "image/webp",
        _ => return Err(BadPicture::Format),
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_PIXELS_MAX);
    limits.max_image_height = Some(SIDE_PIXELS_MAX);
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let is_too_large = u64::from(width) * u64::from(height) > PIXELS_MAX || decoder.total_bytes() > DECODER_BYTES_MAX;
    if is_too_large || width.max(height) > SIDE_PIXELS_MAX {
        return Err(BadPicture::TooLarge);
    }
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok((Picture { content_type, width: image.width(), height: image.height() }, image))
}

fn shrink(bytes: &[u8], pixels: u32) -> Result<Bytes, BadPicture> {
    let (picture, image) = decode(bytes)?;
    let is_small = picture.width <= pixels && picture.height <= pixels;
    let image = if is_small { image } else { image.thumbnail(pixels, pixels) };
    let is_transparent = image.color().has_alpha() && image.to_rgba8().pixels().any(|pixel| pixel.0[3] != u8::MAX);
    let mut written = Cursor::new(Vec::new());
    if is_transparent {
        DynamicImage::from(image.into_rgba8()).write_to(&mut written, ImageFormat::Png)?;
    } else {
        DynamicImage::from(image.into_rgb8()).write_to(&mut written, ImageFormat::Jpeg)?;
    }
    Ok(Bytes::from(written.into_inner()))
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;

    fn picture(width: u32, height: u32, alpha: u8, format: ImageFormat) -> Vec<u8> {
        let image = DynamicImage::from(RgbaImage::from_pixel(width, height, Rgba([200, 100, 50, alpha])));
        let image = if format == ImageFormat::Jpeg { DynamicImage::from(image.into_rgb8()) } else { image };
        let mut written = Cursor::new(Vec::new());
        image.write_to(&mut written, format).unwrap();
        written.into_inner()
    }

    #[test]
    fn a_picture_is_what_its_bytes_say() {
        let cases = [
            (ImageFormat::Png, "image/png"),
            (ImageFormat::Jpeg, "image/jpeg"),
            (ImageFormat::Gif, "image/gif"),
            (ImageFormat::WebP, "image/webp"),
        ];
        for (format, content_type) in cases {
            let (found, _) = decode(&picture(7, 5, 255, format)).unwrap();
            assert_eq!(found, Picture { content_type, width: 7, height: 5 });
        }
    }

    #[test]
    fn what_is_no_picture_or_only_part_of_one_is_refused() {
        let whole = picture(64, 64, 255, ImageFormat::Png);
        assert!(matches!(decode(&whole[..whole.len() / 2]), Err(BadPicture::Broken(_))));
        for no_picture in [&b""[..], b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", b"BM not taken", b"\x00\x00"] {
            assert!(matches!(decode(no_picture), Err(BadPicture::Format)));
        }
    }

    #[test]
    fn a_thumbnail_fits_keeps_its_shape_and_its_transparency() {
        // width, height, alpha, pixels asked for, then: width, height, type
        let cases = [
            (400, 200, 255, 96, (96, 48), "image/jpeg"),
            (200, 400, 255, 32, (16, 32), "image/jpeg"),
            (400, 400, 10, 64, (64, 64), "image/png"),
            (20, 10, 255, 512, (20, 10), "image/jpeg"),
            (1, 4_000, 255, 32, (1, 32), "image/jpeg"),
        ];
        for (width, height, alpha, pixels, expected, content_type) in cases {
            let small = shrink(&picture(width, height, alpha, ImageFormat::Png), pixels).unwrap();
            let (found, _) = decode(&small).unwrap();
            assert_eq!(((found.width, found.height), found.content_type), (expected, content_type));
            assert_eq!(thumbnail_type(&small), content_type);
        }
    }

    #[tokio::test]
    async fn more_pictures_than_may_wait_are_refused_at_once() {
        let images = Images::default();
        let places = images.0.waiting.acquire_many(u32::try_from(RUNS_MAX + WAITING_MAX).unwrap()).await.unwrap();
        let bytes = Bytes::from(picture(1, 1, 255, ImageFormat::Png));
        assert!(matches!(images.inspect(bytes.clone()).await, Err(ActionError::Busy)));
        drop(places);
        images.inspect(bytes).await.unwrap();
    }
}
