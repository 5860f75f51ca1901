//! `image-thumbnail`: scales PNG images. CPU-bound, so it runs beside the async threads, one per core.

use std::io::Cursor;

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader, Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use crate::answer::{Refusal, payload, plain_name};
use crate::app::App;
use crate::dice::Dice;
use crate::files::{Files, write_whole};
use crate::store::Error;

/// Width and height of an image that nobody uploaded and that is painted instead.
const PAINTED: (u32, u32) = (480, 320);
/// Longest edge that a thumbnail may have.
const LARGEST: u32 = 512;

/// Payload of the job type.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Which image.
    pub image_id: String,
    /// Longest edge of the thumbnail, in pixels.
    pub size: u32,
}

/// The thumbnail that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thumbnail {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Size of the file.
    pub bytes: u64,
}

/// Routes of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route("/thumbnails", post(handle))
}

async fn handle(State(app): State<App>, body: Bytes) -> Result<Json<Thumbnail>, Refusal> {
    let request: Request = payload(&body)?;
    // The semaphore is never closed; if it were, scaling without it is only slower.
    let _core = app.cores.acquire().await.ok();
    let files = app.files.clone();
    let done = tokio::task::spawn_blocking(move || scale(&files, &request)).await;
    Ok(Json(done.map_err(Error::from)??))
}

/// Scales one image and writes the thumbnail.
///
/// # Errors
/// [`Refusal::Malformed`] for a bad name, size or image; a store error when the disk fails.
pub fn scale(files: &Files, request: &Request) -> Result<Thumbnail, Refusal> {
    let image_id = plain_name("imageId", &request.image_id)?;
    if request.size == 0 || request.size > LARGEST {
        return Err(Refusal::Malformed(format!("size must be 1 to {LARGEST}, not {}", request.size)));
    }
    let source = load(files, image_id)?;
    // Triangle is the cheapest filter that does not alias when an image shrinks.
    let small = source.resize(request.size, request.size, FilterType::Triangle);
    let png = encode(&small)?;
    write_whole(&files.thumbnail(image_id, request.size), &png)?;
    Ok(Thumbnail { width: small.width(), height: small.height(), bytes: png.len() as u64 })
}

/// Width and height that a thumbnail of a painted image has.
#[must_use]
pub fn painted_size(size: u32) -> (u32, u32) {
    let (width, height) = PAINTED;
    (size, (f64::from(height) * f64::from(size) / f64::from(width)).round().max(1.0) as u32)
}

fn load(files: &Files, image_id: &str) -> Result<DynamicImage, Refusal> {
    let path = files.image(image_id);
    if !path.exists() {
        write_whole(&path, &encode(&paint(image_id))?)?;
    }
    let reader = ImageReader::open(&path).map_err(Error::file(&path))?;
    let image = reader.with_guessed_format().map_err(Error::file(&path))?.decode();
    image.map_err(|error| Refusal::Malformed(format!("image {image_id} cannot be read: {error}")))
}

fn encode(image: &DynamicImage) -> Result<Vec<u8>, Refusal> {
    let mut png = Cursor::new(Vec::new());
    let done = image.write_to(&mut png, ImageFormat::Png);
    done.map_err(|error| Refusal::Failed(format!("the image cannot be encoded: {error}")))?;
    Ok(png.into_inner())
}

/// Stands for an uploaded picture: coloured tiles that follow from the image's id.
fn paint(image_id: &str) -> DynamicImage {
    let mut dice = Dice::of(0, image_id);
    let tiles: Vec<Rgb<u8>> =
        (0..24).map(|_| Rgb(dice.draw().to_le_bytes()[..3].try_into().unwrap_or([0; 3]))).collect();
    let (width, height) = PAINTED;
    let painted = RgbImage::from_fn(width, height, |x, y| {
        let tile = (y / 80) * 6 + x / 80;
        tiles[tile as usize % tiles.len()]
    });
    DynamicImage::ImageRgb8(painted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        (folder, files)
    }

    #[test]
    fn the_written_file_decodes_at_the_size_asked_for() {
        let (_folder, files) = files();
        let request = Request { image_id: "img-1".into(), size: 96 };
        let told = scale(&files, &request).unwrap();
        let path = files.thumbnail("img-1", 96);
        let image = image::open(&path).unwrap();
        assert_eq!((image.width(), image.height()), (96, 64));
        assert_eq!((told.width, told.height), painted_size(96));
        assert_eq!(told.bytes, std::fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn a_thumbnail_shows_the_picture_it_was_made_of() {
        let (_folder, files) = files();
        scale(&files, &Request { image_id: "img-2".into(), size: 60 }).unwrap();
        let (large, small) =
            (image::open(files.image("img-2")).unwrap(), image::open(files.thumbnail("img-2", 60)).unwrap());
        // The middle of each 80-pixel tile keeps its colour.
        for (x, y) in [(5, 5), (15, 25), (55, 35)] {
            assert_eq!(large.to_rgb8().get_pixel(x * 8, y * 8), small.to_rgb8().get_pixel(x, y));
        }
    }

    #[test]
    fn scaling_twice_writes_the_same_bytes() {
        let (_folder, files) = files();
        let request = Request { image_id: "img-3".into(), size: 128 };
        scale(&files, &request).unwrap();
        let first = std::fs::read(files.thumbnail("img-3", 128)).unwrap();
        scale(&files, &request).unwrap();
        assert_eq!(first, std::fs::read(files.thumbnail("img-3", 128)).unwrap());
    }

    #[test]
    fn bad_names_sizes_and_files_are_permanent() {
        let (_folder, files) = files();
        let refused =
            |image_id: &str, size| scale(&files, &Request { image_id: image_id.into(), size }).unwrap_err();
        assert!(matches!(refused("../../etc/passwd", 64), Refusal::Malformed(_)));
        assert!(matches!(refused("img", 0), Refusal::Malformed(_)));
        assert!(matches!(refused("img", LARGEST + 1), Refusal::Malformed(_)));
        std::fs::write(files.image("broken"), b"\x89PNG\r\n\x1a\nnot really").unwrap();
        assert!(matches!(refused("broken", 64), Refusal::Malformed(_)));
    }
}
