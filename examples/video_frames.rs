//! Pipelined video frames: while the device works on a frame, the host makes the next and reads back the previous one.
//! `cargo run --example video_frames [IMAGE [FRAMES]]` pans across a picture.

use fullconv::{Frames, Gpu, Mask, Model, Picture, Segmenter, Size};

fn main() -> fullconv::Result<()> {
    pollster::block_on(run())
}

async fn run() -> fullconv::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let image = arguments.next().unwrap_or("assets/street.jpg".into());
    let count = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(5);
    let scene = Picture::open(image)?;

    let gpu = Gpu::new().await?;
    let segmenter = Segmenter::new(&gpu, &Model::from_bytes(fullconv_demo::MODEL)?).await?;
    println!("{segmenter}, {} frames under way", Frames::DEPTH);

    let mut frames = segmenter.frames();
    let mut shown = 0;
    let mut show = |mask: Mask, time: Option<std::time::Duration>| {
        let (class, share) = mask.shares()[0];
        let (name, percent) = (mask.class_name(class), 100.0 * share);
        println!("frame {shown}: {name} {percent:.0} %, {time:.0?}");
        shown += 1;
    };
    for i in 0..count {
        // When `Frames::DEPTH` frames are under way, this returns the mask of the oldest.
        if let Some(mask) = frames.push(&frame(&scene, i, count)?).await {
            show(mask?, frames.time());
        }
    }
    while let Some(mask) = frames.next().await {
        show(mask?, frames.time());
    }
    Ok(())
}

/// Frame `i` of `count`: a window of three quarters of the scene's width, moving from left to right.
fn frame(scene: &Picture, i: usize, count: usize) -> fullconv::Result<Picture> {
    let whole = scene.size();
    let width = (whole.width * 3 / 4).max(1);
    let left = (whole.width - width) * i / (count - 1).max(1);
    let rows = scene.rgb().chunks_exact(3 * whole.width);
    let pixels = rows.flat_map(|row| &row[3 * left..3 * (left + width)]);
    Picture::from_rgb(Size::new(whole.height, width), pixels.copied().collect())
}
