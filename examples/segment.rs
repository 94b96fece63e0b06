//! A picture in, an overlay out: `cargo run --release --example segment assets/street.jpg overlay.png`

use fullconv::{Gpu, Model, Picture, Segmenter};

fn main() -> fullconv::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(input), Some(output)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: segment INPUT OUTPUT.png");
        std::process::exit(2);
    };
    let gpu = pollster::block_on(Gpu::new())?;
    let segmenter = pollster::block_on(Segmenter::new(
        &gpu,
        &Model::from_bytes(fullconv_demo::MODEL)?,
    ))?;
    let picture = Picture::open(input)?;
    let mask = segmenter.segment_blocking(&picture)?;
    mask.overlay(&picture, 0.5)?.save(output)
}
